"""Minimal pairs of licensing: "ever" and its licensers, "there" and its quantifiers."""

from __future__ import annotations

from sas_lib.toy_english import function_words as fw
from sas_lib.toy_english.function_words import PAST, Tense
from sas_lib.toy_english.pair_builder import (
    AUXILIARY,
    PLAIN,
    PairBuilder,
    PairOfWords,
    Retry,
)
from sas_lib.toy_english.tables import Form, Table
from sas_lib.toy_english.trees import Nominal, Predicate, Word

_NPI_TENSES = Table([(Tense(perfect=True), 4), (Tense(past=True, perfect=True), 2), (PAST, 2)])
_CONTROL = "want hope try refuse plan".split()
_QUANTIFIERS: dict[bool, tuple[Table[Form], Table[Form]]] = {
    False: (Table([(fw.A, 1.0)]), Table([(fw.EVERY, 1), (fw.EACH, 1)])),
    True: (
        Table([(fw.MANY, 2), (fw.SOME, 2), (fw.SEVERAL, 1), (fw.FEW, 1)]),
        Table([(fw.MOST, 1), (fw.ALL, 1)]),
    ),
}


class LicensingPairs(PairBuilder):
    """Each method makes one pair of the BLiMP paradigm that it is named after."""

    # Negative polarity: "ever" needs a licenser above it.

    def definite(self) -> Nominal:
        """A definite subject of either number, or a name."""
        noun = self.pick(self.pick(self.lexicon.verb_table).subjects)
        if not noun.as_subject:
            raise Retry
        plural = noun.plural is not None and self.random() < 0.45
        return self.phrase(noun, plural)

    def focused(self, form: Form) -> tuple[Nominal, Word]:
        subject = self.definite()
        focus = Word(form, "advmod", subject.head)
        subject.words.insert(0, focus)
        return subject, focus

    def npi_present_1(self) -> PairOfWords:
        subject, _ = self.focused(fw.EVEN)
        return self.ever_for_often(subject)

    def npi_present_2(self) -> PairOfWords:
        return self.ever_for_often(self.definite())

    def ever_for_often(self, subject: Nominal) -> PairOfWords:
        adverb = self.pick(self.lexicon.closed["frequency"])
        words = self.event(subject, self.pick(_NPI_TENSES), middle=adverb)
        place = next(word for word in words if word.form is adverb)
        return self.swap(words, place, fw.EVER)

    def only_npi_licensor_present(self) -> PairOfWords:
        subject, focus = self.focused(fw.ONLY)
        words = self.event(subject, self.pick(_NPI_TENSES), middle=fw.EVER)
        return self.swap(words, focus, fw.EVEN)

    def only_npi_scope(self) -> PairOfWords:
        """ "Only" above "ever", and shut away in a relative clause."""
        subject = self.phrase(self.subject_noun(), self.random() < 0.45)
        if subject.noun.as_object is None:
            raise Retry
        verb = self.pick(subject.noun.as_object)
        other = self.phrase(self.pick(verb.subjects), adjective=0.1)
        clause = self.say(other, verb, [], PAST, 0)
        opening = [*subject.words, Word(fw.THAT_REL, "obj")]
        subject.words = opening + clause
        words = self.event(subject, self.pick(_NPI_TENSES), middle=fw.EVER)
        only = Word(fw.ONLY, "advmod", subject.head)
        cut = len(opening)
        good = self.words([only, *words])
        return good, self.words([*words[:cut], only, *words[cut:]])

    def sentential_negation_npi_licensor_present(self) -> PairOfWords:
        subject = self.definite()
        tense = self.pick(AUXILIARY)._replace(negative=True)
        words = self.event(subject, tense, middle=fw.EVER)
        place = next(word for word in words if word.form is fw.NOT)
        return self.swap(words, place, self.pick(self.lexicon.closed["certainty"]))

    def sentential_negation_npi_scope(self) -> PairOfWords:
        """ "Not" beside "ever", and shut away in a relative clause."""
        subject = self.phrase(self.subject_noun(), self.random() < 0.45)
        who = Nominal(that := Word(fw.THAT_REL), [that], subject.noun, subject.pronoun)
        clause = self.event(who, self.pick(AUXILIARY))
        subject.words += clause
        words = self.event(subject, self.pick(AUXILIARY), middle=fw.EVER)
        ever = next(i for i, word in enumerate(words) if word.form is fw.EVER)
        low = (
            next(i for i, word in enumerate(words) if word is that) + 2
        )  # after the auxiliary of the lower clause
        negation = Word(fw.NOT, "advmod")
        good = self.words([*words[:ever], negation, *words[ever:]])
        return good, self.words([*words[:low], negation, *words[low:]])

    def matrix_question_npi_licensor_present(self) -> PairOfWords:
        subject = self.definite()
        words = self.event(subject, self.pick(AUXILIARY), inverted=True, middle=fw.EVER)
        cut = 1 + len(subject.words)
        good = self.words(words, fw.QUESTION_MARK)
        return good, self.words([*subject.words, words[0], *words[cut:]])

    # Existential "there".

    def located(self, determiner: Form, plural: bool) -> tuple[Nominal, list[Word]]:
        noun = self.subject_noun(lambda n: n.phrases is not None)
        nominal = self.phrase(noun, plural, determiner)
        assert noun.phrases is not None
        preposition, nouns = self.pick(noun.phrases)
        place = self.phrase(self.pick(nouns), adjective=0.1)
        return nominal, [Word(preposition, "case", place.head), *place.words]

    def existential_there_quantifiers_1(self) -> PairOfWords:
        plural = self.random() < 0.5
        right, wrong = _QUANTIFIERS[plural]
        nominal, place = self.located(self.pick(right), plural)
        there = Nominal(word := Word(fw.THERE), [word], nominal.noun, nominal.pronoun)
        be = Word(fw.BE["base"])
        predicate = Predicate(be, [*nominal.words, *place], be="root")
        words = self.finite(there, predicate, self.pick(PLAIN))
        return self.swap(words, nominal.words[0], self.pick(wrong))

    def existential_there_subject_raising(self) -> PairOfWords:
        plural = self.random() < 0.5
        nominal, place = self.located(self.pick(_QUANTIFIERS[plural][0]), plural)
        there = Nominal(word := Word(fw.THERE), [word], nominal.noun, nominal.pronoun)
        verb = self.lexicon.verb["seem" if self.random() < 0.6 else "appear"]
        wrong = self.lexicon.verb[_CONTROL[int(self.random() * len(_CONTROL))]]
        after = [Word(fw.TO), Word(fw.BE["base"]), *nominal.words, *place]
        return self.with_verb(verb, wrong, there, after, self.pick(PLAIN))
