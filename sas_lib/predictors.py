"""Which predictor is best for each relation, and how often it is then right.

A predictor names a head for every word: an attention head read in one direction, or a fixed
offset such as "the next word". What it gets right is a column of ``correct``, bool [arcs,
predictors]. To choose on the arcs that are scored flatters every predictor; the held-out
hits are free of that.
"""

from __future__ import annotations

import numpy as np


def relation_groups(relation: np.ndarray) -> dict[str, np.ndarray]:
    """The arcs of each relation: label to int64 [arcs of that relation]."""
    names, inverse = np.unique(relation.astype(str), return_inverse=True)
    return {str(name): np.flatnonzero(inverse == i) for i, name in enumerate(names)}


def choose_per_relation(correct: np.ndarray, groups: dict[str, np.ndarray]) -> dict[str, int]:
    """For each relation the column of ``correct`` (bool [arcs, predictors]) that is best."""
    return {name: int(correct[where].mean(0).argmax()) for name, where in groups.items()}


def hits(
    correct: np.ndarray, groups: dict[str, np.ndarray], chosen: dict[str, int]
) -> np.ndarray:
    """Whether each relation's chosen predictor is right: bool [arcs]."""
    hit = np.zeros(len(correct), dtype=bool)
    for name, where in groups.items():
        hit[where] = correct[where, chosen[name]]
    return hit


def held_out_hits(
    correct: np.ndarray, groups: dict[str, np.ndarray], sentence: np.ndarray
) -> np.ndarray:
    """As ``hits``, with the predictor chosen on the other half of the sentences.

    The halves are the even- and odd-numbered sentences, each chosen on and scored on in
    turn, so that every arc counts once. A relation that the other half lacks is scored by
    the predictor that is best there over all arcs. Returns float [arcs], 1 for right, NaN
    where the other half has no arc at all.
    """
    hit = np.full(len(correct), np.nan)
    half = sentence % 2
    for scored in (0, 1):
        if not (half != scored).any():
            continue
        fallback = int(correct[half != scored].mean(0).argmax())
        for where in groups.values():
            own, other = where[half[where] == scored], where[half[where] != scored]
            best = int(correct[other].mean(0).argmax()) if len(other) else fallback
            hit[own] = correct[own, best]
    return hit
