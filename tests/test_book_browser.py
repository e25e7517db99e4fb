"""The built book in a real browser, with the network off: every page, wide and narrow.

What can be drawn is drawn, what is drawn can be read by everybody (axe-core, fetched from npm
once), links lead somewhere, search finds.

Built by `make book`; without it, or without Chromium, these tests are skipped with a reason.
REQUIRE_BOOK=1 turns a missing book into a failure.
"""

from __future__ import annotations

import contextlib
import functools
import html.parser
import http.server
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml
from browsers import CHROMIUM

sync_api = pytest.importorskip("playwright.sync_api")

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "_build" / "html"
PAGES = sorted(
    path.relative_to(BOOK).as_posix()
    for path in BOOK.rglob("*.html")
    if not path.relative_to(BOOK).parts[0].startswith("_")
)
WITH_CHARTS = [p for p in PAGES if '<figure class="chart"' in (BOOK / p).read_text("utf-8")]
WIDTHS = (1280, 390)
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
ADDRESS = CONFIG["repository"]["url"]


def missing_book() -> str | None:
    """Say why there is no book to test; None when there is one, as new as its sources."""
    stamp = BOOK.parent / ".built"
    if not PAGES or not stamp.is_file():
        return "the book is not built (make book)"
    sources = [ROOT / "_config.yml", ROOT / "_toc.yml"]
    for folder in ("book", "sas_lib"):
        found = (ROOT / folder).rglob("*")
        sources += (p for p in found if not {"__pycache__", "runs"} & {*p.parts})
    newer = [p for p in sources if p.is_file() and p.stat().st_mtime > stamp.stat().st_mtime]
    if newer:
        return f"the built book is older than {newer[0].relative_to(ROOT)} (make book)"
    return None


MISSING = missing_book()
REQUIRED = os.environ.get("REQUIRE_BOOK") == "1"
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.skipif(bool(MISSING and not REQUIRED), reason=str(MISSING)),
]

# What a drawn page must show; each returns a list of complaints.
DRAWN = """() => {
  const size = (e) => { const r = e.getBoundingClientRect(); return r.width * r.height; };
  const charts = [...document.querySelectorAll('[id^="chart-"], [id^="altair-viz"]')]
    .filter((e) => e.tagName === "DIV");
  const views = document.querySelectorAll(
    'script[type="application/vnd.jupyter.widget-view+json"]');
  const widgets = document.querySelectorAll(".widget-subarea");
  const formulae = [...document.querySelectorAll("span.math, div.math")];
  return [
    ...charts.filter((e) => ![...e.querySelectorAll("svg.marks, canvas.marks")].some(size))
      .map((e) => `chart ${e.id} is not drawn: ${e.innerText.slice(0, 200)}`),
    ...formulae
      .filter((e) => !e.querySelector("mjx-container") || e.querySelector("[data-mjx-error]"))
      .map((e) => `formula is not set: ${e.textContent.slice(0, 80)}`),
    ...(widgets.length < views.length
      ? [`${views.length - widgets.length} widgets are missing`] : []),
  ];
}"""
DESCRIBED = r"""() => [
  ...[...document.images]
    .filter((e) => !e.alt.trim() || /\.(png|svg|jpe?g|gif|webp)$/i.test(e.alt))
    .map((e) => `image without alt text: ${e.src.slice(0, 120)}`),
  ...[...document.querySelectorAll(".vega-embed")]
    .filter((e) => !e.closest("figure.chart")?.getAttribute("aria-label")?.trim())
    .map((e) => `chart ${e.id} has no description (charts.show gives it one)`),
]"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the book, served on this machine."""
    handler = functools.partial(QuietHandler, directory=str(BOOK))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def problems() -> list[str]:
    return []


