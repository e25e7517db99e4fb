"""Minimal pairs of arguments: fillers and gaps, verbs and what they take."""

from __future__ import annotations

from collections.abc import Callable

from sas_lib.toy_english import function_words as fw
from sas_lib.toy_english.lexicon import Verb
from sas_lib.toy_english.pair_builder import (
    AUXILIARY,
    PLAIN,
    PairBuilder,
    PairOfWords,
    Retry,
    is_intransitive,
    is_plain,
    is_transitive,
)
from sas_lib.toy_english.tables import Form
from sas_lib.toy_english.trees import Nominal, Predicate, Word

_SEEING = "see know remember notice find".split()


class ArgumentPairs(PairBuilder):
    """Each method makes one pair of the BLiMP paradigm that it is named after."""

    # Fillers and gaps.

    def knowing(self) -> tuple[Nominal, Verb]:
        """Someone, and a verb that takes "that" as well as a question."""
        verb = self.verb_where(lambda v: {"that", "wh"} <= v.flags)
        return self.any_phrase(self.one_of(verb.subjects, lambda n: n.kind == "person")), verb

    def known(self, lower: list[Word]) -> list[Word]:
        subject, verb = self.knowing()
        return self.say(subject, verb, lower, self.pick(PLAIN), 0)

    def transitive_clause(self, gap: bool, far: bool = False) -> list[Word]:
        """A clause whose verb needs an object, with it or without it.

        far: a relative clause stands between its subject and its verb.
        """
        verb = self.verb_where(lambda v: is_transitive(v) and v.particle is None)
        subject = self.any_phrase(self.pick(verb.subjects))
        if far and subject.noun.proper:
            raise Retry
        if far:
            subject.words += self.relative(subject, self.random() < 0.4)[0]
        after = [] if gap else self.object_of(verb)
        return self.say(subject, verb, after, self.pick(PLAIN), 0.3)

    def wh_vs_that_with_gap(self) -> PairOfWords:
        opening = Word(fw.WHAT)
        return self.swap(
            self.known([opening, *self.transitive_clause(True)]), opening, fw.THAT_MARK
        )

    def wh_vs_that_no_gap(self) -> PairOfWords:
        opening = Word(fw.THAT_MARK)
        return self.swap(
            self.known([opening, *self.transitive_clause(False)]), opening, fw.WHAT
        )

    def wh_vs_that_with_gap_long_distance(self) -> PairOfWords:
        opening = Word(fw.WHAT)
        clause = self.transitive_clause(gap=True, far=True)
        return self.swap(self.known([opening, *clause]), opening, fw.THAT_MARK)

    def wh_vs_that_no_gap_long_distance(self) -> PairOfWords:
        opening = Word(fw.THAT_MARK)
        clause = self.transitive_clause(gap=False, far=True)
        return self.swap(self.known([opening, *clause]), opening, fw.WHAT)

    def adjunct_island(self) -> PairOfWords:
        """ "What did Tom buy after selling the vase?", but not with the gap after "selling"."""
        verb = self.verb_where(lambda v: is_transitive(v) and v.particle is None)
        subject = self.actor(verb)
        lower = self.rival(subject, lambda v: is_transitive(v) and v is not verb)
        things = [self.any_phrase(self.pick(v.objects)) for v in (verb, lower) if v.objects]
        kinds = {thing.noun.kind == "person" for thing in things}
        if len(kinds) > 1:  # "who" or "what" has to fit both gaps
            raise Retry
        asked = Word(fw.WHO if kinds == {True} else fw.WHAT)
        clause = self.say(subject, verb, [], self.pick(AUXILIARY), 0, inverted=True)
        adjunct = [Word(self.pick(fw.TEMPORAL)), Word(lower.forms["ing"])]
        thing = things[1].words
        good = self.words([asked, *clause, *adjunct, *thing], fw.QUESTION_MARK)
        return good, self.words([asked, *clause, *thing, *adjunct], fw.QUESTION_MARK)

    def wh_questions_object_gap(self) -> PairOfWords:
        """ "saw the vase that Tom bought" and "saw what Tom bought the vase"."""
        verb = self.verb_where(lambda v: is_transitive(v) and v.particle is None)
        assert verb.objects is not None
        thing = self.phrase(self.pick(verb.objects), self.random() < 0.4)
        clause = self.say(
            self.any_phrase(self.pick(verb.subjects)), verb, [], self.pick(PLAIN), 0
        )
        asked = Word(fw.WHO if thing.noun.kind == "person" else fw.WHAT)
        return self.perceived(
            [*thing.words, Word(fw.THAT_REL), *clause], [asked, *clause, *thing.words]
        )

    def wh_questions_subject_gap(self) -> PairOfWords:
        """ "saw the dog that bit Tom" and "saw who the dog bit Tom"."""
        noun = self.subject_noun()
        subject = self.phrase(noun, self.random() < 0.4)
        verb = self.doing(noun)
        if not verb.objects:
            raise Retry
        clause = self.say(subject, verb, self.object_of(verb), self.pick(PLAIN), 0)
        cut = len(subject.words)
        asked = Word(fw.WHO if noun.kind == "person" else fw.WHAT)
        return self.perceived(
            [*clause[:cut], Word(fw.THAT_REL), *clause[cut:]], [asked, *clause]
        )

    def perceived(self, right: list[Word], wrong: list[Word]) -> PairOfWords:
        verb = self.lexicon.verb[_SEEING[int(self.random() * len(_SEEING))]]
        subject = self.any_phrase(self.one_of(verb.subjects, lambda n: n.kind == "person"))
        words = self.say(subject, verb, [], self.pick(PLAIN), 0)
        return self.words(words + right), self.words(words + wrong)

    # Arguments.

    def rival(self, subject: Nominal, accept: Callable[[Verb], bool]) -> Verb:
        """A verb that fits the subject as well, but not the construction."""
        assert subject.noun.as_subject is not None
        for _ in range(60):
            verb = self.pick(subject.noun.as_subject)
            if verb.particle is None and accept(verb):
                return verb
        raise Retry

    def actor(self, verb: Verb) -> Nominal:
        return self.any_phrase(self.one_of(verb.subjects, lambda n: n.as_subject is not None))

    def transitive(self) -> PairOfWords:
        verb = self.verb_where(lambda v: is_transitive(v) and v.particle is None)
        subject = self.actor(verb)
        wrong = self.rival(subject, is_intransitive)
        return self.with_verb(verb, wrong, subject, self.object_of(verb), self.pick(PLAIN))

    def intransitive(self) -> PairOfWords:
        verb = self.verb_where(is_intransitive)
        subject = self.actor(verb)
        wrong = self.rival(subject, is_transitive)
        return self.with_verb(verb, wrong, subject, [], self.pick(AUXILIARY))

    def drop_argument(self) -> PairOfWords:
        verb = self.verb_where(lambda v: "drop" in v.flags and v.particle is None)
        subject = self.actor(verb)
        wrong = self.rival(subject, is_transitive)
        return self.with_verb(verb, wrong, subject, [], self.pick(AUXILIARY))

    def causative(self) -> PairOfWords:
        verb = self.verb_where(lambda v: "alt" in v.flags and "to" not in v.flags)
        subject = self.actor(verb)
        wrong = self.rival(subject, is_intransitive)
        return self.with_verb(verb, wrong, subject, self.object_of(verb), self.pick(PLAIN))

    def inchoative(self) -> PairOfWords:
        verb = self.verb_where(lambda v: "alt" in v.flags and v.objects is not None)
        assert verb.objects is not None
        noun = self.one_of(verb.objects, lambda n: n.as_object is not None)
        subject = self.any_phrase(noun)
        assert noun.as_object is not None
        for _ in range(60):
            wrong = self.pick(noun.as_object)
            if is_transitive(wrong) and wrong.particle is None:
                return self.with_verb(verb, wrong, subject, [], self.pick(PLAIN))
        raise Retry

    def passive_pair(self, agent: bool) -> PairOfWords:
        """A participle after "be": of a verb with an object, and of one without."""
        verb = self.verb_where(
            lambda v: (
                v.objects is not None
                and v.particle is None
                and "nopass" not in v.flags
                and is_plain(v)
            )
        )
        assert verb.objects is not None
        doer = self.actor(verb)
        wrong = self.rival(doer, is_intransitive)
        head = Word(verb.forms["en"])
        rest = [head]
        if agent:
            rest += [Word(fw.BY, "case", doer.head), *doer.words]
        subject = self.any_phrase(self.pick(verb.objects))
        predicate = Predicate(head, rest, verb, be="aux:pass")
        words = self.finite(subject, predicate, self.pick(PLAIN))
        return self.swap(words, head, wrong.forms["en"])

    def passive_1(self) -> PairOfWords:
        return self.passive_pair(agent=True)

    def passive_2(self) -> PairOfWords:
        return self.passive_pair(agent=False)

    def human_verb(self) -> Verb:
        """A verb with an object whose subjects are people."""
        return self.verb_where(
            lambda v: (
                is_transitive(v)
                and v.particle is None
                and all(noun.kind == "person" for noun in v.subjects.items)
            )
        )

    def thing_like(self, nominal: Nominal) -> Form:
        """A form of some thing, in the number of ``nominal``."""
        things = [n for n in self.lexicon.groups["thing"] if n.plural]
        noun = things[int(self.random() * len(things))]
        form = noun.plural if nominal.pronoun == "they" else noun.singular
        assert form is not None
        return form

    def doer_of(self, verb: Verb) -> Nominal:
        noun = self.one_of(verb.subjects, lambda n: n.kind == "person" and n.plural is not None)
        return self.phrase(noun, self.random() < 0.45, adjective=0)

    def animate_subject_trans(self) -> PairOfWords:
        verb = self.human_verb()
        subject = self.doer_of(verb)
        words = self.say(subject, verb, self.object_of(verb), self.pick(PLAIN))
        return self.swap(words, subject.head, self.thing_like(subject))

    def animate_subject_passive(self) -> PairOfWords:
        verb = self.human_verb()
        assert verb.objects is not None
        doer = self.doer_of(verb)
        head = Word(verb.forms["en"])
        rest = [head, Word(fw.BY, "case", doer.head), *doer.words]
        subject = self.any_phrase(self.pick(verb.objects))
        predicate = Predicate(head, rest, verb, be="aux:pass")
        words = self.finite(subject, predicate, self.pick(PLAIN))
        return self.swap(words, doer.head, self.thing_like(doer))
