"""Heads chosen on one treebank and scored on another, against plain loops."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from sas_lib.transfer import transfer
from sas_lib.uas import OFFSETS, Arcs

LABELS = ("nsubj", "obj", "det", "punct", "root")


def random_arcs(seed: int, labels: tuple[str, ...] = LABELS, n: int = 200) -> Arcs:
    rng = np.random.default_rng(seed)
    relation = rng.choice(np.array(labels, dtype=object), n)
    distance = np.where(relation == "root", 0, rng.choice([-3, -2, -1, 1, 2, 3], n))
    correct = rng.random((n, 2, 3, 2)) < rng.random((2, 3, 2))
    mass = np.zeros((n, 2, 3, 2), np.float32)
    return Arcs(correct, mass, relation, distance, np.arange(n) // 5, n // 5)


def by_hand(seen: Arcs, unseen: Arcs) -> dict[str, float]:
    """The same, one arc at a time."""

    def listed(arcs: Arcs) -> list[tuple[str, int, dict[tuple[int, ...], bool]]]:
        return [
            (r, int(d), {place: bool(c[place]) for place in np.ndindex(c.shape)})
            for r, d, c in zip(arcs.relation, arcs.distance, arcs.correct, strict=True)
            if r not in ("punct", "root")
        ]

    train, test = listed(seen), listed(unseen)

    def best(kind: str, label: str | None) -> object:
        count: Counter[object] = Counter()
        places = OFFSETS if kind == "offset" else list(train[0][2])
        for relation, distance, right in train:
            if label in (None, relation):
                for place in places:
                    count[place] += distance == place if kind == "offset" else right[place]
        return max(places, key=lambda place: count[place])

    def right(arc: tuple, kind: str, chosen: object) -> bool:
        return arc[1] == chosen if kind == "offset" else arc[2][chosen]

    known = {relation for relation, _, _ in train}
    of = {
        kind: [
            right(arc, kind, best(kind, arc[0] if arc[0] in known else None)) for arc in test
        ]
        for kind in ("head", "offset")
    }
    missed = [
        hit for hit, by_offset in zip(of["head"], of["offset"], strict=True) if not by_offset
    ]
    return {
        "best_head": np.mean([right(arc, "head", best("head", None)) for arc in test]),
        "per_relation": np.mean(of["head"]),
        "best_offset": np.mean([right(arc, "offset", best("offset", None)) for arc in test]),
        "best_offset_per_relation": np.mean(of["offset"]),
        "beyond_offset": np.mean(missed),
    }


@pytest.mark.parametrize("labels", [LABELS, (*LABELS, "vocative")])
def test_as_a_plain_loop_has_it(labels: tuple[str, ...]) -> None:
    """Also where the scored treebank has a relation that the other lacks."""
    seen, unseen = random_arcs(0), random_arcs(1, labels)
    assert transfer(seen, unseen) == pytest.approx(by_hand(seen, unseen))


def test_a_head_that_is_best_there_and_useless_here_is_not_forgiven() -> None:
    seen, unseen = random_arcs(2), random_arcs(3)
    seen.correct[:], unseen.correct[:] = False, True
    seen.correct[:, 1, 2, 0], unseen.correct[:, 1, 2, 0] = True, False
    found = transfer(seen, unseen)
    assert found["best_head"] == found["per_relation"] == found["beyond_offset"] == 0


def test_without_arcs() -> None:
    some = random_arcs(4)
    none = some.select(np.zeros(len(some.relation), bool))
    for pair in ((some, none), (none, some)):
        with pytest.raises(ValueError, match="no arc left"):
            transfer(*pair)


def test_nothing_is_beyond_where_position_says_all() -> None:
    some = random_arcs(5, ("det",))
    same = dataclasses.replace(some, distance=np.ones(len(some.relation), int))
    assert "beyond_offset" not in transfer(same, same)
