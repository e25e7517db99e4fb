"""Minimal pairs of agreement: subject and verb, determiner and noun, anaphor and antecedent."""

from __future__ import annotations

from sas_lib.toy_english import function_words as fw
from sas_lib.toy_english.function_words import PAST, PRONOUNS
from sas_lib.toy_english.lexicon import Noun, Verb
from sas_lib.toy_english.pair_builder import (
    MARKED,
    PLAIN,
    PairBuilder,
    PairOfWords,
    Retry,
)
from sas_lib.toy_english.trees import Nominal, Word


class AgreementPairs(PairBuilder):
    """Each method makes one pair of the BLiMP paradigm that it is named after."""

    # Subject and verb.

    def agreeing(self, subject: Nominal) -> PairOfWords:
        """A predicate that shows the subject's number, rightly and wrongly."""
        tense = self.pick(MARKED)
        predicate = self.any_predicate(subject, tense, 3)
        good = self.words(self.finite(subject, predicate, tense))
        subject.pronoun = "it" if subject.pronoun == "they" else "they"
        return good, self.words(self.finite(subject, predicate, tense))

    def regular_plural_subject_verb_agreement_1(self) -> PairOfWords:
        noun = self.subject_noun(lambda n: not n.irregular)
        return self.agreeing(self.phrase(noun, self.random() < 0.5))

    def irregular_plural_subject_verb_agreement_1(self) -> PairOfWords:
        noun = self.subject_noun(lambda n: n.irregular)
        return self.agreeing(self.phrase(noun, self.random() < 0.5))

    def other_number(self, noun: Noun) -> PairOfWords:
        """The verb stays as it is; the noun changes its number."""
        plural = self.random() < 0.5
        subject = self.phrase(noun, plural)
        tense = self.pick(MARKED)
        predicate = self.any_predicate(subject, tense, 3)
        words = self.finite(subject, predicate, tense)
        wrong = noun.singular if plural else noun.plural
        # A form that does not show number would leave both members good.
        shown = self.words(words)
        subject.pronoun = "it" if plural else "they"
        if self.words(self.finite(subject, predicate, tense)) == shown:
            raise Retry
        subject.pronoun = "they" if plural else "it"
        assert wrong is not None
        return self.swap(self.finite(subject, predicate, tense), subject.head, wrong)

    def regular_plural_subject_verb_agreement_2(self) -> PairOfWords:
        return self.other_number(self.subject_noun(lambda n: not n.irregular))

    def irregular_plural_subject_verb_agreement_2(self) -> PairOfWords:
        return self.other_number(self.subject_noun(lambda n: n.irregular))

    def distractor_agreement_relational_noun(self) -> PairOfWords:
        """Across a phrase whose noun has the other number."""
        noun = self.subject_noun(lambda n: n.phrases is not None)
        plural = self.random() < 0.5
        subject = self.phrase(noun, plural)
        assert noun.phrases is not None
        preposition, nouns = self.pick(noun.phrases)
        other = self.phrase(self.pick(nouns), not plural)
        subject.words += [Word(preposition, "case", other.head), *other.words]
        return self.agreeing(subject)

    def distractor_agreement_relative_clause(self) -> PairOfWords:
        """Across a relative clause whose noun has the other number."""
        plural = self.random() < 0.5
        subject = self.phrase(self.subject_noun(), plural)
        clause, _ = self.relative(subject, not plural)
        subject.words += clause
        return self.agreeing(subject)

    # Determiner and noun.

    def demonstrative(self, irregular: bool, adjective: bool, change_noun: bool) -> PairOfWords:
        """This or these before an object, with the noun or the determiner changed."""
        for _ in range(100):
            verb = self.verb_where(lambda v: v.objects is not None and not v.recipients)
            noun = self.one_of(verb.objects, lambda n: n.plural is not None)  # type: ignore[arg-type]
            if noun.irregular == irregular:
                break
        else:
            raise Retry
        plural = self.random() < 0.5
        near = self.random() < 0.5
        right, wrong = (fw.THESE, fw.THIS) if near else (fw.THOSE, fw.THAT)
        if not plural:
            right, wrong = wrong, right
        thing = self.phrase(noun, plural, right, 1.0 if adjective else 0.0)
        subject = self.any_phrase(self.pick(verb.subjects))
        words = self.say(subject, verb, thing.words, self.pick(PLAIN))
        if change_noun:
            other = noun.singular if plural else noun.plural
            assert other is not None
            return self.swap(words, thing.head, other)
        return self.swap(words, thing.words[0], wrong)

    def determiner_noun_agreement_1(self) -> PairOfWords:
        return self.demonstrative(False, False, True)

    def determiner_noun_agreement_2(self) -> PairOfWords:
        return self.demonstrative(False, False, False)

    def determiner_noun_agreement_irregular_1(self) -> PairOfWords:
        return self.demonstrative(True, False, True)

    def determiner_noun_agreement_irregular_2(self) -> PairOfWords:
        return self.demonstrative(True, False, False)

    def determiner_noun_agreement_with_adjective_1(self) -> PairOfWords:
        return self.demonstrative(False, True, True)

    def determiner_noun_agreement_with_adj_2(self) -> PairOfWords:
        return self.demonstrative(False, True, False)

    def determiner_noun_agreement_with_adj_irregular_1(self) -> PairOfWords:
        return self.demonstrative(True, True, True)

    def determiner_noun_agreement_with_adj_irregular_2(self) -> PairOfWords:
        return self.demonstrative(True, True, False)

    # Anaphors.

    def reflexive(self, subject: Nominal, wrong: str) -> PairOfWords:
        """The subject does something to itself; the wrong pronoun is that of ``wrong``."""
        verb = self.reflexive_verb(subject.noun)
        anaphor = Word(PRONOUNS[subject.pronoun].reflexive, "obj")
        words = self.say(subject, verb, [anaphor], self.pick(PLAIN), 0.4)
        return self.swap(words, anaphor, PRONOUNS[wrong].reflexive)

    def reflexive_verb(self, noun: Noun) -> Verb:
        for _ in range(60):
            verb = self.verb_for(noun)
            if "self" in verb.flags:
                return verb
        raise Retry

    def anaphor_number_agreement(self) -> PairOfWords:
        noun = self.subject_noun(lambda n: n.kind == "person")
        plural = self.random() < 0.5
        subject = self.phrase(noun, plural)
        return self.reflexive(subject, self.pick_singular(noun) if plural else "they")

    def pick_singular(self, noun: Noun) -> str:
        gender = noun.gender or ("m" if self.random() < 0.5 else "f")
        return "he" if gender == "m" else "she"

    def anaphor_gender_agreement(self) -> PairOfWords:
        verb = self.verb_where(lambda v: "self" in v.flags)
        noun = self.one_of(verb.subjects, lambda n: bool(n.gender))
        subject = self.phrase(noun)
        return self.reflexive(subject, "she" if subject.pronoun == "he" else "he")

    def principle_A_c_command(self) -> PairOfWords:
        """The wrong antecedent stands in a relative clause, nearer than the right one."""
        plural = self.random() < 0.5
        subject = self.phrase(self.subject_noun(lambda n: n.kind == "person"), plural)
        clause, other = self.relative(subject, not plural)
        subject.words += clause
        return self.reflexive(subject, other.pronoun)

    def principle_A_case_1(self) -> PairOfWords:
        """A reflexive is no subject."""
        saying = self.verb_where(lambda v: "that" in v.flags)
        speaker = self.any_phrase(self.one_of(saying.subjects, lambda n: n.kind == "person"))
        subject = self.pronoun(speaker)
        tense = self.pick(PLAIN)
        clause = self.event(subject, self.reported(tense)._replace(negative=False))
        words = self.say(speaker, saying, [Word(fw.THAT_MARK, "mark"), *clause], tense, 0)
        return self.swap(words, subject.head, PRONOUNS[subject.pronoun].reflexive)

    def two_people(self) -> tuple[Noun, Noun]:
        """A man and a woman, in either order, the second with a reflexive verb to follow."""
        verb = self.verb_where(lambda v: "self" in v.flags)
        second = self.one_of(verb.subjects, lambda n: bool(n.gender))
        saying = self.lexicon.verb["know"]
        first = self.one_of(saying.subjects, lambda n: n.gender not in ("", second.gender))
        return first, second

    def reported_reflexive(self, form: str) -> tuple[list[Word], Word, Nominal, Nominal]:
        """Someone says that someone of the other sex does something to a pronoun."""
        first, second = (self.phrase(noun, adjective=0) for noun in self.two_people())
        saying = self.verb_where(lambda v: "that" in v.flags and "to" not in v.flags)
        verb = self.reflexive_verb(second.noun)
        pronoun = first if form == "object" else second
        anaphor = Word(getattr(PRONOUNS[pronoun.pronoun], form), "obj")
        tense = self.pick(PLAIN)
        clause = self.say(
            second, verb, [anaphor], self.reported(tense)._replace(negative=False)
        )
        words = self.say(first, saying, [Word(fw.THAT_MARK, "mark"), *clause], tense, 0)
        return words, anaphor, first, second

    def principle_A_domain_1(self) -> PairOfWords:
        """The antecedent of a reflexive is not found in a higher clause."""
        words, anaphor, first, _ = self.reported_reflexive("object")
        return self.swap(words, anaphor, PRONOUNS[first.pronoun].reflexive)

    def principle_A_domain_3(self) -> PairOfWords:
        """As above, with the two people exchanged."""
        words, _, first, second = self.reported_reflexive("reflexive")
        if len(first.words) != len(second.words):
            raise Retry
        good = self.words(words)
        first.words[0].form, second.words[0].form = second.words[0].form, first.words[0].form
        first.head.form, second.head.form = second.head.form, first.head.form
        return good, self.words(words)

    # Forms.

    def irregular_past_participle_verbs(self) -> PairOfWords:
        """The past, not the participle, without an auxiliary."""
        verb = self.verb_where(
            lambda v: v.forms["past0"].text != v.forms["en"].text and v.recipients is None
        )
        subject = self.any_phrase(self.pick(verb.subjects))
        words = self.say(subject, verb, self.object_of(verb), PAST)
        head = subject.head.head
        assert head is not None
        return self.swap(words, head, verb.forms["en"])
