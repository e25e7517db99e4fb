"""Make the slides: execute a notebook of book/slides and write it as one HTML file.

The file holds all that it needs: reveal.js (from npm, as book/_ext/offline.py gets the book's
other scripts), Vega, the figures with their data. It opens in any browser, without a network.
→ and ← turn the slides, S opens the speaker's view, and the browser's print command prints a
slide a page.

examples:
  python book/_ext/slides.py
  python book/_ext/slides.py book/slides/ninety_minutes.ipynb --out elsewhere
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import nbformat
import offline
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "book" / "slides" / "ninety_minutes.ipynb"
TEMPLATE = Path(__file__).with_name("slides_template")
REVEAL = offline.NpmPackage(
    name="reveal.js",
    version="5.2.1",
    integrity="sha512-r7//6mIM5p34hFiDMvYfXgyjXqGRta+/psd9YtytsgRlrpRzFv4RbH76TXd2qD+7"
    "ZPZEbpBDhdRhJaFgfQ7zNQ==",
    files=r"dist/(reset|reveal)\.css|dist/reveal\.js|plugin/notes/notes\.js|LICENSE",
)


class SlidesError(RuntimeError):
    """Slides that cannot be made; the message says why."""


def execute(path: Path) -> nbformat.NotebookNode:
    """Return an executed copy of a notebook, with a bar on standard error.

    Raises:
        SlidesError: it cannot be read, or one of its cells fails.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError) as error:
        raise SlidesError(f"{path} cannot be read as a notebook: {error}") from error
    code = sum(cell.cell_type == "code" for cell in notebook.cells)
    with tqdm(total=code, desc=path.name, unit="cell", disable=None) as bar:
        client = NotebookClient(
            notebook,
            timeout=300,
            resources={"metadata": {"path": str(path.parent)}},
            on_cell_executed=lambda **_: bar.update(),
        )
        try:
            client.execute()
        except CellExecutionError as error:
            raise SlidesError(f"{path} does not run through: {error}") from error
    return notebook


def parts() -> dict[str, list[str]]:
    """Return the style sheets and scripts that go into the file.

    Raises:
        SlidesError: reveal.js or Vega cannot be had.
    """
    try:
        reveal = offline.npm_static_folder(REVEAL) / "vendor" / REVEAL.folder
        vega = offline.vega_static_folder() / "vendor" / "vega" / "vega.js"
    except offline.Unavailable as reason:
        raise SlidesError(f"the slides' scripts cannot be had: {reason}") from reason
    versions = {
        "vega": alt.VEGA_VERSION,
        "vega-lite": alt.VEGALITE_VERSION,
        "vega-embed": alt.VEGAEMBED_VERSION,
    }
    sheets = [reveal / "dist" / "reset.css", reveal / "dist" / "reveal.css"]
    scripts = [vega, reveal / "dist" / "reveal.js", reveal / "plugin" / "notes" / "notes.js"]
    return {
        "styles": [p.read_text("utf-8") for p in [*sheets, TEMPLATE / "slides.css"]],
        "scripts": [
            offline.vega_is_here(versions),
            # In a page, a script ends at the first of these, even within a string.
            *(p.read_text("utf-8").replace("</script", r"<\/script") for p in scripts),
        ],
    }


def to_html(notebook: nbformat.NotebookNode) -> str:
    """Return an executed notebook as a page of slides."""
    try:
        from nbconvert import SlidesExporter
    except ImportError as error:
        raise SlidesError("nbconvert is not installed (pip install nbconvert)") from error
    exporter: Any = SlidesExporter(
        extra_template_basedirs=[str(TEMPLATE.parent)],
        template_name=TEMPLATE.name,
        exclude_input=True,
        exclude_output_prompt=True,
        exclude_input_prompt=True,
    )
    page, _ = exporter.from_notebook_node(notebook, resources={"slides": parts()})
    return page


def write(page: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".part{os.getpid()}")
    part.write_text(page, encoding="utf-8")
    part.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, default=[NOTEBOOK])
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "slides")
    wanted = parser.parse_args(arguments)
    try:
        for path in wanted.notebooks:
            target = wanted.out / f"{path.stem}.html"
            write(to_html(execute(path)), target)
            size = target.stat().st_size / 1e6
            print(f"The slides are ready ({size:.1f} MB). Open them in a browser:\n  {target}")
    except SlidesError as error:
        sys.exit(f"slides: {error}")
    except KeyboardInterrupt:
        sys.exit("slides: stopped; nothing was written")


if __name__ == "__main__":
    main()
