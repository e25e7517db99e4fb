"""Figures of the arms of an experiment: their curves, and how far they end from the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from sas_lib import arms, run_figures
from sas_lib.charts import PALETTE, WIDTH
from sas_lib.run_figures import FIRST_STEP, Panel

MEASURES = {
    "valid_loss": "loss",
    "uas_per_relation": "UAS per relation",
    "pairs_accuracy": "minimal pairs",
}
"""What the three panels of a comparison show, metric to label."""
Levels = Mapping[str, Mapping[str, float]]
NO_LEVELS: Levels = {}


def arm_curves(metrics: pd.DataFrame, metric: str, labels: Mapping[str, str]) -> pd.DataFrame:
    """The rows of a metric for some arms (arm to label), made for ``run_figures.panel``."""
    rows = metrics[
        (metrics["metric"] == metric)
        & metrics["arm"].isin(list(labels))
        & (metrics["step"] >= FIRST_STEP)
    ]
    out = rows[["seed", "step", "value"]].copy()
    out["label"] = rows["arm"].astype(str).map(dict(labels))
    return out.round(4)


def arm_panels(
    metrics: pd.DataFrame,
    labels: Mapping[str, str],
    colours: Mapping[str, str],
    measures: Mapping[str, str] = MEASURES,
    levels: Levels = NO_LEVELS,
) -> alt.VConcatChart:
    """One panel a measure (metric to title), with the curves of every seed of the arms.

    labels: arm to label; colours: label to palette name; levels: metric to its dashed lines.
    A click on an arm in the legend singles it out.
    """
    picked = alt.selection_point(name="picked", fields=["label"], bind="legend")
    panels = []
    for metric, title in measures.items():
        panel = run_figures.panel(
            arm_curves(metrics, metric, labels), title, colours, levels.get(metric)
        )
        shade = alt.condition(picked, alt.value(0.8), alt.value(0.08))
        panel.layer[0] = panel.layer[0].encode(opacity=shade)
        panels.append(panel)
    return alt.vconcat(panels[0].add_params(picked), *panels[1:])


def release_explorer(
    metrics: pd.DataFrame, releases: Sequence[int], levels: Levels = NO_LEVELS
) -> alt.VConcatChart:
    """Curves of the base, of suppression throughout, and of the release that a button picks.

    releases: steps; the arms are ``base``, ``suppress`` and ``release-STEP``. levels: metric
    to its dashed lines.
    """
    bind = alt.binding_radio(
        options=list(range(len(releases))),
        labels=[f"{step:,}" for step in releases],
        name="released at step ",
    )
    button = alt.param(name="release", value=len(releases) // 2, bind=bind)
    number = {f"release-{step}": n for n, step in enumerate(releases)}
    colours = {"never suppressed": "grey", "always": "rust", "until the line": "blue"}
    kinds = {"base": "never suppressed", "suppress": "always"}
    kinds |= dict.fromkeys(number, "until the line")
    lines = pd.DataFrame({"number": range(len(releases)), "step": list(releases)})
    rule = alt.Chart(lines).transform_filter(alt.datum.number == button).encode(x="step:Q")
    panels = []
    for metric, title in MEASURES.items():
        of_arms = [
            arm_curves(metrics, metric, {arm: label}).assign(number=number.get(arm, -1))
            for arm, label in kinds.items()
        ]
        chosen = (alt.datum.number == -1) | (alt.datum.number == button)
        panel = run_figures.panel(pd.concat(of_arms), title, colours, levels.get(metric))
        panel.layer[0] = panel.layer[0].transform_filter(chosen)
        label = rule.mark_text(baseline="bottom", dy=-2, fontWeight="bold").encode(
            y=alt.value(0), text=alt.Text("step:Q", format=",")
        )
        panels.append(alt.layer(panel, rule.mark_rule(strokeWidth=1.5, opacity=0.8), label))
    return alt.vconcat(*panels).add_params(button)


def differences(
    metrics: pd.DataFrame,
    step: int,
    labels: Mapping[str, str],
    measures: Mapping[str, str] = MEASURES,
) -> pd.DataFrame:
    """Each arm less the base at a step: measure, label, mean, low, high, n."""
    tables = [
        arms.against(metrics, metric, step, list(labels)).assign(measure=title)
        for metric, title in measures.items()
    ]
    found = pd.concat(tables, ignore_index=True)
    found["label"] = found["arm"].map(dict(labels))
    return found


def difference_dots(
    metrics: pd.DataFrame,
    step: int,
    labels: Mapping[str, str],
    measures: Mapping[str, str] = MEASURES,
) -> alt.VConcatChart:
    """For each measure, how far each arm is from the base: mean, interval, and every seed.

    labels: arm to label, from top to bottom. The line at 0 is the base.
    """
    found = differences(metrics, step, labels, measures).round(4)
    order = list(labels.values())
    panels = []
    for metric, title in measures.items():
        of_seeds = arms.at(metrics, metric, step)
        less = of_seeds.sub(of_seeds["base"], axis=0)[list(labels)]
        dots = less.rename(columns=dict(labels)).melt(
            var_name="label", value_name="value", ignore_index=False
        )
        panels.append(
            _dots(
                found[found["measure"] == title], dots.dropna().round(4).reset_index(), order
            ).properties(
                title=f"{title}, less the base", width=WIDTH - 180, height=22 * len(order)
            )
        )
    return alt.vconcat(*panels)


def _dots(intervals: pd.DataFrame, seeds: pd.DataFrame, order: Sequence[str]) -> Panel:
    y = alt.Y("label:N", sort=list(order), title=None, axis=alt.Axis(labelLimit=260))
    told = [alt.Tooltip(f"{c}:Q", format=".3f") for c in ("mean", "low", "high")]
    base = alt.Chart(intervals).encode(y=y, tooltip=["label:N", *told, "n:Q"])
    axis = alt.Axis(tickCount=5, labelOverlap=True)
    x = alt.X("low:Q", title=None, scale=alt.Scale(zero=True), axis=axis)
    each = alt.Chart(seeds).mark_tick(thickness=2, size=12, opacity=0.8)
    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(strokeDash=[4, 4])
    return alt.layer(
        zero.encode(x="zero:Q"),
        base.mark_rule(strokeWidth=2, color=PALETTE["blue"]).encode(x=x, x2="high:Q"),
        each.encode(x="value:Q", y=y, tooltip=["label:N", "seed:N", "value:Q"]),
        base.mark_point(filled=True, size=70, opacity=1, color=PALETTE["rust"]).encode(
            x="mean:Q"
        ),
    )
