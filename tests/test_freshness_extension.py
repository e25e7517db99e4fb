"""The Sphinx extension: a small book is built again and again while what it is of changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml
from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).parent.parent
LOGGED = 'with open("../log.txt", "a") as log:\n    print("{}", file=log)'
CHAPTERS = {
    "reads_module": [LOGGED.format("reads_module"), "from sas_lib import one\none.VALUE"],
    "reads_bundle": [
        LOGGED.format("reads_bundle"),
        'open("results/measured/metrics.parquet").read()',
    ],
    "reads_nothing": [LOGGED.format("reads_nothing")],
}
CONFIG = {
    "title": "Small",
    "author": "Nobody",
    "only_build_toc_files": True,
    "exclude_patterns": ["_build"],
    "execute": {
        "execute_notebooks": "cache",
        "raise_on_error": True,
        "exclude_patterns": ["book/heavy/*"],
    },
    "sphinx": {"local_extensions": {"freshness": "book/_ext"}},
}
HASH = "0" * 64


class Book:
    """A book of three chapters, the page of a heavy notebook, its bundle, and a library."""

    def __init__(self, root: Path) -> None:
        self.root, self.pages = root, root / "_build" / "html" / "book"
        for module in ("__init__", "freshness", "fingerprints", "manifests"):
            self.write(f"sas_lib/{module}.py", (ROOT / f"sas_lib/{module}.py").read_text())
        self.write("sas_lib/one.py", '"""One."""\n\nVALUE = 111\n')
        self.write("sas_lib/two.py", "VALUE = 2\n")
        for name in ("freshness.py", "freshness.jinja"):
            self.write(f"book/_ext/{name}", (ROOT / "book" / "_ext" / name).read_text())
        for name, code in CHAPTERS.items():
            self.write_notebook(f"book/{name}.ipynb", [("", source) for source in code])
        heavy = [("parameters", 'bundle = "measured"\nsteps = 3'), ("", "import sas_lib.two")]
        self.write_notebook("book/heavy/maker.ipynb", heavy)
        heavy.insert(
            1, ("injected-parameters", '# Parameters\nsteps = 4\nnote = "so <b>it</b> is"')
        )
        self.write_notebook("book/heavy/maker.out.ipynb", heavy)
        self.write("book/intro.md", "# Small\n")
        self.write("book/status.md", "# Status\n\n```{bundle-status}\n```\n")
        self.write("_config.yml", yaml.safe_dump(CONFIG))
        pages = [*CHAPTERS, "heavy/maker.out", "status"]
        toc = {"format": "jb-book", "root": "book/intro"}
        toc |= {"chapters": [{"file": f"book/{page}"} for page in pages]}
        self.write("_toc.yml", yaml.safe_dump(toc))
        self.write("book/results/measured/metrics.parquet", "first")
        self.sign()

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def write_notebook(self, name: str, cells: list[tuple[str, str]]) -> None:
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
        notebook.cells = [nbformat.v4.new_markdown_cell(f"# {Path(name).name}\n\nText.")]
        for tag, source in cells:
            metadata = {"tags": [tag]} if tag else {}
            notebook.cells.append(nbformat.v4.new_code_cell(source, metadata=metadata))
        self.write(name, nbformat.writes(notebook))

    def sign(self) -> None:
        """Write the manifest of the bundle, as it is right now."""
        program = (
            "import json; from sas_lib import freshness as f; path = f.HEAVY / 'maker.ipynb';"
            "now = {'code': f.notebook_hash(path), 'parameters': f.parameters(path)};"
            "print(json.dumps(now | {'two': f.module_hash('sas_lib.two')}))"
        )
        now = json.loads(self.run(sys.executable, "-c", program))
        code = {"sas_lib.two": now.pop("two")}
        manifest = {
            "name": "measured",
            "date": "2026-03-01",
            "notebook": {"name": "maker", **now},
            "parameters": {},
            "seeds": [0, 1, 2],
            "code": code,
            "data": {},
            "packages": {},
            "device": {"kind": "cpu", "cpus": 2},
            "wall_seconds": 660,
            "note": "",
        }
        self.write("book/results/measured/manifest.json", json.dumps(manifest))

    def run(self, *command: str) -> str:
        environment = {
            k: v for k, v in os.environ.items() if k not in ("SAS_RESULTS", "SAS_DATA")
        }
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**environment, "PYTHONPATH": str(self.root)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def build(self) -> set[str]:
        """Build the book; returns the chapters that were executed."""
        log = self.root / "log.txt"
        log.write_text("")
        program = "import jupyter_book.cli.main as book; book.main()"
        self.run(sys.executable, "-c", program, "build", ".", "-W", "-n", "--keep-going")
        executed = log.read_text().split()
        assert len(executed) == len(set(executed))
        return set(executed)

    def page(self, name: str) -> Tag:
        html = (self.pages / f"{name}.html").read_text(encoding="utf-8")
        article = BeautifulSoup(html, "html.parser").find("article")
        assert isinstance(article, Tag)
        return article

    def line(self, name: str) -> str:
        """What a page says of its bundles."""
        lines = self.page(name).select("p.bundle-line")
        return " ".join(" ".join(line.get_text() for line in lines).split())

    def written(self) -> dict[str, int]:
        return {p.name: p.stat().st_mtime_ns for p in self.pages.rglob("*.html")}


FRESH = "made on 1 March 2026 on a CPU with 2 cores: ✓ fresh."
STALE = "made on 1 March 2026 on a CPU with 2 cores: ⚠ stale (why)."


def test_a_change_executes_the_chapters_that_use_it_and_only_those(tmp_path: Path) -> None:
    book = Book(tmp_path)
    assert book.build() == set(CHAPTERS)
    assert "111" in book.page("reads_module").get_text()
    assert "'first'" in book.page("reads_bundle").get_text()
    assert (
        book.line("reads_bundle") == f"The results here come from the bundle measured, {FRESH}"
    )
    assert book.line("heavy/maker.out") == f"This notebook made the bundle measured, {FRESH}"
    assert book.line("reads_module") == book.line("status") == ""
    heading, below = book.page("reads_bundle").find("h1"), book.page("reads_bundle").p
    assert heading and below and "bundle-line" in below["class"]
    row = book.page("status").select_one("tr#bundle-measured")
    assert row and " ".join(row.get_text().split()) == (
        "measured by maker on 1 March 2026, 11 min on a CPU with 2 cores 0 to 2 1 kB ✓ fresh"
    )
    link = row.select_one("a")
    assert link and link["href"] == "heavy/maker.out.html"

    before = book.written()
    assert book.build() == set()
    assert book.written() == before

    book.write("sas_lib/one.py", '"""One."""\n\nVALUE = 222\n')
    assert book.build() == {"reads_module"}
    assert "222" in book.page("reads_module").get_text()

    book.write("book/results/measured/metrics.parquet", "second")
    assert book.build() == {"reads_bundle"}
    assert "'second'" in book.page("reads_bundle").get_text()

    # Nothing that a chapter shows has changed, but the bundle is stale now, and pages say so.
    book.write("sas_lib/one.py", '"""Still the same."""\n\nVALUE = 222  # here\n')
    book.write("sas_lib/two.py", "VALUE = 3\n")
    before = book.written()
    assert book.build() == set()
    after = book.written()
    rewritten = {name for name in after if after[name] != before[name]}
    # Sphinx writes the page above them again as well.
    assert rewritten - {"intro.html"} == {"reads_bundle.html", "maker.out.html", "status.html"}
    assert book.line("reads_bundle").endswith(STALE)
    assert book.line("heavy/maker.out").endswith(STALE)
    why = book.page("heavy/maker.out").select_one("p.bundle-line a[title]")
    assert why and why["title"] == "sas_lib.two has changed"
    assert why["href"] == "../status.html#bundle-measured"
    assert "⚠ stale: sas_lib.two has changed" in book.page("status").get_text()


def test_the_parameters_of_a_run_are_a_table(tmp_path: Path) -> None:
    book = Book(tmp_path)
    toc = {"format": "jb-book", "root": "book/intro"}
    toc |= {"chapters": [{"file": "book/heavy/maker.out"}]}
    book.write("_toc.yml", yaml.safe_dump(toc))
    assert book.build() == set()
    page = book.page("heavy/maker.out")
    tables = page.select("table.run-parameters")
    rows = [
        [c.get_text(strip=True) for c in row.select("th, td")] for row in tables[0].select("tr")
    ]
    assert rows == [["steps", "4"], ["note", "so <b>it</b> is"]]
    code = [pre.get_text() for pre in page.select("div.highlight pre")]
    assert [source.split("\n")[0] for source in code] == [
        'bundle = "measured"',
        "import sas_lib.two",
    ]
    # This book has no status page, so nothing links to one.
    assert book.line("heavy/maker.out") == f"This notebook made the bundle measured, {FRESH}"
    assert not page.select("p.bundle-line a")


def test_the_status_page_reads_a_bundle_with_pandas_alone(tmp_path: Path) -> None:
    text = (ROOT / "book" / "status.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    program += "\nimport sys\nassert not [m for m in sys.modules if m.startswith('sas_lib')]\n"
    results = tmp_path / "book" / "results"
    shutil.copytree(ROOT / "book" / "results" / "toy_base", results / "toy_base")
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((results / "toy_base" / "manifest.json").read_text())
    assert done.stdout.startswith(manifest["date"])
    assert re.search(rf"^seed +{' +'.join(map(str, manifest['seeds']))}", done.stdout, re.M)
