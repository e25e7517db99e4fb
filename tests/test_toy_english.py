"""Toy English: trees, agreement, lengths, offsets, preferences and minimal pairs.

The agreement checks read the sentences as a person would, from word forms and arcs; they
share no code and no tables with the grammar.
"""

import json
import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from sas_lib import toy_english
from sas_lib.toy_english.morphology import add_ed, add_ing, add_s, detokenise, takes_an
from sas_lib.treebank import ROOT, read_conllu, tree_problem, write_conllu

# https://universaldependencies.org/u/dep/: the 37 relations, and the subtypes used here.
UD_RELATIONS = set(
    """acl advcl advmod amod appos aux case cc ccomp clf compound conj cop csubj dep det
    discourse dislocated expl fixed flat goeswith iobj list mark nmod nsubj nummod obj obl
    orphan parataxis punct reparandum root vocative xcomp""".split()
)
UD_SUBTYPES = {"acl:relcl", "aux:pass", "compound:prt", "nmod:poss", "nsubj:pass", "obl:agent"}


@pytest.fixture(scope="module")
def sentences():
    return list(toy_english.sentences(20_000, seed=7))


@pytest.fixture(scope="module")
def pairs():
    return toy_english.minimal_pairs(500, seed=7)


def children(sentence, head, *relations):
    return [
        i
        for i, (h, r) in enumerate(zip(sentence.heads, sentence.relations, strict=True))
        if h == head and r in relations
    ]


# Sentences as data.


def test_every_tree_is_valid_universal_dependencies(sentences):
    for sentence in sentences:
        assert tree_problem(sentence.heads) is None, sentence.text
        assert set(sentence.relations) <= UD_RELATIONS | UD_SUBTYPES, sentence.text
        root = sentence.heads.index(ROOT)
        assert sentence.relations[root] == "root" and sentence.relations.count("root") == 1


def test_punctuation_depends_and_nothing_depends_on_it(sentences):
    for sentence in sentences:
        marks = {i for i, word in enumerate(sentence.words) if word in ".,?"}
        assert marks == {i for i, r in enumerate(sentence.relations) if r == "punct"}
        assert not marks & set(sentence.heads), sentence.text
        assert sentence.words[-1] in ".?" and "." not in sentence.words[:-1]
        assert not any(i + 1 in marks for i in marks), sentence.text


def test_lengths(sentences):
    lengths = [len(sentence) for sentence in sentences]
    spoken = [sum(r != "punct" for r in sentence.relations) for sentence in sentences]
    assert min(spoken) >= 3 and max(lengths) <= 40
    assert 10 <= sum(spoken) / len(spoken) <= sum(lengths) / len(lengths) <= 14


def test_fixed_offsets_find_few_heads(sentences):
    offsets, by_relation = Counter(), {}
    for sentence in sentences:
        for dependent, head, relation in sentence.arcs():
            if relation != "punct":
                offsets[head - dependent] += 1
                by_relation.setdefault(relation, Counter())[head - dependent] += 1
    assert max(offsets.values()) / offsets.total() <= 0.35
    best = sum(max(counts.values()) for counts in by_relation.values())
    assert best / offsets.total() <= 0.55


def test_all_constructions_occur(sentences):
    seen = Counter(r for sentence in sentences for r in sentence.relations)
    for relation in """acl acl:relcl advcl advmod amod appos aux aux:pass case cc ccomp compound
        compound:prt conj cop det expl iobj mark nmod nmod:poss nsubj nsubj:pass nummod obj obl
        obl:agent xcomp""".split():
        assert seen[relation] >= 100, relation
    words = Counter(word.lower() for sentence in sentences for word in sentence.words)
    for (
        word
    ) in "not ever any who what which where whose whether herself themselves there".split():
        assert words[word] >= 20, word
    assert 0.08 < sum(s.words[-1] == "?" for s in sentences) / len(sentences) < 0.3


def test_the_stream_depends_on_the_seed_alone():
    first = list(toy_english.sentences(50, seed=3))
    assert first == list(islice(toy_english.sentences(None, seed=3), 50))
    assert [s.text for s in first] != [s.text for s in toy_english.sentences(50, seed=4)]


