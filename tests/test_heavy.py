"""The heavy notebooks run, in their smoke profile, and write what the chapters read."""

from pathlib import Path

import papermill
import pytest

from sas_lib import arms, results
from sas_lib.regularizer import KINDS

HEAVY = Path(__file__).resolve().parents[1] / "book" / "heavy"


def test_toy_runs_in_smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAS_RESULTS", str(tmp_path / "results"))
    papermill.execute_notebook(
        HEAVY / "toy_runs.ipynb",
        tmp_path / "toy_runs.out.ipynb",
        parameters={
            "profile": "smoke",
            "seeds": [0, 1],
            "folder": str(tmp_path / "runs"),
            "note": "smoke",
        },
        cwd=HEAVY,
        progress_bar=False,
    )
    metrics = results.load("toy_base")
    assert set(metrics["seed"]) == {0, 1}
    needed = {
        "valid_loss",
        "unigram_entropy",
        "bigram_cross_entropy",
        "uas_best_head",
        "uas_per_relation",
        "uas_beyond_offset",
        "uas_beyond_offset_rechosen",
        "baseline_offset",
        "baseline_offset_per_relation",
        "pairs_accuracy",
        "pairs_accuracy_bigram",
    }
    assert needed <= set(metrics["metric"])
    assert metrics["value"].notna().all()
    assert set(results.load("toy_base", "heads")["metric"]) == {"head_relation_uas"}
    attention = results.load("toy_base", "attention")
    assert set(attention["step"]) <= set(metrics["step"])
    assert attention["weight"].between(0, 1.001).all()
    sentences = results.load("toy_base", "sentences")
    assert set(sentences["sentence"]) == set(attention["sentence"])
    manifest = results.manifest("toy_base")
    assert manifest["seeds"] == [0, 1] and manifest["note"] == "smoke"


def test_toy_interventions_in_smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAS_RESULTS", str(tmp_path / "results"))
    papermill.execute_notebook(
        HEAVY / "toy_interventions.ipynb",
        tmp_path / "toy_interventions.out.ipynb",
        parameters={
            "profile": "smoke",
            "seeds": [0],
            "more_seeds": [],
            "folder": str(tmp_path / "runs"),
        },
        cwd=HEAVY,
        progress_bar=False,
    )
    metrics = arms.load("toy_interventions")
    steps = metrics.groupby("run", observed=True)["step"].max()
    search = steps[steps < 20]
    assert set(search) == {10} and all("-0.0" in name for name in search.index)
    assert {"base", "suppress", "promote", "two-heads", "release-5", "late", "window"} | {
        f"control-{kind}" for kind in set(KINDS) - {"sas"}
    } <= set(metrics["arm"])
    # Released at step 5, a run is the suppressed one up to there and another one after it.
    loss = {
        arm: dict(zip(r["step"], r["value"], strict=True))
        for arm, r in metrics[metrics["metric"] == "valid_loss"].groupby("arm", observed=True)
    }
    assert loss["release-5"][20] != loss["suppress"][20] != loss["base"][20]
    parameters = results.manifest("toy_interventions")["parameters"]
    assert parameters["planned_runs"] == len(parameters["runs"]) == len(steps)
    largest = results.load("toy_interventions", "largest")
    assert set(largest["step"]) == {0, 20} and largest["value"].between(0, 1).all()
    heads = results.load("toy_interventions", "heads")
    assert set(heads["run"]) == {
        f"{arm}-seed0" for arm in ("base", "suppress-0.03", "promote-0.01", "two-heads-0.1")
    }


@pytest.mark.parametrize("name", ["toy_base", "real_first", "toy_interventions"])
def test_committed_bundles_are_of_full_runs(name: str) -> None:
    manifest = results.manifest(name)
    metrics = results.load(name)
    assert manifest["parameters"]["profile"] == "full"
    assert metrics["step"].max() == manifest["parameters"]["config"]["steps"]
    assert sorted(set(metrics["seed"])) == manifest["seeds"]
