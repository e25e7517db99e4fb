"""Fingerprints: what code does, as a hash, for modules of the library and for notebooks.

Comments, docstrings and layout do not count; a changed number does. Nothing is imported or
run for it, only read, so an import by a name that is worked out goes unseen.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
# No number depends on a module that draws (as *_figures do) or that keeps the books.
DRAWING = {
    "attention_explorer",
    "charts",
    "fingerprints",
    "freshness",
    "heavy",
    "manifests",
    "widgets",
}
EMPTY = "Constant(value='')"


class CodeError(ValueError):
    """Code that cannot be read: no such file, or not plain Python."""


@dataclass(frozen=True)
class Cell:
    """A code cell of a notebook."""

    tags: frozenset[str]
    tree: ast.Module


def module_hash(name: str) -> str:
    """SHA-256 of what a module of the library does, of a package all its files.

    It is taken of the syntax tree without docstrings and without empty fields, of which each
    Python has its own, so that 3.11, 3.12 and 3.13 agree. Files of TOML count as they are.

    Raises:
        CodeError: there is no such module, or it is not Python.
    """
    files = [(file.name, _file_hash(file, file.stat().st_mtime_ns)) for file in _files(name)]
    return sha256(json.dumps(files))


def notebook_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of what a notebook's code cells do, setup and parameters left out.

    Raises:
        CodeError: there is no such notebook, or a cell is not plain Python.
    """
    left_out = {"setup", "parameters", "injected-parameters"}
    trees = [cell.tree for cell in code_cells(path) if not cell.tags & left_out]
    return sha256("".join(shape(statement) for tree in trees for statement in tree.body))


def parameters(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The values in the cell of a notebook that is tagged ``parameters``.

    Raises:
        CodeError: the cell holds something other than ``name = literal``.
    """
    cells = [cell for cell in code_cells(path) if "parameters" in cell.tags]
    return {name: value for cell in cells for name, value in assigned(cell.tree, path)}


def assigned(tree: ast.Module, where: object) -> Iterator[tuple[str, Any]]:
    """The names and values of a cell of literals; CodeError where it holds anything else."""
    for statement in tree.body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                try:
                    yield name, ast.literal_eval(value)
                    continue
                except ValueError:
                    pass
        raise CodeError(
            f"{where}: a cell of parameters has lines of the form name = literal, not "
            f"`{ast.unparse(statement)}`"
        )


def modules_used(notebook: str | os.PathLike[str], drawing: bool = True) -> list[str]:
    """The library modules below a notebook, as ``sas_lib.NAME``.

    Those that it imports, at the top or inside functions, and all that these import. What
    a subprocess imports is not seen.

    Args:
        notebook: a path to an ``.ipynb``, or Python source.
        drawing: with the modules that only draw or keep the books.

    Raises:
        CodeError: something cannot be read.
    """
    if str(notebook).endswith(".ipynb"):
        trees = [cell.tree for cell in code_cells(notebook)]
    else:
        trees = [ast.parse(str(notebook))]
    new = {name for tree in trees for name in _imports(tree, PACKAGE)}
    found: set[str] = set()
    while new := {n for n in new - found if drawing or not draws(f"sas_lib.{n}")}:
        found |= new
        files = [file for name in new for file in _files(f"sas_lib.{name}")]
        new = {n for file in files for n in _imported(file, file.stat().st_mtime_ns)}
    return sorted(f"sas_lib.{name}" for name in found)


def draws(module: str) -> bool:
    """Whether no number depends on a module."""
    return module.removeprefix("sas_lib.") in DRAWING or module.endswith("_figures")


def is_module(name: str) -> bool:
    """Whether the library has a module of this name."""
    place = PACKAGE.joinpath(*name.split(".")[1:])
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def code_cells(path: str | os.PathLike[str]) -> tuple[Cell, ...]:
    """The code cells of a notebook.

    Raises:
        CodeError: there is no such notebook, or a cell is not plain Python.
    """
    try:
        return _code_cells(Path(path), os.stat(path).st_mtime_ns)
    except (OSError, KeyError, ValueError) as error:
        if isinstance(error, CodeError):
            raise
        raise CodeError(f"{path} is no notebook that can be read: {error!r}") from error


@functools.lru_cache(maxsize=256)
def _code_cells(path: Path, changed: int) -> tuple[Cell, ...]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return tuple(
        Cell(
            frozenset(cell["metadata"].get("tags", [])),
            _parse("".join(cell["source"]), f"{path}, cell {number}"),
        )
        for number, cell in enumerate(cells, 1)
        if cell["cell_type"] == "code"
    )


def _parse(source: str, where: object) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise CodeError(
            f"{where}, line {error.lineno}, is not plain Python: {error.msg}"
        ) from error


@functools.lru_cache(maxsize=1024)
def _file_hash(file: Path, changed: int) -> str:
    if file.suffix == ".toml":
        return file_sha256(file)
    return sha256(shape(_parse(file.read_text(encoding="utf-8"), file)))


@functools.lru_cache(maxsize=1024)
def _imported(file: Path, changed: int) -> frozenset[str]:
    if file.suffix != ".py":
        return frozenset()
    return frozenset(_imports(_parse(file.read_text(encoding="utf-8"), file), file.parent))


def _imports(tree: ast.Module, folder: Path) -> Iterator[str]:
    """The modules of the library that a file in ``folder`` imports, by their first names."""
    for node in ast.walk(tree):
        dotted: list[tuple[str, ...]] = []
        if isinstance(node, ast.Import):
            dotted = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            here = ("sas_lib", *folder.relative_to(PACKAGE).parts) if node.level else ()
            above = here[: len(here) - node.level + 1]
            named = tuple(node.module.split(".")) if node.module else ()
            dotted = [(*above, *named, alias.name) for alias in node.names]
        for first, *rest in dotted:
            if first == "sas_lib" and rest and is_module(f"sas_lib.{rest[0]}"):
                yield rest[0]


def _files(name: str) -> list[Path]:
    place = PACKAGE.joinpath(*name.split(".")[1:])
    if not name.startswith("sas_lib.") or not is_module(name):
        raise CodeError(f"no module {name} in {PACKAGE}")
    inside = sorted(p for p in place.rglob("*") if p.suffix in {".py", ".toml"})
    return inside or [place.with_suffix(".py")]


def shape(node: object) -> str:
    """A syntax tree as text, without docstrings (strings that stand alone) and empty fields."""
    if isinstance(node, ast.JoinedStr):  # 3.12 puts empty strings into some
        node = ast.JoinedStr([part for part in node.values if shape(part) != EMPTY])
    if isinstance(node, ast.AST):
        fields = [
            f"{name}={shape(value)}"
            for name in node._fields
            if name != "kind"
            and (value := getattr(node, name, None)) is not None
            and value != []
        ]
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join([shape(item) for item in node if not _is_docstring(item)])}]"
    return repr(node)


def _is_docstring(node: object) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file as it is on disk, compressed or not."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
