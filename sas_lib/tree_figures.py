"""Dependency trees as arcs over words, attention maps as grids, scores beside a baseline.

A tree is drawn with its words on a line. Gold arcs rise above them, predicted arcs hang
below; an arrow runs from a head to its dependent. Whether a predicted arc is right shows in
its dashes as well as in its colour.

Used in the chapter "The implicit parse"; ``attention_explorer`` builds on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from sas_lib.charts import PAGE, PALETTE, WIDTH
from sas_lib.treebank import ROOT, Sentence

NOT_SCORED = ("root", "punct")
"""Relations whose arcs are drawn but not counted."""

KINDS = {  # kind of arc: colour and dashes
    "gold": ("gold", [1, 0]),
    "right": ("blue", [1, 0]),
    "wrong": ("rust", [6, 4]),
    "not counted": ("grey", [1, 4]),
}
STYLES = {**KINDS, "predicted": ("blue", [1, 0])}
"""Of the arcs of ``KINDS``, and of those for which there is no gold tree to compare with."""
UNIT = 30
"""Pixels of height for an arc between neighbours."""

# Words stand upright where there is room for them and lean where there is not.
NARROW = alt.param(name="narrow", expr="windowSize()[0] < 700")
GAP = alt.param(name="gap", expr="windowSize()[0] < 700 ? 1.1 : 0.45")


def rise(distance: int, side: int = 1) -> float:
    """The height of an arc in units: room for labels above, less of it below the words.

    ``arc_layers`` has the same formula, for the browser.
    """
    return 0.4 + 0.6 * distance if side > 0 else float(distance) ** 0.6


def word_axes(words: int, above: float, below: float) -> tuple[alt.X, alt.Y]:
    """Encodings of the fields x (word positions) and y (units), without axes."""
    x = alt.Scale(domain=[-0.6, words - 0.4], nice=False, zero=False)
    y = alt.Scale(domain=[-below, above], nice=False)
    return alt.X("x:Q", axis=None, scale=x), alt.Y("y:Q", axis=None, scale=y)


def arc_layers(arcs: alt.Chart, x: alt.X, y: alt.Y, kinds: Sequence[str]) -> list[alt.Chart]:
    """The lines, arrowheads and labels of arcs.

    arcs: a chart whose rows have dependent, head, label, kind, side (1 above the words, -1
    below) and tip, the text of the tooltip.
    """
    several = alt.Legend(title=None, symbolType="stroke", symbolSize=400)
    legend = several if len(kinds) > 1 else None
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=list(kinds), range=[PALETTE[STYLES[k][0]] for k in kinds]),
        legend=legend,
    )
    dash = alt.StrokeDash(
        "kind:N",
        scale=alt.Scale(domain=list(kinds), range=[STYLES[k][1] for k in kinds]),
        legend=legend,
    )
    tip = alt.Tooltip("tip:N", title="arc")
    arcs = arcs.transform_calculate(
        distance="abs(datum.head - datum.dependent)",
        middle="(datum.head + datum.dependent) / 2",
    ).transform_calculate(
        # Two words that predict each other get one arc inside the other.
        rise="datum.side > 0 ? 0.4 + 0.6 * datum.distance : pow(datum.distance, 0.6)"
        " + (datum.head > datum.dependent ? 0.25 : 0)"
    )
    lines = (
        arcs.transform_calculate(t="sequence(0, 1.001, 0.05)")
        .transform_flatten(["t"])
        .transform_calculate(
            x="datum.middle + (datum.dependent - datum.head) / 2 * cos(PI * datum.t)",
            y="datum.side * (gap + datum.rise * sin(PI * datum.t))",
        )
        .mark_line(strokeWidth=2)
        .encode(x, y, colour, dash, order="t:Q", detail=["dependent:Q", "side:Q"], tooltip=tip)
    )
    down, up = alt.value("triangle-down"), alt.value("triangle-up")
    heads = (
        arcs.transform_calculate(x="datum.dependent", y="datum.side * gap")
        .mark_point(filled=True, size=45, opacity=1)
        .encode(x, y, colour, shape=alt.condition("datum.side > 0", down, up), tooltip=tip)
    )
    # A patch in the page's colour keeps a name readable where another arc runs through it.
    names = arcs.transform_filter("datum.label != ''").transform_calculate(
        x="datum.middle",
        y="datum.side * (gap + datum.rise)",
        half="3.3 * length(datum.label)",
        patch="'M-' + datum.half + ',-6H' + datum.half + 'V6H-' + datum.half + 'Z'",
    )
    patch: dict[str, Any] = {
        "size": 4,
        "filled": True,
        "color": PAGE,
        "opacity": 1,
        "aria": False,
    }
    patches = names.mark_point(**patch, yOffset=-8).encode(
        x, y, shape=alt.Shape("patch:N", scale=None)
    )
    labels = names.mark_text(baseline="bottom", dy=-2, fontSize=11).encode(
        x, y, text="label:N", tooltip=tip
    )
    return [lines, heads, patches, labels]


def word_layer(words: alt.Chart, x: alt.X, y: alt.Y) -> alt.Chart:
    """The words on their line; rows have position and word."""
    return (
        words.transform_calculate(x="datum.position", y="0")
        .mark_text(
            baseline="middle",
            fontSize=12,
            angle=alt.expr("narrow ? 300 : 0"),
        )
        .encode(x, y, text="word:N")
    )


def root_layers(words: alt.Chart, x: alt.X, y: alt.Y, top: float) -> list[alt.Chart]:
    """The root's mark, a line from above. Rows have position, word and head."""
    colour = PALETTE["gold"]
    root = words.transform_filter(f"datum.head == {ROOT}").transform_calculate(
        x="datum.position", y="gap", y2=f"{top - 0.6}", tip="datum.word + ', root'"
    )
    line = root.mark_rule(strokeWidth=2, color=colour)
    point = root.mark_point(
        shape="triangle-down", filled=True, size=45, color=colour, opacity=1
    )
    name = root.transform_calculate(y=f"{top - 0.5}").mark_text(baseline="bottom", fontSize=11)
    tip = alt.Tooltip("tip:N", title="root")
    return [
        line.encode(x, y, y2="y2:Q", tooltip=tip),
        point.encode(x, y, tooltip=tip),
        name.encode(x, y, text=alt.value("root")),
    ]


