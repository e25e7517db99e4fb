"""Sentences: statements and questions, streamed from a seed."""

from __future__ import annotations

from collections.abc import Iterator

from sas_lib.toy_english import function_words as fw
from sas_lib.toy_english.function_words import TENSES, Tense
from sas_lib.toy_english.lexicon import Noun
from sas_lib.toy_english.subordination import Subordination
from sas_lib.toy_english.tables import Form, Table
from sas_lib.toy_english.trees import Nominal, Word, to_sentence
from sas_lib.treebank import Sentence

SHORTEST, LONGEST = 3, 40
ORDINARY, THINNED = (7, 22), 0.5

NEGATION = 0.11
ADVERBIAL_CLAUSE = 0.11
SECOND_CLAUSE = 0.05
SENTENCE_ADVERB = 0.02
APPOSITION = 0.22

_SENTENCES = Table([("statement", 82), ("polar", 7), ("wh", 9), ("inverted", 2)])
_POLAR = Table([("active", 70), ("passive", 8), ("adjective", 14), ("there", 8)])
_WH = Table([("object", 40), ("subject", 20), ("adverb", 30), ("long", 10)])
_WH_ADVERBS = Table([(fw.WHERE, 4), (fw.WHY, 3), (fw.WHEN, 2), (fw.HOW, 2)])
_POSTURES = "sleep rest wait live graze nest hide appear".split()
_SAYING = "say think believe claim hope know".split()


