"""Figures of a series of models: curves over its checkpoints, heads, relations, phenomena.

They take the table of ``series.measure``. The axis is made for any range of steps; the
figures of ``run_figures`` are made for runs of our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from sas_lib import run_figures
from sas_lib.charts import WIDTH
from sas_lib.run_figures import Panel

# In this order "best head" is blue and "per relation" rust, as in the figures of single runs.
UAS_NAMES = {"uas_per_relation": "per relation", "uas_best_head": "best head"}
BEYOND_NAMES = {
    "uas_beyond_offset": "beyond the offset",
    "uas_beyond_offset_rechosen": "beyond it, rechosen",
}


def step_axis(table: pd.DataFrame, log: bool) -> alt.X:
    """The axis of the steps; a logarithmic one begins at the first step above 0."""
    steps = table["step"][table["step"] > 0] if log else table["step"]
    scale = alt.Scale(
        type="log" if log else "linear",
        domain=[int(steps.min()), int(steps.max())],
        nice=False,
    )
    title = "training step" + (" (log scale)" if log else "")
    return alt.X("step:Q", scale=scale, axis=alt.Axis(format="~s", tickCount=5), title=title)


def curve_panel(
    table: pd.DataFrame,
    names: Mapping[str, str],
    title: str,
    levels: Mapping[str, float] | None = None,
    log: bool = True,
    height: int = 150,
) -> Panel:
    """Curves of some metrics (name to label), with a dot at each checkpoint.

    levels: dashed reference lines, label to value.
    """
    rows = table[table["metric"].isin(list(names)) & (table["step"] >= int(log))]
    rows = rows[["seed", "step", "value"]].assign(label=rows["metric"].map(dict(names)))
    colours = dict(zip(names.values(), ("rust", "blue", "green", "violet"), strict=False))
    panel = run_figures.panel(rows.round(4), title, colours, levels, height)
    panel.layer[0] = panel.layer[0].mark_line(point=True).encode(x=step_axis(table, log))
    return panel


def overview(
    table: pd.DataFrame, relations: Sequence[str], log: bool = True
) -> alt.VConcatChart:
    """Loss, UAS, UAS beyond the offset and minimal pairs of one series, with the map from
    heads to relations below. A slider moves a line through the panels and turns the map.

    What was not measured is left out.
    """
    last = table.sort_values("step").groupby("metric")["value"].last()
    steps = sorted(int(s) for s in table["step"].unique() if s >= int(log))
    slider = run_figures.step_slider(steps, start=len(steps) - 1)
    of_panel = [
        ({"valid_loss": "loss"}, "loss (nats)", {"unigram entropy": "unigram_entropy"}),
        (
            UAS_NAMES,
            "UAS",
            {
                "best offset": "baseline_offset",
                "best offset per relation": "baseline_offset_per_relation",
            },
        ),
        (BEYOND_NAMES, "UAS beyond offset", {"second offset": "baseline_second_offset"}),
        ({"pairs_accuracy": "minimal pairs"}, "accuracy", {"chance": ""}),
    ]
    panels: list[Panel | alt.Chart] = []
    for names, title, level_names in of_panel:
        if set(names) <= set(last.index):
            levels = {k: float(last.get(name, 0.5)) for k, name in level_names.items()}
            panel = curve_panel(table, names, title, levels, log, 130)
            panels.append(alt.layer(panel, run_figures.step_rule(steps, slider)))
    heads = table[table["metric"] == "head_relation_uas"].rename(
        columns={"detail": "relation", "value": "uas"}
    )
    if len(heads):
        chart = run_figures.head_relation_map(heads, steps, slider, relations)
        # Two short lines: a long title would set the width of the figure on a phone.
        heading = ["Which head finds which", "relation at that step"]
        panels.append(chart.properties(title=heading))
    return alt.vconcat(*panels).add_params(slider).resolve_scale(color="independent")


def _cells(rows: pd.DataFrame, order: Sequence[str], scale: alt.Scale, title: str) -> alt.Chart:
    """A map of ``name`` by step, coloured by ``shown``."""
    steps = sorted(rows["step"].unique())
    return (
        alt.Chart(rows.round(3))
        .mark_rect()
        .encode(
            x=alt.X(
                "step:O",
                sort=steps,
                title="step",
                axis=alt.Axis(format="~s", labelAngle=-90, labelOverlap="greedy"),
            ),
            y=alt.Y("name:N", sort=list(order), title=None, axis=alt.Axis(labelLimit=150)),
            color=alt.Color("shown:Q", scale=scale, title=title),
            tooltip=["name", "step", *(c for c in rows if c not in {"name", "step"})],
        )
        .properties(width=WIDTH - 160, height=20 * len(order))
    )


def relation_map(table: pd.DataFrame, least: int = 20) -> alt.Chart:
    """Of each relation with ``least`` arcs or more, UAS less that of its best fixed offset.

    Raises:
        ValueError: no relation has so many.
    """
    wide = {
        metric: table[table["metric"] == metric].set_index(["step", "detail"])["value"]
        for metric in ("relation_uas", "relation_baseline_offset", "relation_arcs")
    }
    rows = pd.DataFrame(
        {
            "uas": wide["relation_uas"],
            "offset": wide["relation_baseline_offset"],
            "arcs": wide["relation_arcs"],
        }
    )
    rows["shown"] = rows["uas"] - rows["offset"]
    rows = rows[rows["arcs"] >= least]
    if rows.empty:
        raise ValueError(f"no relation has {least} arcs; measure on more sentences")
    rows = rows.rename_axis(["step", "name"]).reset_index()
    order = rows.groupby("name")["arcs"].max().sort_values(ascending=False).index
    scale = alt.Scale(scheme="purpleorange", domainMid=0, domain=[-1, 1])
    return _cells(rows, list(order), scale, "UAS less best offset")


def phenomenon_map(table: pd.DataFrame, phenomenon_of: Mapping[str, str]) -> alt.Chart:
    """Accuracy by phenomenon, the mean over its paradigms; 0.5 is chance.

    phenomenon_of: paradigm to phenomenon; one that it does not name stands for itself.
    """
    rows = table[table["metric"] == "paradigm_accuracy"]
    named = rows.assign(name=[phenomenon_of.get(d, d) for d in rows["detail"]])
    means = named.groupby(["step", "name"])["value"].agg(["mean", "size"]).reset_index()
    means = means.rename(columns={"mean": "shown", "size": "paradigms"})
    scale = alt.Scale(scheme="purpleorange", domainMid=0.5, domain=[0, 1])
    return _cells(means, sorted(means["name"].unique()), scale, "accuracy")