def test_the_stream_is_the_same_in_every_process():
    code = "from sas_lib.toy_english import sentences as s; print(*[x.text for x in s(30)])"
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_conllu_round_trip(tmp_path):
    some = list(toy_english.sentences(40, seed=1))
    path = tmp_path / "toy.conllu"
    write_conllu(some, path)
    read = list(read_conllu(path))
    assert [(s.words, s.heads, s.relations, s.upos, s.lemmas) for s in read] == [
        (s.words, s.heads, s.relations, s.upos, s.lemmas) for s in some
    ]


# The lexicon.


def test_the_lexicon_is_large_enough(sentences):
    numbers = toy_english.describe()
    assert numbers["word forms"] >= 1500 and numbers["semantic fields"] >= 12
    words = {word.lower() for sentence in sentences for word in sentence.words} - set(".,?")
    assert len(words) >= 1500
    assert words <= toy_english.vocabulary()


@pytest.mark.parametrize(
    ("rule", "word", "form"),
    [
        (add_s, "box", "boxes"),
        (add_s, "berry", "berries"),
        (add_s, "boy", "boys"),
        (add_s, "watch", "watches"),
        (add_ed, "bake", "baked"),
        (add_ed, "stop", "stopped"),
        (add_ed, "carry", "carried"),
        (add_ed, "play", "played"),
        (add_ed, "open", "opened"),
        (add_ing, "bake", "baking"),
        (add_ing, "see", "seeing"),
        (add_ing, "swim", "swimming"),
        (add_ing, "row", "rowing"),
    ],
)
def test_regular_inflection(rule, word, form):
    assert rule(word) == form


def test_detokenise():
    words = "The dogs ' owner , Anna 's aunt , sleeps .".split()
    assert detokenise(words) == "The dogs' owner, Anna's aunt, sleeps."
    assert [takes_an(w) for w in "apple honest uniform hat".split()] == [
        True,
        True,
        False,
        False,
    ]


def test_heads_tell_more_than_neighbours(sentences):
    """Held-out cross-entropy of a content word given its head, or the word beside it."""
    half = len(sentences) // 2
    content = {"nsubj", "obj", "obl", "nmod", "amod", "nsubj:pass"}
    seen = [
        [
            (
                s.lemmas[d],
                s.lemmas[h],
                s.words[d - 1].lower() if d else "",
                s.words[d + 1].lower(),
            )
            for s in part
            for d, h, r in s.arcs()
            if r in content and s.upos[d] in ("NOUN", "ADJ")
        ]
        for part in (sentences[:half], sentences[half:])
    ]
    head, before, after = (cross_entropy(*seen, context) for context in (1, 2, 3))
    unigram = cross_entropy(*seen, None)
    assert head < before - 0.3 and head < after - 0.3 and head < unigram - 0.8


def cross_entropy(train, test, context):
    """Nats per word under an interpolated maximum-likelihood model; context None for none."""
    unigrams = Counter(row[0] for row in train)
    joint, marginal = Counter(), Counter()
    for row in train:
        joint[row[0], row[context] if context else ""] += 1
        marginal[row[context] if context else ""] += 1
    total = 0.0
    for row in test:
        given = row[context] if context else ""
        backoff = 0.9 * unigrams[row[0]] / len(train) + 0.1 / 1000
        # Witten-Bell style: a context seen often is trusted more.
        trust = marginal[given] / (marginal[given] + 20)
        conditional = joint[row[0], given] / marginal[given] if marginal[given] else 0
        total -= math.log(trust * conditional + (1 - trust) * backoff)
    return total / len(test)


# Agreement, read off the words.

SINGULAR_FORMS = {"is", "was", "has", "does"}
PLURAL_FORMS = {"are", "were", "have", "do"}
SAME_PAST = {"hurt", "read", "beat", "cut", "put"}  # past and plain form are the same


def verb_number(sentence, head):
    """The number that the finite verb of the clause around ``head`` shows, if any."""
    verbs = [*children(sentence, head, "aux", "aux:pass", "cop"), head]
    first = min(verbs)
    word = sentence.words[first].lower()
    if word in SINGULAR_FORMS | PLURAL_FORMS | {"am"}:
        return "first" if word == "am" else "singular" if word in SINGULAR_FORMS else "plural"
    if first != head or sentence.upos[head] != "VERB" or word in SAME_PAST:
        return None  # a modal, "had", "did", or a form without number
    if word == sentence.lemmas[head]:
        return "plural"
    return "singular" if word in (add_s(sentence.lemmas[head]),) else None


