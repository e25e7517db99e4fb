"""Figures of training runs: curves over seeds, onsets, and the map from heads to relations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from sas_lib.charts import PALETTE, WIDTH

# What alt.layer is declared to return.
Panel = alt.LayerChart | alt.FacetChart

FIRST_STEP = 10
"""Where the log axis begins: before it nothing has been learnt."""
STEP_AXIS = alt.Axis(format=",", values=[10, 30, 100, 300, 1000, 3000, 10_000, 30_000])


def curves(metrics: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """The rows of some metrics (name to label), from ``FIRST_STEP`` on."""
    rows = metrics[metrics["metric"].isin(list(names)) & (metrics["step"] >= FIRST_STEP)]
    out = rows[["seed", "step", "metric", "value"]].copy()
    out["label"] = out["metric"].astype(str).map(dict(names))
    return out.drop(columns="metric").round(4)


def panel(
    rows: pd.DataFrame,
    title: str,
    colours: Mapping[str, str],
    levels: Mapping[str, float] | None = None,
    height: int = 150,
    zero: bool = False,
) -> Panel:
    """One panel of curves against the step (log axis), a thin line for each seed.

    rows: seed, step, value, label (as ``curves`` gives). colours: label to palette name.
    levels: dashed reference lines, label to value.
    """
    scale = alt.Scale(domain=list(colours), range=[PALETTE[c] for c in colours.values()])
    ends = [FIRST_STEP, int(rows["step"].max())]
    x = alt.X(
        "step:Q",
        scale=alt.Scale(type="log", domain=ends, nice=False),
        axis=STEP_AXIS,
        title="training step (log scale)",
    )
    lines = (
        alt.Chart(rows)
        .mark_line(strokeWidth=1.5, opacity=0.75)
        .encode(
            x=x,
            y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=zero)),
            color=alt.Color("label:N", scale=scale, title=None),
            detail="seed:N",
            tooltip=["label:N", "seed:N", "step:Q", alt.Tooltip("value:Q", format=".3f")],
        )
    )
    layers: list[alt.Chart] = [lines]
    if levels:
        data = pd.DataFrame({"level": list(levels), "value": list(levels.values())})
        base = alt.Chart(data).encode(y="value:Q")
        layers.append(base.mark_rule(strokeDash=[4, 4], opacity=0.7))
        layers.append(
            base.mark_text(align="left", baseline="bottom", dx=2, dy=-1, fontSize=11).encode(
                x=alt.value(0), text="level:N"
            )
        )
    return alt.layer(*layers).properties(width=WIDTH, height=height)


def onset_marks(onsets: pd.DataFrame, shapes: Mapping[str, str]) -> alt.Chart:
    """Marks at onsets. onsets: seed, step, value, kind; shapes: kind to Vega shape."""
    return (
        alt.Chart(onsets)
        .mark_point(size=90, filled=True, opacity=1, stroke="white", strokeWidth=0.8)
        .encode(
            x="step:Q",
            y="value:Q",
            shape=alt.Shape(
                "kind:N",
                scale=alt.Scale(domain=list(shapes), range=list(shapes.values())),
                title=None,
            ),
            color=alt.value("#b3123a"),
            tooltip=["kind:N", "seed:N", "step:Q"],
        )
    )


def step_slider(steps: Sequence[int], start: int, name: str = "checkpoint") -> alt.Parameter:
    """A slider over checkpoints; its value is the checkpoint's number, not its step.

    The browser writes that number beside it, so the label says what it counts; a figure that
    has this slider writes the step itself (``step_rule``, or a title).
    """
    last = len(steps) - 1
    bind = alt.binding_range(min=0, max=last, step=1, name=f"{name} (0 to {last}) ")
    return alt.param(name="checkpoint", value=start, bind=bind)


def step_rule(steps: Sequence[int], slider: alt.Parameter) -> Panel:
    """The vertical line, with its step above, that the slider moves through a panel."""
    data = pd.DataFrame({"number": range(len(steps)), "step": list(steps)})
    base = alt.Chart(data).transform_filter(alt.datum.number == slider).encode(x="step:Q")
    rule = base.mark_rule(strokeWidth=1.5, opacity=0.8)
    label = base.mark_text(baseline="bottom", dy=-2, fontWeight="bold").encode(
        y=alt.value(0), text=alt.Text("step:Q", format=",")
    )
    return alt.layer(rule, label)


def head_relation_map(
    table: pd.DataFrame, steps: Sequence[int], slider: alt.Parameter, relations: Sequence[str]
) -> alt.Chart:
    """UAS of each attention head on each relation at the slider's checkpoint.

    table: step, relation, layer, head, direction, uas; the better direction is shown.
    """
    rows = table[table["relation"].isin(list(relations)) & table["step"].isin(list(steps))]
    best = (
        rows.sort_values("uas")
        .groupby(["step", "relation", "layer", "head"], observed=True)
        .tail(1)
    )
    number = {step: i for i, step in enumerate(steps)}
    arrow = {"dependent_to_head": "to head", "head_to_dependent": "from head"}
    data = pd.DataFrame(
        {
            "number": best["step"].map(number),
            "relation": best["relation"].astype(str),
            "place": best["layer"].astype(str) + "." + best["head"].astype(str),
            "way": best["direction"].astype(str).map(arrow),
            "uas": best["uas"].astype(float).round(2),
        }
    )
    return (
        alt.Chart(data)
        .transform_filter(alt.datum.number == slider)
        .mark_rect()
        .encode(
            x=alt.X(
                "place:N", title="layer.head", axis=alt.Axis(labelAngle=-90, labelFontSize=10)
            ),
            y=alt.Y("relation:N", sort=list(relations), title=None),
            color=alt.Color(
                "uas:Q", scale=alt.Scale(domain=[0, 1], scheme="viridis"), title="UAS"
            ),
            tooltip=["relation:N", "place:N", "way:N", "uas:Q"],
        )
        .properties(width=WIDTH, height=20 * len(relations))
    )


def central_figure(
    metrics: pd.DataFrame,
    heads: pd.DataFrame,
    onsets: pd.DataFrame,
    relations: Sequence[str],
    checkpoints: int = 40,
) -> alt.VConcatChart:
    """Loss, UAS and minimal pairs of every seed on one log axis, with the head map below.

    metrics, heads: the tables of a bundle of runs. onsets: seed, step, kind. One slider
    moves a line through the panels and turns the map, which shows the first seed.
    """
    first = metrics["seed"].min()
    uas = metrics[(metrics["metric"] == "uas_per_relation") & (metrics["step"] >= FIRST_STEP)]
    measured = sorted(uas[uas["seed"] == first]["step"].unique())
    keep = max(1, round(len(measured) / checkpoints))
    steps = [int(s) for s in measured[::-1][::keep][::-1]]
    slider = step_slider(steps, start=len(steps) // 2)
    constant = metrics[metrics["step"] == 0].groupby("metric", observed=True)["value"].mean()

    def with_marks(chart: Panel, label_of_kind: Mapping[str, str]) -> Panel:
        marks = onset_points(metrics, onsets, label_of_kind)
        return alt.layer(chart, onset_marks(marks, KINDS), step_rule(steps, slider))

    loss = panel(
        curves(metrics, {"valid_loss": "validation loss"}),
        "loss (nats)",
        {"validation loss": "grey"},
        {
            "unigram entropy": constant["unigram_entropy"],
            "bigram model": constant["bigram_cross_entropy"],
        },
    )
    attachment = panel(
        curves(metrics, {"uas_best_head": "best head", "uas_per_relation": "per relation"}),
        "UAS",
        {"best head": "blue", "per relation": "rust"},
        {
            "best offset": constant["baseline_offset"],
            "best offset per relation": constant["baseline_offset_per_relation"],
        },
    )
    pairs = panel(
        curves(metrics, {"pairs_accuracy": "minimal pairs"}),
        "accuracy",
        {"minimal pairs": "green"},
        {"chance": 0.5, "bigram model": constant["pairs_accuracy_bigram"]},
    )
    structure, capability = KINDS
    table = heads[heads["seed"] == first].rename(columns={"detail": "relation", "value": "uas"})
    stacked = alt.vconcat(
        with_marks(loss, dict.fromkeys(KINDS, "valid_loss")),
        with_marks(attachment, {structure: "uas_per_relation"}),
        with_marks(pairs, {capability: "pairs_accuracy"}),
        head_relation_map(table, steps, slider, relations).properties(
            # Two short lines: a long title would set the width of the figure on a phone.
            title=alt.Title(
                alt.expr(
                    "['Which head finds which relation', 'at step ' + "
                    f"format({steps}[{slider.name}], ',') + ', seed {first}']"
                )
            )
        ),
    )
    return stacked.add_params(slider).resolve_scale(color="independent", shape="shared")


KINDS = {"structure onset": "triangle-up", "capability onset": "circle"}


def onset_points(
    metrics: pd.DataFrame, onsets: pd.DataFrame, metric_of_kind: Mapping[str, str]
) -> pd.DataFrame:
    """Onsets with the height of their own seed's curve: seed, step, kind, value."""
    rows = []
    for onset in onsets[onsets["kind"].isin(list(metric_of_kind))].itertuples():
        curve = metrics[
            (metrics["metric"] == metric_of_kind[onset.kind]) & (metrics["seed"] == onset.seed)
        ].sort_values("step")
        height = np.interp(onset.step, curve["step"], curve["value"])
        rows.append((onset.seed, onset.step, onset.kind, round(float(height), 4)))
    return pd.DataFrame(rows, columns=["seed", "step", "kind", "value"])
