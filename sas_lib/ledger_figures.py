"""How near a call each verdict of the claims ledger is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import altair as alt
import numpy as np
import pandas as pd

from sas_lib.charts import PALETTE
from sas_lib.ledger import LEVEL, VERDICTS
from sas_lib.ledger_table import COLOURS, SPEAKS, Judged
from sas_lib.run_figures import Panel

LEVELS = (0.8, 0.9, 0.95, 0.99, 0.999)
REACH = 6  # of the axis; what lies further out is drawn at its end


def nearness(judged: Judged, scale: str) -> Panel:
    """How far each deciding figure lies from its border, and its interval at a chosen level.

    In half-widths of the figure's own interval at 95%, so that unlike figures can stand on
    one axis; right of 0 is the claim's side. Left out are figures without an interval, or
    with one of no width; claims without others; those whose presuppositions are not shown;
    and manipulation checks.
    """
    rows = pd.DataFrame(list(_distances(judged, scale)))
    totals = pd.DataFrame(list(_totals(judged, scale)))
    slider = alt.param(
        name="level",
        value=LEVELS.index(LEVEL),
        bind=alt.binding_range(min=0, max=len(LEVELS) - 1, step=1, name="stricter "),
    )
    chosen = alt.datum.number_of_level == slider
    order = list(dict.fromkeys(rows["claim"]))
    scale_x = alt.Scale(domain=[-REACH, REACH], clamp=True, nice=False)
    x = alt.X(
        "low:Q",
        scale=scale_x,
        title=["against it  ←  border  →  for it", "(half-widths of the 95% interval)"],
        axis=alt.Axis(values=[-4, -2, 0, 2, 4]),
    )
    y = alt.Y("claim:N", sort=order, axis=None, scale=alt.Scale(paddingInner=0.1))
    offset = alt.YOffset("offset:Q", scale=alt.Scale(domain=[-2.2, 3]))
    colour = alt.Color(
        "speaks:N",
        title=None,
        scale=alt.Scale(
            domain=list(SPEAKS.values()),
            range=[PALETTE[COLOURS[verdict]] for verdict in VERDICTS[:3]],
        ),
    )
    base = alt.Chart(rows).transform_filter(chosen)
    tips = ["claim:N", "figure:N", "found:N", "speaks:N"]
    names = base.transform_filter(alt.datum.first).mark_text(align="left", fontSize=11)
    told = alt.Chart(totals).transform_filter(chosen).mark_text(align="left", fontWeight="bold")
    return (
        alt.layer(
            alt.Chart(pd.DataFrame({"zero": [0]}))
            .mark_rule(strokeDash=[4, 4])
            .encode(x="zero:Q"),
            base.mark_rule(strokeWidth=3, opacity=0.7).encode(
                x=x, x2="high:Q", y=y, yOffset=offset, color=colour, tooltip=tips
            ),
            base.mark_point(filled=True, size=55, opacity=1).encode(
                x=alt.X("mean:Q", scale=scale_x),
                y=y,
                yOffset=offset,
                color=colour,
                tooltip=tips,
            ),
            names.encode(x=alt.value(0), y=y, yOffset=alt.YOffset("above:Q"), text="claim:N"),
            told.encode(x=alt.value(0), y=alt.value(-8), text="text:N"),
        )
        .add_params(slider)
        .properties(width=560, height=46 * len(order))
    )


def _distances(judged: Judged, scale: str) -> Iterator[dict[str, object]]:
    for number, (claim, found) in enumerate(judged, start=1):
        finding = found[scale]
        if claim.check or finding.lacking():
            continue
        there = [f for f in finding.figures if f.n > 1 and not f.constant]
        deciding = [f for f in there if f.role == "decides"]
        for i, (k, joint) in itertools.product(range(len(deciding)), enumerate(LEVELS)):
            figure, level = deciding[i], finding.level(joint)
            middle, unit = figure.distance(finding.level())
            half = figure.distance(level)[1]
            yield {
                "number_of_level": k,
                "claim": f"{number}. {claim.name}",
                "figure": figure.name,
                "found": figure.told(level),
                "mean": round(float(np.clip(middle / unit, -REACH, REACH)), 3),
                "low": round(float(np.clip((middle - half) / unit, -REACH, REACH)), 3),
                "high": round(float(np.clip((middle + half) / unit, -REACH, REACH)), 3),
                "speaks": SPEAKS[figure.speaks(level)],
                "offset": i,
                "above": -1.5,
                "first": i == 0,
            }


def _totals(judged: Judged, scale: str) -> Iterator[dict[str, object]]:
    for k, level in enumerate(LEVELS):
        verdicts = [found[scale].verdict(level) for claim, found in judged if not claim.check]
        counted = ", ".join(f"{name} {verdicts.count(name)}" for name in VERDICTS[:3])
        yield {"number_of_level": k, "text": f"at {level:.1%}: {counted}"}