@pytest.fixture
def tab(browser: sync_api.Browser, site: str, problems: list[str]) -> Iterator[sync_api.Page]:
    """A tab that reports what goes wrong and may not leave this machine."""
    context = browser.new_context()

    def guard(route: sync_api.Route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            problems.append(f"request that leaves this machine: {route.request.url}")
            route.abort()

    context.route("**/*", guard)
    tab = context.new_page()
    tab.on(
        "console",
        lambda message: (
            problems.append(f"console: {message.text} ({message.location.get('url')})")
            if message.type == "error"
            else None
        ),
    )
    tab.on("pageerror", lambda error: problems.append(f"script error: {error}"))
    tab.on(
        "response",
        lambda answer: (
            problems.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None
        ),
    )
    yield tab
    context.close()


def open_page(tab: sync_api.Page, url: str, width: int = WIDTHS[0]) -> list[str]:
    """Open a page and wait until all is drawn; return what is not, after 20 seconds."""
    tab.set_viewport_size({"width": width, "height": 900})
    tab.goto(url, wait_until="load")
    with contextlib.suppress(sync_api.TimeoutError):
        tab.wait_for_function(f"() => ({DRAWN})().length === 0", timeout=20_000)
    tab.wait_for_timeout(300)  # charts that fit themselves to the window draw twice
    return tab.evaluate(DRAWN)


def test_the_book_is_built() -> None:
    assert MISSING is None


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_page(
    tab: sync_api.Page, site: str, problems: list[str], name: str, width: int
) -> None:
    problems += open_page(tab, f"{site}/{name}", width)
    problems += tab.evaluate(DESCRIBED)
    if (overflow := tab.evaluate(OVERFLOW)) > 0:
        problems.append(f"the page is {overflow} pixels wider than a window of {width}")
    assert not problems, "\n".join([f"{name} at {width} pixels", *problems])


@pytest.mark.parametrize("name", WITH_CHARTS)
def test_sliders_work_without_a_kernel(tab: sync_api.Page, site: str, name: str) -> None:
    open_page(tab, f"{site}/{name}")
    for chart in tab.locator("figure.chart").all():
        for slider in chart.locator("input[type=range]").all():
            drawings = set()
            for end in ("min", "max"):
                slider.evaluate(
                    "(e, end) => { e.value = e[end]; e.dispatchEvent(new Event('input')); }",
                    end,
                )
                tab.wait_for_timeout(300)
                drawings.add(chart.locator("svg.marks").inner_html())
            assert len(drawings) == 2, f"{name}: a slider changes nothing in its chart"


@pytest.mark.parametrize("name", WITH_CHARTS)
def test_charts_fit_a_window_that_narrows(tab: sync_api.Page, site: str, name: str) -> None:
    open_page(tab, f"{site}/{name}")
    sliders = tab.locator("figure.chart .vega-bind input[type=range]")
    for slider in sliders.all():
        slider.evaluate("(e) => { e.value = e.max; e.dispatchEvent(new Event('input')); }")
    tab.wait_for_timeout(300)
    chosen = [slider.input_value() for slider in sliders.all()]
    tab.set_viewport_size({"width": WIDTHS[1], "height": 900})
    tab.wait_for_timeout(1500)
    assert tab.evaluate(DRAWN) == []
    assert tab.evaluate(OVERFLOW) <= 0
    assert [slider.input_value() for slider in sliders.all()] == chosen


# Everybody can read it


# Every rule of WCAG 2.2 at levels A and AA that axe-core has, and these on headings.
AXE_INTEGRITY = (
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37Og"
    "udVGtQ=="
)
RUN_AXE = """async () => {
  const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
  const headings = ["heading-order", "empty-heading", "page-has-heading-one"];
  const { violations } = await axe.run(document, {
    resultTypes: ["violations"],
    runOnly: { type: "tag", values: tags },
    rules: Object.fromEntries(headings.map((rule) => [rule, { enabled: true }])),
  });
  return violations.flatMap((rule) => rule.nodes.map((node) =>
    `${rule.id}: ${node.target.join(" ")}: ${node.failureSummary.replace(/\\s+/g, " ")}`));
}"""


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core, fetched as the book fetches its own scripts."""
    spec = importlib.util.spec_from_file_location("offline", ROOT / "book/_ext/offline.py")
    assert spec and spec.loader
    offline = importlib.util.module_from_spec(spec)
    sys.modules["offline"] = offline
    spec.loader.exec_module(offline)
    files = r"axe\.min\.js|LICENSE"
    package = offline.NpmPackage("axe-core", "4.14.1", AXE_INTEGRITY, files)
    try:
        folder = offline.npm_static_folder(package)
    except offline.Unavailable as reason:
        if REQUIRED:
            raise
        pytest.skip(f"no axe-core: {reason}")
    return (folder / "vendor" / "axe-core" / "axe.min.js").read_text("utf-8")


def check_by_axe(tab: sync_api.Page, axe: str, *themes: str) -> list[str]:
    """What axe-core has to say of the open page, in each theme."""
    tab.evaluate(axe)
    complaints = []
    for theme in themes:
        tab.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
        tab.wait_for_timeout(400)  # colours of links change slowly
        complaints += [f"{theme}: {complaint}" for complaint in tab.evaluate(RUN_AXE)]
    return complaints


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_accessible(
    tab: sync_api.Page, site: str, problems: list[str], axe: str, name: str, width: int
) -> None:
    open_page(tab, f"{site}/{name}", width)
    # Colours are the same at all widths.
    themes = ("light", "dark") if width == WIDTHS[0] else ("light",)
    found = check_by_axe(tab, axe, *themes)
    assert not found + problems, "\n".join([f"{name} at {width} pixels", *found, *problems])


def test_axe_finds_what_is_wrong(tab: sync_api.Page, axe: str) -> None:
    """The check can fail: on its rules for contrast, names, alt text and headings."""
    tab.set_content(
        '<html lang="en"><title>t</title><h1>One</h1><h4>Four</h4><img src="data:,">'
        '<button></button><p style="color: #999; background: #fff">faint</p></html>'
    )
    found = {complaint.split(": ")[1] for complaint in check_by_axe(tab, axe, "light")}
    assert {"heading-order", "image-alt", "button-name", "color-contrast"} <= found


# Text in charts against what lies behind the chart, by the WCAG formula for contrast.
FAINT_TEXT = """() => {
  const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => rgb(colour).slice(0, 3)
    .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    const colour = getComputedStyle(e).backgroundColor;
    return rgb(colour)[3] !== 0 || !e.parentElement ? colour : behind(e.parentElement);
  };
  const labels = ".role-axis-label text, .role-axis-title text, .role-legend-label text";
  return [...document.querySelectorAll("figure.chart svg")].flatMap((svg) =>
    [...svg.querySelectorAll(labels)].filter((e) => {
      const [a, b] = [light(getComputedStyle(e).fill), light(behind(svg))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
    }).map((e) => e.textContent));
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", WITH_CHARTS)
def test_text_in_charts_is_readable(
    tab: sync_api.Page, site: str, name: str, theme: str
) -> None:
    tab.add_init_script(
        f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}');"
    )
    open_page(tab, f"{site}/{name}")
    assert not tab.evaluate(FAINT_TEXT)


# Links


LOCAL = {None, "localhost", "127.0.0.1", "0.0.0.0"}


class Links(NamedTuple):
    """The anchors of a page, and what it refers to: attribute and address of each."""

    anchors: set[str]
    targets: list[tuple[str, str]]


class Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links = Links(set(), [])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "id" or (name, tag) == ("name", "a")):
                self.links.anchors.add(value)
            elif value and name in {"href", "src"}:
                self.links.targets.append((name, value))


