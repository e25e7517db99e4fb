"""Freshness: what makes a bundle stale, what does not, and what a chapter depends on."""

from __future__ import annotations

import ast
import itertools
import json
import modulefinder
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sas_lib import fingerprints, freshness, manifests

ROOT = Path(__file__).parent.parent
BUNDLES = sorted(path.parent.name for path in ROOT.glob("book/results/*/manifest.json"))
NOTEBOOKS = sorted(ROOT.glob("book/**/*.ipynb"))
HEAVY = [path for path in NOTEBOOKS if path.parent.name == "heavy" and "." not in path.stem]
LIBRARY = sorted((ROOT / "sas_lib").rglob("*.py"))

# One below the notebook, one below that, one by a function, one that draws, two unused.
MODULES = {
    "near": "from sas_lib import far\nLIMIT = 3\n",
    "far": '"""Far."""\n\ndef twice(x):\n    """Twice."""\n    return 2 * x  # plain\n',
    "late": "import numpy\n",
    "nice_figures": "from sas_lib import only_drawn\n",
    "only_drawn": "",
    "apart": "VALUE = 1\n",
}
CODE = (
    "from sas_lib import near, nice_figures\n\n"
    "def f():\n    import sas_lib.late as late\n    return late\n"
)
PARAMETERS = 'bundle = "trial"\nseeds = [0, 1]\nfolder = "runs"\nprofile = "cpu"\n'


