"""``sas measure``: measure the checkpoints of a run after training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sas_lib.cli.options import Device, Json

if TYPE_CHECKING:
    from sas_lib.checkpoints import Taken


def measure(
    run: Annotated[Path, typer.Argument(help="A run folder of sas pretrain.")],
    what: Annotated[
        list[str] | None,
        typer.Option(
            help="dimension, weights, fisher, context, roads, attention, uas, surprisal, "
            "pairs; tasks (of toy English) or glue, or one task of sas glue. May be repeated. "
            "Without it, all but the tasks and what needs data that are not given.",
        ),
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Of which checkpoints: 0,400-1600,last. Default: all.")
    ] = None,
    treebank: Annotated[
        Path | None, typer.Option(help="CoNLL-U to measure on. Default: toy English.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Folder of minimal pairs. Default: toy English.")
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Sentences to measure on; of pairs, pairs a paradigm; of tasks, examples. "
            "Default: 1000 for dimension and uas, 500 for surprisal, 300 for context, roads "
            "and attention, 100 for fisher, 30 for pairs, 2000 for tasks.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Of tasks: fine-tuning runs.")] = 3,
    data: Annotated[
        Path | None, typer.Option(help="Of glue: folder of data; else SAS_DATA, else the net.")
    ] = None,
    again: Annotated[bool, typer.Option(help="Also what was measured before.")] = False,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Measure the kept checkpoints of a run, for what is too slow to take while training.

    Rows are appended to RUN/measures.jsonl after each measurement and read with the run's
    metrics from then on. What is there is skipped: after Ctrl-C or a crash the same command
    goes on. A checkpoint that cannot be measured is named at the end and stops no other.
    JSON is one object with the rows of the steps and measures that were asked for.

    \b
    Examples:
    sas measure runs/toy-0
    sas measure runs/toy-0 --what dimension --what fisher --steps 0,400-1600,last
    sas measure runs/toy-0 --what tasks --steps 400,800,1600,last --seeds 3
    sas measure runs/real-0 --treebank en_ewt-ud-dev.conllu --pairs blimp/data --device cuda
    """
    from tqdm import tqdm

    from sas_lib import checkpoints
    from sas_lib.catalogue import plan

    kept = checkpoints.kept(run)
    at = list(kept) if steps is None else checkpoints.chosen(kept, steps)
    planned = plan(run, what or None, treebank, pairs, n, seeds, data)
    left = checkpoints.pending(run, planned, at, again)
    total = sum(map(len, left.values()))
    before = len(at) * len(planned) - total
    new: list[Taken] = []
    try:
        with tqdm(total=total, unit=" measurements", disable=as_json or not total) as bar:

            def show(step: int, name: str) -> None:
                bar.set_postfix_str(f"{name} of step {step}")

            for taken in checkpoints.measure(run, planned, at, again, device, show):
                new.append(taken)
                bar.update()
    except KeyboardInterrupt:
        go_on = "the same command" + (" without --again" if again else "")
        typer.echo(f"Stopped; {len(new)} of {total} are kept: {go_on} goes on", err=True)
        raise
    finally:  # of an interrupted call, too, what there is is shown
        names = {one.name for one in planned}
        rows = [one for one in checkpoints.read_taken(run) if one.name in names]
        shown = [one for one in rows if one.step in at]
        counts = {"measured": len(new), "before": before, "left": total - len(new)}
        if as_json:
            typer.echo(json.dumps(_figures(run, counts, shown), indent=1))
        elif shown:
            typer.echo(_table(run, counts, shown))


def _figures(run: Path, counts: dict[str, int], shown: Sequence[Taken]) -> dict[str, Any]:
    return {
        "run": str(run),
        **counts,
        "settings": {one.name: dict(one.settings) for one in shown},
        "rows": [
            {key: value for key, value in row.items() if key != "settings"}
            for one in shown
            for row in one.rows
        ],
    }


def _table(run: Path, counts: dict[str, int], shown: Sequence[Taken]) -> str:
    """What was measured, and the main figures at the first and the last checkpoint."""
    from sas_lib.checkpoints import MEASURES

    steps = sorted({one.step for one in shown})
    lines = [
        f"{counts['measured']} measured, {counts['before']} there before, "
        f"{counts['left']} left; in {run / MEASURES}",
        "",
        f"{'':<38}{'checkpoints':>12}{'seconds each':>14}  on",
    ]
    for name in dict.fromkeys(one.name for one in shown):
        of_name = [one for one in shown if one.name == name]
        mean = sum(one.rows[-1]["value"] for one in of_name) / len(of_name)
        on = of_name[0].settings.get("data", "")
        lines.append(f"{name:<38}{len(of_name):>12}{mean:>14.1f}  {on}".rstrip())
    lines += ["", f"{'':<38}{f'step {steps[0]}':>12}{f'step {steps[-1]}':>14}"]
    values: dict[str, dict[int, float]] = {}
    for row in (row for one in shown for row in one.rows):
        if _is_shown(row):
            name = "/".join(row[key] for key in ("metric", "detail") if key in row)
            values.setdefault(name, {})[row["step"]] = row["value"]
    for name, by_step in values.items():
        first, last = (by_step.get(step) for step in (steps[0], steps[-1]))
        lines.append(f"{name:<38}{_number(first):>12}{_number(last):>14}")
    return "\n".join(lines)


def _is_shown(row: dict[str, Any]) -> bool:
    """Not what each head does, nor each relation."""
    if row["metric"].startswith(("finetuned", "hans", "dimension")):
        return not row["metric"].endswith(("_sd", "_low", "_high", "_n", "_duplicates"))
    return "detail" not in row and ("layer" not in row or "direction" in row)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