def kind_of_arc(predicted: int, head: int, relation: str) -> str:
    """Is a predicted head ``right``, ``wrong`` or, as for root and punct, ``not counted``?"""
    if head == ROOT or relation in NOT_SCORED:
        return "not counted"
    return "right" if predicted == head else "wrong"


def arc_table(sentence: Sentence, predicted: Sequence[int] = ()) -> pd.DataFrame:
    """The arcs of a sentence, gold and predicted, a row each (see ``arc_layers``)."""
    words = sentence.words
    rows = [
        (
            dependent,
            head,
            relation,
            "gold",
            1,
            f"{words[head]} → {words[dependent]}, {relation}",
        )
        for dependent, head, relation in sentence.arcs()
    ]
    for dependent, head in enumerate(predicted):
        kind = kind_of_arc(head, sentence.heads[dependent], sentence.relations[dependent])
        tip = f"{words[head]} → {words[dependent]}: {kind}"
        rows.append((dependent, int(head), "", kind, -1, tip))
    return pd.DataFrame(rows, columns=["dependent", "head", "label", "kind", "side", "tip"])


def tree(sentence: Sentence, predicted: Sequence[int] = ()) -> alt.LayerChart:
    """A sentence with its gold tree above it and, if given, predicted heads below.

    predicted: for each word the 0-based position of its predicted head.

    Raises:
        ValueError: there are not as many predicted heads as words.
    """
    if len(predicted) not in (0, len(sentence)):
        raise ValueError(f"{len(sentence)} words but {len(predicted)} predicted heads")
    table = arc_table(sentence, predicted)
    longest = (table["head"] - table["dependent"]).abs().groupby(table["side"]).max()
    above = 2 + rise(int(longest.get(1, 1)))
    below = 1.4 + (rise(int(longest[-1]), -1) if len(predicted) else 0)
    x, y = word_axes(len(sentence), above, below)
    words = alt.Chart(
        pd.DataFrame(
            {"position": range(len(sentence)), "word": sentence.words, "head": sentence.heads}
        )
    )
    kinds = [kind for kind in KINDS if kind in set(table["kind"])]
    layers = arc_layers(alt.Chart(table), x, y, kinds)
    layers += [*root_layers(words, x, y, above), word_layer(words, x, y)]
    width, height = min(WIDTH, 75 * len(sentence)), UNIT * (above + below)
    return alt.LayerChart(layer=layers, width=width, height=height).add_params(NARROW, GAP)


