"""Print the built book as one PDF: `make pdf`.

Chromium prints each page in the order of _toc.yml, with page numbers that run on. pypdf joins
them behind a title page and the contents, gives the PDF an outline, and turns links from page
to page into links within the PDF. On paper nothing moves and nothing unfolds: figures are as
they stand before a slider is moved, hints and solutions are unfolded, folded code is left out.
"""

from __future__ import annotations

import datetime
import html
import io
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import yaml
from playwright.sync_api import Browser, Page, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, FloatObject, NameObject, NullObject, TextStringObject
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
PAPER = {"top": "20mm", "bottom": "20mm", "left": "18mm", "right": "18mm"}
WIDTH = 660  # pixels: A4 without the margins, so that charts are drawn for that width
INSIDE = "https://book.invalid/"  # stands for the book in links, until the pages are joined
SMALL = "font: 8px sans-serif; color: #555; width: 100%; text-align: center"
LEFT_OUT = """
  Figures are shown as they stand before a slider is moved. Hints and solutions are unfolded;
  folded code is left out. The pages on the web have all of it.
"""

# Unfolds the page, moves it to its place among the numbered pages, and returns its title and
# sections. A link is turned into an address that `joined` understands; a hidden link to each
# anchor makes Chromium keep where it is.
PREPARE = """([before, base, inside]) => {
  const article = document.querySelector("article") || document.body;
  const own = location.href.split("#")[0];
  for (const link of article.querySelectorAll("a[href]")) {
    if (link.href.startsWith(base)) link.href = inside + link.href.slice(base.length);
  }
  for (const { id } of article.querySelectorAll("[id]:not(svg *)")) {
    if (!id) continue;
    const anchor = document.createElement("a");
    anchor.href = `${own}#${encodeURIComponent(id)}`;
    anchor.style.display = "none";
    article.append(anchor);
  }
  const code = (e) => e.matches(".hide, .bibtex, .vega-embed *");
  for (const e of article.querySelectorAll("details")) {
    e.open = !code(e) || /solution/i.test(e.querySelector("summary").textContent);
  }
  for (const e of article.querySelectorAll(".toggle-hidden")) {
    e.classList.remove("toggle-hidden");
  }
  document.querySelector("#jb-print-docs-body #print-main-content")?.remove();
  const words = (e) => {
    const copy = e.cloneNode(true);
    copy.querySelectorAll(".headerlink, mjx-assistive-mml").forEach((x) => x.remove());
    return copy.textContent.trim();
  };
  const title = article.querySelector("h1");
  const sections = [...article.querySelectorAll("h2")].map((e) => [
    words(e), e.id || e.closest("section[id]")?.id || "",
  ]);
  for (let n = 0; n < before; n += 1) {
    const blank = document.createElement("div");
    Object.assign(blank.style, { height: "1px", breakAfter: "page" });
    document.body.prepend(blank);
  }
  return { title: title ? words(title) : document.title, sections };
}"""
DRAWN = """async () => {
  await window.MathJax?.startup?.promise;
  const charts = [...document.querySelectorAll('div[id^="chart-"]')];
  return charts.every((e) => e.querySelector("svg.marks, canvas.marks"));
}"""


class CannotPrint(RuntimeError):
    """The book cannot be printed; the message says why and what to do."""


@dataclass
class Printed:
    """A page of the book as it was printed."""

    name: str  # as in _toc.yml
    level: int  # 1 for a chapter, 2 for a page under it
    part: str  # the caption of its part, empty for the first page
    title: str
    sections: list[tuple[str, str]]  # words and anchor
    pdf: PdfReader
    first: int = 0  # number of its first page, from 0
    places: dict[str, tuple[int, float, float]] = field(default_factory=dict)  # of anchors


def contents(toc: dict) -> Iterator[tuple[str, int, str]]:
    """The pages of a table of contents in order: part, level and name of each."""
    yield "", 1, toc["root"]
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            yield part["caption"], 1, chapter["file"]
            for section in chapter.get("sections", []):
                yield part["caption"], 2, section["file"]


