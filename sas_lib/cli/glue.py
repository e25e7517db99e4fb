"""``sas glue``: fine-tune a model on GLUE, HANS or toy tasks, and score it."""

from __future__ import annotations

import json
import statistics
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sas_lib.cli.options import Device, Json, Model


class PoolingName(StrEnum):
    cls = "cls"
    mean = "mean"


def glue(
    model: Model,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="cola, sst2, rte, wnli, mrpc, stsb, mnli, hans (after mnli), "
            "toy_acceptability, toy_acceptability_transfer, toy_entailment, "
            "toy_entailment_voices, toy_number; may be repeated. Without it, all but the "
            "toy tasks."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each task, seeds 0, 1, ...")] = 3,
    limit: Annotated[
        int, typer.Option(min=2, help="Train on a sample of so many examples at most.")
    ] = 10_000,
    epochs: Annotated[int, typer.Option(min=1, help="Times through the examples.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a step.")] = 32,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Peak; by the model's width if not given.")
    ] = None,
    pooling: Annotated[
        PoolingName, typer.Option(help="What the head sees: [CLS], or the mean of all.")
    ] = PoolingName.cls,
    data: Annotated[
        Path | None, typer.Option(help="Folder of data; else SAS_DATA, else the net.")
    ] = None,
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option(help="Also keep the JSON here, after each run.")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Fine-tune a model on classification tasks and score it, beside the majority class.

    Scores are on GLUE's validation sets, after the last epoch. Ctrl-C stops and shows the
    runs that are complete.

    \b
    Examples:
    sas glue runs/seed-0/checkpoints/step-005400 --task toy_number --task toy_entailment
    sas glue bert-base-uncased --task cola --task rte --seeds 5 --device cuda --json
    sas glue bert-base-uncased --task hans --limit 400000 --device cuda
    """
    from tqdm import tqdm

    from sas_lib.finetune import Recipe, each_run
    from sas_lib.glue import GLUE, read_hans, read_task
    from sas_lib.model import load
    from sas_lib.run_state import write_whole

    names = list(dict.fromkeys(task or [*GLUE, "hans"]))
    hans = None
    if "hans" in names:
        names = [name for name in names if name != "hans"]
        names += [] if "mnli" in names else ["mnli"]
        hans = read_hans(data)
    read = {name: read_task(name, limit, data) for name in names}
    recipe = Recipe(epochs, batch_size, learning_rate, pooling=pooling.value)
    loaded, tokenizer = load(model, device)
    rows: dict[str, dict[str, Any]] = {}

    def figures() -> dict[str, Any]:
        complete = [len(row["runs"]) for row in rows.values()] == [seeds] * len(read)
        return {
            "model": model,
            "recipe": vars(recipe),
            "complete": complete,
            "tasks": list(rows.values()),
        }

    try:
        for name, (train, test) in read.items():
            extra = hans if name == "mnli" else None
            scored = len(test) + (len(extra[0]) if extra else 0)
            total = seeds * (epochs * len(train) + scored)
            with tqdm(total=total, desc=name, unit=" examples", disable=as_json) as bar:
                for row in each_run(
                    loaded, tokenizer, name, train, test, recipe, seeds, extra, bar.update
                ):
                    rows[name] = row
                    if out is not None:
                        write_whole(out, json.dumps(figures(), indent=1))
    finally:  # of an interrupted run, too, what is complete is shown
        if rows:
            typer.echo(json.dumps(figures(), indent=1) if as_json else glue_table(figures()))


def glue_table(figures: dict[str, Any]) -> str:
    """The figures as a table to read: the mean over seeds, and what the majority gets."""
    lines = [
        f"{'task':<27}{'metric':<10}{'mean':>7}{'sd':>7}{'majority':>10}{'seeds':>7}"
        f"{'train':>8}{'test':>7}{'cut':>6}"
    ]
    if not figures["complete"]:
        lines.insert(0, "Not complete: the runs scored so far")
    for row in figures["tasks"]:
        for metric, majority in row["majority"].items():
            values = [run[metric] for run in row["runs"]]
            deviation = f"{statistics.stdev(values):.3f}" if values[1:] else "-"
            lines.append(
                f"{row['task']:<27}{metric:<10}{statistics.fmean(values):>7.3f}"
                f"{deviation:>7}{majority:>10.3f}{len(values):>7}"
                f"{row['n_train']:>8}{row['n_test']:>7}{row['truncated']:>6}"
            )
    return "\n".join(lines + _hans_lines(figures["tasks"]))


def _hans_lines(tasks: list[dict[str, Any]]) -> list[str]:
    """Accuracy by heuristic and gold label, the mean over seeds."""
    runs = [run["hans"] for row in tasks for run in row["runs"] if "hans" in run]
    labels = ("entailment", "non-entailment")
    lines = ["", f"{'HANS, after mnli':<27}" + "".join(f"{x:>17}" for x in labels)]
    for heuristic in runs[0] if runs else ():
        line = f"{heuristic:<27}"
        for label in labels:
            values = [run[heuristic][label] for run in runs if label in run[heuristic]]
            line += f"{statistics.fmean(values):>17.3f}" if values else f"{'-':>17}"
        lines.append(line)
    return lines if runs else []
