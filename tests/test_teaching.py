"""The instructor guide, its answers, and the slides."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from browsers import CHROMIUM
from test_house import load

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "book"
GUIDE = (BOOK / "teaching.md").read_text("utf-8")
ANSWERS = (BOOK / "teaching_answers.md").read_text("utf-8")
PAGES = {"teaching": GUIDE, "teaching_answers": ANSWERS}
NOTEBOOK = BOOK / "slides" / "ninety_minutes.ipynb"


# Links


def markdown_of(name: str) -> str | None:
    """The prose of a page of the book; None where there is no such page."""
    if (path := BOOK / f"{name}.md").is_file():
        return path.read_text("utf-8")
    if not (path := BOOK / f"{name}.ipynb").is_file():
        return None
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def labels() -> set[str]:
    found: set[str] = set()
    for path in [*BOOK.glob("*.ipynb"), *BOOK.glob("*.md")]:
        text = markdown_of(path.stem) or ""
        found |= set(re.findall(r"^:(?:label|name): (\S+)", text, re.MULTILINE))
        found |= set(re.findall(r"^\(([\w-]+)\)=", text, re.MULTILINE))
    return found


def named_sections(text: str) -> list[tuple[str, str]]:
    """Sections as both pages name them: a page, then headings in italics."""
    found = []
    several = r"\*[^*]+\*(?:(?:,| and| to) \*[^*]+\*)*"
    for page, names in re.findall(rf"{{doc}}`([^`]+)`(?:,| as far as) ({several})", text):
        found += [(page, name) for name in re.findall(r"\*([^*]+)\*", names)]
    return found


@pytest.mark.parametrize("name", PAGES)
def test_every_link_has_a_target(name: str) -> None:
    docs = set(re.findall(r"{doc}`([^`]+)`", PAGES[name]))
    refs = set(re.findall(r"{ref}`([^`]+)`", PAGES[name]))
    assert docs and refs
    assert not {page for page in docs if markdown_of(page) is None}
    assert not refs - labels()
    assert not re.findall(r"\]\((?!https)", PAGES[name]), "link by role, so that it is checked"


@pytest.mark.parametrize("name", PAGES)
def test_every_section_that_is_named_exists(name: str) -> None:
    sections = named_sections(PAGES[name])
    assert len(sections) > 20
    for page, heading in sections:
        text = markdown_of(page)
        assert text is not None
        assert re.search(rf"^#+ {re.escape(heading)}\s*$", text, re.MULTILINE), (page, heading)


# Plans


def parts(text: str, level: str) -> dict[str, str]:
    """Heading to text, for the headings of a level (such as "## ")."""
    pieces = re.split(rf"^{level}(.+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def minutes(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]


def test_the_minutes_of_each_plan_add_up() -> None:
    plans = {**parts(GUIDE, "## "), **parts(GUIDE, "### ")}
    promised = {
        heading: int(found[1])
        for heading in plans
        if (found := re.search(r"\((\d+) minutes\)", heading))
    }
    assert len(promised) == 7  # a session, a day, four weeks, and each of the four
    for heading, total in promised.items():
        assert sum(minutes(plans[heading])) == total, heading
    for heading, text in plans.items():
        if heading.startswith(("One", "Week")):
            assert "**Skip**" in text, f"{heading}: what to skip"


def slide_minutes() -> list[tuple[int, int]]:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    text = "\n".join(
        "".join(c["source"])
        for c in cells
        if c["metadata"]["slideshow"]["slide_type"] == "notes"
    )
    return [(int(a), int(b)) for a, b in re.findall(r"\*Minutes (\d+) to (\d+)\.\*", text)]


def test_the_slides_keep_to_the_plan() -> None:
    spans = slide_minutes()
    assert [begin for begin, _ in spans] == [0, *(end for _, end in spans[:-1])]
    plan = next(t for h, t in parts(GUIDE, "## ").items() if h.startswith("One session"))
    ends = [sum(minutes(plan)[: n + 1]) for n in range(len(minutes(plan)))]
    assert set(ends) <= {end for _, end in spans}
    assert spans[-1][1] == ends[-1]


# Questions and answers


def numbered(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"^(\d+)\. \S", text, re.MULTILINE)]


def questions(text: str) -> dict[str, list[int]]:
    """Heading to the numbers of its list, for the discussion and each part."""
    found = {h: numbered(t) for h, t in parts(text, "### ").items() if h.startswith("Part")}
    return found | {"discussion": numbered(parts(text, "## ")["Questions for discussion"])}


def test_each_question_has_an_answer() -> None:
    asked, answered = questions(GUIDE), questions(ANSWERS)
    assert asked == answered
    captions = re.findall(r"caption: (Part .+)", (ROOT / "_toc.yml").read_text())
    assert sorted(h for h in asked if h != "discussion") == sorted(captions)
    for heading, numbers in asked.items():
        assert numbers == list(range(1, 11)), heading


def test_each_answer_says_where_it_comes_from() -> None:
    for line in re.findall(r"^\d+\. .+$", ANSWERS, re.MULTILINE):
        assert "{doc}`" in line or "{ref}`" in line, line


def test_no_number_is_typed_into_an_answer() -> None:
    bare = re.sub(r"`[^`]*`|^\d+\. |^#.*$", "", ANSWERS, flags=re.MULTILINE)
    assert not re.findall(r".*\d.*", bare)


# Slides


@pytest.fixture(scope="module")
def slides() -> Iterator[ModuleType]:
    folder = str(BOOK / "_ext")
    sys.path.insert(0, folder)
    yield load(BOOK / "_ext" / "slides.py")
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def executed(slides: ModuleType) -> nbformat.NotebookNode:
    return slides.execute(NOTEBOOK)


def figures(notebook: nbformat.NotebookNode) -> list[Any]:
    return [
        (cell, output)
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if '<figure class="chart"' in output.get("data", {}).get("text/html", "")
    ]


def test_the_slides_are_stored_clean_and_each_slide_has_notes() -> None:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    kinds = [c["metadata"]["slideshow"]["slide_type"] for c in cells]
    assert all(not c.get("outputs") for c in cells)
    assert kinds.count("slide") == kinds.count("notes") > 10
    last = [k for k in kinds if k in ("slide", "notes")]
    assert last == ["slide", "notes"] * (len(last) // 2)


def test_no_measured_number_is_typed_on_a_slide() -> None:
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            assert not re.findall(r"\d[.,]\d|\d ?%", "".join(cell["source"]))


def test_the_slides_run_and_describe_their_figures(executed: nbformat.NotebookNode) -> None:
    drawn = figures(executed)
    assert len(drawn) > 8
    for cell, output in drawn:
        described = cell.metadata["mystnb"]["image"]["alt"]
        assert output.data["text/plain"] == described
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", output
            told = output.get("data", {}).get("text/markdown", "")
            assert "nan" not in told.split(), told


def test_the_page_needs_nothing_from_elsewhere(
    slides: ModuleType, executed: nbformat.NotebookNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"styles": ["p { color: red }"], "scripts": ["var ours = 1;"]}
    monkeypatch.setattr(slides, "parts", lambda: made)
    page = slides.to_html(executed)
    assert not re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?!data:)', page)
    assert "p { color: red }" in page and "var ours = 1;" in page
    slides_made = len(re.findall("<section[ >]", page)) // 2  # one within another
    assert page.count('<aside class="notes">') == slides_made > 10
    drawn = re.findall(r'<figure [^>]*class="chart"', page)
    assert len(drawn) == len(figures(executed))
    assert "def told" not in page, "the code stays out of the slides"


def test_the_checksum_and_the_files_of_reveal(slides: ModuleType) -> None:
    assert slides.REVEAL.integrity.startswith("sha512-")
    for file in ("dist/reveal.js", "dist/reveal.css", "plugin/notes/notes.js", "LICENSE"):
        assert re.fullmatch(slides.REVEAL.files, file)
    assert not re.fullmatch(slides.REVEAL.files, "dist/reveal.esm.js")


def test_a_notebook_that_fails_leaves_no_slides(
    slides: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(broken, tmp_path / "broken.ipynb")
    for name, says in (("broken", "ZeroDivisionError"), ("absent", "cannot be read")):
        with pytest.raises(SystemExit, match=says):
            slides.main([str(tmp_path / f"{name}.ipynb"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_scripts_that_cannot_be_had_are_named(
    slides: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object) -> None:
        raise slides.offline.Unavailable("there is no npm")

    monkeypatch.setattr(slides.offline, "npm_static_folder", unavailable)
    with pytest.raises(slides.SlidesError, match="there is no npm"):
        slides.parts()


LOOK = """() => {
  const slide = Reveal.getCurrentSlide();
  let [right, bottom] = [0, 0];
  for (const e of slide.querySelectorAll("*")) {
    if (e.closest("aside.notes")) continue;
    const box = e.getBoundingClientRect();
    if (!box.width || !box.height) continue;
    [right, bottom] = [Math.max(right, box.right), Math.max(bottom, box.bottom)];
  }
  const undrawn = [...slide.querySelectorAll("figure.chart")]
    .filter((e) => !e.querySelector("svg.marks")?.getBoundingClientRect().width).length;
  return [right, bottom, undrawn];
}"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_every_slide_fits_and_is_drawn_without_a_network(
    slides: ModuleType, executed: nbformat.NotebookNode, tmp_path: Path
) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    try:
        slides.write(slides.to_html(executed), tmp_path / "slides.html")
    except slides.SlidesError as reason:
        pytest.skip(f"{reason}")
    asked: list[str] = []
    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context(
            viewport={"width": 1280, "height": 720}, offline=True, reduced_motion="reduce"
        )
        page = context.new_page()
        page.on("request", lambda r: asked.append(r.url))
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.goto((tmp_path / "slides.html").as_uri())
        page.wait_for_function("() => window.Reveal && Reveal.isReady()")
        drawn = "document.querySelectorAll('figure.chart svg.marks').length"
        page.wait_for_function(f"() => {drawn} === {len(figures(executed))}")
        total = page.evaluate("Reveal.getTotalSlides()")
        for number in range(1, total + 1):
            right, bottom, undrawn = page.evaluate(LOOK)
            assert right <= 1280 and bottom <= 700, f"slide {number} overflows"
            assert undrawn == 0, f"a figure of slide {number} is not drawn"
            page.keyboard.press("ArrowRight")
        # A slider keeps the arrow keys until Escape; a remote's keys turn the slide at once.
        page.evaluate("Reveal.slide(0)")
        page.evaluate(
            "Reveal.slide([...document.querySelectorAll('.slides > section')]"
            ".findIndex((s) => s.querySelector('input[type=range]')))"
        )
        where = page.evaluate("Reveal.getIndices().h")
        page.locator("section.present section.present input[type=range]").first.focus()
        page.keyboard.press("ArrowRight")
        assert page.evaluate("Reveal.getIndices().h") == where
        page.keyboard.press("Escape")
        assert not page.evaluate("Reveal.isOverview()")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("Reveal.getIndices().h") == where + 1
        page.evaluate(f"Reveal.slide({where})")
        page.locator("section.present section.present input[type=range]").first.focus()
        page.keyboard.press("PageDown")
        assert page.evaluate("Reveal.getIndices().h") == where + 1
        printed = page.pdf(prefer_css_page_size=True)
        browser.close()
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == total, "one slide a page"
    assert asked == [(tmp_path / "slides.html").as_uri()] and not errors
