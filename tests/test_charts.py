"""The look of the figures: colours computed, not judged by eye, and what a notebook gets."""

from __future__ import annotations

import html.parser
import itertools
import re
import sys

import altair as alt
import numpy as np
import pandas as pd
import pytest

from sas_lib import charts

LIGHT_PAGE, DARK_PAGE = "#ffffff", "#121212"
SEEN_WITH = {  # Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
    "full colour vision": np.eye(3),
    "protanopia": np.array(
        [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]
    ),
    "deuteranopia": np.array(
        [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]
    ),
    "tritanopia": np.array(
        [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]]
    ),
}


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    dark, light = sorted(linear(c) @ [0.2126, 0.7152, 0.0722] for c in (one, other))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear RGB."""
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    xyz = to_xyz @ np.clip(rgb, 0, 1) / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("name", charts.PALETTE)
@pytest.mark.parametrize("page", [LIGHT_PAGE, DARK_PAGE])
def test_colours_stand_out_from_the_page(name: str, page: str) -> None:
    assert contrast(charts.PALETTE[name], page) >= 3  # WCAG 1.4.11, graphical objects


@pytest.mark.parametrize("vision", SEEN_WITH)
def test_colours_stay_apart_without_full_colour_vision(vision: str) -> None:
    for one, other in itertools.combinations(charts.PALETTE.values(), 2):
        seen = [lab(SEEN_WITH[vision] @ linear(colour)) for colour in (one, other)]
        assert np.linalg.norm(seen[0] - seen[1]) >= 18, (one, other)


@pytest.fixture
def chart() -> alt.Chart:
    table = pd.DataFrame({"step": [1, 10, 100], "loss": [7.0, 6.5, 4.0]})
    return alt.Chart(table).mark_line().encode(x="step:Q", y="loss:Q")


def test_a_figure_has_html_an_image_and_its_description(chart: alt.Chart) -> None:
    bundle, _ = charts.show(chart, alt="Loss falls.")._repr_mimebundle_()
    assert bundle["text/plain"] == "Loss falls."
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert bundle["text/html"].count("<figure") == bundle["text/html"].count("</figure>") == 1


def test_the_description_is_escaped_and_names_figure_and_drawing(chart: alt.Chart) -> None:
    description = 'Loss "falls" < 5 & more'
    figure = charts.show(chart, alt=description)
    labels = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            labels.extend(value for name, value in attrs if name == "aria-label")

    Reader().feed(figure.html)
    assert labels == [description]
    assert figure.spec["description"] == description


def test_the_same_chart_gives_the_same_bytes(chart: alt.Chart) -> None:
    first, again = charts.show(chart, alt="Loss."), charts.show(chart.copy(), alt="Loss.")
    assert first.html == again.html
    assert charts.show(chart, alt="Other.").html.find(first_id(first.html)) == -1


def first_id(page: str) -> str:
    match = re.search(r'div id="(chart-[0-9a-f]+)"', page)
    assert match
    return match[1]


def test_a_figure_needs_a_description(chart: alt.Chart) -> None:
    with pytest.raises(ValueError, match="needs a description"):
        charts.show(chart, alt="  ")


def test_an_image_is_left_out_without_vl_convert(
    chart: alt.Chart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    bundle, _ = charts.show(chart, alt="Loss.")._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
