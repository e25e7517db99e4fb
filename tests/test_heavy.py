"""The heavy notebooks run, in their smoke profile, and write what the chapters read."""

from pathlib import Path

import papermill
import pytest

from sas_lib import results

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


@pytest.mark.parametrize("name", ["toy_base", "real_first"])
def test_committed_bundles_are_of_full_runs(name: str) -> None:
    manifest = results.manifest(name)
    metrics = results.load(name)
    assert manifest["parameters"]["profile"] == "full"
    assert metrics["step"].max() == manifest["parameters"]["config"]["steps"]
    assert sorted(set(metrics["seed"])) == manifest["seeds"]
