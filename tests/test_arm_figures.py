"""Figures of arms: what they draw, read back from their specification."""

import pandas as pd
import pytest

from sas_lib import arm_figures, charts

STEPS = [0, 10, 100, 1000]
ARMS = {"base": 0.0, "suppress": 1.0, "release-10": 0.5, "release-100": 0.75}
SHIFT = {"valid_loss": 1, "uas_per_relation": -1, "pairs_accuracy": -2}


@pytest.fixture
def metrics() -> pd.DataFrame:
    """Each arm a constant away from its base, in the measure's own direction."""
    rows = [
        (seed, step, metric, arm, seed / 10 + i / 100 + sign * shift)
        for arm, shift in ARMS.items()
        for seed in (0, 1, 2)
        for metric, sign in SHIFT.items()
        for i, step in enumerate(STEPS)
    ]
    return pd.DataFrame(rows, columns=["seed", "step", "metric", "arm", "value"])


def test_curves_are_those_of_the_arms_asked_for(metrics: pd.DataFrame) -> None:
    rows = arm_figures.arm_curves(metrics, "valid_loss", {"suppress": "S"})
    assert set(rows["label"]) == {"S"} and sorted(set(rows["step"])) == [10, 100, 1000]
    assert len(rows) == 3 * 3 and rows["value"].min() == pytest.approx(1.01)


def test_panels_share_one_legend_that_singles_out(metrics: pd.DataFrame) -> None:
    labels = {"base": "base", "suppress": "suppressed"}
    colours = {"base": "grey", "suppressed": "rust"}
    spec = charts.show(arm_figures.arm_panels(metrics, labels, colours), alt="A trial.").spec
    assert len(spec["vconcat"]) == 3
    assert [p["bind"] for p in spec["params"]] == ["legend"]
    for panel in spec["vconcat"]:
        assert panel["layer"][0]["encoding"]["opacity"]["condition"]["param"] == "picked"


def test_there_is_a_button_for_each_release(metrics: pd.DataFrame) -> None:
    spec = charts.show(arm_figures.release_explorer(metrics, [10, 100]), alt="A trial.").spec
    (buttons,) = (p for p in spec["params"] if p.get("bind", {}).get("input") == "radio")
    assert buttons["bind"]["options"] == [0, 1] and buttons["bind"]["labels"] == ["10", "100"]
    numbers = {
        (row["label"], row["number"])
        for data in spec["datasets"].values()
        for row in data
        if "label" in row
    }
    assert numbers == {
        ("never suppressed", -1),
        ("always", -1),
        ("until the line", 0),
        ("until the line", 1),
    }


def test_differences_are_taken_within_a_seed(metrics: pd.DataFrame) -> None:
    labels = {"suppress": "always", "release-10": "until 10"}
    found = arm_figures.differences(metrics, 1000, labels).set_index(["measure", "label"])
    assert found.loc[("loss", "always"), "mean"] == pytest.approx(1)
    assert found.loc[("minimal pairs", "until 10"), "mean"] == pytest.approx(-1)
    assert (found["high"] - found["low"]).abs().max() < 1e-9 and set(found["n"]) == {3}


def test_dots_have_every_seed_and_the_interval(metrics: pd.DataFrame) -> None:
    labels = {"suppress": "always", "release-10": "until 10"}
    spec = charts.show(arm_figures.difference_dots(metrics, 1000, labels), alt="A trial.").spec
    assert [panel["title"].split(",")[0] for panel in spec["vconcat"]] == [
        "loss",
        "UAS per relation",
        "minimal pairs",
    ]
    seeds = [row for data in spec["datasets"].values() for row in data if "seed" in row]
    assert len(seeds) == 3 * 2 * 3
    assert {row["value"] for row in seeds if row["label"] == "always"} == {1.0, -1.0, -2.0}


def test_levels_are_drawn_in_the_panel_of_their_metric(metrics: pd.DataFrame) -> None:
    labels, colours = {"base": "base"}, {"base": "grey"}
    levels = {"valid_loss": {"bigram model": 4.5}}
    figure = arm_figures.arm_panels(metrics, labels, colours, levels=levels)
    named = [
        row["level"]
        for data in charts.show(figure, alt="A trial.").spec["datasets"].values()
        for row in data
        if "level" in row
    ]
    assert named == ["bigram model"]
