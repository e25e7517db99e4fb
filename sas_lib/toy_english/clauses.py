"""Clauses: subjects meet predicates, and words get their order."""

from __future__ import annotations

from sas_lib.toy_english import function_words as fw
from sas_lib.toy_english.function_words import BE, Tense
from sas_lib.toy_english.lexicon import Noun, Verb
from sas_lib.toy_english.predicates import CLAUSAL, Predicates
from sas_lib.toy_english.tables import Form, Table
from sas_lib.toy_english.trees import Nominal, Predicate, Word

SUBJECT_PRONOUN = 0.08
SAME_TOPIC = 0.40  # a lower clause is about the subject of the higher one
SAME_FIELD = 0.60  # its verb is of the same semantic field
SECOND_PREDICATE = (0.10, 0.03, 0.0, 0.0)
ONLY = 0.04

_KINDS = [
    Table(
        [
            ("active", 66),
            ("passive", 12),
            ("adjective", 9),
            ("noun", 4),
            ("place", 4),
            ("there", 5),
        ]
    ),
    Table([("active", 72), ("passive", 10), ("adjective", 12), ("noun", 4), ("place", 2)]),
    Table([("active", 76), ("passive", 8), ("adjective", 14), ("place", 2)]),
]
_EXIST = {name: form._replace(upos="VERB") for name, form in BE.items()}


