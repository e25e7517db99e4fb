"""The parts that a sentence is put together from, and their way into a Sentence.

A :class:`Word` knows its head by reference, so phrases can be moved about as lists of
words before anyone counts positions. That is what makes free word order cheap here.
"""

from __future__ import annotations

from itertools import pairwise

from sas_lib.toy_english.function_words import (
    AN,
    COMMA,
    PRONOUNS,
    STOP,
    A,
)
from sas_lib.toy_english.lexicon import Noun, Verb
from sas_lib.toy_english.morphology import detokenise, takes_an
from sas_lib.toy_english.tables import Form
from sas_lib.treebank import ROOT, Sentence


class Word:
    """A word in a tree under construction. The root has no head."""

    __slots__ = ("form", "head", "position", "relation")

    def __init__(self, form: Form, relation: str = "root", head: Word | None = None) -> None:
        self.form = form
        self.relation = relation
        self.head = head
        self.position = 0

    def attach(self, relation: str, head: Word | None) -> None:
        """Hang this word, and with it its phrase, below ``head``."""
        self.relation = relation
        self.head = head


class Nominal:
    """A noun phrase: its words in order, its head, and how one refers back to it.

    pronoun: the key in ``PRONOUNS`` of the pronoun that would stand for it.
    """

    __slots__ = ("head", "licenser", "noun", "pronoun", "words")

    def __init__(self, head: Word, words: list[Word], noun: Noun, pronoun: str) -> None:
        self.head = head
        self.words = words
        self.noun = noun
        self.pronoun = pronoun
        self.licenser = False  # whether it licenses "ever" in its clause (no, few, only)

    @property
    def agreement(self) -> int:
        return PRONOUNS[self.pronoun].agreement


class Predicate:
    """What is said of a subject, without its auxiliaries.

    head: the word that the subject hangs on. verb: the verb to inflect, or None where
    "be" carries the inflection; ``be`` is then its relation: cop, aux:pass, or root.
    middle: words after the first auxiliary. rest: the words from the predicate on.
    """

    __slots__ = ("be", "head", "middle", "rest", "verb")

    def __init__(
        self,
        head: Word,
        rest: list[Word],
        verb: Verb | None = None,
        be: str = "",
        middle: list[Word] | None = None,
    ) -> None:
        self.head = head
        self.rest = rest
        self.verb = verb
        self.be = be
        self.middle = middle or []


def settle_articles(words: list[Word]) -> None:
    """Choose between "a" and "an" by the word that follows."""
    for word, following in pairwise(words):
        if word.form is A or word.form is AN:
            word.form = AN if takes_an(following.form.text) else A


def to_sentence(words: list[Word], end: Form = STOP) -> Sentence:
    """Words in order, with final punctuation added, as a gold-parsed Sentence."""
    root = next(word for word in words if word.head is None)
    words = [*words, Word(end, "punct", root)]
    # A comma that closes an apposition gives way to the mark that follows it.
    words = [
        word
        for word, after in zip(words, [*words[1:], None], strict=True)
        if word.form is not COMMA or (after and after.form.upos != "PUNCT")
    ]
    settle_articles(words)
    for position, word in enumerate(words):
        word.position = position
    texts = [word.form[0] for word in words]
    texts[0] = texts[0][0].upper() + texts[0][1:]
    return Sentence(
        words=tuple(texts),
        heads=tuple([ROOT if w.head is None else w.head.position for w in words]),
        relations=tuple([w.relation for w in words]),
        upos=tuple([w.form[2] for w in words]),
        lemmas=tuple([w.form[1] for w in words]),
        features=tuple([w.form[3] for w in words]),
        text=detokenise(texts),
    )
