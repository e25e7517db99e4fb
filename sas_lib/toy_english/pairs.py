"""Minimal pairs of toy English, in the paradigms and the file format of BLiMP.

BLiMP: Warstadt et al., 2020, "BLiMP: The Benchmark of Linguistic Minimal Pairs for
English". The names of paradigms, phenomena and fields are theirs; the sentences are ours.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from sas_lib.toy_english.morphology import detokenise
from sas_lib.toy_english.pair_builder import MinimalPair, PairOfWords, Retry
from sas_lib.toy_english.pairs_agreement import AgreementPairs
from sas_lib.toy_english.pairs_arguments import ArgumentPairs
from sas_lib.toy_english.pairs_licensing import LicensingPairs


class Paradigm(NamedTuple):
    """What BLiMP says of a paradigm: phenomenon, field, and how prefixes may be used."""

    phenomenon: str
    field: str
    one_prefix: bool = False
    two_prefix: bool = False
    lexically_identical: bool = False


_VERB = Paradigm("subject_verb_agreement", "morphology", one_prefix=True)
_VERB_2 = _VERB._replace(one_prefix=False, two_prefix=True)
_NOUN = Paradigm(
    "determiner_noun_agreement", "morphology", one_prefix=True, lexically_identical=True
)
_NOUN_2 = _NOUN._replace(one_prefix=False, two_prefix=True)
_ANAPHOR = Paradigm("anaphor_agreement", "morphology", one_prefix=True)
_BINDING = Paradigm("binding", "syntax_semantics", one_prefix=True)
_NPI = Paradigm("npi_licensing", "semantics")
_GAP = Paradigm("filler_gap_dependency", "syntax")
_ARGUMENT = Paradigm("argument_structure", "syntax")
_ISLAND = Paradigm("island_effects", "syntax", lexically_identical=True)
_SELECTION = Paradigm("s-selection", "syntax")

PARADIGMS: dict[str, Paradigm] = {
    "adjunct_island": _ISLAND,
    "anaphor_gender_agreement": _ANAPHOR,
    "anaphor_number_agreement": _ANAPHOR._replace(lexically_identical=True),
    "animate_subject_passive": _SELECTION._replace(one_prefix=True),
    "animate_subject_trans": _SELECTION._replace(two_prefix=True),
    "causative": _ARGUMENT,
    "determiner_noun_agreement_1": _NOUN,
    "determiner_noun_agreement_2": _NOUN_2,
    "determiner_noun_agreement_irregular_1": _NOUN,
    "determiner_noun_agreement_irregular_2": _NOUN_2,
    "determiner_noun_agreement_with_adj_2": _NOUN_2,
    "determiner_noun_agreement_with_adj_irregular_1": _NOUN,
    "determiner_noun_agreement_with_adj_irregular_2": _NOUN_2,
    "determiner_noun_agreement_with_adjective_1": _NOUN,
    "distractor_agreement_relational_noun": _VERB,
    "distractor_agreement_relative_clause": _VERB,
    "drop_argument": _ARGUMENT,
    "existential_there_quantifiers_1": Paradigm("quantifiers", "semantics"),
    "existential_there_subject_raising": Paradigm("control_raising", "syntax_semantics"),
    "inchoative": _ARGUMENT,
    "intransitive": _ARGUMENT,
    "irregular_past_participle_verbs": Paradigm("irregular_forms", "morphology", True),
    "irregular_plural_subject_verb_agreement_1": _VERB,
    "irregular_plural_subject_verb_agreement_2": _VERB_2,
    "matrix_question_npi_licensor_present": _NPI._replace(
        two_prefix=True, lexically_identical=True
    ),
    "npi_present_1": _NPI._replace(one_prefix=True),
    "npi_present_2": _NPI._replace(one_prefix=True),
    "only_npi_licensor_present": _NPI._replace(two_prefix=True),
    "only_npi_scope": _NPI._replace(
        field="syntax_semantics", two_prefix=True, lexically_identical=True
    ),
    "passive_1": _ARGUMENT,
    "passive_2": _ARGUMENT,
    "principle_A_c_command": _BINDING,
    "principle_A_case_1": _BINDING,
    "principle_A_domain_1": _BINDING,
    "principle_A_domain_3": _BINDING._replace(
        one_prefix=False, two_prefix=True, lexically_identical=True
    ),
    "regular_plural_subject_verb_agreement_1": _VERB,
    "regular_plural_subject_verb_agreement_2": _VERB_2,
    "sentential_negation_npi_licensor_present": _NPI._replace(two_prefix=True),
    "sentential_negation_npi_scope": _NPI._replace(
        field="syntax_semantics", two_prefix=True, lexically_identical=True
    ),
    "transitive": _ARGUMENT._replace(two_prefix=True),
    "wh_questions_object_gap": _GAP,
    "wh_questions_subject_gap": _GAP,
    "wh_vs_that_no_gap": _GAP,
    "wh_vs_that_no_gap_long_distance": _GAP,
    "wh_vs_that_with_gap": _GAP,
    "wh_vs_that_with_gap_long_distance": _GAP,
}


class _Pairs(AgreementPairs, ArgumentPairs, LicensingPairs):
    """All paradigms."""


def minimal_pairs(n: int = 500, seed: int = 0) -> dict[str, list[MinimalPair]]:
    """``n`` different minimal pairs of each paradigm in ``PARADIGMS``, from a seed.

    Each paradigm has its own stream, so that fewer pairs are the first of more.
    """
    return {uid: list(_paradigm(uid, n, seed)) for uid in PARADIGMS}


def _paradigm(uid: str, n: int, seed: int) -> list[MinimalPair]:
    builder = _Pairs(f"{uid} {seed}")
    make = getattr(builder, uid)
    found: dict[PairOfWords, MinimalPair] = {}
    while len(found) < n:
        try:
            good, bad = make()
        except Retry:
            continue
        if good != bad and len(good) == len(bad) and (good, bad) not in found:
            found[good, bad] = _minimal_pair(uid, good, bad)
    return list(found.values())


def _minimal_pair(uid: str, good: tuple[str, ...], bad: tuple[str, ...]) -> MinimalPair:
    paradigm = PARADIGMS[uid]
    return MinimalPair(
        detokenise(good), detokenise(bad), uid, paradigm.phenomenon, paradigm.field, good, bad
    )


def write_pairs(directory: str | os.PathLike[str], n: int = 500, seed: int = 0) -> None:
    """Write one jsonl file per paradigm into ``directory``, with the fields of BLiMP.

    Each file appears under its name only when it is complete.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for uid in PARADIGMS:
        lines = [
            json.dumps(_record(pair, number)) + "\n"
            for number, pair in enumerate(_paradigm(uid, n, seed))
        ]
        part = directory / f"{uid}.jsonl.part"
        try:
            part.write_text("".join(lines), encoding="utf-8")
            part.replace(directory / f"{uid}.jsonl")
        finally:
            part.unlink(missing_ok=True)


def _record(pair: MinimalPair, number: int) -> dict[str, Any]:
    paradigm = PARADIGMS[pair.paradigm]
    return {
        "sentence_good": pair.good,
        "sentence_bad": pair.bad,
        "field": pair.field,
        "linguistics_term": pair.phenomenon,
        "UID": pair.paradigm,
        "simple_LM_method": True,
        "one_prefix_method": paradigm.one_prefix,
        "two_prefix_method": paradigm.two_prefix,
        "lexically_identical": paradigm.lexically_identical,
        "pairID": str(number),
    }