def printed(tab: Page, book: Path, part: str, level: int, name: str, before: int) -> Printed:
    """Print one page; ``before`` is the number of pages that come before it."""
    path = book / f"{name}.html"
    if not path.is_file():
        raise CannotPrint(f"{path} is missing: build the book first (make book)")
    tab.goto(path.as_uri(), wait_until="load")
    tab.wait_for_function(DRAWN, timeout=60_000)
    tab.wait_for_timeout(300)  # charts that fit themselves to the paper are drawn twice
    found = tab.evaluate(PREPARE, [before, book.as_uri() + "/", INSIDE])
    head = f'<div style="{SMALL}">{html.escape(found["title"])}</div>'
    pdf = PdfReader(io.BytesIO(on_paper(tab, head, f"{before + 1}-")))
    page = Printed(name, level, part, found["title"], found["sections"], pdf, before)
    for anchor, place in pdf.named_destinations.items():
        number = pdf.get_destination_page_number(place)
        left, top = float(place.left or 0), float(place.top or 0)
        page.places[unquote(anchor.lstrip("/"))] = (before + (number or 0), left, top)
    return page


def on_paper(tab: Page, head: str = "", pages: str = "") -> bytes:
    """The open page as a PDF; with a ``head``, numbers too."""
    return tab.pdf(
        format="A4",
        margin=PAPER,
        page_ranges=pages,
        print_background=True,
        display_header_footer=bool(head),
        header_template=head,
        footer_template=f'<div style="{SMALL}"><span class="pageNumber"></span></div>',
    )


def front(tab: Page, pages: list[Printed], config: dict) -> PdfReader:
    """Title page and contents."""
    rows, part = [], ""
    for page in pages:
        if page.part != part:
            part = page.part
            rows.append(f"<h3>{html.escape(part)}</h3>")
        rows.append(
            f'<a class="row level{page.level}" href="{INSIDE}{page.name}.html">'
            f"<span>{html.escape(page.title)}</span><i></i><b>{page.first + 1}</b></a>"
        )
    day = datetime.date.today()
    tab.set_content(f"""<!doctype html><html lang="en-GB"><style>
      body {{ font: 12pt Georgia, "DejaVu Serif", serif; margin: 0; }}
      header {{ height: 240mm; break-after: page; text-align: center; padding-top: 70mm;
                box-sizing: border-box; }}
      h1 {{ font-size: 32pt; }}
      small {{ display: block; margin: 60mm auto 0; max-width: 110mm; color: #333; }}
      h3 {{ margin: 1.2em 0 0.3em; font-size: 12pt; break-after: avoid; }}
      .row {{ display: flex; gap: 0.5em; color: inherit; text-decoration: none;
              break-inside: avoid; line-height: 1.5; }}
      .row i {{ flex: 1; border-bottom: 1px dotted #888; margin-bottom: 0.4em; }}
      .row b {{ font-weight: normal; }}
      .level2 {{ padding-left: 1.5em; }}
      </style><header><h1>{html.escape(config["title"])}</h1>
      <p>{html.escape(config["author"])}</p>
      <small>{LEFT_OUT}<br><br>Text and figures: CC BY 4.0. Code: MIT.<br>
      <a href="{config["repository"]["url"]}">{config["repository"]["url"]}</a><br>
      Printed on {day.day} {day:%B %Y}.</small></header>
      <h2>Contents</h2>{"".join(rows)}</html>""")
    return PdfReader(io.BytesIO(on_paper(tab)))


