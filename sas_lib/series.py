"""A series of models, such as the checkpoints that others released, measured alike.

A member is any masked language model that ``model.load`` takes, a local folder or a name on
the Hugging Face hub with a revision, and the step at which it was saved. What is measured of
it has the names that the runs of this project use, so that the same figures can be drawn.

Each measure of each member is a file of its own in the folder of results, written whole: an
interrupted call is gone on with by the same call.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from sas_lib import breaks, onsets
from sas_lib.checkpoints import MeasureError, Planned
from sas_lib.model import ModelError, load
from sas_lib.pretraining import Row
from sas_lib.results import COLUMNS
from sas_lib.run_state import write_whole

File = str | os.PathLike[str]

# step-000300, ckpt_180000, step_20k. Not any number: multiberts-seed_0 is no step 0.
_STEP = re.compile(r"(?:step|ckpt|checkpoint)[-_]?(\d+)([km]?)$", re.IGNORECASE)
_TIMES = {"": 1, "k": 1000, "m": 1_000_000}


class SeriesError(ValueError):
    """What is no series of models; the message says why and what to do."""


@dataclass(frozen=True)
class Member:
    """A model of a series. model: a local folder, or a name on the Hugging Face hub.
    step: when it was saved. revision: a branch, tag or commit on the hub."""

    model: str
    step: int
    revision: str | None = None

    def __str__(self) -> str:
        return self.model + (f"@{self.revision}" if self.revision else "")


def step_in(name: str) -> int | None:
    """The step that the end of a name gives, as "step-000300" or "step_20k", if it does."""
    found = _STEP.search(name.rstrip("/"))
    return int(found[1]) * _TIMES[found[2].lower()] if found else None


def members(where: File | Iterable[File]) -> list[Member]:
    """The models of a series, in the order of their steps.

    where: a folder of checkpoints (or a run folder that has one), or a list of models: local
    folders, names on the hub, or NAME@REVISION. Each step is read off the end of the
    revision or the name; what does not say it can be given as a ``Member`` to ``measure``.

    Raises:
        SeriesError: no checkpoints there, a name without a step, two of one step.
    """
    if isinstance(where, (str, os.PathLike)):
        folder = Path(where)
        folder = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
        names = [str(p) for p in sorted(folder.glob("*")) if step_in(p.name) is not None]
        if not names:
            raise SeriesError(
                f"no folders such as step-000300 or checkpoint-500 in {folder}; of models on "
                "the hub, give a list of names"
            )
    else:
        names = [os.fspath(name) for name in where]
    return _in_order([_member(name) for name in names])


def _member(name: str) -> Member:
    # A local folder may have an @ in its name.
    model, _, revision = (name, "", "") if Path(name).exists() else name.partition("@")
    step = step_in(revision or model)
    if step is None:
        raise SeriesError(
            f"{name!r} does not end in a step, as step-300, ckpt-300 or step_20k do; give "
            f"Member({model!r}, step)"
        )
    return Member(model, step, revision or None)


def _in_order(found: Iterable[Member]) -> list[Member]:
    ordered = sorted(found, key=lambda member: member.step)
    if not ordered:
        raise SeriesError("no models to measure")
    for one, other in itertools.pairwise(ordered):
        if one.step == other.step:
            raise SeriesError(f"{one} and {other} are both of step {one.step}")
    return ordered


# --- measuring ------------------------------------------------------------------------


def measure(
    series: Iterable[Member],
    planned: Sequence[Planned],
    out: File,
    again: bool = False,
    device: str = "cpu",
    quiet: bool = False,
) -> pd.DataFrame:
    """Measure the members that are not measured yet and return all, as ``read`` does.

    again: also what was measured before. quiet: no progress bar. A model that cannot be
    loaded or measured stops no other. ``out`` gets ``metrics.parquet``, too, which
    ``sas onsets`` reads.

    Raises:
        MeasureError: another model of that step, or other data, were measured in ``out``; or,
            at the end, what could not be measured.
    """
    out, failed = Path(out), []
    todo = {m: _left(out, m, planned, again) for m in _in_order(series)}
    made = {plan.name: plan.make() for plans in todo.values() for plan in plans}
    total = sum(map(len, todo.values()))
    with tqdm(total=total, unit=" measurements", disable=quiet or not total) as bar:
        for member, plans in todo.items():
            if not plans:
                continue
            try:
                model, tokenizer = load(member.model, device, member.revision)
            except ModelError as error:
                failed.append(str(error))
                continue
            for plan in plans:
                bar.set_postfix_str(f"{plan.name} of step {member.step}")
                try:
                    rows = made[plan.name](model, tokenizer)
                    _write(_file(out, member, plan.name), member, plan, rows)
                except (ValueError, RuntimeError) as error:
                    failed.append(f"{plan.name} of {member}: {error}")
                bar.update()
    if failed:
        more = f" (and {len(failed) - 3} more)" if failed[3:] else ""
        raise MeasureError(f"not measured: {'; '.join(failed[:3])}{more}; all else is kept")
    table = read(out)
    part = out / "metrics.parquet.part"
    table.to_parquet(part, index=False)
    part.replace(out / "metrics.parquet")
    return table


def _file(out: Path, member: Member, name: str) -> Path:
    return out / "measured" / f"step-{member.step:09d}.{name}.json"


def _left(out: Path, member: Member, planned: Sequence[Planned], again: bool) -> list[Planned]:
    """The measures still to take of a member."""
    left = []
    for plan in planned:
        path = _file(out, member, plan.name)
        if again or not path.exists():
            left.append(plan)
            continue
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["model"] != str(member) or before["settings"] != dict(plan.settings):
            same = before["model"] == str(member)
            what = "other data" if same else f"another model, {before['model']},"
            raise MeasureError(
                f"{out} holds {plan.name} at step {member.step} of {what} than is asked for "
                f"({member}); use another folder, or measure anew (again=True)"
            )
    return left


def _write(path: Path, member: Member, plan: Planned, rows: Sequence[Row]) -> None:
    if lost := [row["metric"] for row in rows if not math.isfinite(row["value"])]:
        raise MeasureError(f"{lost[0]} is no finite number")
    path.parent.mkdir(parents=True, exist_ok=True)
    held = {"step": member.step, "model": str(member), "settings": dict(plan.settings)}
    write_whole(path, json.dumps({**held, "rows": list(rows)}))


def read(out: File, seed: int = 0) -> pd.DataFrame:
    """What was measured in ``out``, as the tidy table of a bundle, with a column ``model``.

    seed: what tells this series from others of its kind, for the figures that compare them.

    Raises:
        MeasureError: nothing was measured there.
    """
    out = Path(out)
    rows = []
    for path in sorted((out / "measured").glob("step-*.json")):
        held = json.loads(path.read_text(encoding="utf-8"))
        at = {"run": out.name, "seed": seed, "step": held["step"], "model": held["model"]}
        rows += [{**at, **row} for row in held["rows"]]
    if not rows:
        raise MeasureError(f"nothing was measured in {out}; measure a series into it first")
    table = pd.DataFrame(rows).reindex(columns=[*COLUMNS, "model"])
    return table.astype({"layer": "Int16", "head": "Int16"})


# --- onsets ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Marked:
    """The onset of one curve. before, after: the checkpoints on either side of the onset
    itself. low, high: for the noise between checkpoints, None where there are too few.
    verdict: of ``breaks.verdict``, or "too few checkpoints"."""

    onset: float | None
    before: int | None
    after: int | None
    low: float | None
    high: float | None
    verdict: str


def mark(table: pd.DataFrame, metric: str, log: bool = False) -> Marked:
    """Where the curve of a metric breaks, by the two-knot fit, and whether it does.

    A loss is turned over. Below 8 checkpoints that are apart nothing is marked. log: on the
    logarithm of the step; step 0 is left out.

    Raises:
        SeriesError: the metric was not measured, or several values at a step.
    """
    rows = table[table["metric"] == metric].sort_values("step")
    if rows.empty or rows["step"].duplicated().any():
        raise SeriesError(f"{metric} is no curve of one series here")
    steps = rows["step"].to_numpy(float)
    values = rows["value"].to_numpy(float) * (-1 if metric.endswith("loss") else 1)
    try:
        found = breaks.two_knots(steps, values, log)
        verdict = str(breaks.verdict(steps, values, log))
        spread = breaks.over_noise(steps, values, breaks.by_two_knots(log), log)
    except onsets.CurveError:
        return Marked(None, None, None, None, None, "too few checkpoints")
    if found is None:
        return Marked(None, None, None, None, None, verdict)
    onset = found.onset
    low, high = (spread.low, spread.high) if spread else (None, None)
    after = int(np.searchsorted(steps, onset, side="right").clip(1, len(steps) - 1))
    return Marked(onset, int(steps[after - 1]), int(steps[after]), low, high, verdict)
