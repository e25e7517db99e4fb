"""Heads chosen on one treebank and scored on another.

What is chosen and scored on the same arcs is flattered; halves of one treebank share its
genres and its annotators. Another treebank shares neither.
"""

from __future__ import annotations

import numpy as np

from sas_lib.predictors import choose_per_relation, hits, relation_groups
from sas_lib.uas import OFFSETS, Arcs


def transfer(chosen_on: Arcs, scored_on: Arcs) -> dict[str, float]:
    """UAS on ``scored_on`` with all that is chosen taken from ``chosen_on``.

    Root and punctuation are left out. Returns ``best_head``, ``per_relation``, and the
    positional baselines ``best_offset`` and ``best_offset_per_relation``; and
    ``beyond_offset``, the share of the arcs that this last baseline misses which the heads
    chosen for their relations find. A relation that ``chosen_on`` lacks is scored by what is
    best there over all arcs.

    Raises:
        ValueError: one of the two has no arc.
    """
    seen, unseen = chosen_on.scored(), scored_on.scored()
    if not len(seen.relation) or not len(unseen.relation):
        raise ValueError("no arc left to choose on or to score")
    heads = (_flat(seen), _flat(unseen))
    offsets = (_at_offset(seen), _at_offset(unseen))
    by_head = _hits(*heads, seen.relation, unseen.relation)
    by_offset = _hits(*offsets, seen.relation, unseen.relation)
    missed = ~by_offset
    figures = {
        "best_head": _best(*heads),
        "per_relation": float(by_head.mean()),
        "best_offset": _best(*offsets),
        "best_offset_per_relation": float(by_offset.mean()),
    }
    if missed.any():
        figures["beyond_offset"] = float(by_head[missed].mean())
    return figures


def _flat(arcs: Arcs) -> np.ndarray:
    return arcs.correct.reshape(len(arcs.correct), -1)


def _at_offset(arcs: Arcs) -> np.ndarray:
    return arcs.distance[:, None] == np.asarray(OFFSETS)


def _best(seen: np.ndarray, unseen: np.ndarray) -> float:
    return float(unseen[:, seen.mean(0).argmax()].mean())


def _hits(
    seen: np.ndarray, unseen: np.ndarray, relations: np.ndarray, others: np.ndarray
) -> np.ndarray:
    groups = relation_groups(others)
    chosen = choose_per_relation(seen, relation_groups(relations))
    best = int(seen.mean(0).argmax())
    return hits(unseen, groups, {name: chosen.get(name, best) for name in groups})
