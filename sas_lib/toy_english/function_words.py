"""The closed classes of toy English: pronouns, determiners, auxiliaries, conjunctions."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from sas_lib.toy_english.tables import Form, Table, zipf

CLOSED: list[Form] = []  # every form made in this module


def _form(text: str, upos: str, features: str = "_", lemma: str = "") -> Form:
    CLOSED.append(form := Form(text, lemma or text, upos, features))
    return form


# The agreement of a subject: which form of the verb it takes.
SINGULAR, PLURAL, FIRST = 0, 1, 2


class Pronoun(NamedTuple):
    """A personal pronoun in its four cases, and the agreement it asks for."""

    subject: Form
    object: Form
    possessive: Form
    reflexive: Form
    agreement: int


def _pronoun(forms: str, agreement: int, features: str) -> Pronoun:
    subject, object_, possessive, reflexive = forms.split()
    return Pronoun(
        _form(subject, "PRON", f"Case=Nom|{features}|PronType=Prs", subject),
        _form(object_, "PRON", f"Case=Acc|{features}|PronType=Prs", subject),
        _form(possessive, "PRON", f"Case=Gen|{features}|Poss=Yes|PronType=Prs", subject),
        _form(reflexive, "PRON", f"Case=Acc|{features}|PronType=Prs|Reflex=Yes", subject),
        agreement,
    )


PRONOUNS = {
    "he": _pronoun("he him his himself", SINGULAR, "Gender=Masc|Number=Sing|Person=3"),
    "she": _pronoun("she her her herself", SINGULAR, "Gender=Fem|Number=Sing|Person=3"),
    "it": _pronoun("it it its itself", SINGULAR, "Gender=Neut|Number=Sing|Person=3"),
    "they": _pronoun("they them their themselves", PLURAL, "Number=Plur|Person=3"),
    "we": _pronoun("we us our ourselves", PLURAL, "Number=Plur|Person=1"),
    "you": _pronoun("you you your yourself", PLURAL, "Person=2"),
    "I": _pronoun("I me my myself", FIRST, "Number=Sing|Person=1"),
}

_SINGULAR, _PLURAL = "Number=Sing", "Number=Plur"
A = _form("a", "DET", "Definite=Ind|PronType=Art")
AN = _form("an", "DET", "Definite=Ind|PronType=Art", "a")
THE = _form("the", "DET", "Definite=Def|PronType=Art")
NO = _form("no", "DET", "PronType=Neg")
ANY = _form("any", "DET", "PronType=Ind")
THIS = _form("this", "DET", f"{_SINGULAR}|PronType=Dem")
THAT = _form("that", "DET", f"{_SINGULAR}|PronType=Dem")
THESE = _form("these", "DET", f"{_PLURAL}|PronType=Dem", "this")
THOSE = _form("those", "DET", f"{_PLURAL}|PronType=Dem", "that")
EVERY = _form("every", "DET", "PronType=Tot")
EACH = _form("each", "DET", "PronType=Tot")
SOME = _form("some", "DET", "PronType=Ind")
ANOTHER = _form("another", "DET", "PronType=Ind")
ALL = _form("all", "DET", "PronType=Tot")
MOST = _form("most", "ADJ", "Degree=Sup", "many")
MANY = _form("many", "ADJ", "Degree=Pos")
FEW = _form("few", "ADJ", "Degree=Pos")
SEVERAL = _form("several", "ADJ", "Degree=Pos")
NUMERALS = [_form(n, "NUM", "NumType=Card") for n in "two three four five six ten".split()]

# The determiner of a noun phrase; None for none. The second table is for indefinites
# only: what there is, and what one is.
DETERMINERS: dict[str, Table[Form | None]] = {
    "singular": Table(
        [(THE, 52), (A, 32), (THIS, 4), (THAT, 4), (EVERY, 3), (ANOTHER, 3), (NO, 1)]
    ),
    "plural": Table(
        [(THE, 26), (None, 44), (SOME, 7), (MANY, 5), (THESE, 5), (THOSE, 5), (SEVERAL, 4)]
        + [(MOST, 2), (ALL, 2), (FEW, 1.5), (NO, 1)]
        + [(n, 8 / (i + 2)) for i, n in enumerate(NUMERALS)]
    ),
    "mass": Table([(THE, 50), (None, 28), (SOME, 12), (THIS, 4), (THAT, 3)]),
    "definite singular": Table([(THE, 85), (THIS, 4), (THAT, 4), (A, 7)]),
    "definite plural": Table([(THE, 70), (None, 12), (THESE, 5), (THOSE, 5), (SOME, 8)]),
    "definite mass": Table([(THE, 92), (THIS, 4), (THAT, 4)]),
    "owner singular": Table([(THE, 80), (A, 12), (THIS, 4), (THAT, 4)]),
    "owner plural": Table([(THE, 84), (SOME, 6), (THESE, 5), (THOSE, 5)]),
    "owner mass": Table([(THE, 1)]),
    "indefinite singular": Table([(A, 78), (ANOTHER, 9), (NO, 13)]),
    "indefinite plural": Table(
        [(SOME, 20), (MANY, 20), (SEVERAL, 10), (NO, 10), (FEW, 8), (None, 12)]
        + [(n, 20 / (i + 2)) for i, n in enumerate(NUMERALS)]
    ),
    "indefinite mass": Table([(SOME, 60), (NO, 25), (None, 15)]),
}

WHO = _form("who", "PRON", "PronType=Int")
WHAT = _form("what", "PRON", "PronType=Int")
WHICH = _form("which", "DET", "PronType=Int")
WHO_REL = _form("who", "PRON", "PronType=Rel")
WHICH_REL = _form("which", "PRON", "PronType=Rel")
THAT_REL = _form("that", "PRON", "PronType=Rel")
WHOSE = _form("whose", "PRON", "Poss=Yes|PronType=Rel")
WHERE = _form("where", "ADV", "PronType=Rel")
WHEN = _form("when", "ADV", "PronType=Int")
WHY = _form("why", "ADV", "PronType=Int")
HOW = _form("how", "ADV", "PronType=Int")
THERE = _form("there", "PRON")

NOT = _form("not", "PART", "Polarity=Neg")
NEVER = _form("never", "ADV", "Polarity=Neg")
EVER = _form("ever", "ADV")
SELDOM = _form("seldom", "ADV")
ONLY = _form("only", "ADV")
EVEN = _form("even", "ADV")
TO = _form("to", "PART")
THAT_MARK = _form("that", "SCONJ")
WHETHER = _form("whether", "SCONJ")
BY = _form("by", "ADP")
TO_SOMEONE = _form("to", "ADP")
CLITIC = _form("'s", "PART")
PLURAL_CLITIC = _form("'", "PART", "_", "'s")
AND = _form("and", "CCONJ")
OR = _form("or", "CCONJ")
BUT = _form("but", "CCONJ")
COMMA = _form(",", "PUNCT")
STOP = _form(".", "PUNCT")
QUESTION_MARK = _form("?", "PUNCT")

SUBORDINATORS = Table(
    [(_form(w, "SCONJ"), 10 / (i + 2)) for i, w in enumerate(
        "because while after before although until if since".split())]
    + [(_form("when", "ADV", "PronType=Rel"), 4.0)]
)  # fmt: skip
TEMPORAL = Table(
    [(_form(w, "SCONJ"), x) for w, x in (("after", 3), ("before", 3), ("while", 2))]
)


YESTERDAY, TODAY, TOMORROW, NOW, SOON, AGAIN = (
    _form(word, "ADV") for word in "yesterday today tomorrow now soon again".split()
)
IN, ON = _form("in", "ADP"), _form("on", "ADP")
LAST, NEXT = _form("last", "ADJ", "Degree=Pos"), _form("next", "ADJ", "Degree=Pos")


def _times(words: str, upos: str = "NOUN") -> Table[Form]:
    forms = [_form(word, upos, _SINGULAR) for word in words.split()]
    return Table(zipf(forms, 1.0))


DAYS = _times("Monday Friday Sunday Saturday", "PROPN")
PARTS_OF_DAY = _times("morning evening summer winter afternoon spring")
SPANS = _times("week night year day month")
# When: how the expression opens, and what follows, by the tense that it goes with.
TIMES: dict[str, Table[tuple[Form, Table[Form] | None]]] = {
    "past": Table(
        [((YESTERDAY, None), 4), ((IN, PARTS_OF_DAY), 4), ((ON, DAYS), 2), ((LAST, SPANS), 3)]
    ),
    "present": Table(
        [((IN, PARTS_OF_DAY), 4), ((ON, DAYS), 2), ((EVERY, SPANS), 3), ((TODAY, None), 1)]
    ),
    "now": Table([((NOW, None), 3), ((TODAY, None), 2), ((AGAIN, None), 2)]),
    "will": Table(
        [((TOMORROW, None), 4), ((SOON, None), 3), ((NEXT, SPANS), 2), ((ON, DAYS), 2)]
    ),
    "other": Table([((AGAIN, None), 2), ((TODAY, None), 1), ((IN, PARTS_OF_DAY), 1)]),
}


def _auxiliary(lemma: str, forms: str) -> dict[str, Form]:
    finite = "Mood=Ind|Number={}|Person={}|Tense={}|VerbForm=Fin"
    names = "base en ing present0 present1 present2 past0 past1 past2".split()
    features = {
        "base": "VerbForm=Inf",
        "en": "Tense=Past|VerbForm=Part",
        "ing": "Tense=Pres|VerbForm=Part",
    }
    for agreement, marks in enumerate((("Sing", "3"), ("Plur", "3"), ("Sing", "1"))):
        features[f"present{agreement}"] = finite.format(*marks, "Pres")
        features[f"past{agreement}"] = finite.format(*marks, "Past")
    return {
        name: _form(text, "AUX", features[name], lemma)
        for name, text in zip(names, forms.split(), strict=True)
    }


BE = _auxiliary("be", "be been being is are am was were was")
HAVE = _auxiliary("have", "have had having has have have had had had")
DO = _auxiliary("do", "do done doing does do do did did did")
MODALS = {
    word: _form(word, "AUX", "VerbForm=Fin")
    for word in "will can may must should could might would".split()
}


class Tense(NamedTuple):
    """Tense, aspect, modality and polarity of a finite clause."""

    past: bool = False
    perfect: bool = False
    progressive: bool = False
    modal: str = ""
    negative: bool = False


PRESENT, PAST = Tense(), Tense(past=True)
PRESENT_PERFECT, PAST_PERFECT = Tense(perfect=True), Tense(past=True, perfect=True)

TENSES = Table(
    [
        (PRESENT, 28.0),
        (PAST, 24.0),
        (PRESENT_PERFECT, 11.0),
        (PAST_PERFECT, 6.0),
        (Tense(progressive=True), 8.0),
        (Tense(past=True, progressive=True), 6.0),
        (Tense(perfect=True, progressive=True), 3.0),
        (Tense(past=True, perfect=True, progressive=True), 2.0),
        (Tense(modal="must", perfect=True), 1.5),
        (Tense(past=True, modal="could", perfect=True), 1.5),
        (Tense(modal="may", progressive=True), 1.0),
    ]
    + [(Tense(modal=m), 6.0 / (i + 1)) for i, m in enumerate(["will", "can", "must", "may"])]
    + [(Tense(past=True, modal=m), 4.0 / (i + 1)) for i, m in enumerate(["could", "might"])]
    + [(Tense(modal="should"), 1.5)]
)


@cache
def auxiliaries(tense: Tense, agreement: int, operator: bool) -> tuple[tuple[Form, ...], str]:
    """The auxiliaries before a verb, and the name of the form that the verb then takes.

    operator: the clause needs an auxiliary (negation or inversion before a full verb),
    so that "do" comes in where there is no other.
    """
    chain: list[Form] = []
    wanted = f"{'past' if tense.past else 'present'}{agreement}"
    if tense.modal:
        chain.append(MODALS[tense.modal])
        wanted = "base"
    if tense.perfect:
        chain.append(HAVE[wanted])
        wanted = "en"
    if tense.progressive:
        chain.append(BE[wanted])
        wanted = "ing"
    if operator and not chain:
        chain.append(DO[wanted])
        wanted = "base"
    return tuple(chain), wanted
