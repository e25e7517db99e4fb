"""Bundles: the results of runs that happened, with the record of how they were made.

A bundle is a folder under ``book/results``: ``manifest.json`` (parameters, seeds, hashes of
code and data, package versions, device, wall time, date), ``metrics.parquet`` (tidy: run,
seed, step, tokens, metric, detail, layer, head, direction, value) and any further tables
the figures need. pandas alone can read it.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sas_lib.checkpoints import read_measures

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pandas")
COLUMNS = [
    "run",
    "seed",
    "step",
    "tokens",
    "metric",
    "detail",
    "layer",
    "head",
    "direction",
    "value",
]


class BundleError(RuntimeError):
    """A bundle that is not there or cannot be read; the message says what to do."""


def folder() -> Path:
    """Where the bundles are: ``SAS_RESULTS``, or ``book/results`` beside the library."""
    given = os.environ.get("SAS_RESULTS")
    return Path(given) if given else Path(__file__).resolve().parents[1] / "book" / "results"


def read_run(run: str | os.PathLike[str], name: str | None = None) -> pd.DataFrame:
    """The metrics of a run folder of ``sas pretrain`` as a tidy table.

    With what ``sas measure`` has added after the run.

    Raises:
        BundleError: the folder holds no finished metrics.
    """
    run = Path(run)
    try:
        config = json.loads((run / "config.json").read_text())
        rows = pd.read_json(run / "metrics.jsonl", lines=True)
        if later := read_measures(run):
            rows = pd.concat([rows, pd.DataFrame(later)], ignore_index=True)
    except (OSError, ValueError) as error:
        raise BundleError(f"{run} is no run folder: {error}") from error
    rows["run"], rows["seed"] = name or run.name, config["seed"]
    tidy = rows.reindex(columns=COLUMNS)
    for column in ("layer", "head"):
        tidy[column] = tidy[column].astype("Int16")
    for column in ("run", "metric", "detail", "direction"):
        tidy[column] = tidy[column].astype("string").astype("category")
    return tidy.astype(
        {"seed": "int16", "step": "int32", "tokens": "int64", "value": "float32"}
    )


def source_hash(module: str) -> str:
    """SHA-256 of a module's source, of a package's every file."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise BundleError(f"no module {module} to hash")
    origin = Path(spec.origin)
    files = sorted(origin.parent.rglob("*")) if spec.submodule_search_locations else [origin]
    digest = hashlib.sha256()
    for file in files:
        if file.suffix in {".py", ".toml"}:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def write(
    name: str,
    metrics: pd.DataFrame,
    parameters: Mapping[str, Any],
    modules: Iterable[str],
    wall_seconds: float,
    tables: Mapping[str, pd.DataFrame] | None = None,
    data: Mapping[str, str] | None = None,
    device: str = "cpu",
    note: str = "",
) -> Path:
    """Write a bundle, whole or not at all; one of the same name is replaced.

    modules: the library modules that made it. data: name to SHA-256 of what was read.
    """
    manifest = {
        "name": name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "parameters": dict(parameters),
        "seeds": sorted({int(seed) for seed in metrics["seed"]}),
        "code": {module: source_hash(module) for module in sorted(modules)},
        "data": dict(data or {}),
        "packages": {p: importlib.metadata.version(p) for p in PACKAGES},
        "device": {"kind": device, "cpus": os.cpu_count(), "machine": platform.machine()},
        "wall_seconds": round(wall_seconds, 1),
        "note": note,
    }
    target = folder() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    try:
        (part / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        for table, frame in {"metrics": metrics, **(tables or {})}.items():
            frame.to_parquet(part / f"{table}.parquet", index=False, compression="zstd")
        part.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def load(name: str, table: str = "metrics") -> pd.DataFrame:
    """A table of a bundle.

    Raises:
        BundleError: there is no such bundle or table.
    """
    path = folder() / name / f"{table}.parquet"
    if not path.exists():
        there = sorted(p.parent.name for p in folder().glob("*/manifest.json"))
        raise BundleError(
            f"no {table} in a bundle {name!r}; there are: {', '.join(there) or '-'}"
        )
    return pd.read_parquet(path)


def manifest(name: str) -> dict[str, Any]:
    """The manifest of a bundle: how, where, when and from what it was made."""
    path = folder() / name / "manifest.json"
    if not path.exists():
        raise BundleError(f"no bundle {name!r} in {folder()}")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded
