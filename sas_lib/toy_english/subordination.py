"""Subordinate clauses: relative, participial, complement and adverbial."""

from __future__ import annotations

from sas_lib.toy_english import function_words as fw
from sas_lib.toy_english.clauses import Clauses, ever_rate
from sas_lib.toy_english.function_words import PAST, PAST_PERFECT, PRESENT, Tense
from sas_lib.toy_english.lexicon import Noun, Verb
from sas_lib.toy_english.tables import Form, Table
from sas_lib.toy_english.trees import Nominal, Predicate, Word

_REPORTED_PAST = Table(
    [
        (PAST, 8),
        (PAST_PERFECT, 4),
        (Tense(True, progressive=True), 2),
        (Tense(True, modal="would"), 3),
        (Tense(True, modal="could"), 1),
    ]
)
_REPORTED_PRESENT = Table(
    [
        (PRESENT, 9),
        (PAST, 4),
        (Tense(perfect=True), 2),
        (Tense(progressive=True), 2),
        (Tense(modal="will"), 3),
        (Tense(modal="can"), 1),
    ]
)
_BACKGROUND_PAST = Table([(PAST, 8), (PAST_PERFECT, 1), (Tense(True, progressive=True), 1)])
_BACKGROUND_PRESENT = Table(
    [(PRESENT, 8), (Tense(perfect=True), 1), (Tense(progressive=True), 1)]
)
_RELATIVE_PRESENT = Table(
    [(PRESENT, 6), (PAST, 2), (Tense(perfect=True), 2), (Tense(progressive=True), 1)]
)
_RELATIVE_PAST = Table([(PAST, 7), (PAST_PERFECT, 2), (Tense(True, progressive=True), 1)])

NEGATION = 0.06

_QUESTIONS: Table[str] = Table(
    [
        ("whether", 20),
        ("object", 45),
        ("subject", 17),
        ("where", 6),
        ("why", 6),
        ("how", 3),
        ("when", 3),
    ]
)
_QUESTION_WORDS = {"where": fw.WHERE, "why": fw.WHY, "how": fw.HOW, "when": fw.WHEN}