def parse(words: Sequence[str], predicted: Sequence[int]) -> alt.LayerChart:
    """Predicted heads alone, below the words of a sentence that has no gold tree.

    predicted: for each word the 0-based position of its predicted head.

    Raises:
        ValueError: there are not as many predicted heads as words.
    """
    if len(predicted) != len(words):
        raise ValueError(f"{len(words)} words but {len(predicted)} predicted heads")
    rows = [
        (dependent, int(head), "", "predicted", -1, f"{words[head]} → {words[dependent]}")
        for dependent, head in enumerate(predicted)
    ]
    table = pd.DataFrame(rows, columns=["dependent", "head", "label", "kind", "side", "tip"])
    longest = int((table["head"] - table["dependent"]).abs().max())
    above, below = 1.4, 1.4 + rise(longest, -1)
    x, y = word_axes(len(words), above, below)
    line = alt.Chart(pd.DataFrame({"position": range(len(words)), "word": list(words)}))
    layers = [*arc_layers(alt.Chart(table), x, y, ["predicted"]), word_layer(line, x, y)]
    width, height = min(WIDTH, 75 * len(words)), UNIT * (above + below)
    room = NARROW, GAP
    if width / len(words) < 50:  # so many words lean in a wide window too
        room = alt.param(name="narrow", value=True), alt.param(name="gap", value=1.1)
    return alt.LayerChart(layer=layers, width=width, height=height).add_params(*room)


def word_axis(title: str, angle: float = 0, **settings: Any) -> dict[str, Any]:
    """Settings of an axis whose values are '0 The', '1 old', ...; the numbers are not shown.

    A full stop by itself is put in quotation marks, as it is hardly seen otherwise.
    """
    word = "slice(datum.label, indexof(datum.label, ' ') + 1)"
    seen = f"{word} == '.' ? '“.”' : {word}"
    axis = alt.Axis(labelExpr=seen, labelAngle=angle, ticks=False, domain=False, **settings)
    return {"title": title, "axis": axis}


def weight_grid(
    weights: np.ndarray, labels: Sequence[str], title: str, largest: float | None = None
) -> alt.LayerChart:
    """An attention map as a grid of numbers, in percent; who attends is a row.

    weights: [n, n], NaN for an empty cell. labels: n names. largest: the weight at the end of
    the colour scale, by default the largest there is.
    """
    n = len(labels)
    names = [f"{i} {label}" for i, label in enumerate(labels)]  # a word may come up twice
    rows = [
        {"attending": names[i], "attended": names[j], "percent": round(100 * weights[i, j], 1)}
        for i, j in np.argwhere(~np.isnan(weights))
    ]
    top = 100 * (largest or float(np.nanmax(weights)))
    base = alt.Chart(pd.DataFrame(rows)).encode(
        alt.X("attended:N", scale=alt.Scale(domain=names), **word_axis("attended", -45)),
        alt.Y("attending:N", scale=alt.Scale(domain=names), **word_axis("attending")),
    )
    colour = alt.Color("percent:Q", scale=alt.Scale(domain=[0, top]), legend=None)
    dark_cell = f"datum.percent < {0.45 * top}"
    ink = alt.condition(dark_cell, alt.value("white"), alt.value("black"))
    layers = [
        base.mark_rect().encode(colour),
        base.mark_text(fontSize=11).encode(text="percent:Q", color=ink),
    ]
    return alt.LayerChart(layer=layers, width=30 * n, height=26 * n, title=title)


def against_offset(
    rows: pd.DataFrame, baseline: pd.DataFrame, slider: alt.Parameter, title: str
) -> alt.LayerChart:
    """A dot for each run and a tick for the positional baseline, group by group.

    rows: number (of the checkpoint), seed, group, uas. baseline: group, uas; the groups in
    the order to show. slider: the number of the checkpoint to show.
    """
    order = baseline["group"].tolist()
    x = alt.X("uas:Q", scale=alt.Scale(domain=[0, 1]), title="UAS")
    y = alt.Y("group:N", sort=order, title=None)
    value = alt.Tooltip("uas:Q", format=".2f")
    ticks = alt.Chart(baseline).mark_tick(thickness=3, size=14, color=PALETTE["gold"])
    said = alt.TitleParams(title, subtitle="circle: a run; tick: best fixed offset")
    dots = alt.Chart(rows).transform_filter(alt.datum.number == slider)
    layers = [
        ticks.encode(x, y, tooltip=["group:N", value]),
        dots.mark_point(size=55, opacity=0.9).encode(
            x, y, tooltip=["group:N", "seed:Q", value]
        ),
    ]
    return alt.LayerChart(layer=layers, width=200, height=20 * len(order), title=said)
