"""Arms against their base: pairs by seed, and intervals against the textbook's."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sas_lib import arms, results

RECORD = {"code": {}, "began": 0.0}


def table(values: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        (f"{arm}-seed{seed}", seed, 10, "loss", arm, value)
        for arm, of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
        if np.isfinite(value)
    ]
    return pd.DataFrame(rows, columns=["run", "seed", "step", "metric", "arm", "value"])


def test_the_interval_is_students() -> None:
    values = [0.1, 0.4, 0.25, 0.3]
    known = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = arms.mean_interval(values)
    assert found["mean"] == pytest.approx(0.2625) and found["n"] == 4
    assert (found["low"], found["high"]) == pytest.approx((known.low, known.high))


def test_a_stricter_level_is_wider() -> None:
    values = [0.1, 0.4, 0.25, 0.3]
    known = stats.ttest_1samp(values, 0).confidence_interval(0.99)
    assert arms.mean_interval(values, level=0.99)["high"] == pytest.approx(known.high)
    metrics = table({"base": [0.0] * 4, "arm": values})
    row = arms.against(metrics, "loss", 10, ["arm"], level=0.99).iloc[0]
    assert row["low"] == pytest.approx(known.low)


def test_a_single_seed_has_no_interval() -> None:
    found = arms.mean_interval([0.3])
    assert found["mean"] == 0.3 and np.isnan(found["low"]) and np.isnan(found["high"])


def test_what_seeds_do_by_themselves_drops_out() -> None:
    metrics = table({"base": [1.0, 5.0, 9.0], "shifted": [1.5, 5.5, 9.5]})
    row = arms.against(metrics, "loss", 10, ["shifted"]).iloc[0]
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.5, 0.5, 0.5))


def test_intervals_are_told_in_words() -> None:
    assert arms.told(arms.mean_interval([-0.2, -0.1])) == "−0.15 [−0.79, +0.49; 2]"
    assert arms.told(arms.mean_interval([1234.5]), 0, signed=False) == "1,234 [one seed]"
    assert arms.told([-0.2, -0.1]) == arms.told(arms.mean_interval([-0.2, -0.1]))
    assert arms.told([0.5], 0, signed=False, percent=True) == "50% [one seed]"
    assert arms.told([0.2, 0.3], 1, percent=True) == "+25.0% [−38.5%, +88.5%; 2]"


def test_only_seeds_of_both_count() -> None:
    metrics = table({"base": [1.0, 2.0, 3.0], "arm": [float("nan"), 4.0, 3.0]})
    row = arms.against(metrics, "loss", 10, ["arm"]).iloc[0]
    assert row["n"] == 2 and row["mean"] == pytest.approx(1.0)


@pytest.mark.parametrize(("arm", "step"), [("none", 10), ("arm", 11)])
def test_an_arm_that_is_not_there_is_named(arm: str, step: int) -> None:
    with pytest.raises(ValueError, match=arm):
        arms.against(table({"base": [1.0], "arm": [2.0]}), "loss", step, [arm])


def test_arms_come_from_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAS_RESULTS", str(tmp_path))
    metrics = table({"base": [1.0]}).drop(columns="arm").reindex(columns=results.COLUMNS)
    described = {"base-seed0": {"arm": "base"}}
    results.write("trial", metrics, RECORD, {"runs": described})
    assert arms.load("trial")["arm"].tolist() == ["base"]
    more = metrics.assign(run="arm-seed0", value=2.0)
    results.write("other", more, RECORD, {"runs": {"arm-seed0": {"arm": "arm"}}})
    both = arms.load("trial", "other")
    assert dict(zip(both["arm"], both["value"], strict=True)) == {"base": 1.0, "arm": 2.0}
    assert isinstance(both["metric"].dtype, pd.CategoricalDtype)
    assert both["detail"].isna().all()
    assert len(arms.load("trial", "other", only=["loss"])) == 2
    assert len(arms.load("trial", "other", only=["no such"])) == 0
    assert arms.described("trial", "other").keys() == {"base-seed0", "arm-seed0"}
    results.write("trial", metrics, RECORD, {})
    with pytest.raises(results.BundleError, match="arm"):
        arms.load("trial")
