"""The checkpoints of many runs, measured after training, some runs at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from sas_lib import catalogue, checkpoints
from sas_lib.sweep_workers import SweepError, cluster, look, reason, shared, undisturbed


@dataclass(frozen=True)
class Asked:
    """What to measure, as ``sas measure`` has it: what, at which steps, on how much."""

    what: tuple[str, ...] | None = None
    steps: str = "0-"
    size: int | None = None
    seeds: int = 3

    def of(self, run: Path) -> tuple[list[checkpoints.Planned], list[int]]:
        """The measures and the steps of one run."""
        planned = catalogue.plan(run, self.what, size=self.size, seeds=self.seeds)
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
