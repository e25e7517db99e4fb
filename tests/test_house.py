"""The house: what is installed, what the commands do, and what the book is made of."""

from __future__ import annotations

import ast
import base64
import graphlib
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CHAPTERS = [ROOT / f"{entry['file']}" for part in TOC["parts"] for entry in part["chapters"]]
MODULES = sorted(
    path
    for path in (ROOT / "sas_lib").iterdir()
    if path.stem not in {"__init__", "__main__"}
    and (path.suffix == ".py" or (path / "__init__.py").is_file())
)
NOTEBOOKS = sorted(p for p in (ROOT / "book").rglob("*.ipynb") if "runs" not in p.parts)

# The floors of the library: imports go downward. Two modules of one floor may use each other,
# but not in a circle.
FLOORS = [
    {
        "treebank",
        "parses",
        "toy_english",
        "text",
        "downloads",
        "corpus",
        "batches",
        "ngrams",
        "settings",
        "interrupts",
        "locks",
        "fingerprints",
        "manifests",
    },
    {"model", "run_state", "parallel", "sentence_batches", "blimp", "glue", "silver"},
    {
        "regularizer",
        "predictors",
        "uas",
        "transfer",
        "minimal_pairs",
        "task_scores",
        "finetune",
        "complexity",
        "context",
        "fisher",
        "parser_training",
        "onsets",
        "breaks",
        "curve_fits",
    },
    {"learner", "throughput", "validation", "pretraining"},
    {"measures", "complexity_measures", "runs", "checkpoints", "catalogue"}
    | {"freshness", "results", "arms", "ledger", "heavy"}
    | {"sweep_workers", "sweep", "experiment", "toy_arms", "text_arms", "measure_runs"}
    | {"corpus_files", "prepared", "series", "series_measures"},
    {"charts", "attention_explorer", "ledger_table", "widgets"}
    | {path.stem for path in MODULES if path.stem.endswith("_figures")},
    {"cli"},
]


def lines(name: str) -> list[str]:
    text = (ROOT / name).read_text()
    return [line for raw in text.splitlines() if (line := raw.partition("#")[0].strip())]


def required() -> list[Requirement]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


# What is installed


def test_pyproject_has_lower_bounds_only() -> None:
    for requirement in required():
        operators = {clause.operator for clause in requirement.specifier}
        # Jupyter Book 2 is another program.
        allowed = {">=", "<"} if requirement.name == "jupyter-book" else {">="}
        assert operators <= allowed, requirement


def test_constraints_are_pins_that_this_environment_has() -> None:
    for line in lines("constraints.txt"):
        pin = Requirement(line)
        assert [clause.operator for clause in pin.specifier] == ["=="], line
        assert not pin.extras and not pin.marker, line
        try:
            version = importlib.metadata.version(pin.name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a pin for a package that nothing here needs is harmless
        assert pin.specifier.contains(version, prereleases=True), f"{line}, found {version}"


def test_the_pins_agree_with_the_lower_bounds() -> None:
    pins = {canonicalize_name(Requirement(x).name): x for x in lines("constraints.txt")}
    for requirement in required():
        if pin := pins.get(canonicalize_name(requirement.name)):
            version = next(iter(Requirement(pin).specifier)).version
            assert requirement.specifier.contains(version), f"{requirement} against {pin}"


def test_requirements_are_the_constraints_and_the_project() -> None:
    assert lines("requirements.txt") == ["-c constraints.txt", "-e .[dev]"]
    dev = Requirement(PROJECT["optional-dependencies"]["dev"][0])
    assert dev.extras == {"book", "test", "bench"}
    assert dev.extras <= set(PROJECT["optional-dependencies"])


def test_environment_yml_installs_the_requirements_file() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"] == [
        f"python{PROJECT['requires-python']}",
        "pip",
        {"pip": ["-r requirements.txt"]},
    ]


# What the commands do


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True)


def test_make_help_lists_every_command() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony
    listed = re.findall(r"^  (\w+)", make().stdout, re.MULTILINE)
    assert sorted(listed) == sorted(phony[1].split())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_an_old_python_is_refused_with_a_clear_message(copy: Path) -> None:
    old = copy / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n')
    old.chmod(0o755)
    result = make("test", f"PYTHON={old}", folder=copy)
    assert result.returncode != 0
    assert "Python 3.11 or newer is needed" in result.stderr
    assert "Python 3.9.2" in result.stderr
    assert not (copy / ".venv").exists()


