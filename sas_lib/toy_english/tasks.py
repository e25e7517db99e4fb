"""Classification tasks of toy English, made so that single words give nothing away.

``acceptability``: is the sentence English? The good and bad members of minimal pairs, of
those paradigms in which no word is found in the bad members only.
``acceptability_transfer``: the same, but trained on paradigms in which the words that decide
stand together and tested on others in which something stands between them.
``entailment``: does the first sentence entail the second? One is active and one passive, and
who did it may have changed: "The cook praised the judge.", "The judge was praised by the
cook." It can be told from the order of the nouns, which then is the reverse.
``entailment_voices``: the same, but each of the two is active or passive, so that the order
tells nothing to who does not also read the voice.
``number``: is the subject of the main clause singular or plural? Another noun, of the other
number, stands before or after it, and the verb does not show which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from itertools import count, product
from typing import NamedTuple

from sas_lib.toy_english import function_words as fw
from sas_lib.toy_english.function_words import PAST, PAST_PERFECT, Tense
from sas_lib.toy_english.lexicon import Noun, Verb
from sas_lib.toy_english.morphology import detokenise
from sas_lib.toy_english.pair_builder import PLAIN, PairBuilder, Retry, is_intransitive
from sas_lib.toy_english.pairs import minimal_pairs
from sas_lib.toy_english.tables import Form, Table
from sas_lib.toy_english.trees import Nominal, Predicate, Word


class Example(NamedTuple):
    """One or two sentences and their class; ``second`` is "" where there is only one."""

    text: str
    second: str
    label: float


# The names of the classes, in the order of the labels.
TASKS = {
    "acceptability": ("unacceptable", "acceptable"),
    "acceptability_transfer": ("unacceptable", "acceptable"),
    "entailment": ("not_entailment", "entailment"),
    "entailment_voices": ("not_entailment", "entailment"),
    "number": ("singular", "plural"),
}

# What decides stands together ...
NEAR = tuple(
    """anaphor_gender_agreement anaphor_number_agreement determiner_noun_agreement_1
    determiner_noun_agreement_2 determiner_noun_agreement_irregular_1
    determiner_noun_agreement_irregular_2 irregular_plural_subject_verb_agreement_1
    irregular_plural_subject_verb_agreement_2 regular_plural_subject_verb_agreement_1
    regular_plural_subject_verb_agreement_2 matrix_question_npi_licensor_present
    adjunct_island""".split()
)
# ... or has an adjective, a phrase or a clause in between.
FAR = tuple(
    """determiner_noun_agreement_with_adjective_1 determiner_noun_agreement_with_adj_2
    determiner_noun_agreement_with_adj_irregular_1
    determiner_noun_agreement_with_adj_irregular_2 distractor_agreement_relational_noun
    distractor_agreement_relative_clause only_npi_scope principle_A_domain_3
    sentential_negation_npi_scope""".split()
)

# Tenses in which a verb has one form for all subjects of the third person.
_NUMBERLESS = Table(
    [
        (PAST, 4),
        (PAST_PERFECT, 1),
        (Tense(modal="will"), 1),
        (Tense(past=True, modal="could"), 1),
    ]
)

_BESIDE, _WHILE = Form("near", "near", "ADP"), Form("while", "while", "SCONJ")

Item = tuple[Hashable, list[Example]]  # what it is about, and its examples


def classification_task(
    name: str, train: int = 8000, test: int = 1000, seed: int = 0
) -> tuple[list[Example], list[Example]]:
    """Training and test examples of a task in ``TASKS``, from a seed.

    Both hold equally many examples of each class, and no item of one is in the other. Items
    are whole (two examples of acceptability and number, four of entailment), so there may
    be fewer examples than asked for. The test examples do not depend on ``train``.

    Raises:
        ValueError: there is no such task, or it has fewer examples than that.
    """
    if name not in TASKS:
        raise ValueError(f"no toy task {name!r}; there are {', '.join(TASKS)}")
    if name.startswith("acceptability"):
        far = FAR if name == "acceptability_transfer" else NEAR + FAR
        near = NEAR if name == "acceptability_transfer" else NEAR + FAR
        tested = _members(far, test, seed)
        return _members(near, train, seed + 1, {e.text for e in tested}), tested
    items = _distinct(getattr(_Items(f"{name} {seed}"), name))
    tested = _fill(items, test)
    return _fill(items, train), tested


def _members(
    paradigms: tuple[str, ...], n: int, seed: int, avoid: set[str] | None = None
) -> list[Example]:
    """Good and bad members in turns, the paradigms in turns, none with text to ``avoid``."""
    spare = 2 * n // len(paradigms) + 2
    drawn = minimal_pairs(spare, seed)
    rows = zip(*(drawn[uid] for uid in paradigms), strict=True)
    pairs = (pair for row in rows for pair in row)
    kept = [pair for pair in pairs if not {pair.good, pair.bad} & (avoid or set())]
    examples = [
        Example(text, "", label)
        for pair in kept
        for text, label in ((pair.good, 1), (pair.bad, 0))
    ]
    return examples[: n // 2 * 2]


def _distinct(make: Callable[[int], Item]) -> Iterator[list[Example]]:
    """The examples of items, each about something else; ``make`` is given their number."""
    seen: set[Hashable] = set()
    for number in count():
        for _ in range(10_000):
            with suppress(Retry):
                key, examples = make(number)
                if key not in seen:
                    break
        else:
            raise ValueError(f"toy English has no more than {number} items for this task")
        seen.add(key)
        yield examples


def _fill(items: Iterator[list[Example]], n: int) -> list[Example]:
    """As many whole items as make up ``n`` examples at most, but one at least."""
    examples: list[Example] = []
    if n > 0:
        examples += next(items)
        for _ in range(n // len(examples) - 1):
            examples += next(items)
    return examples


class _Items(PairBuilder):
    """Each method makes one item; what is varied in it goes by the item's number."""

    def people(self) -> tuple[Noun, Noun]:
        """Two sorts of people."""
        first, second = (self.subject_noun(lambda n: n.kind == "person") for _ in range(2))
        if first is second:
            raise Retry
        return first, second

    def between_people(self) -> Verb:
        """A verb for what people do to people."""
        return self.verb_where(
            lambda v: (
                v.objects is not None
                and not (v.particle or v.recipients or "nopass" in v.flags)
                and min(_people_among(v.subjects), _people_among(v.objects)) > 0.5
            )
        )

    def alone(self) -> Verb:
        """A verb for what people do by themselves."""
        return self.verb_where(
            lambda v: is_intransitive(v) and not v.particle and _people_among(v.subjects) > 0.5
        )

    def text(self, words: list[Word]) -> str:
        return detokenise(self.words(words))

    # Entailment.

    def entailment(self, number: int) -> Item:
        return self.events(number % 2 == 0, number % 2 == 1)

    def entailment_voices(self, number: int) -> Item:
        return self.events(number % 2 == 0, number // 2 % 2 == 0)

    def events(self, *passives: bool) -> Item:
        """Two events with the roles exchanged, each as premise and each as hypothesis.

        passives: whether the premise, and whether the hypothesis, is in the passive. Both
        nouns have one number, so that no form of a verb tells who did it.
        """
        nouns, verb, tense = self.people(), self.between_people(), self.pick(PLAIN)
        plural = self.random() < 0.5

        def event(passive: bool, exchanged: bool) -> str:
            agent, patient = (
                self.phrase(noun, plural, adjective=0)
                for noun in (reversed(nouns) if exchanged else nouns)
            )
            words = self.passive_of if passive else self.active_of
            return self.text(words(agent, verb, patient, tense))

        examples = [
            Example(event(passives[0], one), event(passives[1], other), float(one == other))
            for one, other in product((False, True), repeat=2)
        ]
        return (frozenset(noun.lemma for noun in nouns), verb.lemma), examples

    def active_of(
        self, agent: Nominal, verb: Verb, patient: Nominal, tense: Tense
    ) -> list[Word]:
        return self.say(agent, verb, patient.words, tense, 0)

    def passive_of(
        self, agent: Nominal, verb: Verb, patient: Nominal, tense: Tense
    ) -> list[Word]:
        head = Word(verb.forms["en"])
        rest = [head, Word(fw.BY, "case", agent.head), *agent.words]
        patient.head.attach("nsubj:pass", head)
        return self.finite(patient, Predicate(head, rest, verb, be="aux:pass"), tense)

    # Number.

    def number(self, number: int) -> Item:
        """Two sentences of the same words: a subject and another noun, then exchanged."""
        nouns = self.people()
        plural = nouns[self.random() < 0.5]
        verbs, lower = (self.alone(), self.alone()), self.between_people()
        tense = PAST if number % 4 == 3 else self.pick(_NUMBERLESS)
        examples = []
        for subject, other in (nouns, nouns[::-1]):
            one, two = (self.phrase(n, n is plural, adjective=0) for n in (subject, other))
            words = self.main_clause(number % 4, one, two, verbs, lower, tense)
            examples.append(Example(self.text(words), "", float(subject is plural)))
        return frozenset(noun.lemma for noun in nouns), examples

    def main_clause(
        self,
        frame: int,
        subject: Nominal,
        other: Nominal,
        verbs: tuple[Verb, Verb],
        lower: Verb,
        tense: Tense,
    ) -> list[Word]:
        """A clause whose subject comes first (frames 0 and 1) or after the other noun."""
        front: list[Word] = []
        near = [Word(_BESIDE, "case", other.head), *other.words]
        if frame == 0:
            subject.words = [*subject.words, *near]
        elif frame == 1:
            clause = self.say(other, lower, [], PAST, 0)
            subject.words = [*subject.words, Word(fw.THAT_REL, "obj"), *clause]
        elif frame == 2:
            front = near
        else:
            front = [Word(_WHILE, "mark"), *self.say(other, verbs[1], [], PAST, 0)]
        main = self.say(subject, verbs[0], [], tense, 0)
        return [*front, Word(fw.COMMA, "punct"), *main] if front else main


def _people_among(nouns: Table[Noun]) -> float:
    """The share of a table that is people."""
    weighted = list(nouns.weighted())
    people = sum(weight for noun, weight in weighted if noun.kind == "person")
    return people / sum(weight for _, weight in weighted)
