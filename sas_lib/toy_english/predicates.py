"""Predicates: what a verb takes, and where its adverbs and phrases go."""

from __future__ import annotations

from sas_lib.toy_english import function_words as fw
from sas_lib.toy_english.function_words import PRONOUNS, Tense
from sas_lib.toy_english.lexicon import Noun, Verb
from sas_lib.toy_english.noun_phrases import NounPhrases
from sas_lib.toy_english.tables import Form
from sas_lib.toy_english.trees import Nominal, Predicate, Word

MANNER = (0.26, 0.20, 0.12, 0.06)
OBLIQUE = (0.44, 0.28, 0.12, 0.05)
SECOND_OBLIQUE = (0.06, 0.02, 0.0, 0.0)
TIME = (0.07, 0.04, 0.0, 0.0)
FRONT = 0.28
OBJECT_PRONOUN = 0.08

# Frames that bring a clause of their own, and so are kept from going ever deeper.
CLAUSAL = frozenset(["clause", "question", "infinitive", "object_infinitive", "raising"])

_OPENING_TIMES = frozenset([fw.YESTERDAY, fw.TOMORROW, fw.SOON, fw.NOW, fw.IN, fw.ON, fw.LAST])
_TIME_RELATIONS = {"ADP": "case", "DET": "det", "ADJ": "amod"}


