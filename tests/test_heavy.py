"""The heavy notebooks run, in their smoke profile, and nothing good is lost on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from conftest import Sas, one_line_error

from sas_lib import arms, freshness, heavy, results
from sas_lib.cli.heavy import _parameters

NOTEBOOKS = heavy.notebooks()
SMALL = """
import os, time
import pandas as pd
from sas_lib import results
metrics = pd.DataFrame({"run": ["a"], "seed": [0], "step": [0], "value": [number]})
record = {"code": {}, "began": time.time()}
"""


# --- every notebook, in smoke -----------------------------------------------------------


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what the smoke runs write; they share their models, as the real ones do."""
    return tmp_path_factory.mktemp("smoke")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.name)
def test_smoke(sas: Sas, smoke: Path, notebook: heavy.Heavy) -> None:
    if notebook.name.startswith("real") and not os.environ.get("SAS_DATA"):
        pytest.skip("no real data: SAS_DATA names no folder")
    where = ("-p", "folder", smoke / "runs", "--into", smoke)
    result = sas("heavy", "run", notebook.name, "--profile", "smoke", *where)
    assert result.code == 0, result.err
    bundle, copy = map(Path, result.out.split())
    manifest = json.loads((bundle / "manifest.json").read_text())
    freshness.validate(manifest)
    assert manifest["name"] == bundle.name == notebook.bundle()
    assert manifest["notebook"]["parameters"].keys() == notebook.parameters.keys()
    assert manifest["notebook"]["code"] == freshness.notebook_hash(notebook.path)
    metrics = pd.read_parquet(bundle / "metrics.parquet")
    assert len(metrics) and metrics["value"].notna().all()
    for again in manifest.get("reproduced", []):
        assert again["values"] > 50 and again["different"] == 0, again
    executed = nbformat.read(copy, 4)
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
    assert str(Path(__file__).parents[1]) not in copy.read_text()