class Project:
    """A small library, a heavy notebook, and the bundle that it made."""

    def __init__(self, root: Path) -> None:
        self.package, self.heavy = root / "sas_lib", root / "book" / "heavy"
        self.results, self.data = root / "book" / "results", root / "data"
        self.notebook = self.heavy / "maker.ipynb"
        self.ticks = itertools.count(1)
        for name, source in MODULES.items():
            self.put(self.package / f"{name}.py", source)
        self.put(self.package / "words" / "__init__.py", "from .inner import x\n")
        self.put(self.package / "words" / "inner.py", "from ..apart import VALUE as x\n")
        self.put(self.package / "words" / "list.toml", "words = 3\n")
        self.put(self.data / "text" / "a.txt", "some text")
        self.write_notebook()

    def put(self, path: Path, text: str) -> None:
        """Write a file, later than all before: a file system's clock may be coarse."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        tick = next(self.ticks) * 10**9
        os.utime(path, ns=(tick, tick))

    def edit(self, path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        self.put(path, text.replace(old, new))

    def write_notebook(self, *code: str, parameters: str = PARAMETERS) -> None:
        cells = [("setup", "import sys\n"), ("parameters", parameters)]
        cells += [("", source) for source in code or (CODE,)]
        self.put(self.notebook, notebook(*cells))

    def make_bundle(self, name: str = "trial", **changes: Any) -> None:
        """Write the bundle as ``results.write`` does; a change of None leaves a field out."""
        used = freshness.modules_used(self.notebook, drawing=False)
        manifest = {
            "name": name,
            "date": "2026-11-21",
            "notebook": {
                "name": "maker",
                "code": freshness.notebook_hash(self.notebook),
                "parameters": freshness.parameters(self.notebook),
            },
            "parameters": {},
            "seeds": [0, 1],
            "code": {module: freshness.module_hash(module) for module in used},
            "data": {"text/a.txt": freshness.file_hash(self.data / "text" / "a.txt")},
            "packages": {"numpy": "2.0"},
            "device": {"kind": "cpu", "cpus": 2},
            "wall_seconds": 5,
            "note": "",
            **changes,
        }
        kept = {key: value for key, value in manifest.items() if value != "left out"}
        self.put(self.results / name / "manifest.json", json.dumps(kept))
        self.put(self.results / name / "metrics.parquet", "measured")

    def reasons(self, name: str = "trial") -> list[str]:
        standing = freshness.check(name)
        assert standing.state == ("stale" if standing.reasons else "fresh")
        return standing.reasons


def notebook(*cells: tuple[str, str]) -> str:
    """A notebook of code cells (tag, source), with prose between them."""
    code = [
        {
            "cell_type": "code",
            "metadata": {"tags": [tag]} if tag else {},
            "source": source.splitlines(keepends=True),
        }
        for tag, source in cells
    ]
    prose = {"cell_type": "markdown", "metadata": {}, "source": ["not `code` at all ("]}
    return json.dumps({"cells": [prose, *code, prose]})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path)
    monkeypatch.setattr(fingerprints, "PACKAGE", project.package)
    monkeypatch.setattr(freshness, "HEAVY", project.heavy)
    monkeypatch.setenv("SAS_RESULTS", str(project.results))
    monkeypatch.setenv("SAS_DATA", str(project.data))
    project.make_bundle()
    return project


# Code


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_comments_and_layout_do_not_count(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    again = ast.parse(ast.unparse(tree))
    assert fingerprints.shape(tree) == fingerprints.shape(again)


def test_docstrings_do_not_count_and_other_strings_do(project: Project) -> None:
    far = project.package / "far.py"
    before = freshness.module_hash("sas_lib.far")
    project.edit(far, '"""Twice."""\n', '"""Two times."""\n')
    project.edit(far, "# plain", "# not so plain")
    assert freshness.module_hash("sas_lib.far") == before
    project.edit(far, "return 2 * x", "return '2' * x")
    assert freshness.module_hash("sas_lib.far") != before


def test_every_number_of_a_module_counts() -> None:
    tree = tree_of(ROOT / "sas_lib" / "settings.py")
    shapes = [fingerprints.shape(tree)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            node.value += 1
            shapes.append(fingerprints.shape(tree))
            node.value -= 1
    assert len(set(shapes)) == len(shapes) > 10


def test_a_hash_is_the_same_on_every_python() -> None:
    """Each Python has fields of its own in its trees; this hash was found on 3.11 to 3.13."""
    source = '''
@decorated(1)
class A(B, metaclass=C):
    """Doc."""
    x: int = 0x10
    async def f(self, a, /, b=1.0, *c, d: str = u"e", **g) -> None:
        nonlocal h
        match a:
            case {"k": [1, *_]} | A(x=None): return (yield f"{b!r:>{a}} and {b=}" "more")
        try: del a[1:2, ...]
        except* (E, F) as e: raise G from e
        with p as q, r: return lambda *t, u=1j: [v async for v in t if (w := v) is b]
'''
    digest = fingerprints.sha256(fingerprints.shape(ast.parse(source)))
    assert digest == "034fb6f68a2f160c3674a1c4358b73bee77821136cc3352dc705cb65cc5b61e6"


def test_the_empty_strings_of_python_3_12_do_not_count() -> None:
    joined = ast.JoinedStr([ast.Name("a", ast.Load()), ast.Constant("")])
    assert fingerprints.shape(joined) == fingerprints.shape(ast.JoinedStr(joined.values[:1]))
    assert fingerprints.shape(ast.parse("f(a, '')")) != fingerprints.shape(ast.parse("f(a)"))


def test_a_package_is_all_its_files(project: Project) -> None:
    hashes = {freshness.module_hash("sas_lib.words")}
    project.edit(project.package / "words" / "list.toml", "3", "4")
    hashes.add(freshness.module_hash("sas_lib.words"))
    project.edit(project.package / "words" / "inner.py", "VALUE as x", "VALUE as y")
    hashes.add(freshness.module_hash("sas_lib.words"))
    assert len(hashes) == 3
    with pytest.raises(fingerprints.CodeError, match=r"no module sas_lib\.nowhere"):
        freshness.module_hash("sas_lib.nowhere")
    project.put(project.package / "apart.py", "x = 1\ny = (\n")
    with pytest.raises(fingerprints.CodeError, match=r"apart\.py, line 2"):
        freshness.module_hash("sas_lib.apart")


def test_a_notebook_is_its_code_without_setup_and_parameters(project: Project) -> None:
    before = freshness.notebook_hash(project.notebook)
    first, second = CODE.split("\n\n")
    project.write_notebook(first, "# a remark", second, parameters="seeds = 7\n")
    assert freshness.notebook_hash(project.notebook) == before
    project.edit(project.notebook, "import sys", "import os")
    assert freshness.notebook_hash(project.notebook) == before
    project.write_notebook(second, first)
    assert freshness.notebook_hash(project.notebook) != before
    project.write_notebook("%matplotlib inline")
    with pytest.raises(fingerprints.CodeError, match=r"maker\.ipynb, cell 4, line 1, is not"):
        freshness.notebook_hash(project.notebook)
    with pytest.raises(fingerprints.CodeError, match="no notebook that can be read"):
        freshness.notebook_hash(project.heavy / "nowhere.ipynb")


def test_parameters_are_literals(project: Project) -> None:
    assert freshness.parameters(project.notebook) == {
        "bundle": "trial",
        "seeds": [0, 1],
        "folder": "runs",
        "profile": "cpu",
    }
    project.write_notebook(parameters='rate: float = -1e-3\nmore = {"a": (1, None)}\n')
    assert freshness.parameters(project.notebook) == {"rate": -1e-3, "more": {"a": (1, None)}}
    for wrong in ("seeds = range(3)", "a, b = (1, 2)", "a = b = 1", "import os", "a += 1"):
        project.write_notebook(parameters=wrong)
        with pytest.raises(fingerprints.CodeError, match=re.escape(f"not `{wrong}`")):
            freshness.parameters(project.notebook)


def test_the_modules_below_a_notebook(project: Project) -> None:
    all_of_them = "far late near nice_figures only_drawn".split()
    assert freshness.modules_used(project.notebook) == [f"sas_lib.{m}" for m in all_of_them]
    numbers = [f"sas_lib.{m}" for m in ("far", "late", "near")]
    assert freshness.modules_used(project.notebook, drawing=False) == numbers
    assert freshness.modules_used("from sas_lib.words.inner import x") == [
        "sas_lib.apart",
        "sas_lib.words",
    ]
    assert freshness.modules_used("import numpy, sas_lib\nfrom sas_lib import nothing") == []


@pytest.mark.parametrize("name", ["runs", "results", "heavy", "arm_figures", "toy_english"])
def test_the_modules_below_are_those_that_modulefinder_finds(name: str, tmp_path: Path) -> None:
    """The standard library's finder reads bytecode; given our folder alone, it stays in it."""
    script = tmp_path / "script.py"
    script.write_text(f"import sas_lib.{name}")
    finder = modulefinder.ModuleFinder(path=[str(ROOT)])
    finder.run_script(str(script))
    inside = {m.split(".")[1] for m in finder.modules if m.startswith("sas_lib.")}
    assert inside and freshness.modules_used(f"import sas_lib.{name}") == [
        f"sas_lib.{module}" for module in sorted(inside)
    ]


