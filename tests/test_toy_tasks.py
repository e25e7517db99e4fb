"""The classification tasks of toy English: balanced, disjoint, and no word gives them away."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from sas_lib import toy_english
from sas_lib.toy_english import TASKS, Example, classification_task
from sas_lib.toy_english.tasks import FAR, NEAR

Split = tuple[list[Example], list[Example]]


@pytest.fixture(scope="module")
def tasks() -> dict[str, Split]:
    return {name: classification_task(name, 2000, 800, seed=3) for name in TASKS}


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


@pytest.mark.parametrize("name", TASKS)
def test_classes_are_of_equal_size(tasks: dict[str, Split], name: str) -> None:
    for examples, n in zip(tasks[name], (2000, 800), strict=True):
        assert len(examples) == n
        assert Counter(e.label for e in examples) == {0: n / 2, 1: n / 2}
        assert len(TASKS[name]) == 2


@pytest.mark.parametrize("name", TASKS)
def test_train_and_test_have_nothing_in_common(tasks: dict[str, Split], name: str) -> None:
    train, test = ({text for e in split for text in e[:2] if text} for split in tasks[name])
    assert not train & test
    # Most sentences are there once; entailment tells of each event several times.
    assert len(train) > (1000 if name.startswith("entailment") else 1900)


@pytest.mark.parametrize("name", TASKS)
def test_words_are_those_of_the_lexicon(tasks: dict[str, Split], name: str) -> None:
    for examples in tasks[name]:
        for example in examples:
            for text in filter(None, example[:2]):
                assert set(words(text)) - {"s"} <= toy_english.vocabulary()
                assert text[0].isupper() and text[-1] in ".?"


ENTAILMENT = ["entailment", "entailment_voices"]


@pytest.mark.parametrize("name", [*ENTAILMENT, "number"])
def test_each_bag_of_words_has_both_labels(tasks: dict[str, Split], name: str) -> None:
    """So no rule that looks at the words alone, however clever, is better than chance."""
    for examples in tasks[name]:
        labels = defaultdict(list)
        for e in examples:
            bags = [tuple(sorted(words(text))) for text in e[:2]]
            labels[tuple(bags)].append(e.label)
        assert all(2 * sum(of_bag) == len(of_bag) for of_bag in labels.values())


@pytest.mark.parametrize("name", ENTAILMENT)
def test_neither_sentence_alone_tells_entailment(tasks: dict[str, Split], name: str) -> None:
    for examples in tasks[name]:
        for member in (0, 1):
            labels = defaultdict(list)
            for e in examples:
                labels[e[member]].append(e.label)
            assert all(2 * sum(alike) == len(alike) for alike in labels.values())


@pytest.mark.parametrize("name", ENTAILMENT)
def test_entailment_is_about_who_did_it(tasks: dict[str, Split], name: str) -> None:
    """Read off as a person would: "by" shows the passive, the first noun is its patient."""

    def nouns(text: str) -> list[str]:
        return re.findall(r"\bthe ([a-z]+)", text.lower())

    def agent(text: str) -> str:
        assert len(nouns(text)) == 2, text
        return nouns(text)["by" in words(text)]

    voices: Counter = Counter()
    same_order: Counter = Counter()
    for e in tasks[name][0]:
        assert (agent(e.text) == agent(e.second)) == e.label, e
        voices["by" in words(e.text), "by" in words(e.second)] += 1
        same_order[nouns(e.text)[0] == nouns(e.second)[0], e.label] += 1
    if name == "entailment":
        assert voices == {(True, False): 1000, (False, True): 1000}
        assert same_order == {(True, 0): 1000, (False, 1): 1000}
    else:
        assert set(voices.values()) == {500} and len(voices) == 4
        assert set(same_order.values()) == {500}, "the order of the nouns tells nothing"


def test_number_is_that_of_the_main_subject(tasks: dict[str, Split]) -> None:
    """With "near" or "while" in front the subject comes after the comma."""
    first_noun_right = 0
    irregular = {"women", "men", "children", "wives", "thieves", "policemen", "firemen"}
    for e in tasks["number"][0]:
        main = e.text.lower().rpartition(", ")[2]
        (subject, *_) = re.findall(r"\bthe ([a-z]+)", main)
        (first, *_) = re.findall(r"\bthe ([a-z]+)", e.text.lower())
        plural = subject.endswith("s") and not subject.endswith("ss")
        plural |= subject in irregular or subject.endswith("men")
        assert plural == e.label, e
        first_noun_right += first == subject
    assert first_noun_right == len(tasks["number"][0]) / 2


def test_acceptability_is_that_of_the_minimal_pairs() -> None:
    train, test = classification_task("acceptability", 300, 100, seed=5)
    drawn = [toy_english.minimal_pairs(40, seed) for seed in (5, 6)]
    for examples, pairs in ((test, drawn[0]), (train, drawn[1])):
        of_text = {text: label for uid in NEAR + FAR for p in pairs[uid]
                   for text, label in ((p.good, 1), (p.bad, 0))}  # fmt: skip
        assert all(of_text[e.text] == e.label and not e.second for e in examples)


def test_transfer_is_to_paradigms_that_were_not_trained_on() -> None:
    train, test = classification_task("acceptability_transfer", 300, 100, seed=5)
    assert not set(NEAR) & set(FAR) and set(NEAR + FAR) <= set(toy_english.PARADIGMS)
    for examples, uids, seed in ((test, FAR, 5), (train, NEAR, 6)):
        pairs = toy_english.minimal_pairs(60, seed)
        texts = {text for uid in uids for p in pairs[uid] for text in (p.good, p.bad)}
        assert {e.text for e in examples} <= texts


@pytest.mark.parametrize("name", ["acceptability", "acceptability_transfer"])
def test_single_words_hardly_tell_acceptability(tasks: dict[str, Split], name: str) -> None:
    vectors = CountVectorizer(token_pattern=r"[A-Za-z]+")
    train, test = tasks[name]
    seen = vectors.fit_transform([e.text for e in train])
    judge = LogisticRegression(max_iter=500).fit(seen, [e.label for e in train])
    unseen = vectors.transform([e.text for e in test])
    assert 0.42 < judge.score(unseen, [e.label for e in test]) < 0.58


def test_the_test_examples_depend_on_the_seed_alone() -> None:
    for name in TASKS:
        few, many = (classification_task(name, n, 40, seed=1) for n in (40, 200))
        assert few[1] == many[1]
        assert few[0] != classification_task(name, 40, 40, seed=2)[0]
        assert classification_task(name, 40, 40, seed=1) == few


def test_whole_items_only() -> None:
    train, test = classification_task("entailment", 11, 3, seed=1)
    assert len(train) == 8 and len(test) == 4
    assert len(classification_task("number", 11, 2, seed=1)[0]) == 10


def test_an_unknown_task() -> None:
    with pytest.raises(
        ValueError, match=r"no toy task 'tense'; there are acceptability, .*number"
    ):
        classification_task("tense")
