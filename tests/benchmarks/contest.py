"""Contestants that do the same work in turn, and the ratio of their times."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Round = Callable[[], float]
"""Does the work once; returns the seconds that it took."""

Build = Callable[[], Round]
"""Makes a contestant ready: its model, its data, whatever it need not do each time."""


class Unavailable(RuntimeError):
    """A workload that cannot be run here; the message says what is missing."""


@dataclass(frozen=True)
class Workload:
    """A piece of work and who does it.

    units: how much of ``unit`` one round is. shape: what the work is, for the record.
    """

    title: str
    unit: str
    units: int
    shape: Mapping[str, Any]
    contestants: Mapping[str, Build]


def timed(work: Callable[[], object]) -> Round:
    """A round that is one call of ``work``, timed from outside."""

    def round_() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return round_


def interleave(
    workload: Workload,
    names: Iterable[str],
    rounds: int,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of each round of each contestant: A, B, C, A, B, C, ...

    In turn, so that whatever else the machine is doing slows all of them alike. A first
    round of each warms up and is not counted. progress: called after every round.
    """
    ready = {name: workload.contestants[name]() for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    gc.collect()
    gc.freeze()  # what was there before the rounds is not searched again in each of them
    for number in range(rounds + 1):
        for name, round_ in ready.items():
            gc.collect()
            taken = round_()
            if number:
                seconds[name].append(taken)
            progress()
    gc.unfreeze()
    return seconds


@dataclass(frozen=True)
class Ratio:
    """A median of ratios with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


def ratio(above: Sequence[float], below: Sequence[float], draws: int = 4000) -> Ratio:
    """The median of ``above / below``, round by round; the interval is over the rounds."""
    paired = np.asarray(above) / np.asarray(below)
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(paired, (draws, len(paired))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return Ratio(float(np.median(paired)), float(low), float(high))
