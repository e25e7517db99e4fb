"""The built book in a real browser, with the network off: every page, wide and narrow.

Built by `make book`; without it, or without Chromium, these tests are skipped with a reason.
REQUIRE_BOOK=1 turns a missing book into a failure.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

sync_api = pytest.importorskip("playwright.sync_api")

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "_build" / "html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
PAGES = sorted(
    path.relative_to(BOOK).as_posix()
    for path in BOOK.rglob("*.html")
    if not path.relative_to(BOOK).parts[0].startswith("_")
)
WITH_CHARTS = [p for p in PAGES if '<figure class="chart"' in (BOOK / p).read_text("utf-8")]
WIDTHS = (1280, 390)


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


COLAB_LINK = re.compile(
    r'href="https://colab\.research\.google\.com/github/[^/]+/[^/]+/blob/[^/]+/([^"]+)"'
)


@pytest.mark.parametrize("name", PAGES)
def test_colab_links_open_notebooks_of_this_project(name: str) -> None:
    for path in COLAB_LINK.findall((BOOK / name).read_text(encoding="utf-8")):
        assert path.endswith(".ipynb"), f"{name}: Colab cannot open {path}"
        assert (ROOT / path).is_file(), f"{name}: there is no {path}"
