"""Toy English in numbers."""

from __future__ import annotations

from functools import cache

from sas_lib.toy_english import function_words
from sas_lib.toy_english.loading import load
from sas_lib.toy_english.pairs import PARADIGMS


@cache
def vocabulary() -> frozenset[str]:
    """Every word form of toy English in lower case, punctuation left out."""
    forms = load().forms().union(function_words.CLOSED)
    return frozenset(form.text.lower() for form in forms if form.upos != "PUNCT")


def describe() -> dict[str, int]:
    """How much there is of what: word forms, words of each class, fields, paradigms."""
    lexicon = load()
    irregular = [noun for noun in lexicon.nouns if noun.irregular]
    return {
        "word forms": len(vocabulary()),
        "semantic fields": len(lexicon.fields),
        "clusters of nouns": len(lexicon.clusters),
        "nouns": sum(not noun.proper for noun in lexicon.nouns),
        "nouns with an irregular plural": len(irregular),
        "names": sum(noun.proper for noun in lexicon.nouns),
        "verbs": len(lexicon.verbs),
        "irregular verbs": sum(verb.irregular for verb in lexicon.verbs),
        "adjectives": len(lexicon.adjectives),
        "adverbs": len(set().union(*lexicon.adverbs.values())),
        "minimal-pair paradigms": len(PARADIGMS),
    }
