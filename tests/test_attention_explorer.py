"""The attention explorer: what it draws for a choice, against plain Python."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sas_lib import attention_explorer as explorer
from sas_lib.treebank import ROOT
from sas_lib.uas import DIRECTIONS

STEPS, LAYERS, HEADS = (0, 70), 2, 3
TREES = [  # words, heads, relations
    (["Old", "nets", "tore", "."], [1, 2, ROOT, 2], ["amod", "nsubj", "root", "punct"]),
    (
        ["She", "knew", "the", "old", "nets"],
        [1, ROOT, 4, 4, 1],
        ["nsubj", "root", "det", "amod", "obj"],
    ),
]


@pytest.fixture(scope="module")
def gold() -> pd.DataFrame:
    rows = [
        (number, position, word, head, relation)
        for number, tree in enumerate(TREES)
        for position, (word, head, relation) in enumerate(zip(*tree, strict=True))
    ]
    return pd.DataFrame(rows, columns=["sentence", "position", "word", "head", "relation"])


@pytest.fixture(scope="module")
def attention() -> pd.DataFrame:
    """Random weights, in random order, as ``runs.attention_tables`` gives them."""
    random = np.random.default_rng(0)
    rows = [
        (number, step, layer, head, i, j, random.random())
        for number, (words, _, _) in enumerate(TREES)
        for step, layer, head in itertools.product(STEPS, range(LAYERS), range(HEADS))
        for i, j in itertools.permutations(range(len(words)), 2)
    ]
    names = ["sentence", "step", "layer", "head", "attending", "attended", "weight"]
    return pd.DataFrame(rows, columns=names).sample(frac=1, random_state=0)


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    random = np.random.default_rng(1)
    rows = [
        (step, relation, layer, head, direction, random.random())
        for step, relation, layer, head, direction in itertools.product(
            (*STEPS, 35), ("obj", "det", "rare"), range(LAYERS), range(HEADS), DIRECTIONS
        )
    ]
    return pd.DataFrame(rows, columns=["step", "detail", "layer", "head", "direction", "value"])


def brute_force(attention: pd.DataFrame, choice: dict[str, Any]) -> list[int]:
    """Predicted heads, one weight at a time."""
    step = STEPS[choice["checkpoint"]]
    weight = {
        (row.attending, row.attended): row.weight
        for row in attention.itertuples()
        if (row.sentence, row.step, row.layer, row.head)
        == (choice["sentence"], step, choice["layer"], choice["head"])
    }
    n = len(TREES[choice["sentence"]][0])
    found = []
    for word in range(n):
        best, most = -1, -1.0
        for other in range(n):
            pair = (word, other) if choice["direction"] == DIRECTIONS[0] else (other, word)
            if other != word and weight[pair] > most:
                best, most = other, weight[pair]
        found.append(best)
    return found


CHOICES = [
    dict(zip(explorer.PARAMETERS, values, strict=True))
    for values in [
        (0, 0, 0, 0, DIRECTIONS[0]),
        (0, 1, 1, 2, DIRECTIONS[1]),
        (1, 0, 1, 1, DIRECTIONS[1]),
        (1, 1, 0, 2, DIRECTIONS[0]),
    ]
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_the_rows_hold_the_implicit_parse_and_the_weights(
    attention: pd.DataFrame, gold: pd.DataFrame, choice: dict[str, Any]
) -> None:
    places = explorer.PARAMETERS[:-1]
    (row,) = (
        row
        for row in explorer.map_rows(attention, gold)
        if all(row[place] == choice[place] for place in places)
    )
    assert row[choice["direction"]] == brute_force(attention, choice)
    assert row["step"] == STEPS[choice["checkpoint"]]
    cell = attention[
        (attention["sentence"] == choice["sentence"])
        & (attention["step"] == row["step"])
        & (attention["layer"] == choice["layer"])
        & (attention["head"] == choice["head"])
        & (attention["attending"] == 2)
        & (attention["attended"] == 1)
    ]
    assert row["weights"][2 * row["n"] + 1] == pytest.approx(
        1000 * cell["weight"].item(), abs=1
    )
    assert row["weights"][0] == 0  # the diagonal


def test_the_scores_of_an_attention_head(scores: pd.DataFrame) -> None:
    rows = explorer.head_rows(scores, STEPS, ["det", "obj"])
    assert len(rows) == len(STEPS) * LAYERS * HEADS * len(DIRECTIONS)
    (row,) = (
        row
        for row in rows
        if (row["checkpoint"], row["layer"], row["head"], row["direction"])
        == (1, 0, 2, DIRECTIONS[1])
    )
    there = scores[
        (scores["step"] == STEPS[1])
        & (scores["layer"] == 0)
        & (scores["head"] == 2)
        & (scores["direction"] == DIRECTIONS[1])
    ].set_index("detail")["value"]
    assert row["uas"] == [round(100 * there[name]) for name in ("det", "obj")]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_what_is_drawn(
    attention: pd.DataFrame, gold: pd.DataFrame, scores: pd.DataFrame, choice: dict[str, Any]
) -> None:
    """The browser's transforms give the parse, the count and the map of the choice."""
    pytest.importorskip("vl_convert")
    from test_tree_figures import drawing, lines, marks, texts

    baseline = pd.DataFrame({"relation": ["det", "obj"], "offset_uas": [0.6, 0.3]})
    svg = drawing(explorer.explorer(attention, gold, scores, baseline, choice))
    words, heads, relations = TREES[choice["sentence"]]
    predicted = brute_force(attention, choice)
    kinds = Counter(
        "not counted"
        if relation in ("root", "punct")
        else "solid"
        if guess == head
        else "wrong"
        for guess, head, relation in zip(predicted, heads, relations, strict=True)
    )
    right, counted = kinds["solid"], kinds["solid"] + kinds["wrong"]
    kinds["solid"] += len(words) - 1  # the gold arcs
    assert lines(svg) == +kinds

    shown = texts(svg)
    step = STEPS[choice["checkpoint"]]
    assert f"step {step}: {right} of {counted} arcs right" in shown
    assert not Counter(words) - Counter(shown)

    # The map: each cell's weight, and the ring and the cross (twice, for the edge).
    here = attention[
        (attention["sentence"] == choice["sentence"])
        & (attention["step"] == step)
        & (attention["layer"] == choice["layer"])
        & (attention["head"] == choice["head"])
    ]
    weights = {
        (f"{row.attending} {words[row.attending]}", f"{row.attended} {words[row.attended]}"): (
            pytest.approx(row.weight, abs=0.0006)
        )
        for row in here.itertuples()
    }
    drawn = [fields(mark) for mark in marks(svg, "rect")]
    assert {
        (cell["attending"], cell["attended"]): float(cell["attention weight"])
        for cell in drawn
        if "attention weight" in cell
    } == weights

    def in_map(arc: tuple[int, int]) -> tuple[str, str]:
        i, j = arc if choice["direction"] == DIRECTIONS[0] else arc[::-1]
        return f"{i} {words[i]}", f"{j} {words[j]}"

    gold_arcs = [in_map(arc) for arc in enumerate(heads) if arc[1] != ROOT]
    found_arcs = [in_map(arc) for arc in enumerate(predicted)]
    symbols = [fields(mark) for mark in marks(svg, "symbol")]
    assert Counter(
        (symbol["attending"], symbol["attended"]) for symbol in symbols if "attended" in symbol
    ) == Counter(2 * (gold_arcs + found_arcs))


def fields(mark: Any) -> dict[str, str]:
    """What Vega says of a mark: 'attended: 1 nets; attending: 0 Old' as a dictionary."""
    label = mark.get("aria-label") or ""
    return dict(part.split(": ", 1) for part in label.split("; ") if ": " in part)


def test_the_explorer_starts_at_the_first_of_everything(
    attention: pd.DataFrame, gold: pd.DataFrame, scores: pd.DataFrame
) -> None:
    baseline = pd.DataFrame({"relation": ["det"], "offset_uas": [0.6]})
    spec = explorer.explorer(attention, gold, scores, baseline).to_dict()
    values = {p["name"]: p["value"] for p in spec["params"] if "bind" in p}
    assert values == {**dict.fromkeys(explorer.PARAMETERS, 0), "direction": DIRECTIONS[0]}
    binds = {p["name"]: p["bind"] for p in spec["params"] if "bind" in p}
    assert binds["checkpoint"]["max"] == len(STEPS) - 1
    assert binds["layer"]["options"] == [0, 1]
    assert binds["head"]["options"] == [0, 1, 2]
    assert binds["sentence"]["labels"] == ["Old nets tore .", "She knew the old …"]
