"""The book as a PDF: pages in order, joined, numbered, linked, with an outline."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from browsers import CHROMIUM

pypdf = pytest.importorskip("pypdf")
sync_api = pytest.importorskip("playwright.sync_api")

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

CONFIG = {
    "title": "A book of three pages",
    "author": "Nobody",
    "repository": {"url": "https://example.org/book"},
}
TOC = {
    "root": "intro",
    "parts": [
        {
            "caption": "Part 1",
            "chapters": [{"file": "part/long", "sections": [{"file": "below"}]}],
        }
    ],
}
STYLE = (ROOT / "book" / "_static" / "book.css").read_text("utf-8")
SLIDER = """
  <figure class="chart" aria-label="A chart"><div id="chart-1" class="vega-embed">
    <svg class="marks" width="100" height="50" viewBox="0 0 100 50"><rect width="9" height="9"/>
    </svg><div class="vega-bindings"><div class="vega-bind"><label>
    <span class="vega-bind-name">step</span><input type="range" value="7"><span>7</span>
    </label></div></div></div></figure>
"""
PAGES = {
    "intro": """
      <section id="opening"><h1>Opening</h1><p>Words of the opening.
      <a href="part/long.html#deep">deep</a> <a href="part/long.html">long</a>
      <a href="genindex.html">index</a> <a href="https://example.org/else">else</a></p>
      </section>""",
    "part/long": f"""
      <section id="long"><h1>A long page<a class="headerlink" href="#long">#</a></h1>
      <details class="hide"><summary>Show code cell source</summary>plumbing()</details>
      <details class="hide"><summary>Show the solution</summary>forty-two</details>
      <details><summary>Hint</summary>count them</details>
      <div class="admonition toggle toggle-hidden"><p>unfolded</p></div>{SLIDER}
      <section id="shallow"><h2>Shallow<a class="headerlink" href="#shallow">#</a></h2>
      <p style="height: 40cm">high</p></section>
      <section id="deep"><h2>Deep</h2><p>At the bottom. <a href="#shallow">up</a></p></section>
      </section>""",
    "below": """<section id="below"><h1>Below</h1><p>The last page.
      <a href="intro.html#opening">first</a></p></section>""",
}


@pytest.fixture(scope="module")
def printer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pdf", ROOT / "book" / "_ext" / "pdf.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["pdf"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


def build(folder: Path) -> Path:
    for name, body in PAGES.items():
        path = folder / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'<!doctype html><html data-theme="light"><title>{name}</title><style>{STYLE}'
            ".toggle-hidden > * {display: none}</style>"
            f"<body><article>{body}</article></body></html>",
            "utf-8",
        )
    return folder


@pytest.fixture(scope="module")
def book(
    printer: ModuleType, browser: sync_api.Browser, tmp_path_factory: pytest.TempPathFactory
) -> pypdf.PdfReader:
    folder = build(tmp_path_factory.mktemp("html"))
    out = tmp_path_factory.mktemp("pdf") / "new" / "book.pdf"
    sheets = printer.print_book(browser, folder, TOC, CONFIG, out)
    assert [path.name for path in out.parent.iterdir()] == ["book.pdf"]
    reader = pypdf.PdfReader(out)
    assert len(reader.pages) == sheets
    return reader


def lines(book: pypdf.PdfReader, number: int) -> list[str]:
    return book.pages[number].extract_text().splitlines()


def links(book: pypdf.PdfReader, number: int) -> list[Any]:
    """Where the links of a page lead: an address, or the number of a page."""
    found = []
    for entry in book.pages[number].get("/Annots", []):
        link = entry.get_object()
        if "/Dest" in link:
            sheets = [page.indirect_reference for page in book.pages]
            found.append(sheets.index(link["/Dest"][0]))
        else:
            found.append(str(link["/A"]["/URI"]))
    return found


def test_pages_stand_in_order_behind_title_and_contents(book: pypdf.PdfReader) -> None:
    # Title, contents, opening, two sheets of the long page (40 cm are more than one), below.
    assert len(book.pages) == 6
    assert CONFIG["title"] in lines(book, 0)
    assert lines(book, 1) == ["Contents", "Opening 1", "Part 1", "A long page 2", "Below 4"]
    assert "Words of the opening." in book.pages[2].extract_text()
    assert "The last page." in book.pages[5].extract_text()
    assert book.page_labels == ["i", "ii", "1", "2", "3", "4"]
    assert book.metadata and book.metadata.title == CONFIG["title"]


def test_each_sheet_has_its_title_above_and_its_number_below(book: pypdf.PdfReader) -> None:
    titles = ["Opening", "A long page", "A long page", "Below"]
    for number, title in enumerate(titles, 1):
        text = lines(book, number + 1)
        assert str(number) in text and title in text
    assert not any(line.isdigit() for number in (0, 1) for line in lines(book, number))


def test_hints_and_solutions_are_unfolded_and_code_left_out(book: pypdf.PdfReader) -> None:
    text = book.pages[3].extract_text()
    for shown in ("forty-two", "count them", "unfolded", "step", "7"):
        assert shown in text
    for left_out in ("plumbing", "Show code cell source"):
        assert left_out not in text


def test_links_lead_into_the_pdf_or_to_the_web_and_nowhere_else(book: pypdf.PdfReader) -> None:
    # The index is not printed, so that link is gone.
    assert links(book, 2) == [4, 3, "https://example.org/else"]
    assert links(book, 4) == [3]  # within a page
    assert links(book, 5) == [2]
    assert links(book, 1) == [2, 3, 5]  # of the contents
    assert links(book, 0) == [CONFIG["repository"]["url"]]


def test_the_outline_has_parts_pages_and_sections(book: pypdf.PdfReader) -> None:
    def tree(items: list[Any]) -> list[Any]:
        return [
            tree(item) if isinstance(item, list) else (item.title, sheet(item))
            for item in items
        ]

    def sheet(item: Any) -> int | None:
        return book.get_destination_page_number(item)

    assert tree(book.outline) == [
        ("Opening", 2),
        ("Part 1", 3),
        [("A long page", 3), [("Shallow", 3), ("Deep", 4), ("Below", 5)]],
    ]


def test_a_missing_page_is_named_and_nothing_is_written(
    printer: ModuleType, browser: sync_api.Browser, tmp_path: Path
) -> None:
    (build(tmp_path) / "below.html").unlink()
    with pytest.raises(printer.CannotPrint, match=r"below\.html is missing.*make book"):
        printer.print_book(browser, tmp_path, TOC, CONFIG, tmp_path / "out" / "book.pdf")
    assert not (tmp_path / "out").exists()


def test_the_contents_of_the_book_can_all_be_printed(printer: ModuleType) -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    names = [name for _, _, name in printer.contents(toc)]
    assert names[0] == toc["root"] and len(names) == len(set(names))
    listed = (ROOT / "_toc.yml").read_text("utf-8").count("file:") + 1
    assert len(names) == listed
