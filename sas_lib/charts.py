"""The look of every figure: one Altair theme, one palette, and figures that can be read aloud.

Text and lines take the colour of the page (``currentColor`` in a transparent SVG), so that
one figure serves a light page, a dark page and print. Colours for data come from
:data:`PALETTE`: each stands out from white and from the dark page alike (contrast of 3 or
more, WCAG 1.4.11), and any two stay apart under the three forms of colour blindness. A test
computes both.

``show(chart, alt="...")`` is how a chapter ends a figure cell. It gives a notebook three
versions: an interactive one for the web, an image for print, and the description.
"""

from __future__ import annotations

import hashlib
import html
import json
from dataclasses import dataclass
from typing import Any

import altair as alt
from altair.utils.html import spec_to_html

PALETTE = {
    "blue": "#6a8cc8",
    "rust": "#ab4513",
    "green": "#16a766",
    "violet": "#9b3cdf",
    "gold": "#c18800",
    "grey": "#626262",
}
"""Colour names to hex values; take them in this order. No figure needs more at once."""

WIDTH = 600
"""Pixels of a full-width panel; the book narrows it on a phone."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK = "currentColor"
PAGE = "var(--pst-color-background, var(--jp-layout-color0, transparent))"
"""The colour behind a figure: the book's page, a notebook, or whatever shows through."""
FAINT = {"gridColor": INK, "gridOpacity": 0.15}


# Figures carry their data; a map over checkpoints has more rows than Altair's cautious limit.
alt.data_transformers.disable_max_rows()


@alt.theme.register("sas", enable=True)
def theme() -> alt.theme.ThemeConfig:
    """Return the theme; importing this module turns it on for all Altair charts."""
    text = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12}
    config: Any = {
        "background": "transparent",
        "font": FONT,
        "view": {"continuousWidth": WIDTH, "continuousHeight": 240, "stroke": None},
        "axis": {**text, **FAINT, "domainColor": INK, "tickColor": INK, "titlePadding": 8},
        "header": text,
        "legend": {**text, "orient": "top", "symbolStrokeWidth": 3, "labelLimit": 300},
        "title": {"color": INK, "subtitleColor": INK, "fontSize": 14, "anchor": "start"},
        "range": {
            "category": list(PALETTE.values()),
            "heatmap": {"scheme": "viridis"},
            "ramp": {"scheme": "viridis"},
        },
        "line": {"strokeWidth": 2},
        "mark": {"color": PALETTE["blue"]},
        "rule": {"color": INK},
        "text": {"color": INK, "fontSize": 12},
    }
    return {"config": config}


@dataclass(frozen=True)
class Figure:
    """A chart with its description; a notebook displays it."""

    spec: dict[str, Any]
    alt: str

    @property
    def html(self) -> str:
        """The interactive figure as HTML for a page, a notebook or Colab.

        The description reaches screen readers twice: as the name of the figure, and, through
        the Vega-Lite description, as the name of the drawing in it. The figure has no role
        "img", which would hide its sliders from them.
        """
        # A name made from the content keeps rebuilt pages equal to the byte.
        name = hashlib.sha256((_json(self.spec) + self.alt).encode()).hexdigest()[:16]
        chart = spec_to_html(
            self.spec,
            mode="vega-lite",
            vega_version=alt.VEGA_VERSION,
            vegalite_version=alt.VEGALITE_VERSION,
            vegaembed_version=alt.VEGAEMBED_VERSION,
            output_div=f"chart-{name}",
            embed_options={"renderer": "svg", "actions": {"export": True, "source": False}},
            json_kwds={"sort_keys": True},
            fullhtml=False,
            template="universal",
        )
        label = html.escape(self.alt)
        return f'<figure class="chart" aria-label="{label}">\n{chart}\n</figure>'

    def png(self, scale: float = 1.5) -> bytes | None:
        """The figure as an image on white, or None without the package vl-convert."""
        try:
            import vl_convert
        except ImportError:
            return None
        spec = json.loads(json.dumps(self.spec).replace(PAGE, "white"))
        return vl_convert.vegalite_to_png({**spec, "background": "white"}, scale=scale)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        bundle: dict[str, Any] = {"text/html": self.html, "text/plain": self.alt}
        if (image := self.png()) is not None:
            bundle["image/png"] = image
        return bundle, {}


def show(chart: alt.TopLevelMixin, alt: str) -> Figure:
    """Give a chart its description and make it ready for display.

    Args:
        chart: any Altair chart, with the data that it needs inside.
        alt: what the figure shows, in a sentence or two, for those who cannot see it. Say what
            there is to learn from it, not only what is on the axes.

    Raises:
        ValueError: the description is empty.
    """
    if not alt.strip():
        raise ValueError("a figure needs a description: show(chart, alt='what it shows')")
    spec: dict[str, Any] = chart.to_dict()
    return Figure(spec={**spec, "description": alt}, alt=alt)


def _json(spec: dict[str, Any]) -> str:
    return json.dumps(spec, sort_keys=True)