# Chapters


def test_a_chapter_uses_the_bundles_that_it_names(project: Project) -> None:
    project.make_bundle("second")
    project.make_bundle("third")
    project.write_notebook(
        'load("second")', "f'''the third, or {x('../trial/')}'''", parameters="a = 1"
    )
    assert freshness.bundles_used(project.notebook) == ["second", "trial"]


def test_a_chapter_is_executed_again_when_what_it_comes_from_changes(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    chapter, package = project.notebook, project.package
    keys = [freshness.chapter_key(chapter)]

    project.edit(package / "far.py", '"""Twice."""', '"""Double."""')
    project.edit(package / "apart.py", "1", "2")
    project.edit(chapter, "not `code`", "still not code")
    project.make_bundle("other")
    assert freshness.chapter_key(chapter) == keys[0]

    project.edit(package / "far.py", "2 * x", "3 * x")
    keys.append(freshness.chapter_key(chapter))
    project.put(package / "only_drawn.py", "COLOUR = 1")
    keys.append(freshness.chapter_key(chapter))
    project.put(project.results / "trial" / "metrics.parquet", "MEASURED")
    keys.append(freshness.chapter_key(chapter))
    project.edit(chapter, "return late", "return later")
    keys.append(freshness.chapter_key(chapter))
    monkeypatch.setattr(freshness, "version", lambda package: "99")
    keys.append(freshness.chapter_key(chapter))
    assert len(set(keys)) == 6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_notebook_of_the_book_can_be_followed(path: Path) -> None:
    assert re.fullmatch("[0-9a-f]{64}", freshness.chapter_key(path))
    text = path.read_text(encoding="utf-8")
    for bundle in re.findall(r'results\.(?:load|manifest)\(\\"(\w+)\\"', text):
        assert bundle in freshness.bundles_used(path)


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_the_library_names_no_bundle(path: Path) -> None:
    """Else a chapter could read a bundle without naming it, and not be executed again."""
    constants = re.findall(r"Constant\(value='(\w+)'\)", fingerprints.shape(tree_of(path)))
    assert not set(constants) & set(BUNDLES)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_the_package_itself_does_nothing() -> None:
    """No hash covers sas_lib/__init__.py, which every module's import runs."""
    assert fingerprints.shape(tree_of(ROOT / "sas_lib" / "__init__.py").body) == "[]"


# Bundles


def test_a_bundle_is_fresh_as_long_as_nothing_that_counts_changes(project: Project) -> None:
    assert freshness.check("trial") == freshness.Standing("trial", "fresh", [])
    project.edit(project.package / "far.py", "# plain", "# less plain")
    project.put(project.package / "only_drawn.py", "COLOUR = 1")
    project.put(project.package / "nice_figures.py", "SIZE = 1")
    project.edit(project.notebook, "runs", "elsewhere")
    project.edit(project.notebook, "cpu", "gpu")
    assert project.reasons() == []


def test_a_stale_bundle_says_why(project: Project) -> None:
    project.edit(project.notebook, "return late", "return None")
    project.edit(project.notebook, "seeds = [0, 1]", "seeds = [0, 1, 2]")
    project.edit(project.package / "far.py", "2 * x", "3 * x")
    project.edit(project.package / "late.py", "numpy", "sas_lib.apart")
    project.edit(project.data / "text" / "a.txt", "some", "more")
    assert project.reasons() == [
        "the notebook's code has changed",
        "parameter seeds was [0, 1], is [0, 1, 2]",
        "sas_lib.apart is used now",
        "sas_lib.far has changed",
        "sas_lib.late has changed",
        "data: text/a.txt has changed",
    ]


def test_parameters_and_modules_come_and_go(project: Project) -> None:
    project.write_notebook(
        CODE.replace("near, ", ""), parameters='bundle = "trial"\nsteps = 5\nnote = ""\n'
    )
    assert project.reasons() == [
        "the notebook's code has changed",
        "parameter steps is new: 5",
        "parameter seeds is gone, was [0, 1]",
        "sas_lib.far is not used any more",
        "sas_lib.near is not used any more",
    ]
    project.notebook.unlink()
    assert project.reasons() == ["its notebook maker is gone"]


def test_a_tuple_is_a_list_in_json(project: Project) -> None:
    project.write_notebook(parameters='bundle = "trial"\nseeds = (0, 1)\nfolder = ""\n')
    assert project.reasons() == []


def test_a_smoke_run_is_no_result(project: Project) -> None:
    about = {"name": "maker", "code": freshness.notebook_hash(project.notebook)}
    smoke = freshness.parameters(project.notebook) | {"profile": "smoke"}
    project.make_bundle(notebook={**about, "parameters": smoke})
    assert project.reasons() == ["made in the profile smoke, which measures nothing"]


def test_a_module_that_draws_may_be_in_the_record(project: Project) -> None:
    code = json.loads((project.results / "trial" / "manifest.json").read_text())["code"]
    project.make_bundle(code={**code, "sas_lib.nice_figures": "0" * 64})
    assert project.reasons() == []


def test_data_is_compared_where_it_is(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert freshness.check("trial").data_checked
    project.make_bundle("generated", data={})
    (project.data / "text" / "a.txt").unlink()
    assert freshness.check("trial") == freshness.Standing("trial", "fresh", [], False)
    monkeypatch.delenv("SAS_DATA")
    assert freshness.check("trial") == freshness.Standing("trial", "fresh", [], False)
    assert freshness.check("generated").data_checked


def test_bundles_of_before_and_of_no_notebook(project: Project) -> None:
    project.make_bundle(notebook="left out")
    assert project.reasons() == ["made before bundles recorded what their code does"]
    project.make_bundle("by_hand", notebook="left out", code={})
    assert "made by hand" in project.reasons("by_hand")[0]
    code = {"sas_lib.apart": freshness.module_hash("sas_lib.apart")}
    project.make_bundle("command", notebook=None, made_by="make it", code=code)
    assert project.reasons("command") == []
    project.edit(project.package / "apart.py", "1", "2")
    assert project.reasons("command") == ["sas_lib.apart has changed"]
    assert freshness.makers() == {"trial": "maker"}
    project.make_bundle(notebook=None, made_by="make it", code=code)
    assert freshness.makers() == {}


def test_missing_damaged_and_unknown_bundles(project: Project) -> None:
    project.make_bundle("trial_gpu")
    project.put(project.heavy / "maker.out.ipynb", project.notebook.read_text())
    assert freshness.makers() == {"trial": "maker", "trial_gpu": "maker"}
    (project.results / "trial" / "manifest.json").unlink()
    project.put(project.results / "torn" / "manifest.json", "{")
    torn, trial, gpu = freshness.check()
    assert (trial.name, trial.state) == ("trial", "missing")
    assert trial.reasons == ["the notebook maker has not made it yet"]
    assert (gpu.name, gpu.state) == ("trial_gpu", "fresh")
    assert torn.state == "stale" and "its manifest cannot be read" in torn.reasons[0]
    with pytest.raises(manifests.ManifestError, match="no bundle 'nothing'; there are: torn"):
        freshness.check("nothing")


@pytest.mark.parametrize("name", BUNDLES)
def test_the_bundles_of_the_book_keep_to_the_schema(name: str) -> None:
    manifest = json.loads((ROOT / "book" / "results" / name / "manifest.json").read_text())
    freshness.validate(manifest)
    assert manifest["name"] == name


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("seeds", [0, 0.5], r"\$\.seeds\[1\]"),
        ("code", {"sas_lib.far": "abc"}, r"\$\.code"),
        ("data", {"a": 1}, r"\$\.data\.a"),
        ("code", {"numpy": "0" * 64}, r"\$\.code"),
        ("date", "yesterday", r"\$\.date"),
        ("notebook", {"name": "maker"}, r"\$\.notebook"),
        ("note", "left out", r"at \$: 'note' is a required"),
        ("wall_seconds", -1, r"\$\.wall_seconds"),
        ("device", {}, r"\$\.device"),
    ],
)
def test_a_manifest_that_breaks_the_schema_is_named(
    project: Project, field: str, value: object, where: str
) -> None:
    project.make_bundle(**{field: value})
    with pytest.raises(manifests.ManifestError, match=where):
        manifests.read_manifest("trial")


def test_a_check_loads_nothing_heavy() -> None:
    program = (
        "import sys; from sas_lib import freshness; freshness.check();"
        "print({'torch', 'pandas', 'numpy', 'altair'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("path", HEAVY, ids=lambda path: path.stem)
def test_heavy_notebooks_have_parameters_and_a_bundle(path: Path) -> None:
    assert "bundle" in freshness.parameters(path)