def test_what_the_chapters_read_is_there(smoke: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the smoke runs above: the tables and metrics that figures are made of."""
    if not (smoke / "toy_base").exists():
        pytest.skip("the smoke runs were not run")
    monkeypatch.setenv("SAS_RESULTS", str(smoke))
    base = results.load("toy_base")
    assert {
        "valid_loss",
        "unigram_entropy",
        "bigram_cross_entropy",
        "uas_best_head",
        "uas_per_relation",
        "uas_beyond_offset",
        "uas_beyond_offset_rechosen",
        "baseline_offset",
        "baseline_offset_per_relation",
        "baseline_second_offset",
        "gold_arc_attention",
        "attention_mass",
        "pairs_accuracy",
        "pairs_accuracy_bigram",
    } <= set(base["metric"])
    assert set(results.load("toy_base", "heads")["metric"]) == {"head_relation_uas"}
    attention = results.load("toy_base", "attention")
    assert attention["weight"].between(0, 1.001).all()
    assert set(results.load("toy_base", "sentences")["sentence"]) == set(attention["sentence"])
    together = arms.load("toy_base", "toy_promote", "toy_release", "toy_controls")
    assert {"base", "suppress", "promote", "two-heads", "release-5", "late", "window"} <= set(
        together["arm"]
    )
    assert sum(arm.startswith("control-") for arm in together["arm"].cat.categories) == 5
    # Released at step 5, a run is the suppressed one up to there and another one after it.
    loss = {
        arm: dict(zip(rows["step"], rows["value"], strict=True))
        for arm, rows in together[together["metric"] == "valid_loss"].groupby(
            "arm", observed=True
        )
    }
    assert loss["release-5"][20] != loss["suppress"][20] != loss["base"][20]
    largest = results.load("toy_promote", "largest")
    assert set(largest["step"]) == {0, 20} and largest["value"].between(0, 1).all()
    models = results.manifest("toy_models")["parameters"]["models"]
    assert models and all((smoke / "toy_models" / m / "config.json").exists() for m in models)


@pytest.mark.parametrize(
    "name", [n.bundle() for n in NOTEBOOKS if n.bundle() in results.names()]
)
def test_committed_bundles_are_of_full_runs(name: str) -> None:
    manifest = results.manifest(name)
    metrics, about = results.load(name), manifest["parameters"]
    assert about["profile"] in ("cpu", "full")
    if "config" in about:  # the bundle of the text has no runs; those on it may stop early
        assert metrics["step"].max() in {about["config"]["steps"], about.get("stop_at")}
    assert sorted(set(metrics["seed"])) == manifest["seeds"]


def test_bundles_are_small() -> None:
    sizes = {n: _size(results.folder() / n) for n in results.names()}
    assert sum(sizes.values()) < 40e6
    assert sizes.get("toy_models", 0) < 15e6


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# --- one small notebook, and all that can go wrong ----------------------------------------


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> heavy.Heavy:
    """A heavy notebook that takes a second, in a folder of its own, and its bundle."""
    cells = [
        nbformat.v4.new_markdown_cell("# Small\n\nText."),
        nbformat.v4.new_code_cell('profile = "cpu"\nbundle = "small"\nnumber = 1.0\nfail = ""'),
        nbformat.v4.new_code_cell(SMALL),
        nbformat.v4.new_code_cell(
            'results.write(bundle, metrics, record, {})\nprint("number", number)'
        ),
        nbformat.v4.new_code_cell("if fail == 'error':\n    raise ValueError('too small')"),
        nbformat.v4.new_code_cell("if fail == 'wait':\n    time.sleep(100)"),
    ]
    cells[1].metadata["tags"] = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["language_info"] = {"name": "python"}
    folder = tmp_path / "heavy"
    folder.mkdir()
    nbformat.write(notebook, folder / "small.ipynb")
    monkeypatch.setattr(heavy, "FOLDER", folder)
    monkeypatch.setattr(freshness, "HEAVY", folder)
    monkeypatch.setenv("SAS_RESULTS", str(tmp_path / "results"))
    (found,) = heavy.notebooks()
    assert (found.name, found.title, found.bundle()) == ("small", "Small", "small")
    return found


def value() -> float:
    return float(results.load("small")["value"].iloc[0])


def test_a_bundle_and_its_copy_come_together(small: heavy.Heavy, tmp_path: Path) -> None:
    copy = heavy.run(small, given={"number": 2.0})
    assert copy == small.path.with_name("small.out.ipynb") and value() == 2.0
    assert {p.name for p in small.path.parent.iterdir()} == {
        "small.ipynb",
        "small.out.ipynb",
        "runs",
    }
    assert not list((small.path.parent / "runs").iterdir())
    assert heavy.notebooks() == [small]  # the copy is none
    heavy.run(small, "gpu", {"number": 3.0, "bundle": "small_gpu"})
    assert small.path.with_name("small.gpu.out.ipynb").exists() and value() == 2.0


def test_a_failure_leaves_what_was_good(small: heavy.Heavy, sas: Sas) -> None:
    heavy.run(small, given={"number": 2.0})
    before = small.path.with_name("small.out.ipynb").read_bytes()
    result = sas("heavy", "run", "small", "-p", "number", "9", "-p", "fail", "error")
    one_line_error(result, "small failed in its cell 6: ValueError: too small")
    kept = small.path.parent / "runs" / "small.failed.ipynb"
    assert str(kept) in result.err and "too small" in kept.read_text()
    assert value() == 2.0 and small.path.with_name("small.out.ipynb").read_bytes() == before
    assert (small.path.parent / "runs" / "small.log").read_text() == "number 9\n"
    heavy.run(small)
    assert not kept.exists() and value() == 1.0


def test_ctrl_c_leaves_what_was_good(small: heavy.Heavy) -> None:
    heavy.run(small, given={"number": 2.0})
    program = (
        "from pathlib import Path; from sas_lib import heavy, freshness\n"
        f"heavy.FOLDER = freshness.HEAVY = Path({str(small.path.parent)!r})\n"
        "heavy.run(heavy.notebooks()[0], given={'number': 9.0, 'fail': 'wait'})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE,
        # Where the tests run in the background, the signal may be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    runs = small.path.parent / "runs"
    for _ in range(600):
        if list(runs.glob(".small-*/results/small/manifest.json")):
            break
        time.sleep(0.1)
    else:
        pytest.fail("the notebook never came to its bundle")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=200)
    assert process.returncode != 0 and b"KeyboardInterrupt" in error
    assert value() == 2.0 and [p.name for p in runs.iterdir()] == ["small.failed.ipynb"]


def test_smoke_needs_a_place(small: heavy.Heavy) -> None:
    with pytest.raises(heavy.HeavyError, match="measures nothing"):
        heavy.run(small, "smoke")


def test_what_is_not_there_is_named(small: heavy.Heavy, sas: Sas) -> None:
    one_line_error(sas("heavy", "run", "large"), "no heavy notebook 'large'", "small")
    one_line_error(
        sas("heavy", "run", "small", "-p", "size", "3"), "no parameter 'size'", "number"
    )
    one_line_error(sas("heavy", "show", "large"), "no bundle 'large'")
    assert sas("heavy", "run", "small", "-p", "size").code == 2
    assert sas("heavy", "run", "small", "--profile", "huge").code == 2


def test_how_results_stand(
    small: heavy.Heavy, sas: Sas, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row() -> dict[str, Any]:
        (found,) = json.loads(sas("heavy", "check", "--json").out)
        return dict(found)

    assert row()["state"] == "missing" and sas("heavy", "check", "--strict").code == 1
    recorded = {
        "name": "small",
        "code": freshness.notebook_hash(small.path),
        "parameters": small.parameters,
    }
    metrics = pd.DataFrame({"run": ["a"], "seed": [0], "step": [0], "value": [1.0]})
    used = freshness.modules_used(small.path, drawing=False)
    code = {module: freshness.module_hash(module) for module in used}
    record = {"notebook": recorded, "code": code, "began": time.time()}
    results.write("small", metrics, record, {"profile": "cpu"}, note="a note")
    assert row()["state"] == "fresh" and sas("heavy", "check", "--strict").code == 0
    assert "fresh" in sas("heavy", "list").out and "Small" in sas("heavy", "list").out
    shown = sas("heavy", "show", "small").out
    assert "number 1.0" in shown and "a note" in shown
    assert json.loads(sas("heavy", "show", "small", "--json").out)["note"] == "a note"
    assert "all results are fresh" in sas("heavy", "run").err
    small.path.write_text(small.path.read_text().replace("number = 1.0", "number = 4.0"))
    stale = row()
    assert stale["state"] == "stale" and stale["reasons"] == [
        "parameter number was 1.0, is 4.0"
    ]
    assert sas("heavy", "check", "--strict").code == 1


def test_a_record_is_of_the_notebook_as_it_runs(small: heavy.Heavy) -> None:
    in_force = {**small.parameters, "number": 5.0, "other": 1}
    record = heavy.begin("small", in_force)
    assert record["notebook"]["parameters"]["number"] == 5.0
    assert "other" not in record["notebook"]["parameters"]
    assert "sas_lib.results" in record["code"]
    with pytest.raises(heavy.HeavyError, match="no profile 'huge'"):
        heavy.begin("small", {**in_force, "profile": "huge"})


def test_papermill_is_asked_for(small: heavy.Heavy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(heavy.HeavyError, match="papermill is not installed"):
        heavy.run(small)


def test_real_data_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAS_DATA", str(tmp_path))
    assert heavy.data_folder() == tmp_path
    monkeypatch.delenv("SAS_DATA")
    with pytest.raises(heavy.HeavyError, match="set SAS_DATA"):
        heavy.data_folder()


def test_parameters_are_read_as_json_or_as_python_writes_them() -> None:
    given = ["train=False", "again=true", "scheduler=None", "seeds=[0, 1]", "note=a word"]
    assert _parameters(given) == {
        "train": False,
        "again": True,
        "scheduler": None,
        "seeds": [0, 1],
        "note": "a word",
    }
