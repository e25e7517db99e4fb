"""Bundles: the results of runs that happened, with the record of how they were made.

A bundle is a folder under ``book/results``: ``manifest.json`` (parameters, seeds, hashes of
code and data, package versions, device, wall time, date), ``metrics.parquet`` (tidy: run,
seed, step, tokens, metric, detail, layer, head, direction, value) and any further tables
the figures need. pandas alone can read it.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from sas_lib import manifests

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pandas")
WRITE_TO = "SAS_RESULTS_TO"  # of the environment: where bundles are written, if not there
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


folder, names = manifests.results_folder, manifests.bundle_names


def read_run(
    run: str | os.PathLike[str], name: str | None = None, later: bool = True
) -> pd.DataFrame:
    """The metrics of a run folder of ``sas pretrain`` as a tidy table.

    later: with what ``sas measure`` has added after the run.

    Raises:
        BundleError: the folder holds no finished metrics.
    """
    from sas_lib.checkpoints import read_measures  # brings torch, which nothing else here needs

    run = Path(run)
    try:
        config = json.loads((run / "config.json").read_text())
        rows = pd.read_json(run / "metrics.jsonl", lines=True)
        if added := read_measures(run) if later else []:
            rows = pd.concat([rows, pd.DataFrame(added)], ignore_index=True)
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


def write(
    name: str,
    metrics: pd.DataFrame,
    record: Mapping[str, Any],
    parameters: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame] | None = None,
    files: Mapping[str, Path] | None = None,
    data: Mapping[str, str] | None = None,
    device: str = "cpu",
    note: str = "",
    **more: Any,
) -> Path:
    """Write a bundle, whole or not at all; one of the same name is replaced.

    record: of ``heavy.begin``: the code that it was made with (``code``), since when
    (``began``), and by which ``notebook``, if by one.
    parameters: the settings of the runs. files: files and folders to copy in, by the name
    that they get. data: name to SHA-256 of what was read. more: what
    else the manifest is to tell.
    """
    now = datetime.datetime.now(datetime.UTC)
    manifest = {
        "name": name,
        "date": now.date().isoformat(),
        "notebook": record.get("notebook"),
        "parameters": dict(parameters),
        "seeds": sorted({int(seed) for seed in metrics["seed"]}),
        "code": record["code"],
        "data": dict(data or {}),
        "packages": {p: importlib.metadata.version(p) for p in PACKAGES},
        "device": {"kind": device, **describe_device(device)},
        "wall_seconds": round(now.timestamp() - record["began"], 1),
        **more,
        "note": note,
    }
    target = Path(os.environ.get(WRITE_TO) or folder()) / name
    with tempfile.TemporaryDirectory() as part:
        made = Path(part) / name
        made.mkdir()
        (made / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        for table, frame in {"metrics": metrics, **(tables or {})}.items():
            frame.to_parquet(made / f"{table}.parquet", index=False, compression="zstd")
        for inside, source in (files or {}).items():
            put(source, made / inside)
        return put(made, target)


def describe_device(device: str) -> dict[str, Any]:
    """What the manifest says of a device: its name, and the machine around it."""
    about = {"cpus": os.cpu_count(), "machine": platform.machine()}
    if device.startswith("cuda"):
        import torch

        about["name"] = torch.cuda.get_device_name(device)
    return about


def put(made: Path, target: Path) -> Path:
    """Put a file or folder in its place, whole, instead of what was there.

    It is copied beside its place first, as another file system may hold it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        if made.is_dir():
            shutil.copytree(made, new)
        else:
            shutil.copy(made, new)
        if target.is_dir():
            target.replace(old)
        return new.replace(target)


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """While it lasts, bundles are written to ``place``, by processes begun here too."""
    before = os.environ.get(WRITE_TO)
    os.environ[WRITE_TO] = str(place.resolve())
    try:
        yield
    finally:
        del os.environ[WRITE_TO]
        if before is not None:
            os.environ[WRITE_TO] = before


def load(name: str, table: str = "metrics", only: Sequence[str] | None = None) -> pd.DataFrame:
    """A table of a bundle.

    only: the rows of these metrics alone, which is faster where there are many others.

    Raises:
        BundleError: there is no such bundle or table.
    """
    path = folder() / name / f"{table}.parquet"
    if not path.exists():
        there = ", ".join(names()) or "-"
        raise BundleError(f"no {table} in a bundle {name!r}; there are: {there}")
    wanted = None if only is None else [("metric", "in", list(only))]
    return pd.read_parquet(path, filters=wanted)


def manifest(name: str) -> dict[str, Any]:
    """The manifest of a bundle: how, where, when and from what it was made."""
    path = folder() / name / "manifest.json"
    if not path.exists():
        raise BundleError(f"no bundle {name!r} in {folder()}")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded
