"""``sas onsets``: where curves of training break, and how surely."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sas_lib.cli.options import Json

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from sas_lib.onsets import Rule

SHORT = {"uas": "uas_per_relation", "pairs": "pairs_accuracy", "loss": "valid_loss"}


class RuleName(StrEnum):
    two_knots = "two_knots"
    second_difference = "second_difference"
    threshold = "threshold"


class X(StrEnum):
    step = "step"
    log_step = "log_step"
    tokens = "tokens"
    log_tokens = "log_tokens"


def onsets(
    metrics: Annotated[
        Path, typer.Argument(help="A metrics.jsonl, a run folder, a folder of runs, a bundle.")
    ],
    metric: Annotated[
        str,
        typer.Option(
            help="Which curve; uas, pairs and loss are short for uas_per_relation, "
            "pairs_accuracy and valid_loss. NAME/DETAIL is one of its details."
        ),
    ] = "uas",
    rule: Annotated[RuleName, typer.Option(help="How an onset is marked.")] = (
        RuleName.two_knots
    ),
    x: Annotated[X, typer.Option(help="The axis.")] = X.step,
    resolution: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Of second_difference, in units of the axis (on a logarithmic one, natural "
            "logarithms). Default: a twentieth of it.",
        ),
    ] = None,
    share: Annotated[
        float, typer.Option(min=0.01, max=1, help="Of threshold: the share of the way up.")
    ] = 0.5,
    level: Annotated[
        float | None, typer.Option(help="Of threshold: a level of the curve instead.")
    ] = None,
    start: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Leave out what comes before this step. Default: 0; of valid_loss, where it "
            "first is at or under the unigram entropy, if that was measured.",
        ),
    ] = None,
    falling: Annotated[
        bool | None,
        typer.Option("--falling/--rising", help="Default: what is called a loss falls."),
    ] = None,
    run: Annotated[str, typer.Option(help="Only runs of this name; * and ? may be.")] = "*",
    as_json: Json = False,
) -> None:
    """Mark where curves break: per run, and over the seeds of each condition.

    Every curve has an onset by every rule; the verdict says whether a smooth curve would do
    as well, on this axis. Intervals are of 95 percent: of a run, for the noise between its
    checkpoints; over seeds, of the onset of the mean curve. A loss decays: look at it on
    log_step, where its tail is nearly straight. JSON is one object, with the runs in it, or a
    list of them where there are several conditions.

    \b
    Examples:
    sas onsets runs/toy-0 --metric pairs
    sas onsets book/results/toy_base --metric loss --x log_step
    sas onsets runs/toy-0/metrics.jsonl --rule second_difference --resolution 375 --json
    """
    from tqdm import tqdm

    rows = select(read_metrics(metrics), SHORT.get(metric, metric), metric, run, metrics)
    falls = rows["metric"].iloc[0].endswith("loss") if falling is None else falling
    marked_by = make_rule(
        rule, x, resolution, share, -level if level is not None and falls else level
    )
    conditions = []
    with tqdm(total=rows["run"].nunique(), unit=" runs", leave=False, disable=as_json) as bar:
        for condition, of_condition in rows.groupby("condition", sort=True):
            found = mark(of_condition, marked_by, x, start, falls, bar.update)
            name = of_condition["metric"].iloc[0]
            common = {"metric": name, "rule": rule.value, "x": x.value}
            found = {"condition": condition, **common, **found}
            found["runs"] = [{**common, **one} for one in found["runs"]]
            conditions.append(found)
    if as_json:
        single = conditions[0] if len(conditions) == 1 else conditions
        typer.echo(json.dumps(single, indent=1, allow_nan=False))
    else:
        typer.echo("\n\n".join(map(table, conditions)))


def make_rule(
    name: RuleName, x: X, resolution: float | None, share: float, level: float | None
) -> Rule:
    from sas_lib.breaks import by_two_knots
    from sas_lib.onsets import by_second_difference, by_threshold, on_log

    log = x.value.startswith("log_")
    if name == RuleName.two_knots:
        return by_two_knots(log)
    second = name == RuleName.second_difference
    rule = by_second_difference(resolution) if second else by_threshold(share, level)
    return on_log(rule) if log else rule


def read_metrics(path: Path) -> pd.DataFrame:
    """Metrics as a tidy table: run, seed, step, tokens, metric, value, unigram.

    Raises:
        CurveError: nothing there, an empty file, a line that is no row of metrics.
    """
    import pandas as pd

    from sas_lib.onsets import CurveError

    if path.is_dir():
        there = [path / "metrics.parquet", path / "metrics.jsonl"]
        files = [file for file in there if file.is_file()][:1]
        files = files or sorted(path.glob("*/metrics.jsonl"))
    else:
        files = [path] if path.exists() else []
    if not files:
        raise CurveError(f"no metrics in {path}: give a metrics.jsonl, a run or a bundle")
    tables = []
    for file in files:
        rows = (
            pd.read_parquet(file) if file.suffix == ".parquet" else pd.DataFrame(_lines(file))
        )
        if rows.empty:
            raise CurveError(f"{file} is empty: nothing was measured yet")
        tables.append(rows.reindex(columns=[*COLUMNS, "tokens", "detail"]))
    return pd.concat(tables, ignore_index=True)


COLUMNS = ["run", "seed", "step", "metric", "value"]


def _lines(file: Path) -> list[dict[str, Any]]:
    from sas_lib.checkpoints import read_measures
    from sas_lib.onsets import CurveError

    config = file.parent / "config.json"
    seed = json.loads(config.read_text()).get("seed", 0) if config.is_file() else 0
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append({**row, "step": int(row["step"]), "metric": str(row["metric"])})
        except (ValueError, KeyError, TypeError) as error:
            raise CurveError(f"{file} line {number} is no row of metrics: {error}") from error
    if file.name == "metrics.jsonl":  # and what `sas measure` added after the run
        rows += read_measures(file.parent)
    return [{"run": file.resolve().parent.name, "seed": seed, **row} for row in rows]


def select(
    rows: pd.DataFrame, name: str, asked: str, pattern: str, source: Path
) -> pd.DataFrame:
    """The rows of one metric and of the runs asked for, with their condition.

    A condition is a run's name without its seed. Column unigram: the unigram entropy that
    was measured in the run, or NaN.

    Raises:
        CurveError: no such run or metric (those that are there are named), or a value that
            is not a finite number, or several values at a step.
    """
    import fnmatch

    import numpy as np
    import pandas as pd

    from sas_lib.onsets import CurveError

    runs = rows["run"].astype(str)
    kept = rows[[fnmatch.fnmatchcase(one, pattern) for one in runs]].copy()
    if kept.empty:
        raise CurveError(f"no run {pattern} in {source}; there are: {_some(runs)}")
    kept["run"], kept["metric"] = kept["run"].astype(str), kept["metric"].astype(str)
    entropy = kept[kept["metric"] == "unigram_entropy"].groupby("run")["value"].first()
    detail = kept["detail"].astype(object)
    full = kept["metric"] + np.where(detail.isna(), "", "/" + detail.astype(str))
    chosen = kept[full == (asked if (full == asked).any() else name)].copy()
    if chosen.empty:
        raise CurveError(f"no metric {asked} in {source}; there are: {_some(full)}")
    chosen["value"] = pd.to_numeric(chosen["value"], errors="coerce").astype(float)
    if not (fine := np.isfinite(chosen["value"])).all():
        bad = chosen[~fine].iloc[0]
        raise CurveError(
            f"{source}: {asked} of run {bad['run']} at step {bad['step']} is no finite number"
        )
    chosen["unigram"] = chosen["run"].map(entropy)
    chosen["condition"] = [
        _without_seed(one, seed)
        for one, seed in zip(chosen["run"], chosen["seed"], strict=True)
    ]
    chosen["metric"] = full
    # Measured twice by a run that was resumed; but a value for each head is no one curve.
    chosen = chosen.drop_duplicates(["run", "step", "value"])
    if (twice := chosen.duplicated(["run", "step"])).any():
        bad = chosen[twice].iloc[0]
        raise CurveError(
            f"{source}: {asked} has several values at step {bad['step']} of run {bad['run']}"
        )
    return chosen.sort_values(["run", "step"])


def _some(names: pd.Series) -> str:
    there = sorted(set(names))
    bare = [name for name in there if "/" not in name]
    folded = sorted({name.split("/")[0] + "/..." for name in there if "/" in name})
    return ", ".join((bare + folded)[:60])


def _without_seed(run: str, seed: int) -> str:
    import re

    return re.sub(rf"([-_.]?seed[-_]?|[-_]){seed}$", "", run) or "runs"


def mark(
    rows: pd.DataFrame,
    rule: Rule,
    x: X,
    start: int | None,
    falls: bool,
    progress: Any = None,
) -> dict[str, Any]:
    """Onset, interval, end and verdict of each run of a condition and of their mean.

    Runs are compared at the steps that all have.
    """
    from sas_lib.onsets import CurveError

    curves = rows.pivot(index="step", columns="run", values="value").dropna()
    begin = _start(rows, curves) if start is None else start
    curves = curves[curves.index >= begin]
    axis = curves.index.to_numpy(float)
    if x in (X.tokens, X.log_tokens):
        tokens = rows.groupby("step")["tokens"].mean()
        if tokens.isna().any():
            raise CurveError("no tokens were counted in these metrics: use --x step")
        axis = tokens.loc[curves.index].to_numpy(float)
    if len(axis) < 3:
        raise CurveError(
            f"{curves.shape[1]} runs have {len(axis)} checkpoints from step {begin} on in "
            "common; an onset needs at least 3"
        )
    log, values = x.value.startswith("log_"), curves.to_numpy().T * (-1 if falls else 1)
    runs = []
    for name, value in zip(curves.columns, values, strict=True):
        seed = int(rows.loc[rows["run"] == name, "seed"].iloc[0])
        runs.append({"run": name, "seed": seed, **_onset(axis, value[None], rule, log)})
        if progress:
            progress()
    over = _onset(axis, values, rule, log)
    return {"seeds": len(runs), "start": int(begin), **over, "runs": runs}


def _start(rows: pd.DataFrame, curves: pd.DataFrame) -> int:
    if rows["metric"].iloc[0] != "valid_loss" or rows["unigram"].isna().any():
        return 0
    level = rows.groupby("run")["unigram"].first()
    under = (curves <= level[curves.columns]).all(axis=1)
    return int(under.idxmax()) if under.any() else 0


def _onset(axis: np.ndarray, curves: np.ndarray, rule: Rule, log: bool) -> dict[str, Any]:
    """curves: [seeds, n]; of one seed, the interval is for the noise between checkpoints."""
    import numpy as np

    from sas_lib import breaks, onsets
    from sas_lib.onsets import CurveError

    mean = curves.mean(0)
    onset, end = (float(at) if np.isfinite(at) else None for at in rule(axis, mean[:, None])[0])
    interval, verdict, p = None, "too few checkpoints", None
    if len(curves) > 1:
        interval = onsets.over_seeds(axis, curves, rule)
    try:
        found = breaks.verdict(axis, mean, log)
        verdict, p = str(found), found.p_value
        if len(curves) == 1:
            interval = breaks.over_noise(axis, mean, rule, log)
    except CurveError:
        pass  # the rule took the curve, so it is only too short for a verdict
    return {
        "onset": onset,
        "interval": [interval.low, interval.high] if interval else None,
        "interval_over": "seeds" if len(curves) > 1 else "noise",
        "end": end,
        "verdict": verdict,
        "p_value": p,
    }


def table(found: dict[str, Any]) -> str:
    """A condition as a table to read."""
    lines = [
        f"{found['condition']}: {found['metric']}, {found['rule']} on {found['x']}"
        + (f", from step {found['start']}" if found["start"] else ""),
        f"{'run':<24}{'onset':>10}{'interval':>20}{'end':>10}  verdict",
    ]
    over = [{**found, "run": f"{found['seeds']} seeds"}] if found["seeds"] > 1 else []
    for one in [*found["runs"], *over]:
        interval = one["interval"]
        span = f"{interval[0]:.0f} to {interval[1]:.0f}" if interval else "-"
        p = "" if one["p_value"] is None else f" (p {one['p_value']:.3f})"
        lines.append(
            f"{one['run']:<24}{_number(one['onset']):>10}{span:>20}"
            f"{_number(one['end']):>10}  {one['verdict']}{p}"
        )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
