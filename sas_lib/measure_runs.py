"""The checkpoints of many runs, measured after training, some runs at a time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from sas_lib import catalogue, checkpoints
from sas_lib.pretraining import STATE
from sas_lib.sweep_workers import SweepError, cluster, look, reason, shared, undisturbed


@dataclass(frozen=True)
class Asked:
    """What to measure, as ``sas measure`` has it: what, at which steps, on how much, and on
    which files in place of toy English."""

    what: tuple[str, ...] | None = None
    steps: str = "0-"
    size: int | None = None
    seeds: int = 3
    treebank: str | None = None
    pairs: str | None = None
    data: str | None = None

    def of(self, run: Path) -> tuple[list[checkpoints.Planned], list[int]]:
        """The measures and the steps of one run."""
        planned = catalogue.plan(
            run, self.what, self.treebank, self.pairs, self.size, self.seeds, self.data
        )
        return planned, checkpoints.chosen(checkpoints.kept(run), self.steps)


def measure_runs(
    folder: str | os.PathLike[str],
    runs: Sequence[str],
    asked: Asked,
    workers: int = 2,
    scheduler: str | None = None,
    device: str = "cpu",
) -> Iterator[Path]:
    """Measure the runs in a folder, some at a time; yields each when it is done.

    workers, scheduler: as of ``sweep``. What has been measured before is skipped, so that
    after an interruption it goes on.

    Raises:
        SweepError: at the end, when runs could not be measured; at once, when the cluster
            cannot be used.
        MeasureError: there is no such measure or run.
    """
    folder = Path(folder)
    left = [
        name for name in runs if checkpoints.pending(folder / name, *asked.of(folder / name))
    ]
    yield from (folder / name for name in runs if name not in left)
    if not left:
        return
    from distributed import wait

    failed = []
    with (
        cluster(scheduler, workers) as client,
        shared(client, folder) as marker,
        tqdm(total=len(left), desc="runs measured") as bar,
    ):
        tasks = {client.submit(_measure, marker, name, asked, device): name for name in left}
        while tasks:
            with client.as_current():
                ended = wait(list(tasks), return_when="FIRST_COMPLETED").done
            for task in ended:
                name = tasks.pop(task)
                bar.update()
                if error := task.exception():
                    failed.append(f"{name}: {reason(error)}")
                else:
                    yield folder / name
    if failed:
        raise SweepError(f"{len(failed)} of {len(runs)} runs failed: " + "; ".join(failed))


def _measure(marker: Path, name: str, asked: Asked, device: str) -> None:
    look(marker)
    run = marker.parent / name
    with undisturbed(run):
        torch.set_num_threads(1)
        for _ in checkpoints.measure(run, *asked.of(run), device=device):
            pass


def measure_again(
    folder: str | os.PathLike[str], runs: Sequence[str], asked: Asked
) -> pd.DataFrame:
    """Measure again, in a copy, what was asked of these runs, and compare.

    So one sees whether the code of today gives what an earlier one gave, as with
    ``experiment.reproduce``. One row a run: ``run``, ``steps``, ``values`` (how many were
    compared), ``different`` (how many of them differ), ``largest_difference``.
    """
    rows = []
    for name in tqdm(runs, "measuring again"):
        run = Path(folder) / name
        with tempfile.TemporaryDirectory() as place:
            copy = Path(place) / name
            left_out = shutil.ignore_patterns(checkpoints.MEASURES, STATE)
            shutil.copytree(run, copy, ignore=left_out)
            planned, steps = asked.of(copy)
            new = list(checkpoints.measure(copy, planned, steps))
        old = {(one.step, one.name): one for one in checkpoints.read_taken(run)}
        gaps = [
            abs(after["value"] - before["value"])
            for one in new
            for before, after in zip(
                old[one.step, one.name].rows[:-1], one.rows[:-1], strict=True
            )
        ]
        different = sum(gap > 0 for gap in gaps)
        about = {"run": name, "steps": asked.steps, "values": len(gaps)}
        rows.append({**about, "different": different, "largest_difference": max(gaps)})
    return pd.DataFrame(rows)