@functools.cache
def links_of(name: str) -> Links:
    reader = Reader()
    reader.feed((BOOK / name).read_text("utf-8"))
    return reader.links


def broken(name: str, target: str) -> str | None:
    """Say what is wrong with an address on a page; None when it leads somewhere."""
    parts = urlsplit(urljoin(f"https://this.book/{name}", target))
    if parts.scheme in {"data", "mailto"}:
        return None
    if parts.scheme not in {"http", "https"} or parts.hostname in LOCAL:
        return "is no address on the web"
    if parts.hostname != "this.book":
        return None
    if target.startswith("/"):
        return "leads out of the folder that the book may be in"
    path = unquote(parts.path).lstrip("/")
    if not (BOOK / path).is_file():
        return "leads to no file"
    anchor = unquote(parts.fragment)
    if anchor and path.endswith(".html") and anchor not in links_of(path).anchors:
        return "names an anchor that is not there"
    return None


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    found = {
        f'{attribute}="{target}" {reason}'
        for attribute, target in links_of(name).targets
        if (reason := broken(name, target))
    }
    assert not found, "\n".join([name, *sorted(found)])


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost:8888/tree",
        "https://127.0.0.1/x",
        "file:///home/someone/x.html",
        "/home/someone/x.png",
        "no_such_page.html",
        "intro.html#no-such-anchor",
        "#no-such-anchor",
    ],
)
def test_a_broken_link_is_found(target: str) -> None:
    assert broken("book/intro.html", target)


