"""Noun phrases: determiners, possessors, adjectives, and what follows the noun."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from sas_lib.toy_english import function_words as fw
from sas_lib.toy_english.function_words import DETERMINERS, PRONOUNS
from sas_lib.toy_english.lexicon import Noun
from sas_lib.toy_english.loading import load
from sas_lib.toy_english.tables import Form, Table
from sas_lib.toy_english.trees import Nominal, Word

T = TypeVar("T")

# Rates of the optional parts, by depth of embedding: the deeper, the plainer.
ADJECTIVE = (0.40, 0.38, 0.30, 0.24)
PHRASE = (0.22, 0.14, 0.04, 0.0)
RELATIVE = (0.13, 0.05, 0.0, 0.0)
PARTICIPIAL = (0.04, 0.02, 0.0, 0.0)
COORDINATE = (0.07, 0.02, 0.0, 0.0)
POSSESSOR = (0.38, 0.36, 0.34, 0.0)
COMPOUND = 0.03
PLURAL = {"place": 0.2, "event": 0.2, "weather": 0.25, "sky": 0.25, "body": 0.4}

_OFTEN_DEFINITE = frozenset(["place", "sky", "weather", "body"])
# How much more seldom things of a kind are possessed when no noun is known to own them.
_OWNED = {"person": 0.3, "animal": 0.3, "food": 0.5, "thing": 0.5, "text": 0.5, "idea": 0.5}
# Determiners of a phrase that does not go with another by "and".
_ALONE = frozenset([fw.NO, fw.FEW, fw.EVERY, fw.EACH, fw.ANY, fw.ANOTHER])


class NounPhrases:
    """The noun phrases of one stream of sentences; ``random`` is its only source of chance."""

    def __init__(self, seed: int | str) -> None:
        self.lexicon = load()
        self.random: Callable[[], float] = random.Random(f"toy English {seed}").random
        self.said: set[int] = set()
        self.said_of: dict[int, set[str]] = {}
        self.past = False  # the time that the sentence is about

    def pick(self, table: Table[T]) -> T:
        return table.draw(self.random())

    def fresh(self, table: Table[T]) -> T:
        """A draw that avoids what the sentence has said already, where it easily can."""
        for _ in range(3):
            item = table.draw(self.random())
            if id(item) not in self.said:
                break
        self.said.add(id(item))
        return item

    def relative_clause(self, nominal: Nominal, depth: int) -> list[Word]:
        raise NotImplementedError

    def participial(self, nominal: Nominal, depth: int) -> list[Word]:
        raise NotImplementedError

    def noun_phrase(
        self, noun: Noun, depth: int = 0, definiteness: str = "", licensed: bool = False
    ) -> Nominal:
        """A noun phrase around ``noun``, not yet attached to anything.

        definiteness: "", "definite " or "indefinite ". licensed: "any" may occur.
        """
        if noun.proper:
            nominal = Nominal(
                head := Word(noun.singular), [head], noun, third_person(noun, self)
            )
        else:
            nominal = self.common(noun, depth, definiteness, licensed)
        if self.random() < COORDINATE[depth] and not definiteness.startswith("in"):
            self.coordinate(nominal, depth)
        return nominal

    def common(
        self, noun: Noun, depth: int, definiteness: str = "", licensed: bool = False
    ) -> Nominal:
        """A phrase around a common noun with all that may surround it."""
        random = self.random
        plural = noun.plural is not None and random() < PLURAL.get(noun.kind, 0.44)
        head = Word(noun.plural if plural and noun.plural else noun.singular)
        nominal = Nominal(head, [], noun, "they" if plural else third_person(noun, self))
        nominal.words = words = self.specifier(nominal, depth, definiteness, licensed)
        if random() < ADJECTIVE[depth]:
            words += self.adjectives(noun, head)
        if noun.compounds and random() < COMPOUND:
            words.append(Word(self.pick(noun.compounds), "compound", head))
        words.append(head)
        self.postmodify(nominal, depth)
        return nominal

    def postmodify(self, nominal: Nominal, depth: int) -> None:
        """Perhaps a prepositional phrase and a relative clause or participle after the noun."""
        random = self.random
        if nominal.noun.phrases and random() < PHRASE[depth]:
            preposition, nouns = self.pick(nominal.noun.phrases)
            owned = any(word.relation == "nmod:poss" for word in nominal.words)
            if not (owned and preposition.text == "of"):
                nominal.words += self.prepositional(
                    preposition, self.fresh(nouns), "nmod", nominal.head, depth + 1
                )
            if random() < 0.6:
                return
        u = random()
        if u < RELATIVE[depth]:
            nominal.words += self.relative_clause(nominal, depth)
        elif u < RELATIVE[depth] + PARTICIPIAL[depth]:
            nominal.words += self.participial(nominal, depth)

    def specifier(
        self, nominal: Nominal, depth: int, definiteness: str, licensed: bool
    ) -> list[Word]:
        """The determiner, number or possessor that opens a phrase; perhaps nothing."""
        noun = nominal.noun
        rate = (
            POSSESSOR[depth] if noun.owners else POSSESSOR[depth] * _OWNED.get(noun.kind, 0.0)
        )
        if not definiteness.startswith("in") and self.random() < rate:
            return self.possessor(noun, nominal.head, depth)
        if licensed and self.random() < 0.4:
            return [Word(fw.ANY, "det", nominal.head)]
        if not definiteness and noun.kind in _OFTEN_DEFINITE:
            definiteness = "definite "
        number = (
            "plural" if nominal.pronoun == "they" else "singular" if noun.plural else "mass"
        )
        determiner = self.pick(DETERMINERS[definiteness + number])
        if depth and not definiteness and determiner in (fw.NO, fw.FEW):
            determiner = fw.THE
        if determiner is None:
            return []
        nominal.licenser = determiner is fw.NO or determiner is fw.FEW
        return [Word(determiner, determiner_relation(determiner), nominal.head)]

    def possessor(self, noun: Noun, head: Word, depth: int) -> list[Word]:
        """Whose it is: a pronoun, or a noun that likes to own such a thing."""
        if not noun.owners or self.random() < 0.18:
            return [Word(PRONOUNS[self.pick(_OWNERS)].possessive, "nmod:poss", head)]
        owner = self.fresh(noun.owners)
        if self.random() < 0.3:
            owner = self.fresh(self.lexicon.names.get(owner.cluster, noun.owners))
        nominal = (
            Nominal(word := Word(owner.singular), [word], owner, "he")
            if owner.proper
            else self.common(owner, 3, "owner ")
        )
        nominal.head.attach("nmod:poss", head)
        plural = nominal.pronoun == "they" and nominal.head.form.text.endswith("s")
        clitic = fw.PLURAL_CLITIC if plural else fw.CLITIC
        return [*nominal.words, Word(clitic, "case", nominal.head)]

    def adjectives(self, noun: Noun, head: Word) -> list[Word]:
        """One adjective, perhaps with a degree adverb, or two, joined by "and" or a comma."""
        first = Word(self.adjective_for(noun), "amod", head)
        u = self.random()
        if u < 0.05:
            return [Word(self.pick(self.lexicon.closed["degree"]), "advmod", first), first]
        if u > 0.33:
            return [first]
        second = Word(self.adjective_for(noun), "amod", head)
        if second.form is first.form:
            return [first]
        if u < 0.30:
            return [first, Word(fw.COMMA, "punct", second), second]
        second.attach("conj", first)
        return [first, Word(fw.AND, "cc", second), second]

    def adjective_for(self, noun: Noun) -> Form:
        """An adjective that likes the noun, of a sort not yet said of it in this sentence."""
        assert noun.adjectives is not None
        said = self.said_of.setdefault(id(noun), set())
        for _ in range(4):
            form = self.pick(noun.adjectives)
            groups = self.lexicon.group_of[form.text]
            if groups.isdisjoint(said):
                break
        said |= groups
        return form

    def coordinate(self, nominal: Nominal, depth: int) -> None:
        """Join a noun of the same cluster to the phrase with "and"."""
        mate = self.fresh(nominal.noun.mates) if nominal.noun.mates else nominal.noun
        if mate is nominal.noun or any(word.form in _ALONE for word in nominal.words):
            return
        if mate.proper:
            second = Nominal(head := Word(mate.singular), [head], mate, "they")
        else:
            second = self.common(mate, 3)
            if any(word.form in _ALONE for word in second.words):
                return
        second.head.attach("conj", nominal.head)
        nominal.words += [Word(fw.AND, "cc", second.head), *second.words]
        nominal.pronoun = "they"

    def prepositional(
        self, preposition: Form, noun: Noun, relation: str, head: Word, depth: int
    ) -> list[Word]:
        """A preposition with its noun phrase, attached to ``head``."""
        nominal = self.noun_phrase(noun, depth)
        nominal.head.attach(relation, head)
        return [Word(preposition, "case", nominal.head), *nominal.words]

    def pronoun(self, nominal: Nominal, case: str = "subject") -> Nominal:
        """The personal pronoun that refers back to ``nominal``."""
        word = Word(getattr(PRONOUNS[nominal.pronoun], case))
        return Nominal(word, [word], nominal.noun, nominal.pronoun)

    def any_pronoun(self, noun: Noun, case: str = "subject") -> Nominal:
        """A pronoun for someone or something like ``noun``, not mentioned before."""
        if noun.kind == "person":
            key = self.pick(_PERSONS)
            if key in ("he", "she"):
                key = third_person(noun, self)
        else:
            key = "they" if noun.plural and self.random() < 0.4 else "it"
        word = Word(getattr(PRONOUNS[key], case))
        return Nominal(word, [word], noun, key)


_PERSONS: Table[str] = Table([("he", 52), ("they", 24), ("we", 10), ("I", 8), ("you", 6)])
_OWNERS: Table[str] = Table(
    [("he", 27), ("she", 27), ("they", 26), ("it", 4), ("we", 7), ("I", 6), ("you", 3)]
)


def third_person(noun: Noun, grammar: NounPhrases) -> str:
    """The key of the singular pronoun for a noun; chance decides where gender is open."""
    if noun.gender:
        return "he" if noun.gender == "m" else "she"
    if noun.kind == "person":
        return "he" if grammar.random() < 0.5 else "she"
    return "it"


def determiner_relation(form: Form) -> str:
    """The UD relation of a word in the place of a determiner."""
    return {"DET": "det", "NUM": "nummod"}.get(form.upos, "amod")
