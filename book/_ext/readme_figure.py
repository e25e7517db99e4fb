"""Redraw the README's picture, the first figure of the chapter on runs.

Run from the repository's root: python book/_ext/readme_figure.py
"""

from __future__ import annotations

import base64
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = ROOT / "book" / "one_run.ipynb"
PICTURE = ROOT / "book" / "_static" / "central_figure.png"


def main() -> None:
    """Execute the chapter and keep its first image."""
    notebook = nbformat.read(CHAPTER, as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": CHAPTER.parent}}).execute()
    images = (
        output["data"]["image/png"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    )
    PICTURE.write_bytes(base64.b64decode(next(images)))
    print(f"{PICTURE.relative_to(ROOT)} ({PICTURE.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
