"""The attention explorer: choose a head and see the parse that it stands for.

Sentence, checkpoint, layer, head and direction are chosen in the browser. The figure carries
the attention maps and the heads that ``uas.implicit_parse`` reads off them; what is shown of
them is selected and unfolded by Vega-Lite transforms, so that no kernel is needed.

Used in the chapter "The implicit parse".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import torch

from sas_lib.charts import PALETTE, WIDTH
from sas_lib.tree_figures import (
    GAP,
    KINDS,
    NARROW,
    NOT_SCORED,
    UNIT,
    arc_layers,
    rise,
    root_layers,
    word_axes,
    word_axis,
    word_layer,
)
from sas_lib.treebank import ROOT
from sas_lib.uas import DIRECTIONS, implicit_parse

CROSS = "M-1,-1L1,1M-1,1L1,-1"
HIT = "#d4351c"
"""The shape of a predicted head in the map, and the colour of one that is right."""
PARAMETERS = ("sentence", "checkpoint", "layer", "head", "direction")


def attention_array(attention: pd.DataFrame, words: int) -> np.ndarray:
    """One sentence's rows (step, layer, head, attending, attended, weight) as an array.

    Returns float [steps, layers, heads, words, words], the diagonal 0.
    """
    axes = ["step", "layer", "head", "attending", "attended"]
    steps = {step: i for i, step in enumerate(sorted(attention["step"].unique()))}
    index = [attention["step"].map(steps), *(attention[axis] for axis in axes[1:])]
    layers, heads = (int(attention[axis].max()) + 1 for axis in ("layer", "head"))
    array = np.zeros((len(steps), layers, heads, words, words), dtype=np.float32)
    array[tuple(np.asarray(i) for i in index)] = attention["weight"]
    return array


def predicted_heads(array: np.ndarray) -> np.ndarray:
    """The implicit parse of an ``attention_array``: int [steps, layers, heads, 2, words]."""
    steps, layers, heads, words, _ = array.shape
    flat = torch.from_numpy(array.reshape(steps * layers, heads, words, words))
    parsed = implicit_parse(flat, [words] * len(flat))
    return parsed.reshape(steps, layers, heads, len(DIRECTIONS), words).numpy()


def map_rows(attention: pd.DataFrame, gold: pd.DataFrame) -> list[dict[str, Any]]:
    """One row for each (sentence, checkpoint, layer, head), for the browser to unfold.

    weights: the map, row by row, in thousandths. The predicted heads stand under the
    direction's name. They come from the full weights: rounding makes ties.
    """
    rows = []
    for sentence, part in attention.groupby("sentence"):
        n = int((gold["sentence"] == sentence).sum())
        array = attention_array(part, n)
        parsed = predicted_heads(array)
        steps = sorted(part["step"].unique())
        for checkpoint, layer, head in np.ndindex(array.shape[:3]):
            here = (checkpoint, layer, head)
            weights = np.rint(1000 * array[here]).astype(int).reshape(-1)
            row = dict(zip(PARAMETERS, (int(sentence), *here), strict=False))
            row |= {"step": int(steps[checkpoint]), "n": n, "weights": weights.tolist()}
            rows.append(row | dict(zip(DIRECTIONS, parsed[here].tolist(), strict=True)))
    return rows


def head_rows(
    heads: pd.DataFrame, steps: Sequence[int], relations: Sequence[str]
) -> list[dict[str, Any]]:
    """What each attention head finds in the treebank, one row for each (checkpoint, layer,
    head, direction); ``uas`` has a value, in percent, for each of ``relations``.

    heads: a run's rows of ``head_relation_uas``.
    """
    table = heads[heads["step"].isin(list(steps)) & heads["detail"].isin(list(relations))]
    wide = table.pivot_table(
        index=["step", "layer", "head", "direction"],
        columns="detail",
        values="value",
        observed=True,
    )[list(relations)]
    number = {step: i for i, step in enumerate(steps)}
    return [
        {
            "checkpoint": number[step],
            "layer": int(layer),
            "head": int(head),
            "direction": direction,
            "uas": np.rint(100 * values).astype(int).tolist(),
        }
        for (step, layer, head, direction), values in zip(
            wide.index, wide.to_numpy(), strict=True
        )
    ]


def _controls(
    gold: pd.DataFrame, shape: Sequence[int], start: Mapping[str, Any]
) -> list[alt.Parameter]:
    """Menu, slider and buttons. shape: checkpoints, layers and heads."""
    checkpoints, layers, heads = shape
    texts = gold.groupby("sentence")["word"].agg(
        lambda words: " ".join(words[:4]) + " …" * (len(words) > 4)
    )
    way = [direction.replace("_", " ") for direction in DIRECTIONS]
    binds: list[Any] = [
        alt.binding_select(
            options=texts.index.tolist(), labels=texts.tolist(), name="sentence "
        ),
        alt.binding_range(min=0, max=checkpoints - 1, step=1, name="checkpoint "),
        alt.binding_radio(options=list(range(layers)), name="layer "),
        alt.binding_radio(options=list(range(heads)), name="attention head "),
        alt.binding_radio(options=list(DIRECTIONS), labels=way, name="direction "),
    ]
    first = {**dict.fromkeys(PARAMETERS, 0), "direction": DIRECTIONS[0], **start}
    return [
        alt.param(name=name, value=first[name], bind=bind)
        for name, bind in zip(PARAMETERS, binds, strict=True)
    ]


CHOSEN = " && ".join(f"datum.{name} == {name}" for name in PARAMETERS[:-1])


def explorer(
    attention: pd.DataFrame,
    gold: pd.DataFrame,
    heads: pd.DataFrame,
    baseline: pd.DataFrame,
    start: Mapping[str, Any] | None = None,
) -> alt.VConcatChart:
    """Choose sentence, checkpoint, layer, head and direction; see parse, map and score.

    attention, gold: the tables of ``runs.attention_tables``. heads: the rows of
    ``head_relation_uas`` of the same run. baseline: relation and offset_uas (fractions), for
    the relations to show, in order. start: first values of any of ``PARAMETERS``.
    """
    maps = map_rows(attention, gold)
    steps = sorted(int(step) for step in attention["step"].unique())
    shape = [len(steps), *(int(attention[axis].max()) + 1 for axis in ("layer", "head"))]
    scores = head_rows(heads, steps, baseline["relation"].tolist())
    maps_frame = pd.DataFrame(maps)
    above = alt.hconcat(
        _map_panel(alt.Chart(maps_frame), gold),
        _score_panel(alt.Chart(pd.DataFrame(scores)), baseline),
        spacing=30,
    ).resolve_scale(color="independent")
    # The parse comes last: that is next to the controls.
    return (
        alt.vconcat(above, _parse_panel(alt.Chart(maps_frame), gold))
        .resolve_scale(color="independent", strokeDash="independent", shape="independent")
        .add_params(*_controls(gold, shape, start or {}), NARROW, GAP)
    )


def _keyed(gold: pd.DataFrame) -> pd.DataFrame:
    """Words with a key that the browser can look up, and what their arc counts as."""
    scored = (gold["head"] != ROOT) & ~gold["relation"].isin(NOT_SCORED)
    return gold.assign(key=gold["sentence"] * 100 + gold["position"], scored=scored)


def _with_word(chart: alt.Chart, words: pd.DataFrame, place: str, **fields: str) -> alt.Chart:
    """Look up fields (name in the chart: name in ``words``) of the word at ``place``."""
    source = alt.LookupData(data=words, key="key", fields=list(fields.values()))
    return chart.transform_calculate(
        key=f"datum.sentence * 100 + datum.{place}"
    ).transform_lookup("key", from_=source, as_=list(fields))


def _parse_panel(maps: alt.Chart, gold: pd.DataFrame) -> alt.LayerChart:
    words = _keyed(gold)
    longest = int(words["position"].max()) + 1
    of_arc = words[words["head"] != ROOT]
    above = 2 + rise(int((of_arc["head"] - of_arc["position"]).abs().max()))
    below = 2.2 + rise(longest - 1, -1)
    x, y = word_axes(longest, above, below)
    places = alt.Chart(words).transform_filter("datum.sentence == sentence")
    own = {"word": "word", "head": "head", "relation": "relation", "scored": "scored"}
    chosen = maps.transform_filter(CHOSEN).transform_calculate(
        predicted="datum[direction]", dependent="sequence(datum.n)"
    )
    parse = _with_word(
        chosen.transform_flatten(["predicted", "dependent"]), words, "dependent", **own
    )
    drawn = _with_word(
        parse.transform_calculate(
            gold="datum.head",
            head="datum.predicted",
            side="-1",
            label="''",
            kind="!datum.scored ? 'not counted' : datum.gold == datum.head ? 'right' : 'wrong'",
        ),
        words,
        "head",
        other="word",
    ).transform_calculate(tip="datum.other + ' → ' + datum.word + ': ' + datum.kind")
    gold_arcs = _with_word(
        places.transform_filter(f"datum.head != {ROOT}").transform_calculate(
            dependent="datum.position", side="1", label="datum.relation", kind="'gold'"
        ),
        words,
        "head",
        other="word",
    ).transform_calculate(tip="datum.other + ' → ' + datum.word + ', ' + datum.relation")
    count = (
        parse.transform_calculate(hit="datum.scored && datum.head == datum.predicted ? 1 : 0")
        .transform_aggregate(right="sum(hit)", counted="sum(scored)", groupby=["step"])
        .transform_calculate(
            text="'step ' + format(datum.step, ',') + ': ' + datum.right + ' of ' + "
            "datum.counted + ' arcs right'"
        )
        .mark_text(align="left", baseline="bottom", fontSize=13, fontWeight="bold")
        .encode(x=alt.value(0), y=alt.value(UNIT * (above + below) - 2), text="text:N")
    )
    layers = arc_layers(gold_arcs, x, y, list(KINDS)) + arc_layers(drawn, x, y, list(KINDS))
    layers += [*root_layers(places, x, y, above), word_layer(places, x, y), count]
    return alt.LayerChart(layer=layers, width=WIDTH, height=UNIT * (above + below))


def _map_panel(maps: alt.Chart, gold: pd.DataFrame) -> alt.LayerChart:
    words = _keyed(gold)
    cells = (
        maps.transform_filter(CHOSEN)
        .transform_calculate(cell="sequence(length(datum.weights))", parse="datum[direction]")
        .transform_flatten(["weights", "cell"])
        .transform_calculate(
            weight="datum.weights / 1000",
            attending="floor(datum.cell / datum.n)",
            attended="datum.cell % datum.n",
        )
        .transform_filter("datum.attending != datum.attended")
        .transform_calculate(
            dependent=f"direction == '{DIRECTIONS[0]}' ? datum.attending : datum.attended",
            candidate=f"direction == '{DIRECTIONS[0]}' ? datum.attended : datum.attending",
        )
    )
    cells = _with_word(cells, words, "attending", from_word="word")
    cells = _with_word(cells, words, "attended", to_word="word")
    cells = _with_word(
        cells, words, "dependent", gold="head", scored="scored"
    ).transform_calculate(
        row="datum.attending + ' ' + datum.from_word",
        column="datum.attended + ' ' + datum.to_word",
        hit="datum.scored && datum.candidate == datum.gold"
        " && datum.candidate == datum.parse[datum.dependent]",
    )
    in_order = [alt.EncodingSortField(place, "min") for place in ("attended", "attending")]
    base = cells.encode(
        alt.X("column:N", sort=in_order[0], **word_axis("attended", -50)),
        alt.Y("row:N", sort=in_order[1], **word_axis("attending", orient="right")),
    )
    scale = alt.Scale(type="sqrt", domain=[0, 1])
    layers = [
        base.mark_rect().encode(
            color=alt.Color(
                "weight:Q",
                scale=scale,
                title="attention weight",
                legend=alt.Legend(values=[0, 0.1, 0.5, 1], gradientLength=150, format="~g"),
            ),
            tooltip=["from_word:N", "to_word:N", alt.Tooltip("weight:Q", format=".3f")],
        )
    ]
    marks = {
        ("circle", 90): "datum.candidate == datum.gold",
        (CROSS, 45): "datum.candidate == datum.parse[datum.dependent]",
    }
    for (shape, size), where in marks.items():
        mark = base.transform_filter(where)
        style: dict[str, Any] = {"shape": shape, "size": size, "opacity": 1, "filled": False}
        rim = alt.condition("datum.hit", alt.value("white"), alt.value("black"))
        line = alt.condition("datum.hit", alt.value(HIT), alt.value("white"))
        layers += [
            mark.mark_point(**style, strokeWidth=3.5).encode(stroke=rim),
            mark.mark_point(**style, strokeWidth=1.8).encode(stroke=line),
        ]
    title = ["Who attends to whom", "○ gold head, × predicted head; red: a hit"]
    return alt.LayerChart(layer=layers, width=270, height=270, title=_titled(*title))


def _score_panel(scores: alt.Chart, baseline: pd.DataFrame) -> alt.LayerChart:
    numbered = baseline[["relation", "offset_uas"]].assign(number=range(len(baseline)))
    order = baseline["relation"].tolist()
    y = alt.Y("relation:N", sort=order, title=None, axis=alt.Axis(orient="right"))
    x = alt.X("share:Q", scale=alt.Scale(domain=[0, 1]), title="UAS")
    bars = (
        scores.transform_filter(
            "datum.checkpoint == checkpoint && datum.layer == layer && datum.head == head"
            " && datum.direction == direction"
        )
        .transform_calculate(number="sequence(length(datum.uas))")
        .transform_flatten(["uas", "number"])
        .transform_lookup(
            "number", from_=alt.LookupData(numbered, "number", ["relation", "offset_uas"])
        )
        .transform_calculate(share="datum.uas / 100")
    )
    offset = alt.Tooltip("offset_uas:Q", format=".2f", title="best offset")
    ticks = bars.transform_calculate(share="datum.offset_uas").mark_tick(
        thickness=2.5, size=16, color=PALETTE["gold"]
    )
    layers = [
        bars.mark_bar(height=8).encode(x, y, tooltip=["relation:N", "share:Q", offset]),
        ticks.encode(x, y, tooltip=["relation:N", offset]),
    ]
    title = ["In the whole treebank", "bar: this attention head; tick: best offset"]
    return alt.LayerChart(layer=layers, width=190, height=270, title=_titled(*title))


def _titled(title: str, legend: str) -> alt.TitleParams:
    return alt.TitleParams(title, subtitle=legend, frame="bounds")
