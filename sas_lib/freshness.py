"""Freshness: whether a bundle is what its notebook would make today, and if not, why.

A bundle's manifest names what it was made of: the code of its notebook, the parameters, the
library modules below the notebook, and the data. Here the same is worked out anew and
compared.
"""

from __future__ import annotations

import ast
import functools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, overload

from sas_lib.fingerprints import (
    PACKAGE,
    CodeError,
    code_cells,
    draws,
    file_sha256,
    is_module,
    module_hash,
    modules_used,
    notebook_hash,
    parameters,
    sha256,
    shape,
)
from sas_lib.manifests import (
    SCHEMA,
    ManifestError,
    bundle_names,
    read_manifest,
    results_folder,
    validate,
)

__all__ = [
    "SCHEMA",
    "CodeError",
    "ManifestError",
    "Standing",
    "bundles_used",
    "chapter_key",
    "check",
    "file_hash",
    "makers",
    "module_hash",
    "modules_used",
    "notebook_hash",
    "parameters",
    "validate",
]

HEAVY = PACKAGE.parent / "book" / "heavy"

# Parameters that say where and how a notebook runs, or what to call the result. `profile` is
# looked at apart: each profile of a notebook makes a bundle of its own.
ASIDE = {"bundle", "device", "folder", "jobs", "note", "scheduler", "threads", "train"}


@dataclass(frozen=True)
class Standing:
    """How a bundle stands. data_checked: all data it was made of was there to be compared."""

    name: str
    state: Literal["fresh", "stale", "missing"]
    reasons: list[str]
    data_checked: bool = True


def bundles_used(path: str | os.PathLike[str]) -> list[str]:
    """The bundles that a notebook names, by itself or in a path, in the strings of its code.

    A name has to stand there in full; one that a library function supplies is not seen.
    """
    there = set(bundle_names())
    nodes = [node for cell in code_cells(path) for node in ast.walk(cell.tree)]
    strings = [
        n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)
    ]
    parts = [part for string in strings for part in string.split("/")]
    return list(dict.fromkeys(part for part in parts if part in there))


def chapter_key(path: str | os.PathLike[str]) -> str:
    """SHA-256 of all that the outputs of a chapter come from.

    Its code, the library modules below it, the bundles it names, and the version of what
    draws. A chapter is to be executed again when this changes.

    Raises:
        CodeError: something cannot be read.
    """
    bundles = [results_folder() / name for name in bundles_used(path)]
    files = [p for bundle in bundles for p in sorted(bundle.rglob("*")) if p.is_file()]
    parts = {
        "code": [shape(cell.tree) for cell in code_cells(path)],
        "modules": {name: module_hash(name) for name in modules_used(path)},
        "bundles": {f"{file.parent.name}/{file.name}": file_hash(file) for file in files},
        "altair": version("altair"),
    }
    return sha256(json.dumps(parts))


@overload
def check(name: str) -> Standing: ...
@overload
def check(name: None = None) -> list[Standing]: ...


def check(name: str | None = None) -> Standing | list[Standing]:
    """How a bundle stands, or all of them, with those that a heavy notebook would make.

    Data is compared as far as ``SAS_DATA`` names a folder that has it.

    Raises:
        CodeError: a notebook or a module cannot be read.
        ManifestError: there is no bundle of this name, and no notebook that makes one.
    """
    made_by = makers()
    names = sorted({*bundle_names(), *made_by})
    if name is None:
        return [_standing(each, made_by) for each in names]
    if name not in names:
        raise ManifestError(f"no bundle {name!r}; there are: {', '.join(names) or '-'}")
    return _standing(name, made_by)


def makers() -> dict[str, str]:
    """The heavy notebooks by the bundles that they make: as these say, or would when made."""
    notebooks = [path for path in sorted(HEAVY.glob("*.ipynb")) if "." not in path.stem]
    made_by = {parameters(path).get("bundle"): path.stem for path in notebooks}
    for bundle in bundle_names():
        try:
            manifest = read_manifest(bundle) or {}
        except ManifestError:
            continue
        if "notebook" in manifest:
            made_by.pop(bundle, None)
            if manifest["notebook"]:
                made_by[bundle] = manifest["notebook"]["name"]
    return {bundle: notebook for bundle, notebook in made_by.items() if bundle}


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file; read again only when its size or date has changed."""
    about = os.stat(path)
    return _file_hash(os.path.realpath(path), about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _file_hash(path: str, size: int, changed: int) -> str:
    return file_sha256(path)


def _standing(name: str, made_by: Mapping[str, str]) -> Standing:
    try:
        manifest = read_manifest(name)
    except ManifestError as error:
        return Standing(name, "stale", [f"its manifest cannot be read: {error}"])
    if manifest is None:
        return Standing(name, "missing", [f"the notebook {made_by[name]} has not made it yet"])
    changed, data_checked = _changed_data(manifest["data"])
    reasons = [*_changed_code(manifest, name in made_by), *changed]
    return Standing(name, "stale" if reasons else "fresh", reasons, data_checked)


def _changed_code(manifest: Mapping[str, Any], has_maker: bool) -> Iterator[str]:
    notebook, code = manifest.get("notebook"), manifest["code"]
    if notebook is None and not code and not has_maker:
        yield "made by hand: no notebook makes it, and no code is recorded"
    elif "notebook" not in manifest:
        yield "made before bundles recorded what their code does"
    elif notebook is None:
        yield from _changed_modules(code, code)
    elif not (path := HEAVY / f"{notebook['name']}.ipynb").exists():
        yield f"its notebook {notebook['name']} is gone"
    else:
        if notebook["code"] != notebook_hash(path):
            yield "the notebook's code has changed"
        yield from _changed_parameters(notebook["parameters"], parameters(path))
        yield from _changed_modules(code, modules_used(path, drawing=False))


def _changed_parameters(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if was.get("profile") == "smoke":
        yield "made in the profile smoke, which measures nothing"
    for name in [n for n in {**now, **was} if n not in ASIDE and n != "profile"]:
        old, new = (json.dumps(some[name]) if name in some else None for some in (was, now))
        if old is None:
            yield f"parameter {name} is new: {new}"
        elif new is None:
            yield f"parameter {name} is gone, was {old}"
        elif json.loads(old) != json.loads(new):
            yield f"parameter {name} was {old}, is {new}"


def _changed_modules(was: Mapping[str, str], now: Iterable[str]) -> Iterator[str]:
    used = {name for name in now if is_module(name)}
    for name in sorted(used | {name for name in was if not draws(name)}):
        if name not in was:
            yield f"{name} is used now"
        elif name not in used:
            yield f"{name} is not used any more"
        elif was[name] != module_hash(name):
            yield f"{name} has changed"


def _changed_data(was: Mapping[str, str]) -> tuple[list[str], bool]:
    folder = Path(os.environ.get("SAS_DATA") or os.devnull)
    there = [path for path in was if (folder / path).is_file()]
    changed = [path for path in there if file_hash(folder / path) != was[path]]
    return [f"data: {path} has changed" for path in changed], len(there) == len(was)
