"""``sas onsets`` as a user meets it: runs, bundles, axes, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Sas, one_line_error

from sas_lib import breaks, results
from sas_lib.onsets import (
    by_second_difference,
    by_threshold,
    first_crossing,
    on_log,
    over_seeds,
)

STEPS = np.arange(0, 4001, 100)
KEYS = {"metric", "rule", "x", "onset", "interval", "end", "verdict"}


AsJson = Callable[..., Any]


@pytest.fixture
def as_json(sas: Sas) -> AsJson:
    """What ``sas onsets --json`` prints."""

    def found(*arguments: object) -> Any:
        result = sas("onsets", *arguments, "--json")
        assert (result.code, result.err) == (0, "")
        return json.loads(result.out)

    return found


def curve(seed: int, onset: float = 1500) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(scale=0.01, size=len(STEPS))
    return np.clip((STEPS - onset) / 500, 0, 1) * 0.4 + 0.1 + noise


def rows(values: np.ndarray, metric: str = "uas_per_relation") -> list[dict[str, Any]]:
    return [
        {"step": int(step), "tokens": int(step) * 1000, "metric": metric, "value": float(value)}
        for step, value in zip(STEPS, values, strict=True)
    ]


def write(path: Path, lines: list[dict[str, Any]], seed: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if seed is not None:
        (path.parent / "config.json").write_text(json.dumps({"seed": seed}))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    lines = rows(curve(0)) + rows(STEPS * 1e-4 + curve(1, 9e9), "pairs_accuracy")
    return write(tmp_path / "toy-0" / "metrics.jsonl", lines, seed=0)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for condition, onset in (("base", 1500), ("promote-0.3", 700)):
        for seed in range(3):
            path = tmp_path / "runs" / f"{condition}-seed{seed}" / "metrics.jsonl"
            write(path, rows(curve(seed, onset + 50 * seed)), seed)
    return tmp_path / "runs"


def test_a_run_is_marked_as_the_library_marks_it(as_json: AsJson, run: Path) -> None:
    found = as_json(run)
    assert found.keys() >= KEYS and found["runs"][0].keys() >= KEYS
    expected = breaks.two_knots(STEPS, curve(0))
    noise = breaks.over_noise(STEPS, curve(0), breaks.by_two_knots())
    assert expected and noise
    for one in (found, found["runs"][0]):
        assert (one["metric"], one["rule"], one["x"]) == (
            "uas_per_relation",
            "two_knots",
            "step",
        )
        assert (one["onset"], one["end"]) == pytest.approx((expected.onset, expected.end))
        assert one["interval"] == pytest.approx([noise.low, noise.high])
        assert (one["interval_over"], one["verdict"]) == ("noise", "break")
    assert abs(found["onset"] - 1500) <= 50 and abs(found["end"] - 2000) <= 50
    assert as_json(run.parent) == found  # the run folder
    straight = as_json(run, "--metric", "pairs")
    assert (straight["metric"], straight["verdict"]) == ("pairs_accuracy", "no break")


def test_seeds_are_marked_each_and_together(as_json: AsJson, many: Path) -> None:
    base, promoted = as_json(many)
    assert (base["condition"], promoted["condition"]) == ("base", "promote-0.3")
    assert [one["run"] for one in base["runs"]] == [f"base-seed{seed}" for seed in range(3)]
    assert [one["seed"] for one in base["runs"]] == [0, 1, 2] and base["seeds"] == 3
    curves = np.array([curve(seed, 1500 + 50 * seed) for seed in range(3)])
    mean = breaks.two_knots(STEPS, curves.mean(0))
    interval = over_seeds(STEPS, curves, breaks.by_two_knots())
    assert mean and interval and base["interval_over"] == "seeds"
    assert base["onset"] == pytest.approx(mean.onset)
    assert base["interval"] == pytest.approx([interval.low, interval.high])
    assert as_json(many, "--run", "promote*") == promoted


def test_a_bundle_is_read_too(
    as_json: AsJson, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAS_RESULTS", str(tmp_path / "results"))
    metrics = pd.concat([results.read_run(path) for path in sorted(many.iterdir())])
    bundle = results.write("trial", metrics, {"code": {}, "began": 0.0}, {})
    from_runs, from_bundle = as_json(many), as_json(bundle)
    assert as_json(bundle / "metrics.parquet") == from_bundle
    for one, other in zip(from_runs, from_bundle, strict=True):
        assert other["onset"] == pytest.approx(one["onset"], rel=1e-4)
        assert (other["condition"], other["verdict"]) == (one["condition"], one["verdict"])


def test_rules_and_axes_are_those_of_the_library(as_json: AsJson, run: Path) -> None:
    second = as_json(run, "--rule", "second_difference", "--resolution", 300)
    expected = by_second_difference(300)(STEPS.astype(float), curve(0)[:, None])[0, 0]
    assert (second["onset"], second["end"]) == (expected, None)
    crossing = as_json(run, "--rule", "threshold", "--level", 0.3)
    assert crossing["onset"] == pytest.approx(first_crossing(STEPS, curve(0), 0.3))
    tokens = as_json(run, "--x", "tokens")
    assert tokens["onset"] == pytest.approx(1000 * as_json(run)["onset"])
    logged = as_json(run, "--x", "log_step")
    expected_log = breaks.two_knots(STEPS, curve(0), log=True)
    assert expected_log and logged["onset"] == pytest.approx(expected_log.onset)
    halfway = as_json(run, "--x", "log_tokens", "--rule", "threshold", "--share", 0.5)
    on_logs = on_log(by_threshold(0.5))(STEPS * 1000.0, curve(0)[:, None])[0, 0]
    assert halfway["onset"] == pytest.approx(on_logs, rel=1e-9)
    late = as_json(run, "--start", 1000)
    assert late["start"] == 1000 and abs(late["onset"] - 1500) <= 50


def test_a_loss_falls_and_starts_at_the_unigram_entropy(
    as_json: AsJson, tmp_path: Path
) -> None:
    loss = 9 - 3 * np.minimum(STEPS / 500, 1) - 2 * (curve(0) - 0.1)  # 6 from step 500 on
    lines = [*rows(loss, "valid_loss"), {**rows(loss)[0], "metric": "unigram_entropy"}]
    lines[-1]["value"] = 6.5
    path = write(tmp_path / "metrics.jsonl", lines)
    found = as_json(path, "--metric", "loss")
    assert (found["start"], found["verdict"]) == (500, "break")
    assert abs(found["onset"] - 1500) <= 60
    level = as_json(path, "--metric", "loss", "--rule", "threshold", "--level", 5.6)
    assert level["onset"] == pytest.approx(1750, abs=60)
    assert as_json(path, "--metric", "loss", "--start", 0)["start"] == 0
    rising = as_json(path, "--metric", "loss", "--rising", "--rule", "threshold")
    assert rising["onset"] == 500  # as a rising curve it is over half-way at its start


def test_a_detail_of_a_metric_is_a_curve(sas: Sas, as_json: AsJson, tmp_path: Path) -> None:
    lines = rows(curve(0), "relation_uas") + rows(curve(1, 700), "relation_uas")
    for i, line in enumerate(lines):
        line["detail"] = ("obj", "det")[i >= len(STEPS)]
    path = write(tmp_path / "metrics.jsonl", lines)
    found = as_json(path, "--metric", "relation_uas/det")
    assert found["metric"] == "relation_uas/det" and abs(found["onset"] - 700) <= 60
    one_line_error(
        sas("onsets", path, "--metric", "relation_uas"),
        "no metric relation_uas ",
        " relation_uas/...",
    )


def test_a_short_curve_is_marked_without_a_verdict(
    sas: Sas, as_json: AsJson, tmp_path: Path
) -> None:
    path = write(tmp_path / "metrics.jsonl", rows(curve(0))[::8])
    found = as_json(path, "--rule", "second_difference", "--resolution", 800)
    assert (found["verdict"], found["interval"]) == ("too few checkpoints", None)
    one_line_error(sas("onsets", path), "at least 8 checkpoints")


def test_what_a_resumed_run_measured_twice_counts_once(
    sas: Sas, as_json: AsJson, tmp_path: Path
) -> None:
    lines = rows(curve(0))
    path = write(tmp_path / "a" / "metrics.jsonl", [*lines[:10], *lines[5:]])
    once = write(tmp_path / "b" / "metrics.jsonl", lines)
    assert as_json(path)["onset"] == as_json(once)["onset"]
    write(path, [*lines, {**lines[3], "value": 0.9}])
    one_line_error(sas("onsets", path), "several values at step 300")


def test_the_table_says_what_the_json_says(sas: Sas, as_json: AsJson, many: Path) -> None:
    printed = sas("onsets", many)
    assert printed.code == 0, printed.err
    tables = printed.out.split("\n\n")
    for found, table in zip(as_json(many), tables, strict=True):
        title, _, *lines = table.splitlines()
        assert title == f"{found['condition']}: uas_per_relation, two_knots on step"
        for one, line in zip([*found["runs"], {**found, "run": "3 seeds"}], lines, strict=True):
            low, high = one["interval"]
            expected = f"{one['run']} {one['onset']:.0f} {low:.0f} to {high:.0f}"
            expected += f" {one['end']:.0f} {one['verdict']} (p {one['p_value']:.3f})"
            assert line.split() == expected.split()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        ('{"step": 0, "metric": "uas", "value": 1}\n{"step": 1, "met', "line 2 is no row"),
        ('{"metric": "uas", "value": 1}\n', "line 1 is no row of metrics: 'step'"),
        ("[1, 2]\n", "line 1 is no row"),
        ('{"step": 0, "metric": "uas", "value": NaN}\n', "at step 0 is no finite number"),
        ('{"step": 7, "metric": "uas", "value": null}\n', "at step 7 is no finite number"),
        ('{"step": 7, "metric": "uas", "value": "x"}\n', "at step 7 is no finite number"),
        ('{"step": 7, "metric": "uas"}\n', "at step 7 is no finite number"),
        ('{"step": 0, "metric": "uas", "value": 1}\n', "1 checkpoints from step 0 on"),
    ],
)
def test_bad_files_are_named(sas: Sas, tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(content)
    one_line_error(sas("onsets", path, "--metric", "uas"), says)


def test_bad_requests_are_named(sas: Sas, run: Path, tmp_path: Path) -> None:
    one_line_error(sas("onsets", tmp_path / "nowhere"), "no metrics in")
    (tmp_path / "empty").mkdir()
    one_line_error(sas("onsets", tmp_path / "empty"), "no metrics in")
    one_line_error(
        sas("onsets", run, "--run", "promote*"), "no run promote* in ", "there are: toy-0"
    )
    other = write(tmp_path / "other" / "metrics.jsonl", rows(curve(0), "mae"))
    one_line_error(
        sas("onsets", other, "--metric", "uas"), "no metric uas in ", "there are: mae"
    )
    one_line_error(
        sas("onsets", run, "--rule", "second_difference", "--resolution", 9000),
        "resolution 9000",
    )
    lines = [{k: v for k, v in row.items() if k != "tokens"} for row in rows(curve(0))]
    bare = write(tmp_path / "bare" / "metrics.jsonl", lines)
    one_line_error(sas("onsets", bare, "--x", "tokens"), "no tokens were counted")


def test_help_shows_examples(sas: Sas) -> None:
    code, text, _ = sas("onsets", "--help")
    assert code == 0
    assert "sas onsets runs/toy-0 --metric pairs" in text and "--metric" in text
