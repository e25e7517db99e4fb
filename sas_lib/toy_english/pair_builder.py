"""What the paradigms of minimal pairs have in common: small sentences under full control.

A pair is made by building one sentence, reading off its words, changing one thing in the
tree and reading them off again. All choices of words go through the lexicon's preferences,
so the sentences are those of the grammar, only plainer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sas_lib.toy_english import function_words as fw
from sas_lib.toy_english.function_words import PAST, PRESENT, Tense
from sas_lib.toy_english.grammar import Grammar
from sas_lib.toy_english.lexicon import Noun, Verb
from sas_lib.toy_english.noun_phrases import determiner_relation, third_person
from sas_lib.toy_english.tables import Form, Table
from sas_lib.toy_english.trees import Nominal, Predicate, Word, settle_articles


@dataclass(frozen=True)
class MinimalPair:
    """Two sentences that differ as little as they can; only ``good`` is English.

    paradigm, phenomenon, field: BLiMP's UID, linguistics_term and field.
    good_words, bad_words: the sentences as words, final punctuation included.
    """

    good: str
    bad: str
    paradigm: str
    phenomenon: str
    field: str
    good_words: tuple[str, ...]
    bad_words: tuple[str, ...]


Words = tuple[str, ...]
PairOfWords = tuple[Words, Words]


class Retry(Exception):
    """The words drawn do not make a pair; draw again."""


# Tenses in which an auxiliary stands before every verb, and none that hides agreement.
AUXILIARY = Table(
    [
        (Tense(perfect=True), 4),
        (Tense(past=True, perfect=True), 3),
        (Tense(modal="will"), 2),
        (Tense(modal="must"), 1),
        (Tense(past=True, modal="could"), 1),
        (Tense(past=True, modal="might"), 1),
    ]
)
# Tenses that show the number of a subject.
MARKED = Table(
    [
        (PRESENT, 5),
        (Tense(perfect=True), 2),
        (Tense(progressive=True), 2),
        (Tense(past=True, progressive=True), 2),
    ]
)
PLAIN = Table([(PAST, 3), (PRESENT, 3), (Tense(perfect=True), 1), (Tense(modal="will"), 1)])


class PairBuilder(Grammar):
    """A grammar that builds single sentences to order."""

    def words(self, words: list[Word], end: Form = fw.STOP) -> Words:
        """The texts of a sentence; the tree may be changed and read off again."""
        settle_articles(words)
        texts = [word.form.text for word in words] + [end.text]
        texts[0] = texts[0][0].upper() + texts[0][1:]
        return tuple(texts)

    def swap(self, words: list[Word], word: Word, form: Form) -> PairOfWords:
        """The sentence as it is, and with ``form`` in the place of ``word``."""
        good = self.words(words)
        word.form = form
        return good, self.words(words)

    def one_of(self, table: Table[Noun], accept: Callable[[Noun], bool]) -> Noun:
        """A draw from ``table`` that is accepted."""
        for _ in range(30):
            noun = self.pick(table)
            if accept(noun):
                return noun
        raise Retry

    def verb_where(self, accept: Callable[[Verb], bool]) -> Verb:
        """A verb of the lexicon, by frequency, that is accepted."""
        while True:
            verb = self.pick(self.lexicon.verb_table)
            if accept(verb):
                return verb

    def subject_noun(self, accept: Callable[[Noun], bool] = lambda noun: True) -> Noun:
        """A countable common noun that can be a subject, by frequency."""
        for _ in range(200):
            noun = self.pick(self.pick(self.lexicon.verb_table).subjects)
            if noun.plural and noun.as_subject and accept(noun):
                return noun
        raise Retry

    def phrase(
        self,
        noun: Noun,
        plural: bool = False,
        determiner: Form | None = fw.THE,
        adjective: float = 0.2,
    ) -> Nominal:
        """A determiner, perhaps an adjective, and the noun; a name stands alone."""
        pronoun = "they" if plural else third_person(noun, self)
        if noun.proper and not plural:
            return Nominal(head := Word(noun.singular), [head], noun, pronoun)
        if plural and noun.plural is None:
            raise Retry
        head = Word(noun.plural if plural and noun.plural else noun.singular)
        words = []
        if determiner is not None:
            words.append(Word(determiner, determiner_relation(determiner), head))
        if noun.adjectives and self.random() < adjective:
            words.append(Word(self.pick(noun.adjectives), "amod", head))
        return Nominal(head, [*words, head], noun, pronoun)

    def any_phrase(self, noun: Noun) -> Nominal:
        """A phrase of either number with a plain determiner."""
        plural = noun.plural is not None and self.random() < 0.45
        number = "plural" if plural else "singular" if noun.plural else "mass"
        return self.phrase(noun, plural, self.pick(_PLAIN_DETERMINERS[number]))

    def tail(self, verb: Verb, head: Word, rate: float = 0.3) -> list[Word]:
        """Perhaps a short prepositional phrase that the verb likes."""
        if not verb.phrases or self.random() > rate:
            return []
        preposition, nouns = self.pick(verb.phrases)
        nominal = self.phrase(self.pick(nouns), adjective=0.1)
        nominal.head.attach("obl", head)
        return [Word(preposition, "case", nominal.head), *nominal.words]

    def say(
        self,
        subject: Nominal,
        verb: Verb,
        after: list[Word],
        tense: Tense,
        tail: float = 0.25,
        middle: list[Word] | None = None,
        inverted: bool = False,
    ) -> list[Word]:
        """A plain clause: subject, verb, the words ``after`` it, perhaps a phrase."""
        head = Word(verb.forms["base"])
        particle = [Word(verb.particle, "compound:prt", head)] if verb.particle else []
        rest = [head, *particle, *after, *self.tail(verb, head, tail)]
        subject.head.attach("nsubj", head)
        return self.finite(subject, Predicate(head, rest, verb, middle=middle), tense, inverted)

    def with_verb(
        self, right: Verb, wrong: Verb, subject: Nominal, after: list[Word], tense: Tense
    ) -> PairOfWords:
        """One clause with either verb in the same form."""
        words = self.say(subject, right, after, tense, 0)
        head = subject.head.head
        assert head is not None
        name = next(n for n, form in right.forms.items() if form is head.form)
        return self.swap(words, head, wrong.forms[name])

    def object_of(self, verb: Verb) -> list[Word]:
        """A plain object for a verb that takes one; nothing for another."""
        if verb.objects is None or is_intransitive(verb):
            return []
        return self.any_phrase(self.pick(verb.objects)).words

    def event(
        self, subject: Nominal, tense: Tense, inverted: bool = False, middle: Form | None = None
    ) -> list[Word]:
        """Something plain that such a subject does."""
        verb = self.doing(subject.noun)
        words = [Word(middle, "advmod")] if middle else None
        return self.say(subject, verb, self.object_of(verb), tense, 0.25, words, inverted)

    def doing(self, noun: Noun) -> Verb:
        """A verb for the noun that is neither clausal nor has a particle."""
        for _ in range(30):
            verb = self.verb_for(noun)
            if is_plain(verb):
                return verb
        raise Retry

    def person(self) -> Nominal:
        """Someone: a name as often as a common noun."""
        verb = self.lexicon.verb["walk" if self.random() < 0.5 else "know"]
        noun = self.one_of(verb.subjects, lambda n: n.kind == "person")
        return self.any_phrase(noun)

    def relative(
        self, nominal: Nominal, plural: bool, tense: Tense = PAST
    ) -> tuple[list[Word], Nominal]:
        """A relative clause on ``nominal`` with another noun of the given number in it.

        The other noun is the object, or the subject, of the lower verb.
        """
        noun = nominal.noun
        that = fw.THAT_REL
        if noun.as_object and (self.random() < 0.5 or not noun.as_subject):
            verb = self.pick(noun.as_object)
            other = self.phrase(self.one_of(verb.subjects, _counted), plural)
            return [Word(that, "obj"), *self.say(other, verb, [], tense, 0)], other
        if noun.as_subject is None:
            raise Retry
        for _ in range(30):
            verb = self.pick(noun.as_subject)
            if verb.objects and is_plain(verb):
                other = self.phrase(self.one_of(verb.objects, _counted), plural)
                subject = Nominal(word := Word(that), [word], noun, nominal.pronoun)
                return self.say(subject, verb, other.words, tense, 0), other
        raise Retry


_PLAIN_DETERMINERS: dict[str, Table[Form | None]] = {
    "singular": Table([(fw.THE, 6), (fw.A, 4)]),
    "plural": Table([(fw.THE, 6), (None, 3), (fw.SOME, 2)]),
    "mass": Table([(fw.THE, 6), (None, 2)]),
}


def _counted(noun: Noun) -> bool:
    return noun.plural is not None


def is_plain(verb: Verb) -> bool:
    """Whether the verb can be used without a clause or a second object."""
    return bool(verb.frames_of & {"transitive", "intransitive"}) and verb.recipients is None


def is_intransitive(verb: Verb) -> bool:
    """Whether the verb never takes an object."""
    return verb.frames_of == {"intransitive"}


def is_transitive(verb: Verb) -> bool:
    """Whether the verb always takes an object."""
    return verb.objects is not None and verb.frames_of <= {"transitive", "reflexive"}
