"""Bundles: what is written comes back, whole or not at all."""

import json
import re
import time

import pandas as pd
import pytest

from sas_lib import freshness, results

CODE = {"sas_lib.onsets": "0" * 64}


@pytest.fixture
def run(tmp_path):
    """A run folder with two measured steps."""
    folder = tmp_path / "seed-3"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"seed": 3, "steps": 2}))
    rows = [
        {"step": 0, "tokens": 0, "metric": "valid_loss", "value": 7.5},
        {
            "step": 2,
            "tokens": 90,
            "metric": "relation_uas",
            "detail": "nsubj",
            "layer": 1,
            "head": 0,
            "direction": "dependent_to_head",
            "value": 0.25,
        },
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(autouse=True)
def bundles(tmp_path, monkeypatch):
    monkeypatch.setenv("SAS_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def write(metrics: pd.DataFrame, **more):
    return results.write(
        "trial", metrics, {"code": CODE, "began": time.time() - 100}, {"steps": 2}, **more
    )


def plain(table: pd.DataFrame) -> list[dict[str, object]]:
    """Rows whose missing values are all None: pandas has several kinds, by its version."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def test_read_run_is_tidy(run) -> None:
    table = results.read_run(run)
    assert list(table.columns) == results.COLUMNS
    assert table["seed"].tolist() == [3, 3] and table["run"].tolist() == ["seed-3"] * 2
    assert table["value"].tolist() == [7.5, 0.25]
    assert table.loc[1, ["detail", "layer", "head", "direction"]].tolist() == [
        "nsubj",
        1,
        0,
        "dependent_to_head",
    ]
    assert table.loc[0, ["detail", "layer"]].isna().all()


def test_round_trip_readable_with_pandas_alone(run, bundles) -> None:
    metrics = results.read_run(run)
    path = write(metrics, tables={"words": pd.DataFrame({"word": ["a", "b"]})}, note="x")
    for table in (results.load("trial"), pd.read_parquet(path / "metrics.parquet")):
        assert plain(table) == plain(metrics)
    assert results.load("trial", "words")["word"].tolist() == ["a", "b"]
    manifest = results.manifest("trial")
    assert manifest["seeds"] == [3] and manifest["parameters"] == {"steps": 2}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", manifest["date"])
    assert manifest["code"] == CODE and manifest["notebook"] is None
    assert 100 <= manifest["wall_seconds"] < 160
    freshness.validate(manifest)
    assert results.names() == ["trial"]


def test_a_failed_write_leaves_the_bundle_before(run) -> None:
    metrics = results.read_run(run)
    write(metrics, note="good")
    with pytest.raises(AttributeError):
        write(metrics, note="bad", tables={"words": None})  # type: ignore[dict-item]
    assert results.manifest("trial")["note"] == "good"
    assert [p.name for p in results.folder().iterdir()] == ["trial"]


def test_a_bundle_can_be_written_aside(run, bundles, tmp_path) -> None:
    metrics = results.read_run(run)
    write(metrics, note="good")
    with results.writing_to(tmp_path / "aside"):
        assert write(metrics, note="new") == tmp_path / "aside" / "trial"
        assert results.manifest("trial")["note"] == "good"  # read where they are
    assert results.put(tmp_path / "aside" / "trial", bundles / "trial") == bundles / "trial"
    assert results.manifest("trial")["note"] == "new"
    assert [p.name for p in bundles.iterdir()] == ["trial"]
    assert write(metrics).parent == bundles


def test_files_go_with_it(run, bundles) -> None:
    write(results.read_run(run), files={"models/one": run})
    assert (bundles / "trial" / "models" / "one" / "config.json").exists()


def test_a_file_takes_the_place_of_one(tmp_path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    assert results.put(tmp_path / "new", tmp_path / "old").read_text() == "new"
    assert (tmp_path / "new").exists() and len(list(tmp_path.iterdir())) == 2


def test_what_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(results.BundleError, match="no metrics in a bundle 'absent'"):
        results.load("absent")
    with pytest.raises(results.BundleError, match="no bundle 'absent'"):
        results.manifest("absent")
    with pytest.raises(results.BundleError, match="is no run folder"):
        results.read_run(tmp_path)
