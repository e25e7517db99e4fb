"""Toy English: plain sentences with gold trees, from a grammar in which words have tastes.

:func:`sentences` streams them, :func:`minimal_pairs` makes pairs in BLiMP's paradigms, and
:func:`write_pairs` writes those in BLiMP's format; :func:`classification_task` makes tasks
to fine-tune on; :func:`describe` counts what there is.
"""

from sas_lib.toy_english.describe import describe, vocabulary
from sas_lib.toy_english.grammar import sentences
from sas_lib.toy_english.pair_builder import MinimalPair
from sas_lib.toy_english.pairs import PARADIGMS, minimal_pairs, write_pairs
from sas_lib.toy_english.tasks import TASKS, Example, classification_task

__all__ = [
    "PARADIGMS",
    "TASKS",
    "Example",
    "MinimalPair",
    "classification_task",
    "describe",
    "minimal_pairs",
    "sentences",
    "vocabulary",
    "write_pairs",
]