def test_a_second_run_skips_the_install_until_a_requirement_changes(copy: Path) -> None:
    install = "pip install --quiet -r requirements.txt"
    assert install in make("--dry-run", "test", folder=copy).stdout
    (copy / ".venv").mkdir()
    (copy / ".venv" / ".installed").touch()
    assert install not in make("--dry-run", "test", folder=copy).stdout
    late = (copy / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(copy / "constraints.txt", (late, late))
    assert install in make("--dry-run", "test", folder=copy).stdout


def test_address_changes_every_copy(tmp_path: Path) -> None:
    address = load(ROOT / "book" / "_ext" / "address.py")
    old = CONFIG["repository"]["url"]
    (tmp_path / "book").mkdir()
    for name in ("_config.yml", "README.md", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "book" / "chapter.ipynb").write_text(f'"git+{old}"')
    address.change(tmp_path, "https://github.com/someone/fork/")
    for name in ("_config.yml", "README.md", "CITATION.cff", "book/chapter.ipynb"):
        text = (tmp_path / name).read_text()
        assert old not in text
        assert "https://github.com/someone/fork" in text
    with pytest.raises(SystemExit, match="OWNER/NAME"):
        address.change(tmp_path, "someone/fork")


# What the book is made of


def test_every_page_of_the_contents_exists() -> None:
    for page in [ROOT / TOC["root"], *CHAPTERS]:
        assert any(page.with_suffix(end).is_file() for end in (".md", ".ipynb")), page


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_stored_clean(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    kernel = notebook["metadata"]["kernelspec"]
    assert (kernel["name"], kernel["display_name"]) == ("python3", "Python 3")
    if path.name.endswith(".out.ipynb"):
        return  # the executed copy of a long experiment is kept with its outputs
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], f"{path.name} holds outputs"
            assert cell["execution_count"] is None


def test_the_setup_cell_is_the_same_everywhere() -> None:
    setups = {}
    for chapter in CHAPTERS:
        if (path := chapter.with_suffix(".ipynb")).is_file():
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            first = next(cell for cell in cells if cell["cell_type"] == "code")
            setups.setdefault("".join(first["source"]), []).append(path.name)
    assert len(setups) <= 1, f"different setup cells: {list(setups.values())}"


def test_the_address_of_the_project_is_the_same_everywhere() -> None:
    url = CONFIG["repository"]["url"]
    owner = re.escape(url.rsplit("/", 2)[1])
    for path in [ROOT / "README.md", ROOT / "CITATION.cff", *NOTEBOOKS]:
        for found in re.findall(rf"https://github\.com/{owner}/[\w.-]+", path.read_text()):
            assert found.removesuffix(".git") == url, f"{path.name}: {found}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_go_downward(path: Path) -> None:
    floor_of = {module: n for n, floor in enumerate(FLOORS) for module in floor}
    assert path.stem in floor_of, f"{path.stem} stands on no floor: add it to FLOORS"
    for name in imported(path) & floor_of.keys() - {path.stem}:
        assert floor_of[name] <= floor_of[path.stem], f"{path.stem} imports {name}"


def test_no_imports_in_a_circle() -> None:
    graph = {path.stem: imported(path) - {path.stem} for path in MODULES}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def imported(path: Path) -> set[str]:
    """The modules of the library that a module (a file, or a folder of them) imports."""
    if path.is_dir():
        return set().union(*map(imported, path.glob("*.py")))
    names = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts == ["sas_lib"]:
                names |= {alias.name for alias in node.names}
            elif parts[0] == "sas_lib":
                names.add(parts[1])
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("sas_lib.")}
    return names


# Scripts for reading offline


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load(ROOT / "book" / "_ext" / "offline.py")
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    return module


def fake_npm(folder: Path, archive: bytes) -> str:
    """A stand-in for npm that "downloads" an archive, so that no test needs a network."""
    (folder / "archive").write_bytes(archive)
    script = folder / "npm"
    script.write_text(f'#!/bin/sh\nfor last; do :; done\ncp {folder}/archive "$last/x.tgz"\n')
    script.chmod(0o755)
    return str(script)


def archive_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def test_scripts_come_from_npm_once_and_only_the_files_asked_for(
    offline: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_of({"es5/a.js": b"right", "es5/b.js": b"not asked for"})
    npm = fake_npm(tmp_path, archive)
    monkeypatch.setattr(offline, "find_npm", lambda: npm)
    package = offline.NpmPackage("@some/thing", "1.0.0", integrity(archive), r"es5/a\.js")
    folder = offline.npm_static_folder(package)
    files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    assert files == ["vendor/thing/es5/a.js"]

    monkeypatch.setattr(offline, "find_npm", lambda: "/no/npm")  # now from the cache
    assert offline.npm_static_folder(package) == folder


def test_a_wrong_checksum_is_refused_and_leaves_nothing(
    offline: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = fake_npm(tmp_path, archive_of({"es5/a.js": b"tampered with"}))
    monkeypatch.setattr(offline, "find_npm", lambda: npm)
    package = offline.NpmPackage("thing", "1.0.0", integrity(b"another archive"), r".*")
    with pytest.raises(offline.Unavailable, match="checksum"):
        offline.npm_static_folder(package)
    assert list(offline.cache_folder().iterdir()) == []


def test_without_npm_the_book_falls_back_and_says_so(
    offline: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Config:
        html_static_path = ("book/_static",)

    monkeypatch.setattr(offline.shutil, "which", lambda *_, **__: None)
    config = Config()
    offline.use_own_scripts(None, config)
    assert not hasattr(config, "mathjax_path")
    assert "load MathJax from a CDN" in capsys.readouterr().err
    assert config.offline_vega  # needs no npm
    assert (Path(config.html_static_path[0]) / "vendor" / "vega" / "vega.js").stat().st_size