class Subordination(Clauses):
    """Clauses inside clauses and phrases."""

    # Relative clauses.

    def relative_clause(self, nominal: Nominal, depth: int) -> list[Word]:
        """A relative clause on ``nominal``: gap in subject or object, or whose, or where."""
        noun = nominal.noun
        tense = self.lower(_RELATIVE_PAST if self.past else _RELATIVE_PRESENT)
        u = self.random()
        if noun.kind == "place" and u < 0.45:
            return self.where_relative(nominal, tense, depth)
        if noun.owned and u < 0.12:
            return self.whose_relative(nominal, tense, depth)
        if noun.as_object and (u < 0.5 or not noun.as_subject):
            return self.object_relative(nominal, tense, depth)
        return self.subject_relative(nominal, tense, depth)

    def relative_pronoun(self, nominal: Nominal) -> Nominal:
        """Who, which or that, agreeing as the noun does."""
        if self.random() < 0.5:
            form = fw.THAT_REL
        else:
            form = fw.WHO_REL if nominal.noun.kind == "person" else fw.WHICH_REL
        return Nominal(word := Word(form), [word], nominal.noun, nominal.pronoun)

    def subject_relative(self, nominal: Nominal, tense: Tense, depth: int) -> list[Word]:
        noun, subject = nominal.noun, self.relative_pronoun(nominal)
        u = self.random()
        relation = "nsubj"
        if noun.as_subject and u < 0.7:
            verb = self.fresh(noun.as_subject)
            predicate = self.active(verb, self.plain_frame(verb), subject, tense, depth + 1)
        elif u < 0.85 and (passive := self.passive_verb(noun)):
            predicate = self.passive(passive, tense, depth + 1)
            relation = "nsubj:pass"
        else:
            predicate = self.adjective_predicate(subject)
        subject.head.attach(relation, predicate.head)
        predicate.head.attach("acl:relcl", nominal.head)
        self.middle_adverb(predicate, tense, ever_rate(subject, tense))
        return self.finite(subject, predicate, tense)

    def object_relative(self, nominal: Nominal, tense: Tense, depth: int) -> list[Word]:
        assert nominal.noun.as_object is not None
        verb = self.fresh(nominal.noun.as_object)
        filler: list[Word] = []
        if self.random() < 0.7:
            filler = self.relative_pronoun(nominal).words
        words, head = self.gapped(verb, tense, depth + 1)
        for word in filler:
            word.attach("obj", head)
        head.attach("acl:relcl", nominal.head)
        return filler + words

    def gapped(
        self, verb: Verb, tense: Tense, depth: int, inverted: bool = False
    ) -> tuple[list[Word], Word]:
        """A clause whose object is elsewhere; with it, its verb."""
        subject = self.subject(verb.subjects, depth, None)
        predicate = self.active(verb, "gap", subject, tense, depth)
        if verb.particle:
            predicate.rest.insert(1, Word(verb.particle, "compound:prt", predicate.head))
        subject.head.attach("nsubj", predicate.head)
        self.middle_adverb(predicate, tense, ever_rate(subject, tense, inverted))
        if inverted and self.random() < 0.15 and subject.head.form.upos != "PRON":
            predicate.rest += self.participle_clause(predicate.head, subject)
        return self.finite(subject, predicate, tense, inverted), predicate.head

    def whose_relative(self, nominal: Nominal, tense: Tense, depth: int) -> list[Word]:
        assert nominal.noun.owned is not None
        noun = self.fresh(nominal.noun.owned)
        plural = noun.plural is not None and self.random() < 0.4
        head = Word(noun.plural if plural and noun.plural else noun.singular)
        words = [Word(fw.WHOSE, "nmod:poss", head), head]
        subject = Nominal(head, words, noun, "they" if plural else "it")
        predicate = self.any_predicate(subject, tense, depth + 1)
        predicate.head.attach("acl:relcl", nominal.head)
        return self.finite(subject, predicate, tense)

    def any_predicate(self, subject: Nominal, tense: Tense, depth: int) -> Predicate:
        """A verb or an adjective that likes the subject, already attached."""
        relation = "nsubj"
        if subject.noun.as_subject and self.random() < 0.6:
            verb = self.fresh(subject.noun.as_subject)
            predicate = self.active(verb, self.plain_frame(verb), subject, tense, depth)
        elif (passive := self.passive_verb(subject.noun)) and self.random() < 0.5:
            predicate = self.passive(passive, tense, depth)
            relation = "nsubj:pass"
        else:
            predicate = self.adjective_predicate(subject)
        subject.head.attach(relation, predicate.head)
        return predicate

    def where_relative(self, nominal: Nominal, tense: Tense, depth: int) -> list[Word]:
        head, words, _ = self.clause(tense, max(depth + 1, 2), kind="active")
        head.attach("acl:relcl", nominal.head)
        return [Word(fw.WHERE, "advmod", head), *words]

    def passive_verb(self, noun: Noun) -> Verb | None:
        verb = self.fresh(noun.as_object) if noun.as_object else None
        return None if verb is None or "nopass" in verb.flags else verb

    def participial(self, nominal: Nominal, depth: int) -> list[Word]:
        """ "sleeping under the table", "baked by the cook": a clause without a subject."""
        noun = nominal.noun
        if noun.as_subject and self.random() < 0.5:
            verb = self.fresh(noun.as_subject)
            if "stative" in verb.flags:
                return []
            predicate = self.active(verb, self.plain_frame(verb), nominal, PRESENT, depth + 1)
            predicate.head.form = verb.forms["ing"]
        elif passive := self.passive_verb(noun):
            predicate = self.passive(passive, PRESENT, depth + 1)
            if len(predicate.rest) < 3:
                return []
        else:
            return []
        predicate.head.attach("acl", nominal.head)
        return predicate.middle + predicate.rest

    # Complement clauses.

    def clause_complement(
        self, verb: Verb, head: Word, tense: Tense, subject: Nominal, depth: int
    ) -> list[Word]:
        """What is said or thought; "that" may be left out."""
        lower, words, _ = self.clause(self.reported(tense), depth + 1, topic=subject)
        lower.attach("ccomp", head)
        return [Word(fw.THAT_MARK, "mark", lower), *words] if self.random() < 0.7 else words

    def reported(self, tense: Tense) -> Tense:
        return self.lower(_REPORTED_PAST if tense.past else _REPORTED_PRESENT)

    def lower(self, tenses: Table[Tense]) -> Tense:
        """The tense of a subordinate clause, now and then negated."""
        tense = self.pick(tenses)
        if self.random() < NEGATION and tense.modal != "can":
            return tense._replace(negative=True)
        return tense

    def question_complement(
        self, verb: Verb, head: Word, tense: Tense, subject: Nominal, depth: int
    ) -> list[Word]:
        """An indirect question: whether, or what, who, where, why, how, when."""
        kind = self.pick(_QUESTIONS)
        tense = self.reported(tense)
        if kind in ("object", "subject"):
            words, lower = self.wh_clause(kind, tense, depth + 1)
        else:
            clause_kind = "active" if kind != "whether" else ""
            lower, words, _ = self.clause(
                tense, max(depth + 1, 2), topic=subject, kind=clause_kind
            )
            if kind == "whether":
                words = [Word(fw.WHETHER, "mark", lower), *words]
            else:
                words = [Word(_QUESTION_WORDS[kind], "advmod", lower), *words]
        lower.attach("ccomp", head)
        asked = []
        if verb.lemma == "ask":
            assert verb.recipients is not None
            person = self.noun_phrase(self.pick(verb.recipients), min(depth + 1, 3))
            person.head.attach("obj", head)
            asked = person.words
        return asked + words

    def wh_clause(
        self, kind: str, tense: Tense, depth: int, inverted: bool = False
    ) -> tuple[list[Word], Word]:
        """A clause that opens with what, who or which, as its object or its subject."""
        while True:
            verb, _ = self.verb_and_frame("", 2)
            if verb.objects:
                break
        noun = self.fresh(verb.objects if kind == "object" else verb.subjects)
        asked = self.interrogative(noun)
        if kind == "object":
            words, head = self.gapped(verb, tense, depth, inverted)
            asked.head.attach("obj", head)
            return asked.words + words, head
        predicate = self.active(verb, "transitive", asked, tense, depth)
        asked.head.attach("nsubj", predicate.head)
        return self.finite(asked, predicate, tense), predicate.head

    def interrogative(self, noun: Noun) -> Nominal:
        """Who or what, or "which" with the noun itself."""
        if noun.proper or self.random() < 0.55:
            form: Form = fw.WHO if noun.kind == "person" else fw.WHAT
            return Nominal(word := Word(form), [word], noun, "he")
        plural = noun.plural is not None and self.random() < 0.4
        head = Word(noun.plural if plural and noun.plural else noun.singular)
        which = Word(fw.WHICH, "det", head)
        return Nominal(head, [which, head], noun, "they" if plural else "it")

    # Adverbial clauses.

    def adverbial_clause(
        self, head: Word, tense: Tense, subject: Nominal, field: str, depth: int = 1
    ) -> list[Word]:
        """When, why or although what else happened; now and then a participle ("after ...")."""
        if self.random() < 0.25 and subject.noun.as_subject:
            return self.participle_clause(head, subject)
        past = tense.past or tense.modal in ("could", "might")
        tense = self.lower(_BACKGROUND_PAST if past else _BACKGROUND_PRESENT)
        lower, words, _ = self.clause(tense, depth, topic=subject, field=field)
        mark = self.pick(fw.SUBORDINATORS)
        lower.attach("advcl", head)
        relation = "mark" if mark.upos == "SCONJ" else "advmod"
        return [Word(mark, relation, lower), *words]

    def participle_clause(self, head: Word, subject: Nominal) -> list[Word]:
        """ "after eating the cake", done by the subject of the main clause."""
        verb = self.verb_for(subject.noun)
        predicate = self.active(verb, self.plain_frame(verb), subject, PRESENT, 2)
        predicate.head.form = verb.forms["ing"]
        predicate.head.attach("advcl", head)
        mark = Word(self.pick(fw.TEMPORAL), "mark", predicate.head)
        return [mark, *predicate.middle, *predicate.rest]