def source_of(name: str) -> str | None:
    """The file that a page was made from, in the repository."""
    stem = name.removesuffix(".html")
    return next(
        (f"{stem}{e}" for e in (".md", ".ipynb") if (ROOT / f"{stem}{e}").is_file()), None
    )


@pytest.mark.parametrize("name", [name for name in PAGES if source_of(name)])
def test_buttons_lead_to_the_source_of_a_page_and_to_an_issue_about_it(name: str) -> None:
    targets = [target for _, target in links_of(name).targets]
    assert f"{ADDRESS}/edit/{CONFIG['repository']['branch']}/{source_of(name)}" in targets
    issues = [unquote(t) for t in targets if t.startswith(f"{ADDRESS}/issues/new?")]
    assert [name in issue for issue in issues] == [True]


# Search, index, references


@pytest.mark.parametrize(("words", "page"), [("mirage", "mirage"), ("treebank", "glossary")])
def test_search_finds_a_word_that_is_typed(
    tab: sync_api.Page, site: str, problems: list[str], words: str, page: str
) -> None:
    open_page(tab, f"{site}/book/intro.html")
    tab.keyboard.press("Control+k")
    tab.keyboard.type(words)
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/search.html?q=*")
    results = tab.locator("#search-results ul.search a")
    results.first.wait_for(timeout=20_000)
    tab.wait_for_timeout(1000)  # the results come one by one
    found = [urlsplit(link.get_attribute("href") or "").path for link in results.all()]
    assert any(path.endswith(f"{page}.html") for path in found), found
    assert not problems


def test_search_says_when_it_finds_nothing(tab: sync_api.Page, site: str) -> None:
    open_page(tab, f"{site}/search.html?q=zzyzx")
    tab.wait_for_function(
        "() => /did not match/.test(document.querySelector('#search-results').innerText)"
    )


@pytest.mark.skipif("genindex.html" not in PAGES, reason="the book is not built (make book)")
def test_every_term_of_the_glossary_is_in_the_index() -> None:
    terms = {a for a in links_of("book/glossary.html").anchors if a.startswith("term-")}
    indexed = {urlsplit(t).fragment for _, t in links_of("genindex.html").targets}
    assert terms and terms <= indexed


BIBLIOGRAPHY = (ROOT / "book" / "references.bib").read_text("utf-8")


def test_references_can_be_linked_to_and_copied(tab: sync_api.Page, site: str) -> None:
    open_page(tab, f"{site}/book/references.html")
    entries = tab.locator("div.citation")
    keys = re.findall(r"^@\w+\{([^,]+),", BIBLIOGRAPHY, re.MULTILINE)
    assert 0 < entries.count() <= len(keys)
    for entry in entries.all():
        key, *more = [
            line.split("{")[1].rstrip(",")
            for line in (entry.locator("pre").text_content() or "").splitlines()
            if line.startswith("@")
        ]
        assert key in keys and not more
        assert entry.locator(f'[id="{key}"]').count() == 1
        assert entry.locator("details button.copybtn").count() == 1
    entries.first.locator("summary").click()
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    entries.first.locator("pre").hover()
    entries.first.locator("button.copybtn").click()
    copied = tab.evaluate("() => navigator.clipboard.readText()")
    assert copied.startswith("@") and copied.rstrip().endswith("}")


@pytest.mark.skipif(
    "book/references.html" not in PAGES, reason="the book is not built (make book)"
)
def test_the_bibliography_can_be_downloaded() -> None:
    targets = [t for _, t in links_of("book/references.html").targets if t.endswith(".bib")]
    assert len(targets) == 1
    assert (BOOK / "book" / targets[0]).read_text("utf-8") == BIBLIOGRAPHY


COLAB_LINK = re.compile(
    r'href="https://colab\.research\.google\.com/github/[^/]+/[^/]+/blob/[^/]+/([^"]+)"'
)


@pytest.mark.parametrize("name", PAGES)
def test_colab_links_open_notebooks_of_this_project(name: str) -> None:
    for path in COLAB_LINK.findall((BOOK / name).read_text(encoding="utf-8")):
        assert path.endswith(".ipynb"), f"{name}: Colab cannot open {path}"
        assert (ROOT / path).is_file(), f"{name}: there is no {path}"
