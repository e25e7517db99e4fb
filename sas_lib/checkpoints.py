"""The kept checkpoints of a run, and what is measured on them after training.

Rows go to ``measures.jsonl`` in the run folder, tidy as those of ``metrics.jsonl``. All that
one measure gives at one checkpoint is written at once and ends with a row ``measure_seconds``,
which names the measure (``detail``) and holds its settings. What has no such end was
interrupted: it is not read, and is measured again.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib.model import ModelError, load, small_bert
from sas_lib.pretraining import METRICS, Measure, Row
from sas_lib.run_state import write_whole
from sas_lib.settings import Config

MEASURES, END = "measures.jsonl", "measure_seconds"


class MeasureError(RuntimeError):
    """What cannot be measured, or was not; the message says why and what to do."""


@dataclass(frozen=True)
class Planned:
    """A measure to take, and what its figures depend on besides the model.

    settings: JSON; figures of one name but other settings are not put beside each other.
    make: gives the measure itself; it is called only where something is left to measure.
    """

    name: str
    settings: Mapping[str, Any]
    make: Callable[[], Measure]


@dataclass(frozen=True)
class Taken:
    """One measure at one checkpoint, as it was written."""

    step: int
    name: str
    settings: Mapping[str, Any]
    rows: list[Row]


def kept(run: str | os.PathLike[str]) -> dict[int, Path]:
    """The folders of a run's kept checkpoints by their step, in order.

    Raises:
        MeasureError: there are none.
    """
    found = {}
    for folder in Path(run).glob("checkpoints/step-*"):
        number = folder.name.removeprefix("step-")
        if number.isdecimal():
            found[int(number)] = folder
    if not found:
        raise MeasureError(f"{run} holds no checkpoints; give a run folder of sas pretrain")
    return dict(sorted(found.items()))


def chosen(there: Iterable[int], asked: str) -> list[int]:
    """The steps that ``asked`` names: "0,400", "400-1600", "5000-", "last".

    Raises:
        MeasureError: no checkpoint is kept there, or this names no steps.
    """
    steps, picked = sorted(there), set()
    for part in asked.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low = steps[-1] if first == "last" else int(first)
            high = low if not dash else int(last) if last else steps[-1]
        except ValueError as error:
            raise MeasureError(f"{part!r} names no steps; try 0,400-1600,last") from error
        found = [step for step in steps if low <= step <= high]
        if not found:
            raise MeasureError(f"no checkpoint at {part.strip()}; there are {_listed(steps)}")
        picked.update(found)
    return sorted(picked)


def _listed(items: Sequence[Any]) -> str:
    return ", ".join(map(str, items))


def initial_model(run: str | os.PathLike[str]) -> PreTrainedModel:
    """The model of a run as it was initialised, from its settings if it was not kept.

    Raises:
        MeasureError: the folder has no settings.
    """
    run = Path(run)
    if 0 in (folders := kept(run)):
        return load(folders[0])[0]
    try:
        config = Config(**json.loads((run / "config.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise MeasureError(f"{run} has no settings of a run (config.json): {error}") from error
    vocabulary = load(next(iter(folders.values())))[0].config.vocab_size
    size = (config.layers, config.width, config.heads, config.max_length, config.dropout)
    return small_bert(vocabulary, *size, config.seed).eval()


# --- what was measured ----------------------------------------------------------------


def read_measures(run: str | os.PathLike[str]) -> list[Row]:
    """The rows of all that was measured whole; none where nothing was."""
    return [row for taken in read_taken(run) for row in taken.rows]


def read_taken(run: str | os.PathLike[str]) -> list[Taken]:
    """What was measured and is whole, in the order of measuring.

    Of what was measured again the last counts, and of each measure the last settings.
    """
    taken = _whole(Path(run) / MEASURES)
    settings = {one.name: one.settings for one in taken}
    last = {(one.step, one.name): one for one in taken}
    return [one for one in last.values() if one.settings == settings[one.name]]


def _whole(path: Path) -> list[Taken]:
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    taken: list[Taken] = []
    rows: list[Row | None] = []  # None: cut short by a crash or a full disk
    for line in text.splitlines(keepends=True):
        row = _parsed(line)
        rows.append(row)
        if row is not None and row["metric"] == END:
            whole = [one for one in rows if one is not None and one["step"] == row["step"]]
            if len(whole) == len(rows):
                taken.append(Taken(row["step"], row["detail"], row["settings"], whole))
            rows = []
    return taken


def _parsed(line: str) -> Row | None:
    try:
        row = json.loads(line) if line.endswith("\n") else None
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"step", "metric"} <= row.keys() else None


def _as_lines(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _append(path: Path, rows: Iterable[Row]) -> None:
    """Write all rows at once: a reader sees all or none of them."""
    data = _as_lines(rows).encode()
    try:
        with open(path, "ab", buffering=0) as out:
            if out.write(data) != len(data):
                raise OSError("the disk is full")
    except OSError as error:
        raise MeasureError(f"cannot write to {path}: {error}; make room, go on") from error


# --- measuring ------------------------------------------------------------------------


def measure(
    run: str | os.PathLike[str],
    planned: Sequence[Planned],
    steps: Sequence[int] | None = None,
    again: bool = False,
    device: str = "cpu",
    progress: Callable[[int, str], object] | None = None,
) -> Iterator[Taken]:
    """Measure kept checkpoints and yield each measurement when it is written.

    What was measured before with the same settings is skipped, so that an interrupted call
    is gone on with by the same call. A checkpoint that cannot be measured stops no other.
    steps: which checkpoints, by default all. again: replace what was measured before.
    progress: called with step and name before each measurement.

    Raises:
        MeasureError: nothing to measure, other settings before (unless ``again``), or, at
            the end, what could not be measured.
    """
    run = Path(run)
    folders, tokens = kept(run), tokens_at(run)
    steps = list(folders) if steps is None else steps
    if lost := [step for step in steps if step not in folders or step not in tokens]:
        raise MeasureError(f"{run} has no checkpoint and metrics of step {_listed(lost)}")
    todo = pending(run, planned, steps, again)
    makers = {plan.name: plan.make for plans in todo.values() for plan in plans}
    measures = {name: make() for name, make in makers.items()}
    failed: list[str] = []
    _tidy(run)
    try:
        for step, plans in todo.items():
            at = {"step": step, "tokens": tokens[step]}
            for plan, rows in _at_step(
                folders[step], plans, measures, device, failed, progress
            ):
                rows = [{**at, **row} for row in rows]
                _append(run / MEASURES, rows)
                yield Taken(step, plan.name, plan.settings, rows)
    finally:
        _tidy(run)
    if failed:
        more = f" (and {len(failed) - 3} more)" if failed[3:] else ""
        raise MeasureError(f"not measured: {'; '.join(failed[:3])}{more}; all else is kept")


def _at_step(
    folder: Path,
    plans: Sequence[Planned],
    measures: Mapping[str, Measure],
    device: str,
    failed: list[str],
    progress: Callable[[int, str], object] | None,
) -> Iterator[tuple[Planned, list[Row]]]:
    """Measure one checkpoint; what goes wrong is written down in ``failed``."""
    try:
        model, tokenizer = load(folder, device)
    except ModelError as error:
        failed.append(str(error))
        return
    for plan in plans:
        if progress is not None:
            progress(int(folder.name.removeprefix("step-")), plan.name)
        try:
            rows = _timed(plan, measures[plan.name], model, tokenizer)
        except (ValueError, RuntimeError) as error:
            failed.append(f"{plan.name} of {folder.name}: {error}")
        else:
            yield plan, rows


def _timed(
    plan: Planned,
    function: Measure,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
) -> list[Row]:
    """The rows of a measure, and the row that ends them."""
    start = time.perf_counter()
    rows = function(model, tokenizer)
    if lost := [row["metric"] for row in rows if not math.isfinite(row["value"])]:
        raise MeasureError(f"{lost[0]} is no finite number")
    seconds = round(time.perf_counter() - start, 2)
    end: Row = {"metric": END, "detail": plan.name, "value": seconds}
    return [*rows, {**end, "settings": dict(plan.settings)}]


def pending(
    run: str | os.PathLike[str],
    planned: Sequence[Planned],
    steps: Iterable[int],
    again: bool = False,
) -> dict[int, list[Planned]]:
    """The measures that are left to take at each step.

    Raises:
        MeasureError: a measure was taken before with other settings (unless ``again``).
    """
    taken, done = read_taken(run), set()
    for plan in () if again else planned:
        for one in taken:
            if one.name == plan.name and dict(one.settings) != _as_json(plan.settings):
                raise MeasureError(
                    f"{Path(run) / MEASURES} holds {plan.name} of other settings: "
                    f"{_difference(one.settings, plan.settings)}; measure as before, or all "
                    "of it anew (--again)"
                )
        done |= {(one.step, one.name) for one in taken if one.name == plan.name}
    left = {step: [p for p in planned if (step, p.name) not in done] for step in steps}
    return {step: plans for step, plans in left.items() if plans}


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    return found


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = sorted(k for k in {**before, **now} if before.get(k) != now.get(k))
    return _listed([f"{k} was {before.get(k)}, now {now.get(k)}" for k in keys])


def _tidy(run: Path) -> None:
    """Drop from the file what is not read: what is not whole, what was measured again."""
    path = run / MEASURES
    if path.exists():
        text = _as_lines(row for one in read_taken(run) for row in one.rows)
        if text.encode() != path.read_bytes():
            write_whole(path, text)


def tokens_at(run: str | os.PathLike[str]) -> dict[int, int]:
    """The tokens that a run had seen at each measured step.

    Raises:
        MeasureError: the folder holds no metrics.
    """
    path = Path(run) / METRICS
    if not path.exists():
        raise MeasureError(f"{run} holds no {METRICS}; give a run folder of sas pretrain")
    tokens: dict[int, int] = {}
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if (row := _parsed(line)) is not None:
            tokens[int(row["step"])] = int(row.get("tokens", 0))
    return tokens
