"""An experiment: one setting, one text, and runs that differ in the penalty alone.

The runs form arms, kinds of run. All runs of a seed begin with the same weights and see the
same sentences under the same masks; they differ in what the penalty weighs, how much and when.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from sas_lib import results
from sas_lib.regularizer import lambda_schedule
from sas_lib.settings import Config
from sas_lib.sweep import Job, Material, is_complete, train

# What the search on the first seed led to (book/heavy/toy_promote.ipynb).
CHOSEN = {"suppress": 0.03, "promote": -0.01, "two-heads": -0.1}
MILDER = -0.03
PENALTIES = {"two-heads": "random_heads"}


@dataclass(frozen=True)
class Experiment:
    """An experiment at one size; steps are steps of training.

    material: what its runs learn from and are measured on. stop_at: where its runs stop, if
    before the end of the setting. search_steps: how far the search for lambda trains.
    releases: when suppressed runs are let go. late: from when on the arm of that name is
    suppressed. window: from when to when. looked_at: the checkpoints whose attention is
    looked into. seeds: at most so many.
    """

    config: Config
    material: Material
    stop_at: int | None = None
    search_steps: int = 3000
    releases: tuple[int, ...] = (100, 200, 400, 600, 800, 1000, 1400, 2000, 3000)
    late: int = 3000
    window: tuple[int, int] = (800, 1400)
    looked_at: tuple[int, ...] = (0, 300, 600, 900, 1200, 1500, 3000, 7500)
    seeds: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What all runs of the experiment share."""
        settings = self.config.as_json()
        apart = ("seed", "penalty", "sas_schedule")
        return {name: value for name, value in settings.items() if name not in apart}

    def job(
        self,
        arm: str,
        seed: int,
        value: float = 0.0,
        until: int | None = None,
        start: int | None = None,
        penalty: str = "sas",
        **more: Any,
    ) -> Job:
        """A run of an arm, with lambda ``value`` from step ``start`` to ``until``."""
        schedule = tuple(lambda_schedule(value, until, start))
        config = replace(self.config, seed=seed, penalty=penalty, sas_schedule=schedule)
        return Job(f"{arm}-seed{seed}", config, **{"stop_at": self.stop_at, **more})

    def base(self, seed: int) -> Job:
        """A run without penalty."""
        return self.job("base", seed)

    def strong(self, arm: str, seed: int, value: float | None = None, **more: Any) -> Job:
        """A run of *suppress*, *promote* or *two-heads*, with the lambda chosen for it."""
        value = CHOSEN[arm] if value is None else value
        name = f"{arm}-{abs(value)}"
        return self.job(name, seed, value, penalty=PENALTIES.get(arm, "sas"), **more)

    def release(self, step: int, seed: int, value: float = CHOSEN["suppress"]) -> Job:
        """Suppressed up to ``step``."""
        size = "" if value == CHOSEN["suppress"] else f"-of-{value}"
        return self.job(f"release-{step}{size}", seed, value, until=step)

    def suppress(self, seed: int, value: float = CHOSEN["suppress"], **more: Any) -> Job:
        """*Suppress*, which leaves off the released runs where they part from it."""
        forks = {step: self.release(step, seed, value) for step in self.releases}
        return self.strong("suppress", seed, value, forks=forks, **more)


def gather(
    folder: str | os.PathLike[str], jobs: Sequence[Job], later: bool = False
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """The metrics of the jobs that are complete, and what each of these runs is.

    later: also what was measured after training.

    Returns the tidy table of all, and for each run ``arm``, ``seed``, ``penalty``,
    ``schedule``, ``last_step``, ``seconds`` (of training alone).
    """
    folder = Path(folder)
    done = [job for job in jobs if is_complete(folder, job)]
    tables = {job.name: results.read_run(folder / job.name, later=later) for job in done}
    if not tables:
        raise results.BundleError(f"no run of the plan is complete in {folder}")
    metrics = pd.concat(tables.values(), ignore_index=True)
    for column in ("run", "metric", "detail", "direction"):
        metrics[column] = metrics[column].astype("category")
    return metrics, {job.name: _described(job, tables[job.name]) for job in done}


def arm_of(job: Job) -> str:
    """The arm of a run: its name less its seed, and less the lambda that was chosen."""
    arm = job.name.removesuffix(f"-seed{job.config.seed}")
    return {f"{a}-{abs(value)}": a for a, value in CHOSEN.items()}.get(arm, arm)


def _described(job: Job, metrics: pd.DataFrame) -> dict[str, Any]:
    settings = job.config.as_json()
    return {
        "arm": arm_of(job),
        "seed": job.config.seed,
        "penalty": job.config.penalty,
        "schedule": settings["sas_schedule"],
        "last_step": int(metrics["step"].max()),
        "seconds": round(_trained_seconds(metrics)),
    }


def _trained_seconds(metrics: pd.DataFrame) -> float:
    """Seconds of training, measuring left out, from the tokens a second of each stretch."""
    speed = metrics[metrics["metric"] == "tokens_per_second"].sort_values("step")
    return float((speed["tokens"].diff().fillna(speed["tokens"]) / speed["value"]).sum())


def reproduce(
    folder: str | os.PathLike[str], jobs: Sequence[Job], material: Material, steps: int = 170
) -> pd.DataFrame:
    """Train the first ``steps`` of finished runs anew and compare what is measured.

    So one sees whether the code of today gives what an earlier one gave: on the same kind of
    machine to the last bit, elsewhere nearly. One row a run: ``run``, ``steps``, ``values``
    (how many were compared), ``different`` (how many of them differ), ``largest_difference``.
    """
    rows = []
    for job in tqdm(jobs, "training anew", disable=not jobs):
        with tempfile.TemporaryDirectory() as place:
            short = replace(job, forks={}, stop_at=min(steps, job.config.steps))
            train(Path(place), short, material)
            compared = _side_by_side(Path(folder) / job.name, Path(place) / job.name)
        gap = (compared["value_again"] - compared["value"]).abs()
        about = {"run": job.name, "steps": steps, "values": len(gap)}
        rows.append(
            {**about, "different": int((gap > 0).sum()), "largest_difference": gap.max()}
        )
    return pd.DataFrame(rows)


def _side_by_side(run: Path, again: Path) -> pd.DataFrame:
    """What two folders of one run measured at the same steps, speed left out."""
    keys = ["step", "metric", "detail", "layer", "head", "direction"]
    tables = []
    for place in (run, again):
        table = results.read_run(place, later=False)[[*keys, "value"]].astype({"metric": str})
        timed = table["metric"].isin(["tokens_per_second", "flops_utilisation"])
        tables.append(table[~timed].astype({"detail": str, "direction": str}))
    return tables[0].merge(tables[1], on=keys, suffixes=("", "_again"))