class Grammar(Subordination):
    """Toy English from one seed: an endless stream of parsed sentences."""

    def sentence(self) -> Sentence:
        """The next sentence of the stream; too short or too long ones are drawn again."""
        while True:
            self.said.clear()
            self.said_of.clear()
            tense = self.pick(TENSES)
            if self.random() < NEGATION and tense.modal not in ("can", "may"):
                tense = tense._replace(negative=True)
            self.past = tense.past
            kind = self.pick(_SENTENCES)
            if kind == "statement":
                words = self.statement(tense)
            elif kind == "inverted":
                words = self.inverted(tense)
            else:
                words = self.question(kind, tense)
            if SHORTEST <= len(words) < LONGEST and not self.dull(len(words)):
                end = fw.QUESTION_MARK if kind in ("polar", "wh") else fw.STOP
                return to_sentence(words, end)

    def dull(self, length: int) -> bool:
        """Thin out very short and very long sentences, whose trees have little to say."""
        return not ORDINARY[0] <= length <= ORDINARY[1] and self.random() < THINNED

    def statement(self, tense: Tense) -> list[Word]:
        """A declarative sentence, with what comes before and after its main clause."""
        front: list[Word] = []
        head, words, subject = self.clause(tense, 0, front=front)
        u = self.random()
        if u < ADVERBIAL_CLAUSE and subject.head.form is not fw.THERE:
            field = self.field_of(head)
            lower = self.adverbial_clause(head, tense, subject, field)
            if not front and self.random() < 0.4:
                front = lower
            else:
                words = words + lower
        elif u < ADVERBIAL_CLAUSE + SECOND_CLAUSE:
            words = words + self.second_clause(head, tense, subject)
        elif u < ADVERBIAL_CLAUSE + SECOND_CLAUSE + SENTENCE_ADVERB and not front:
            front = [Word(self.pick(self.lexicon.closed["sentence_adverbs"]), "advmod", head)]
            if front[0].form.text == "perhaps":
                return front + words
        return [*front, Word(fw.COMMA, "punct", head), *words] if front else words

    def field_of(self, head: Word) -> str:
        verb = self.lexicon.verb.get(head.form.lemma)
        return verb.field if verb else ""

    def second_clause(self, head: Word, tense: Tense, subject: Nominal) -> list[Word]:
        """ ", and" or ", but" with another clause of the same time."""
        again = tense._replace(negative=False)
        lower, words, _ = self.clause(again, 1, topic=subject, field=self.field_of(head))
        lower.attach("conj", head)
        conjunction = fw.AND if self.random() < 0.6 else fw.BUT
        return [Word(fw.COMMA, "punct", lower), Word(conjunction, "cc", lower), *words]

    def noun_phrase(
        self, noun: Noun, depth: int = 0, definiteness: str = "", licensed: bool = False
    ) -> Nominal:
        """As below, and with an apposition on some names: "Anna, the baker, ..."."""
        nominal = super().noun_phrase(noun, depth, definiteness, licensed)
        if noun.proper and depth == 0 and len(nominal.words) == 1:
            self.name_gloss(nominal)
        return nominal

    def name_gloss(self, nominal: Nominal) -> None:
        """Say between commas who the person is."""
        u = self.random()
        if u < 0.6 * APPOSITION:
            other = self.pick(self.lexicon.common[nominal.noun.cluster])
            if other.gender and nominal.noun.gender != other.gender:
                return
            head = Word(other.singular, "appos", nominal.head)
            inner = [Word(fw.THE if self.random() < 0.6 else fw.A, "det", head), head]
        elif u < APPOSITION:
            tense = self.pick(TENSES)
            tense = Tense(past=self.past, perfect=tense.perfect)
            who = Nominal(word := Word(fw.WHO_REL), [word], nominal.noun, nominal.pronoun)
            predicate = self.any_predicate(who, tense, 2)
            predicate.head.attach("acl:relcl", nominal.head)
            head, inner = predicate.head, self.finite(who, predicate, tense)
        else:
            return
        commas = [Word(fw.COMMA, "punct", head) for _ in range(2)]
        nominal.words += [commas[0], *inner, commas[1]]

    # Other orders: "Never has the cook baked bread.", "Under the table slept a dog."

    def inverted(self, tense: Tense) -> list[Word]:
        """A statement whose subject comes after an auxiliary or a verb."""
        if self.random() < 0.5:
            tense = tense._replace(negative=False, progressive=False)
            head, words, _ = self.clause(tense, 0, inverted=True, kind="active")
            adverb = fw.NEVER if self.random() < 0.7 else fw.SELDOM
            return [Word(adverb, "advmod", head), *words]
        verb = self.lexicon.verb[_POSTURES[int(self.random() * len(_POSTURES))]]
        subject = self.noun_phrase(self.pick(verb.subjects), 0)
        head = Word(verb.forms[f"{'past' if tense.past else 'present'}{subject.agreement}"])
        subject.head.attach("nsubj", head)
        return [*self.oblique(verb, head, 0), head, *subject.words]

    # Questions.

    def question(self, kind: str, tense: Tense) -> list[Word]:
        if kind == "polar":
            return self.clause(tense, 0, inverted=True, kind=self.pick(_POLAR))[1]
        kind = self.pick(_WH)
        if kind == "adverb":
            return self.adverb_question(tense)
        if kind == "long":
            return self.long_question(tense)
        return self.wh_clause(kind, tense._replace(negative=False), 0, kind == "object")[0]

    def adverb_question(self, tense: Tense) -> list[Word]:
        word: Form = self.pick(_WH_ADVERBS)
        head, words, _ = self.clause(tense, 1, inverted=True, kind="active")
        return [Word(word, "advmod", head), *words]

    def long_question(self, tense: Tense) -> list[Word]:
        """ "What did Anna say that the cook baked?": the object of a lower clause, fronted."""
        saying = self.lexicon.verb[_SAYING[int(self.random() * len(_SAYING))]]
        inner, lower = self.wh_clause("object", self.reported(tense), 2)
        cut = next(i for i, word in enumerate(inner) if word.relation == "obj")
        filler, words = inner[: cut + 1], inner[cut + 1 :]
        subject = self.subject(saying.subjects, 1, None)
        predicate = self.active(saying, "gap", subject, tense, 3)
        predicate.rest = [predicate.head]
        predicate.middle = []
        subject.head.attach("nsubj", predicate.head)
        lower.attach("ccomp", predicate.head)
        upper = self.finite(subject, predicate, tense, inverted=True)
        return [*filler, *upper, Word(fw.THAT_MARK, "mark", lower), *words]


def sentences(n: int | None = None, seed: int = 0) -> Iterator[Sentence]:
    """Stream toy English with gold trees: ``n`` sentences, or without end.

    The same seed gives the same sentences, whatever ``n`` is.
    """
    grammar = Grammar(seed)
    produced = 0
    while n is None or produced < n:
        yield grammar.sentence()
        produced += 1
