"""A chapter on Colab, simulated: one notebook alone in an empty folder.

The environment has what sas-lib asks for (torch, numpy and so on) and what Colab itself runs
notebooks with, but not sas-lib. The repository is a git address and nothing else. Packages
come from links to the installed ones and pip may reach no index, so that a chapter which
needs more than sas-lib declares fails, and so does a setup cell that would replace a package.

One chapter is run; with ALL_CHAPTERS=1 every one of them (about half a minute each).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
PAGES = [ROOT / entry["file"] for part in TOC["parts"] for entry in part["chapters"]]
CHAPTERS = [
    page.with_suffix(".ipynb")
    for page in PAGES
    if page.parent.name != "heavy" and page.with_suffix(".ipynb").is_file()
]
EVERY = os.environ.get("ALL_CHAPTERS") == "1"
# What Colab has beside the packages that sas-lib itself needs.
COLAB = ["ipykernel", "ipywidgets", "nbclient", "pip", "setuptools", "wheel"]

# Run by the Colab-like Python: the notebook, and where its sas_lib was imported from.
DRIVER = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
notebook.cells.append(nbformat.v4.new_code_cell("import sas_lib; print(sas_lib.__file__)"))
NotebookClient(notebook, timeout=600, resources={"metadata": {"path": "."}}).execute()
print(notebook.cells[-1].outputs[0].text)
"""
LISTING = """
import importlib.metadata, json
print(json.dumps({d.name: d.version for d in importlib.metadata.distributions()}))
"""

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git on this machine")


def git(*arguments: object, folder: Path = ROOT) -> str:
    command = ["git", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def needed_by(names: list[str]) -> set[str]:
    """The installed distributions of these names, and all that they need."""
    found: set[tuple[str, str]] = set()
    queue = [(Requirement(name), "") for name in names]
    while queue:
        requirement, extra = queue.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in found:
                found.add((name, wanted))
                lines = importlib.metadata.requires(name) or []
                queue += [(Requirement(line), wanted) for line in lines]
    return {name for name, _ in found}


def entries(name: str) -> set[Path]:
    """What a distribution has in site-packages: folders, single modules, its metadata."""
    distribution = importlib.metadata.distribution(name)
    files = distribution.files or []
    tops = {file.parts[0] for file in files if ".." not in file.parts}
    return {Path(str(distribution.locate_file(top))) for top in tops - {"__pycache__"}}


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to the packages that Colab has or sas-lib declares, without sas-lib."""
    folder = tmp_path_factory.mktemp("packages")
    for name in needed_by(["sas-lib", *COLAB]) - {"sas-lib"}:
        for entry in entries(name):
            if not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as it is now, as a git repository with one commit."""
    if not (ROOT / ".git").exists():
        pytest.skip("this copy of the project is no git repository")
    folder = tmp_path_factory.mktemp("repository")
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git("init", "--quiet", "--initial-branch", CONFIG["repository"]["branch"], folder=folder)
    git("add", "--all", "--force", folder=folder)
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    git(*who, "commit", "--quiet", "--message", "now", folder=folder)
    return folder


class Colab:
    """A machine of its own: a Python, a home, an empty folder to work in."""

    def __init__(self, folder: Path, packages: Path, repository: Path) -> None:
        self.content, home = folder / "content", folder / "home"
        for made in (self.content, home):
            made.mkdir()
        venv.create(folder / "python", symlinks=True)
        self.python = folder / "python" / "bin" / "python"
        self.site = next((folder / "python" / "lib").glob("python*/site-packages"))
        (self.site / "colab.pth").write_text(f"{packages}\n")
        (home / ".gitconfig").write_text(
            f'[url "{repository.as_uri()}"]\n\tinsteadOf = {CONFIG["repository"]["url"]}\n'
        )
        self.environment = {
            "HOME": str(home),
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}",
            "GIT_ALLOW_PROTOCOL": "file",
            "HF_HUB_OFFLINE": "1",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip's odd way to say: build without isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        }

    def run(self, *arguments: object) -> str:
        """What Python prints when it is run with ``arguments``; it has to succeed."""
        result = subprocess.run(
            [self.python, *map(str, arguments)],
            cwd=self.content,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout

    def versions(self) -> dict[str, str]:
        return json.loads(self.run("-c", LISTING))


@pytest.fixture
def colab(tmp_path: Path, packages: Path, repository: Path) -> Colab:
    return Colab(tmp_path, packages, repository)


def test_the_simulated_machine_lacks_the_library_and_the_packages_of_the_book(
    colab: Colab,
) -> None:
    before = {canonicalize_name(name) for name in colab.versions()}
    assert {"torch", "numpy", "altair", "ipykernel"} <= before
    assert not {"sas-lib", "jupyter-book", "spacy", "vl-convert-python"} & before
    assert colab.run("-c", "import importlib.util as u; print(u.find_spec('sas_lib'))") == (
        "None\n"
    )


@pytest.mark.parametrize(
    "chapter",
    CHAPTERS if EVERY else [ROOT / "book" / "implicit_parse.ipynb"],
    ids=lambda path: path.stem,
)
def test_a_chapter_runs_alone(colab: Colab, chapter: Path) -> None:
    shutil.copy(chapter, colab.content)
    before = colab.versions()
    said = colab.run("-c", DRIVER, chapter.name)
    clone = colab.content / "sas-book"
    assert Path(said.strip().splitlines()[-1]) == clone / "sas_lib" / "__init__.py"
    # The library was added; torch, numpy and the others are what they were.
    after = colab.versions()
    added = {canonicalize_name(name) for name in after.keys() - before.keys()}
    assert added == {"sas-lib"}
    assert after.items() >= before.items()