def joined(pages: list[Printed], opening: PdfReader, config: dict) -> PdfWriter:
    """All pages in one PDF, with outline, page labels and links."""
    book = PdfWriter()
    for pdf in (opening, *(page.pdf for page in pages)):
        book.append(pdf, import_outline=False)
    ahead = len(opening.pages)
    link_up(book, pages, ahead)
    add_outline(book, pages, ahead)
    book.set_page_label(0, ahead - 1, style="/r")
    book.set_page_label(ahead, len(book.pages) - 1, style="/D")
    book.add_metadata({"/Title": config["title"], "/Author": config["author"]})
    book.root_object[NameObject("/Lang")] = TextStringObject("en-GB")
    book.page_mode = "/UseOutlines"
    return book


def link_up(book: PdfWriter, pages: list[Printed], ahead: int) -> None:
    """Let links into the book lead to their pages; take out those to what is not printed."""
    places = {f"{page.name}.html": (page.first, 0.0, 842.0) for page in pages}
    for page in pages:
        for anchor, place in page.places.items():
            places[f"{page.name}.html#{anchor}"] = place
    for sheet in book.pages:
        kept = ArrayObject()
        for entry in sheet.get("/Annots", []):
            link = entry.get_object()
            address = str(link.get("/A", {}).get("/URI", ""))
            if address.startswith(INSIDE):
                wanted = unquote(address.removeprefix(INSIDE))
                place = places.get(wanted) or places.get(wanted.partition("#")[0])
                if place is None:
                    continue
                number, left, top = place
                del link["/A"]
                link[NameObject("/Dest")] = ArrayObject(
                    [
                        book.pages[ahead + number].indirect_reference,
                        NameObject("/XYZ"),
                        *map(FloatObject, (left, top)),
                        NullObject(),
                    ]
                )
            kept.append(entry)
        if "/Annots" in sheet:
            sheet[NameObject("/Annots")] = kept


def add_outline(book: PdfWriter, pages: list[Printed], ahead: int) -> None:
    """Parts, chapters, the pages under them, and the sections of each."""
    above: dict[int, object] = {}  # the entry last made at each level
    part = ""
    for page in pages:
        if page.part != part:
            part = page.part
            above = {0: book.add_outline_item(title=part, page_number=ahead + page.first)}
        parent = above.get(page.level - 1)
        above[page.level] = book.add_outline_item(
            title=page.title, page_number=ahead + page.first, parent=parent
        )
        for words, anchor in page.sections:
            number = page.places.get(anchor, (page.first, 0, 0))[0]
            book.add_outline_item(
                title=words, page_number=ahead + number, parent=above[page.level]
            )


def print_book(browser: Browser, html_folder: Path, toc: dict, config: dict, out: Path) -> int:
    """Print the pages of ``toc`` found in ``html_folder`` to ``out``; returns how many sheets.

    Raises:
        CannotPrint: a page of the table of contents is not built.
    """
    context = browser.new_context(
        viewport={"width": WIDTH, "height": 1000}, color_scheme="light"
    )
    tab = context.new_page()
    tab.emulate_media(media="print", color_scheme="light")
    pages: list[Printed] = []
    for part, level, name in tqdm([*contents(toc)], "printing", unit=" pages"):
        before = pages[-1].first + len(pages[-1].pdf.pages) if pages else 0
        pages.append(printed(tab, html_folder.resolve(), part, level, name, before))
    book = joined(pages, front(tab, pages, config), config)
    context.close()
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_suffix(".part")
    book.write(unfinished)
    unfinished.replace(out)
    return len(book.pages)


def main() -> None:
    """Print the book of this repository into _build/pdf."""
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        raise CannotPrint(f"there is no Chromium on this machine (looked for {BROWSERS})")
    toc, config = (
        yaml.safe_load((ROOT / f).read_text("utf-8")) for f in ("_toc.yml", "_config.yml")
    )
    out = ROOT / "_build" / "pdf" / "sudden-drops.pdf"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        sheets = print_book(browser, ROOT / "_build" / "html", toc, config, out)
    print(f"{sheets} pages, {out.stat().st_size / 1e6:.1f} MB:\n  {out}")


if __name__ == "__main__":
    try:
        main()
    except CannotPrint as error:
        sys.exit(f"The book was not printed: {error}.")