def subject_number(sentence, subject, head):
    word = sentence.words[subject].lower()
    if word == "there":
        for verb in [head, *children(sentence, head, "xcomp")]:
            for real in children(sentence, verb, "nsubj"):
                return noun_number(sentence, real)
    if word in ("who", "which", "that") and sentence.relations[head] == "acl:relcl":
        return noun_number(sentence, sentence.heads[head], joined=False)
    return noun_number(sentence, subject)


def noun_number(sentence, noun, joined=True):
    word = sentence.words[noun].lower()
    if joined and children(sentence, noun, "conj") and sentence.upos[noun] != "VERB":
        return "plural"
    if word == "i":
        return "first"
    if word in ("we", "you", "they"):
        return "plural"
    if sentence.upos[noun] in ("PROPN", "PRON"):
        return "singular"
    return "singular" if word == sentence.lemmas[noun] else "plural"


def agreement(sentence):
    """For each subject that can be checked: the number it has and the one its verb shows."""
    for subject, head, relation in sentence.arcs():
        if relation not in ("nsubj", "nsubj:pass", "expl"):
            continue
        if relation == "nsubj" and children(sentence, head, "expl"):
            continue  # "there are cats": the verb agrees by way of "there"
        if sentence.relations[head] == "xcomp":
            continue  # "there seem to be cats": the verb of the cats is an infinitive
        shown = verb_number(sentence, head)
        wanted = subject_number(sentence, subject, head)
        if wanted == "first" and shown:  # I am, I was, I have, I bake
            verb = min([*children(sentence, head, "aux", "aux:pass", "cop"), head])
            wrong = sentence.words[verb] in ("is", "are", "were", "has", "does")
            yield "first", "other" if wrong else "first"
        elif shown:
            yield wanted, shown


def test_subjects_and_verbs_agree(sentences):
    checked = Counter()
    for sentence in sentences:
        for wanted, shown in agreement(sentence):
            assert wanted == shown, sentence.text
            checked[shown] += 1
    assert min(checked["singular"], checked["plural"]) > 3000 and checked["first"] > 50


def test_the_agreement_check_notices_a_wrong_verb(sentences):
    """The walk is no tautology: with one verb form exchanged it objects."""
    swap = {
        "is": "are",
        "are": "is",
        "has": "have",
        "have": "has",
        "was": "were",
        "were": "was",
    }
    noticed = tried = 0
    for sentence in sentences[:2000]:
        for i, word in enumerate(sentence.words):
            if word in swap and "Fin" in sentence.features[i] and sentence.upos[i] == "AUX":
                wrong = (*sentence.words[:i], swap[word], *sentence.words[i + 1 :])
                tried += 1
                noticed += any(a != b for a, b in agreement(replace(sentence, words=wrong)))
    assert tried > 500 and noticed / tried > 0.95


def test_determiners_agree_with_nouns(sentences):
    singular = {"this", "that", "a", "an", "every", "each", "another"}
    plural = {"these", "those", "many", "several", "few", "all", "most", "two", "three", "six"}
    for sentence in sentences:
        for dependent, head, relation in sentence.arcs():
            word = sentence.words[dependent].lower()
            if relation in ("det", "nummod", "amod") and word in singular | plural:
                expected = "singular" if word in singular else "plural"
                assert noun_number(sentence, head, joined=False) == expected, sentence.text


def test_reflexives_agree_with_subjects(sentences):
    number = {"himself": "singular", "herself": "singular", "itself": "singular"}
    number |= {"themselves": "plural", "ourselves": "plural", "myself": "first"}
    checked = 0
    for sentence in sentences:
        for dependent, head, _ in sentence.arcs():
            word = sentence.words[dependent]
            for subject in children(sentence, head, "nsubj"):
                if word in number:
                    assert subject_number(sentence, subject, head) == number[word], (
                        sentence.text
                    )
                    checked += 1
    assert checked > 50


def test_indefinite_articles_fit_the_next_word(sentences):
    oddities = {
        "honest": "an",
        "uniform": "a",
        "university": "a",
        "unicorn": "a",
        "useful": "a",
    }
    for sentence in sentences:
        for word, following in zip(sentence.words, sentence.words[1:], strict=False):
            if word.lower() in ("a", "an"):
                vowel = following[0].lower() in "aeiou"
                expected = oddities.get(following.lower(), "an" if vowel else "a")
                assert word.lower() == expected, sentence.text


