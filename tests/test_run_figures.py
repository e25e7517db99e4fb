"""Figures of runs: what they draw, read back from their specification."""

import json

import pandas as pd
import pytest

from sas_lib import charts, run_figures
from sas_lib.uas import DIRECTIONS

STEPS = [0, 10, 100, 1000]


@pytest.fixture
def metrics() -> pd.DataFrame:
    rows = [
        (seed, step, metric, base + seed / 10 + i / 100)
        for seed in (0, 1)
        for base, metric in enumerate(
            ["valid_loss", "uas_best_head", "uas_per_relation", "pairs_accuracy"]
        )
        for i, step in enumerate(STEPS)
    ]
    levels = [
        "unigram_entropy",
        "bigram_cross_entropy",
        "baseline_offset",
        "baseline_offset_per_relation",
        "pairs_accuracy_bigram",
    ]
    rows += [(seed, 0, name, 0.5) for seed in (0, 1) for name in levels]
    return pd.DataFrame(rows, columns=["seed", "step", "metric", "value"])


@pytest.fixture
def heads() -> pd.DataFrame:
    rows = [
        (
            seed,
            step,
            relation,
            layer,
            0,
            direction,
            0.1 * layer + 0.3 * (direction == DIRECTIONS[1]),
        )
        for seed in (0, 1)
        for step in STEPS
        for relation in ("det", "nsubj")
        for layer in (0, 1)
        for direction in DIRECTIONS
    ]
    columns = ["seed", "step", "detail", "layer", "head", "direction", "value"]
    return pd.DataFrame(rows, columns=columns)


def test_curves_leave_out_what_a_log_axis_lacks(metrics) -> None:
    rows = run_figures.curves(metrics, {"valid_loss": "loss"})
    assert sorted(rows["step"].unique()) == [10, 100, 1000]
    assert set(rows["label"]) == {"loss"} and len(rows) == 6


def test_the_map_shows_the_better_direction(heads) -> None:
    table = heads[heads["seed"] == 0].rename(columns={"detail": "relation", "value": "uas"})
    slider = run_figures.step_slider(STEPS, 0)
    chart = run_figures.head_relation_map(table, STEPS, slider, ["det", "nsubj"])
    assert len(chart.data) == len(STEPS) * 2 * 2
    assert set(chart.data["way"]) == {"from head"}
    assert chart.data[chart.data["place"] == "1.0"]["uas"].unique().tolist() == [0.4]


def test_onset_points_stand_on_their_own_curve(metrics) -> None:
    onsets = pd.DataFrame({"seed": [1], "step": [55], "kind": ["structure onset"]})
    points = run_figures.onset_points(metrics, onsets, {"structure onset": "uas_per_relation"})
    # Half way between step 10 (2.11) and step 100 (2.12).
    assert points["value"].tolist() == [pytest.approx(2.115)]


def test_central_figure_has_one_slider_over_the_checkpoints(metrics, heads) -> None:
    onsets = pd.DataFrame({"seed": [0, 1], "step": [100, 100], "kind": list(run_figures.KINDS)})
    figure = charts.show(
        run_figures.central_figure(metrics, heads, onsets, ["det", "nsubj"]), alt="A trial."
    )
    sliders = [p for p in figure.spec["params"] if p.get("bind", {}).get("input") == "range"]
    assert len(sliders) == 1
    assert (sliders[0]["bind"]["min"], sliders[0]["bind"]["max"]) == (0, 2)
    assert len(figure.spec["vconcat"]) == 4
    assert json.dumps(figure.spec).count("datum.number === checkpoint") >= 4