class Clauses(Predicates):
    """Finite clauses of every kind."""

    def finite(
        self, subject: Nominal, predicate: Predicate, tense: Tense, inverted: bool = False
    ) -> list[Word]:
        """Subject and predicate as a finite clause, with agreement and auxiliaries."""
        head, be = predicate.head, predicate.be
        if predicate.verb is not None and not be:
            if tense.progressive and "stative" in predicate.verb.flags:
                tense = tense._replace(progressive=False)
            operator = tense.negative or inverted
            forms, wanted = fw.auxiliaries(tense, subject.agreement, operator)
            head.form = predicate.verb.forms[wanted]
            group = [Word(form, "aux", head) for form in forms]
        else:
            tense = tense._replace(progressive=False)
            forms, wanted = fw.auxiliaries(tense, subject.agreement, False)
            group = [Word(form, "aux", head) for form in forms]
            if be == "root":
                head.form = _EXIST[wanted]
                group.append(head)
            else:
                group.append(Word(BE[wanted], be, head))
        inner = [Word(fw.NOT, "advmod", head)] if tense.negative else []
        inner += predicate.middle
        if inverted:
            return group[:1] + subject.words + inner + group[1:] + predicate.rest
        return subject.words + group[:1] + inner + group[1:] + predicate.rest

    # Subjects and predicates together, by kind of clause.

    def clause(
        self,
        tense: Tense,
        depth: int,
        topic: Nominal | None = None,
        field: str = "",
        front: list[Word] | None = None,
        inverted: bool = False,
        kind: str = "",
    ) -> tuple[Word, list[Word], Nominal]:
        """A finite clause: its head, its words, and its subject."""
        kind = kind or self.pick(_KINDS[min(depth, 2)])
        if kind == "there":
            return self.existential(tense, depth, inverted)
        if kind == "active":
            verb, frame = self.verb_and_frame(field, depth)
            subject, predicate = self.active_clause(
                verb, frame, tense, depth, topic, front, inverted
            )
        elif kind == "passive":
            subject, predicate = self.passive_clause(field, tense, depth, topic, front)
        else:
            if self.random() < 0.7:  # to be something is seldom told in the perfect
                tense = tense._replace(perfect=False)
            subject, predicate = self.copular_clause(kind, depth, topic)
        if subject.words[0].form is fw.NO:
            tense = tense._replace(negative=False)
        plain = kind == "active" and frame not in CLAUSAL
        if plain and self.random() < SECOND_PREDICATE[depth]:
            self.second_predicate(subject, predicate, tense, depth, inverted)
        relation = "nsubj:pass" if predicate.be == "aux:pass" else "nsubj"
        subject.head.attach(relation, predicate.head)
        self.middle_adverb(predicate, tense, ever_rate(subject, tense, inverted))
        return predicate.head, self.finite(subject, predicate, tense, inverted), subject

    def second_predicate(
        self, subject: Nominal, predicate: Predicate, tense: Tense, depth: int, inverted: bool
    ) -> None:
        """Join a second verb phrase, which shares the subject and the auxiliaries."""
        assert predicate.verb is not None
        verb = self.verb_for(subject.noun)
        if tense.progressive and "stative" in predicate.verb.flags | verb.flags:
            return
        inner = self.active(verb, self.plain_frame(verb), subject, tense, min(depth + 1, 3))
        _, wanted = fw.auxiliaries(tense, subject.agreement, tense.negative or inverted)
        inner.head.form = verb.forms[wanted]
        inner.head.attach("conj", predicate.head)
        form = fw.OR if tense.negative else fw.AND
        predicate.rest += [Word(form, "cc", inner.head), *inner.middle, *inner.rest]

    def verb_and_frame(self, field: str, depth: int) -> tuple[Verb, str]:
        """A verb, of ``field`` if one is given and chance agrees, and how it is used."""
        table = self.lexicon.verb_table
        if field and self.random() < SAME_FIELD:
            table = self.lexicon.verbs_of[field]
        while True:
            verb = self.fresh(table)
            frame = self.pick(verb.frames)
            if depth < 2 or frame not in CLAUSAL:
                return verb, frame
            table = self.lexicon.verb_table

    def subject(self, table: Table[Noun], depth: int, topic: Nominal | None) -> Nominal:
        """A subject from ``table``; perhaps a pronoun, for ``topic`` where it can be."""
        noun = self.fresh(table)
        if topic is not None and topic.noun.kind == noun.kind and self.random() < SAME_TOPIC:
            return self.pronoun(topic)
        if self.random() < SUBJECT_PRONOUN:
            return self.any_pronoun(noun)
        nominal = self.noun_phrase(noun, depth)
        if depth < 2 and self.random() < ONLY:
            self.focus(nominal)
        return nominal

    def focus(self, nominal: Nominal) -> None:
        """Put "only" or "even" before the phrase; "only" licenses "ever"."""
        if nominal.words[0].form not in (fw.NO, fw.FEW, fw.A, fw.MANY, fw.MOST, fw.EVERY):
            form = fw.ONLY if self.random() < 0.46 else fw.EVEN
            nominal.words.insert(0, Word(form, "advmod", nominal.head))
            nominal.licenser = form is fw.ONLY

    def active_clause(
        self,
        verb: Verb,
        frame: str,
        tense: Tense,
        depth: int,
        topic: Nominal | None,
        front: list[Word] | None,
        inverted: bool,
    ) -> tuple[Nominal, Predicate]:
        inner = None
        nouns = verb.subjects
        if frame == "inchoative" and verb.objects:
            nouns = verb.objects
        elif frame == "raising" and self.random() < 0.6:
            inner, _ = self.verb_and_frame(verb.field, 2)
            nouns = inner.subjects
        subject = self.subject(nouns, depth, topic)
        licensed = tense.negative or inverted or subject.licenser
        predicate = self.active(verb, frame, subject, tense, depth, front, licensed, inner)
        return subject, predicate

    def passive_clause(
        self,
        field: str,
        tense: Tense,
        depth: int,
        topic: Nominal | None,
        front: list[Word] | None,
    ) -> tuple[Nominal, Predicate]:
        while True:
            verb, _ = self.verb_and_frame(field, 0)
            if verb.objects and "nopass" not in verb.flags:
                break
        subject = self.subject(verb.objects, depth, topic)
        return subject, self.passive(verb, tense, depth, front)

    def passive(
        self, verb: Verb, tense: Tense, depth: int, front: list[Word] | None = None
    ) -> Predicate:
        """A passive participle, perhaps with its agent."""
        head = Word(verb.forms["en"])
        predicate = Predicate(head, [head], verb, be="aux:pass")
        if verb.particle:
            predicate.rest.append(Word(verb.particle, "compound:prt", head))
        if self.random() < 0.5:
            noun = self.fresh(verb.subjects)
            predicate.rest += self.prepositional(
                fw.BY, noun, "obl:agent", head, min(depth + 1, 3)
            )
        self.adverbials(predicate, verb, tense, depth, front, True)
        return predicate

    def copular_clause(
        self, kind: str, depth: int, topic: Nominal | None
    ) -> tuple[Nominal, Predicate]:
        """To be something: an adjective, a kind of thing, or somewhere."""
        nouns = self.pick(self.lexicon.verb_table).subjects
        if self.random() < 0.4:
            verb = self.pick(self.lexicon.verb_table)
            nouns = verb.objects or nouns
        subject = self.subject(nouns, depth, topic)
        if kind == "noun" and subject.noun.classes and subject.head.form.upos != "PRON":
            return subject, self.class_predicate(subject)
        if kind == "place" and subject.noun.places:
            return subject, self.place_predicate(subject, depth)
        return subject, self.adjective_predicate(subject)

    def adjective_predicate(self, subject: Nominal) -> Predicate:
        head = Word(self.quality(subject))
        words = [head]
        if self.random() < 0.14:
            words.insert(0, Word(self.pick(self.lexicon.closed["degree"]), "advmod", head))
        elif self.random() < 0.1:
            second = Word(self.quality(subject), "conj", head)
            if second.form is not head.form:
                words += [Word(fw.AND, "cc", second), second]
        return Predicate(head, words, be="cop")

    def class_predicate(self, subject: Nominal) -> Predicate:
        """ "a wild bird" of an owl; number as in the subject."""
        assert subject.noun.classes is not None
        noun = self.pick(subject.noun.classes)
        plural = subject.pronoun == "they"
        head = Word(noun.plural if plural and noun.plural else noun.singular)
        words = [head]
        if self.random() < (0.5 if subject.noun.kind == "person" else 0.85):
            words.insert(0, Word(self.adjective_for(subject.noun), "amod", head))
        if not plural:
            words.insert(0, Word(fw.A, "det", head))
        return Predicate(head, words, be="cop")

    def place_predicate(self, subject: Nominal, depth: int) -> Predicate:
        assert subject.noun.places is not None
        preposition, nouns = self.pick(subject.noun.places)
        nominal = self.noun_phrase(self.fresh(nouns), min(depth + 1, 3))
        case = Word(preposition, "case", nominal.head)
        return Predicate(nominal.head, [case, *nominal.words], be="cop")

    def existential(
        self, tense: Tense, depth: int, inverted: bool = False
    ) -> tuple[Word, list[Word], Nominal]:
        """There is something somewhere; or there seems to be."""
        noun = self.pick(self.lexicon.verb_table).subjects.draw(self.random())
        while noun.proper or noun.places is None:
            noun = self.pick(self.lexicon.verb_table).subjects.draw(self.random())
        nominal = self.noun_phrase(noun, max(depth, 1), "indefinite ")
        there = Nominal(word := Word(fw.THERE), [word], noun, nominal.pronoun)
        preposition, nouns = self.pick(noun.places)
        be = Word(BE["base"]._replace(upos="VERB"))
        nominal.head.attach("nsubj", be)
        place = self.prepositional(preposition, self.fresh(nouns), "obl", be, 1)
        if not inverted and self.random() < 0.15:
            return self.existential_raising(there, nominal, be, place, tense)
        word.attach("expl", be)
        predicate = Predicate(be, [*nominal.words, *place], be="root")
        return be, self.finite(there, predicate, tense, inverted), there

    def existential_raising(
        self, there: Nominal, nominal: Nominal, be: Word, place: list[Word], tense: Tense
    ) -> tuple[Word, list[Word], Nominal]:
        verb = self.lexicon.verb["seem" if self.random() < 0.6 else "appear"]
        head = Word(verb.forms["base"])
        there.head.attach("expl", head)
        be.attach("xcomp", head)
        rest = [head, Word(fw.TO, "mark", be), be, *nominal.words, *place]
        return head, self.finite(there, Predicate(head, rest, verb), tense), there

    def middle_adverb(self, predicate: Predicate, tense: Tense, ever: float) -> None:
        """Perhaps "ever", at its rate where it is licensed; elsewhere "often" or "never"."""
        if predicate.middle:
            return
        u = self.random()
        closed = self.lexicon.closed
        form: Form | None = None
        if ever:
            form = fw.EVER if u < ever else None
        elif u < 0.06 and not tense.progressive:
            form = self.pick(closed["frequency"])
        elif u < 0.08:
            form = self.pick(closed["certainty"])
        elif u < 0.095:
            form = fw.NEVER
        if form is not None:
            predicate.middle.insert(0, Word(form, "advmod", predicate.head))


def ever_rate(subject: Nominal, tense: Tense, inverted: bool = False) -> float:
    """How often "ever" comes in a clause; 0 where nothing licenses it."""
    if subject.licenser:
        return 0.4
    return 0.15 if tense.negative or inverted else 0.0
