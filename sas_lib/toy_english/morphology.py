"""English inflection: regular rules, with the irregular forms given by the lexicon."""

from __future__ import annotations

import re

_SIBILANT = re.compile(r"(s|x|z|ch|sh)$")
_CONSONANT_Y = re.compile(r"[^aeiou]y$")
# One short vowel between consonants: stop, plan, hug. Final w, x and y never double.
_DOUBLES = re.compile(r"^[^aeiou]*[aeiou][bdgklmnprt]$")
_AN = re.compile(r"(hour|honest|heir)", re.IGNORECASE)
_A = re.compile(r"(uni|use|usual|one|eu)", re.IGNORECASE)


def add_s(word: str) -> str:
    """The plural of a regular noun, or the third person singular of a verb."""
    if _SIBILANT.search(word):
        return word + "es"
    if _CONSONANT_Y.search(word):
        return word[:-1] + "ies"
    return word + "s"


def _before_vowel(verb: str, double: bool) -> str:
    return verb + verb[-1] if double or _DOUBLES.search(verb) else verb


def add_ed(verb: str, double: bool = False) -> str:
    """The regular past of a verb; ``double`` for a stressed last syllable (prefer)."""
    if verb.endswith("e"):
        return verb + "d"
    if _CONSONANT_Y.search(verb):
        return verb[:-1] + "ied"
    return _before_vowel(verb, double) + "ed"


def add_ing(verb: str, double: bool = False) -> str:
    """The present participle of a verb."""
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    return _before_vowel(verb, double) + "ing"


def takes_an(word: str) -> bool:
    """Whether the indefinite article before ``word`` is "an"."""
    if _AN.match(word):
        return True
    return word[0].lower() in "aeiou" and not _A.match(word)


def detokenise(words: list[str] | tuple[str, ...]) -> str:
    """Join words into plain text: no blank before punctuation and clitics."""
    text = " ".join(words)
    return re.sub(r" ('s\b|'|[.,?])", r"\1", text)