class Predicates(NounPhrases):
    """Verb phrases without their inflection, which a clause adds."""

    def clause_complement(
        self, verb: Verb, head: Word, tense: Tense, subject: Nominal, depth: int
    ) -> list[Word]:
        raise NotImplementedError

    def question_complement(
        self, verb: Verb, head: Word, tense: Tense, subject: Nominal, depth: int
    ) -> list[Word]:
        raise NotImplementedError

    def active(
        self,
        verb: Verb,
        frame: str,
        subject: Nominal,
        tense: Tense,
        depth: int,
        front: list[Word] | None = None,
        licensed: bool = False,
        inner: Verb | None = None,
    ) -> Predicate:
        """A verb with its complements and adverbials.

        front: takes the phrases that are moved before the clause. inner: the verb that
        a raising verb raises from.
        """
        head = Word(verb.forms["base"])
        predicate = Predicate(head, [head], verb)
        rest = predicate.rest
        if frame == "transitive":
            rest += self.object(verb, head, depth, licensed)
        elif frame == "ditransitive":
            rest += self.two_objects(verb, head, depth)
        elif frame == "reflexive":
            rest.append(Word(PRONOUNS[subject.pronoun].reflexive, "obj", head))
        elif frame == "clause":
            rest += self.clause_complement(verb, head, tense, subject, depth)
        elif frame == "question":
            rest += self.question_complement(verb, head, tense, subject, depth)
        elif frame == "infinitive":
            rest += self.infinitive(head, subject, depth)
        elif frame == "object_infinitive":
            rest += self.object_infinitive(verb, head, depth)
        elif frame == "raising":
            rest += self.raised(head, subject, depth, inner)
        plain = frame not in CLAUSAL
        self.adverbials(predicate, verb, tense, depth, front, plain, frame != "inchoative")
        return predicate

    def object(
        self, verb: Verb, head: Word, depth: int, licensed: bool = False, bare: bool = False
    ) -> list[Word]:
        """The direct object, with the verb's particle before or after it."""
        assert verb.objects is not None
        noun = self.fresh(verb.objects)
        pronominal = self.random() < OBJECT_PRONOUN
        if pronominal:
            nominal = self.any_pronoun(noun, "object")
        else:
            nominal = self.noun_phrase(noun, min(depth + bare, 3), licensed=licensed)
        nominal.head.attach("obj", head)
        if verb.particle is None:
            return nominal.words
        particle = Word(verb.particle, "compound:prt", head)
        # "put it away" always; a long object comes last: "put away the toys that ..."
        late = pronominal or (len(nominal.words) < 4 and self.random() < 0.5)
        return [*nominal.words, particle] if late else [particle, *nominal.words]

    def two_objects(self, verb: Verb, head: Word, depth: int) -> list[Word]:
        """Recipient and thing given, in either order ("lent Tom a book", "... to Tom")."""
        assert verb.recipients is not None
        thing = self.object(verb, head, depth, bare=True)
        noun = self.fresh(verb.recipients)
        if self.random() < 0.15:
            recipient = self.any_pronoun(noun, "object")
        else:
            recipient = self.noun_phrase(noun, min(depth + 1, 3))
        pronominal = len(thing) == 1 and thing[0].form.upos == "PRON"
        if verb.lemma != "ask" and (pronominal or self.random() < 0.35):
            recipient.head.attach("obl", head)
            return [*thing, Word(fw.TO_SOMEONE, "case", recipient.head), *recipient.words]
        recipient.head.attach("iobj", head)
        return [*recipient.words, *thing]

    def infinitive(self, head: Word, subject: Nominal, depth: int) -> list[Word]:
        """ "to" and a verb that fits the understood subject, as an open complement."""
        verb = self.verb_for(subject.noun)
        return self.to_phrase(verb, head, subject, depth)

    def to_phrase(
        self, verb: Verb, head: Word, subject: Nominal, depth: int, relation: str = "xcomp"
    ) -> list[Word]:
        """An infinitive of ``verb`` with its complements."""
        frame = self.plain_frame(verb)
        inner = self.active(verb, frame, subject, fw.PRESENT, min(depth + 1, 3))
        inner.head.attach(relation, head)
        return [Word(fw.TO, "mark", inner.head), *inner.middle, *inner.rest]

    def object_infinitive(self, verb: Verb, head: Word, depth: int) -> list[Word]:
        """An object that is to do something: "asked the cook to bake"."""
        table = verb.recipients or verb.objects
        assert table is not None
        noun = self.fresh(table)
        if noun.kind != "person":
            noun = self.fresh(verb.subjects)
        nominal = self.noun_phrase(noun, min(depth + 1, 3))
        nominal.head.attach("obj", head)
        return [*nominal.words, *self.infinitive(head, nominal, depth)]

    def raised(
        self, head: Word, subject: Nominal, depth: int, inner: Verb | None
    ) -> list[Word]:
        """What the subject seems to do, or to be."""
        if inner is not None:
            return self.to_phrase(inner, head, subject, depth)
        lemma = head.form.lemma
        adjective = Word(self.quality(subject), "xcomp", head)
        if lemma != "happen" and self.random() < 0.5:
            return [adjective]
        return [
            Word(fw.TO, "mark", adjective),
            Word(fw.BE["base"], "cop", adjective),
            adjective,
        ]

    def adverbials(
        self,
        predicate: Predicate,
        verb: Verb,
        tense: Tense,
        depth: int,
        front: list[Word] | None,
        plain: bool,
        phrases: bool = True,
    ) -> None:
        """Manner adverbs, prepositional phrases and times, each in one of its places."""
        random = self.random
        head, rest = predicate.head, predicate.rest
        if verb.manners and random() < MANNER[depth]:
            adverb = Word(self.pick(verb.manners), "advmod", head)
            u = random()
            if u < (0.5 if predicate.be else 0.2) or not plain:
                predicate.middle.append(adverb)
            elif (
                u < 0.5
                and front is not None
                and not front
                and adverb.form.text in self.lexicon.openers
            ):
                front.append(adverb)
            else:
                rest.append(adverb)
        if plain and phrases and verb.phrases and random() < OBLIQUE[depth]:
            rest_or_front = rest
            if front is not None and not front and random() < FRONT:
                rest_or_front = front
            rest_or_front += self.oblique(verb, head, depth)
            if random() < SECOND_OBLIQUE[depth]:
                rest += self.oblique(verb, head, depth + 1)
        if random() < TIME[depth]:
            time = self.time(tense, head)
            opens = time[0].form in _OPENING_TIMES and random() < 0.6
            if opens and front is not None and not front:
                front += time
            elif plain:
                rest += time

    def oblique(self, verb: Verb, head: Word, depth: int) -> list[Word]:
        """A prepositional phrase that the verb likes."""
        assert verb.phrases is not None
        preposition, nouns = self.pick(verb.phrases)
        return self.prepositional(
            preposition, self.fresh(nouns), "obl", head, min(depth + 1, 3)
        )

    def time(self, tense: Tense, head: Word) -> list[Word]:
        """When: an adverb or phrase that agrees with the tense."""
        opening, spans = self.pick(fw.TIMES[time_of(tense)])
        if spans is None:
            return [Word(opening, "advmod", head)]
        span = Word(self.pick(spans), "obl", head)
        words = [Word(opening, _TIME_RELATIONS[opening.upos], span), span]
        if spans is fw.PARTS_OF_DAY:
            words.insert(1, Word(fw.THE, "det", span))
        return words

    def quality(self, subject: Nominal) -> Form:
        """What one says someone or something is; of "she" and the like, a mood."""
        form = subject.head.form
        if form.upos == "PRON" and subject.noun.kind == "person" and "Prs" in form.features:
            return self.fresh(self.lexicon.moods)
        return self.adjective_for(subject.noun)

    def verb_for(self, noun: Noun) -> Verb:
        """A verb that likes ``noun`` as its subject."""
        if noun.as_subject is None:
            noun = self.pick(self.lexicon.verb["wait"].subjects)
        assert noun.as_subject is not None
        return self.fresh(noun.as_subject)

    def plain_frame(self, verb: Verb) -> str:
        """A frame of the verb that brings no clause, where it has one."""
        for _ in range(8):
            frame = self.pick(verb.frames)
            if frame not in CLAUSAL and frame != "inchoative":
                return frame
        return "transitive" if verb.objects else "intransitive"


def time_of(tense: Tense) -> str:
    """Which time expressions go with a tense."""
    if tense.perfect or (tense.modal and tense.modal != "will"):
        return "other"
    if tense.modal:
        return "will"
    if tense.past:
        return "past"
    return "now" if tense.progressive else "present"
