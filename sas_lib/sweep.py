"""Many runs, some at a time, each resumable; what runs have in common is trained once.

On two cores, two processes of one thread each train more steps a second than one process
of two threads, or than several models stacked in one (the appendix on speed has the
figures), so a sweep is a pool of processes.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm.auto import tqdm

from sas_lib import runs
from sas_lib.pretraining import STATE, finished, fork, pretrain
from sas_lib.run_state import read_counters
from sas_lib.settings import Config


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    forks: step to name, runs that are this one up to that step and then go on under the
    schedule of the job of that name (which comes later in the sweep).
    stop_at: leave the run unfinished at this step.
    """

    name: str
    config: Config
    forks: dict[int, str] = field(default_factory=dict)
    stop_at: int | None = None


class SweepError(RuntimeError):
    """Runs of a sweep that failed; the message names them."""


def sweep(
    folder: str | os.PathLike[str],
    jobs: Sequence[Job],
    workers: int = 2,
    threads: int = 1,
    sentences: int = 100_000,
    quiet: bool = False,
) -> Iterator[Path]:
    """Train the jobs on toy English, ``workers`` at a time; yields each finished run folder.

    Started again after an interruption, it goes on: finished runs are yielded at once, begun
    ones resumed. One run's failure does not stop the others.

    Raises:
        SweepError: at the end, when runs failed.
    """
    folder = Path(folder)
    by_name = {job.name: job for job in jobs}
    if len(by_name) < len(jobs):
        raise SweepError("two jobs of the sweep have the same name")
    if missing := {name for job in jobs for name in job.forks.values()} - by_name.keys():
        raise SweepError(f"forks to runs not in the sweep: {', '.join(sorted(missing))}")
    context = multiprocessing.get_context("spawn")  # a fork would share torch's threads
    failed = []
    with (
        ProcessPoolExecutor(workers, context, torch.set_num_threads, (threads,)) as pool,
        tqdm(total=len(jobs), desc="runs", disable=quiet) as bar,
    ):
        pending = iter(jobs)
        waiting: dict[Future[None], Job] = {}

        def start() -> None:
            # No more than are trained at once: what a pool has taken in cannot be called off.
            for job in itertools.islice(pending, workers - len(waiting)):
                forked = {step: by_name[name] for step, name in job.forks.items()}
                waiting[pool.submit(train, folder, job, forked, sentences)] = job

        try:
            start()
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    job = waiting.pop(future)
                    bar.update()
                    if error := future.exception():
                        failed.append(f"{job.name}: {error}")
                    else:
                        yield folder / job.name
                start()
        finally:
            pool.shutdown(wait=True)
    if failed:
        raise SweepError(f"{len(failed)} of {len(jobs)} runs failed: " + "; ".join(failed))


def train(folder: Path, job: Job, forked: dict[int, Job], sentences: int) -> None:
    """Train one job to its end, leaving forks on the way."""
    out = folder / job.name
    if finished(out, job.config) or _standing(out) == job.stop_at:
        return
    data = runs.toy_data(job.config, sentences, quiet=True)
    measures = runs.toy_measures(data)

    def go_on(stop_at: int | None) -> None:
        resume = (out / "config.json").exists()
        pretrain(out, job.config, data, measures, resume, quiet=True, stop_at=stop_at)

    for step, other in sorted(forked.items()):
        if not (folder / other.name / "config.json").exists() and _standing(out) <= step:
            go_on(stop_at=step)
            # Another worker may have begun it from the start meanwhile: that is as good.
            if not (folder / other.name / "config.json").exists():
                fork(out, folder / other.name, other.config.sas_schedule)
    go_on(job.stop_at)


def _standing(out: Path) -> int:
    """The step that a run's saved state stands at."""
    state = out / STATE
    return int(read_counters(state)["step"]) if state.exists() else 0


def unfinished(folder: str | os.PathLike[str]) -> dict[str, int]:
    """Runs of a folder that are not at their end, and the steps they stand at."""
    found = {}
    for path in sorted(Path(folder).glob("*/config.json")):
        steps = json.loads(path.read_text())["steps"]
        if (standing := _standing(path.parent)) < steps:
            found[path.parent.name] = standing
    return found