def test_any_and_ever_are_licensed(sentences):
    """No "ever" or "any" without "not", "never", "no", "few", "only", or a question."""
    licensers = {"not", "never", "seldom", "no", "few", "only", "?"}
    for sentence in sentences:
        words = {word.lower() for word in sentence.words}
        if words & {"ever", "any"}:
            assert words & licensers, sentence.text


# Minimal pairs.

# Paradigms whose members hold the same words in another order.
REORDERED = set(
    """adjunct_island matrix_question_npi_licensor_present only_npi_scope principle_A_domain_3
    sentential_negation_npi_scope""".split()
)
GAPS = {"wh_questions_object_gap", "wh_questions_subject_gap"}


def test_enough_paradigms_and_pairs(pairs):
    assert len(pairs) >= 12
    for uid, found in pairs.items():
        assert len(found) == 500 and len({pair.good for pair in found}) > 400, uid
        assert {pair.paradigm for pair in found} == {uid}


def test_members_differ_as_little_as_they_can(pairs):
    for uid, found in pairs.items():
        for pair in found:
            good, bad = pair.good_words, pair.bad_words
            assert len(good) == len(bad) and good != bad
            assert detokenise(good) == pair.good and detokenise(bad) == pair.bad
            if uid in REORDERED:
                marks = ".", "?"
                bags = [Counter(w.lower() for w in m if w not in marks) for m in (good, bad)]
                assert bags[0] == bags[1], pair
            elif uid in GAPS:
                lost = Counter(good) - Counter(bad)
                assert list(lost.values()) == [1] and "that" in lost, pair
            else:
                assert sum(a != b for a, b in zip(good, bad, strict=True)) == 1, pair


def test_pairs_use_the_lexicon_only(pairs):
    words = {
        w.lower() for found in pairs.values() for p in found for w in p.good_words + p.bad_words
    }
    assert words - set(".?,") <= toy_english.vocabulary()


def test_distractors_stand_between(pairs):
    """Of two nouns before the verb, the nearer has the other number than the subject."""
    for uid in ("distractor_agreement_relational_noun", "distractor_agreement_relative_clause"):
        for pair in pairs[uid]:
            place = next(
                i
                for i, (a, b) in enumerate(zip(pair.good_words, pair.bad_words, strict=True))
                if a != b
            )
            assert place >= 4, pair


def test_npi_pairs(pairs):
    for pair in pairs["npi_present_2"]:
        assert "ever" in pair.bad_words and "ever" not in pair.good_words
    for pair in pairs["only_npi_licensor_present"]:
        assert (pair.good_words[0], pair.bad_words[0]) == ("Only", "Even")


def test_pairs_depend_on_the_seed_alone():
    few, more = toy_english.minimal_pairs(5, seed=1), toy_english.minimal_pairs(8, seed=1)
    assert all(few[uid] == more[uid][:5] for uid in few)
    assert few != toy_english.minimal_pairs(5, seed=2)


BLIMP_FIELDS = set(
    """sentence_good sentence_bad field linguistics_term UID simple_LM_method one_prefix_method
    two_prefix_method lexically_identical pairID""".split()
)


def test_write_pairs(tmp_path):
    toy_english.write_pairs(tmp_path / "pairs", n=6, seed=1)
    files = sorted((tmp_path / "pairs").iterdir())
    assert [file.suffix for file in files] == [".jsonl"] * len(toy_english.PARADIGMS)
    pairs = toy_english.minimal_pairs(6, seed=1)
    for file in files:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert [row["sentence_good"] for row in rows] == [p.good for p in pairs[file.stem]]
        assert [row["pairID"] for row in rows] == [str(i) for i in range(6)]
        assert all(set(row) == BLIMP_FIELDS and row["UID"] == file.stem for row in rows)


def test_paradigms_are_described_as_in_blimp():
    folder = Path(os.environ.get("SAS_DATA", "")) / "blimp" / "data"
    if not os.environ.get("SAS_DATA") or not folder.is_dir():
        pytest.skip("BLiMP is not here: set SAS_DATA to a folder that has it")
    for uid, paradigm in toy_english.PARADIGMS.items():
        with open(folder / f"{uid}.jsonl", encoding="utf-8") as lines:
            row = json.loads(lines.readline())
        assert tuple(paradigm) == tuple(
            row[key]
            for key in (
                "linguistics_term",
                "field",
                "one_prefix_method",
                "two_prefix_method",
                "lexically_identical",
            )
        ), uid
