"""Many runs, some at a time, each resumable; what runs have in common is trained once.

On two cores, two processes of one thread each train more steps a second than one process
of two threads, or than several models stacked in one (the appendix on speed has the
figures), so each run has a process of its own: a worker of dask.distributed, here or on the
reader's own cluster. When a worker is lost, another takes its run up at the last saved state.
"""

from __future__ import annotations

import functools
import json
import os
import uuid
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from tqdm import tqdm

from sas_lib.pretraining import STATE, Data, Measure, finished, fork, pretrain
from sas_lib.run_state import RunError, read_counters
from sas_lib.settings import Config
from sas_lib.sweep_workers import SweepError, cluster, look, reason, shared, undisturbed

if TYPE_CHECKING:
    from distributed import Client


class Material(Hashable, Protocol):
    """What the runs of a sweep learn from and are measured on; it must be hashable."""

    def data(self, config: Config) -> Data:
        """The sentences of a run with this configuration."""
        ...

    def measures(self, data: Data) -> list[Measure]:
        """What is measured at its checkpoints."""
        ...


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    forks: step to job, runs that are this one up to that step and then go on under their own
    schedule. They are left off on the way, and trained to their end when their turn comes,
    in this sweep or in another one.
    stop_at: leave the run unfinished at this step.
    """

    name: str
    config: Config
    forks: dict[int, Job] = field(default_factory=dict)
    stop_at: int | None = None


def sweep(
    folder: str | os.PathLike[str],
    jobs: Sequence[Job],
    material: Material,
    workers: int = 2,
    threads: int = 1,
    scheduler: str | None = None,
    quiet: bool = False,
    device: str = "cpu",
) -> Iterator[Path]:
    """Train the jobs, one a worker; yields each finished run folder.

    Started again after an interruption, it goes on: finished runs are yielded at once, begun
    ones resumed from their last checkpoint. One run's failure does not stop the others. A job
    that is another's fork waits until that one has left it its state.

    material: what the runs learn from and are measured on, ``runs.ToyText`` for instance.
    workers: how many processes to start on this machine.
    threads: torch's threads in each worker.
    scheduler: the address of a dask scheduler, to use its workers instead. They must see
    ``folder`` under the same path, have this library, and take one task at a time (``dask
    worker ADDRESS --nworkers 8 --nthreads 1``; see ``sweep_workers``); they may come and go.

    Raises:
        SweepError: at the end, when runs failed; at once, when the jobs do not fit together
            or the cluster cannot be used.
    """
    folder = Path(folder)
    _check(jobs)
    failed = []
    with tqdm(total=len(jobs), desc="runs", disable=quiet) as bar:
        left = []
        for job in jobs:
            if is_complete(folder, job):
                bar.update()
                yield folder / job.name
            else:
                left.append(job)
        if left:
            with cluster(scheduler, workers) as client, shared(client, folder) as marker:
                for job, error in _train_all(client, marker, left, material, threads, device):
                    bar.update()
                    if error:
                        failed.append(f"{job.name}: {error}")
                    else:
                        yield folder / job.name
    if failed:
        raise SweepError(f"{len(failed)} of {len(jobs)} runs failed: " + "; ".join(failed))


def _check(jobs: Sequence[Job]) -> None:
    places = {job.name: place for place, job in enumerate(jobs)}
    if len(places) < len(jobs):
        raise SweepError("two jobs of the sweep have the same name")
    for job in jobs:
        for fork_ in job.forks.values():
            if places.get(fork_.name, len(jobs)) <= places[job.name]:
                raise SweepError(f"{fork_.name} is a fork of {job.name} and must come after it")


def is_complete(folder: Path, job: Job) -> bool:
    """Whether the job has been trained as far as it is to go."""
    out = folder / job.name
    try:
        if finished(out, job.config):
            return True
        return job.stop_at is not None and _standing(out) >= job.stop_at
    except RunError:
        return False  # a damaged state is reported as this run's failure


def _train_all(
    client: Client,
    marker: Path,
    jobs: Sequence[Job],
    material: Material,
    threads: int,
    device: str,
) -> Iterator[tuple[Job, object]]:
    """Train the jobs, begun in their order; yields each, with its error if any, at its end."""
    from distributed import wait

    folder = marker.parent
    parents = {fork_.name: (job.name, at) for job in jobs for at, fork_ in job.forks.items()}
    waiting, running = list(jobs), dict[Any, Job]()

    def must_wait(job: Job) -> bool:
        parent, step = parents.get(job.name, ("", 0))
        return parent in under_way and _will_fork(folder / parent, step, folder / job.name)

    while waiting or running:
        under_way = {job.name for job in (*waiting, *running.values())}
        try:
            # No more than are trained at once: the next one may be a fork by then.
            free = max(1, len(client.nthreads())) - len(running)
            for job in [job for job in waiting if not must_wait(job)][: max(0, free)]:
                key = f"{job.name}-{uuid.uuid4()}"
                task = client.submit(_task, marker, job, material, threads, device, key=key)
                waiting.remove(job)
                running[task] = job
            with client.as_current():
                ended = wait(list(running), timeout=1, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            continue
        except (OSError, CancelledError) as error:
            raise SweepError("the cluster is gone; start the sweep again to go on") from error
        for task in ended:
            yield running.pop(task), reason(task.exception())


def _task(marker: Path, job: Job, material: Material, threads: int, device: str) -> None:
    look(marker)
    with undisturbed(marker.parent / job.name):
        torch.set_num_threads(threads)
        train(marker.parent, job, material, device)


def train(folder: Path, job: Job, material: Material, device: str = "cpu") -> None:
    """Train one job to its end, leaving forks on the way."""
    out = folder / job.name
    if is_complete(folder, job):
        return
    data = _data(replace(job.config, seed=0, sas_schedule=()), material)
    measures = material.measures(data)

    def go_on(stop_at: int | None) -> None:
        resume = (out / "config.json").exists()
        pretrain(out, job.config, data, measures, resume, device, True, stop_at)

    for step, other in sorted(job.forks.items()):
        if _will_fork(out, step, folder / other.name):
            go_on(stop_at=step)
            # Another worker may have begun it from the start meanwhile: that is as good.
            if not (folder / other.name / "config.json").exists():
                fork(out, folder / other.name, other.config.sas_schedule)
    go_on(job.stop_at)


@functools.lru_cache(maxsize=1)
def _data(config: Config, material: Material) -> Data:
    """The corpus is the same for all runs but for the links of a control."""
    return material.data(config)


def _will_fork(out: Path, step: int, other: Path) -> bool:
    """Whether a run that is trained on will leave its state at ``step`` to another."""
    try:
        return not (other / "config.json").exists() and _standing(out) <= step
    except RunError:
        return False


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
