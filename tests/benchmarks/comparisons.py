"""The comparisons, their bars, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from benchmarks import scoring, stacked, training
from benchmarks.contest import Ratio, Unavailable, Workload, interleave, ratio
from benchmarks.memory import peak_of

WORKLOADS: dict[str, Callable[[bool], Workload]] = {
    **training.WORKLOADS,
    **stacked.WORKLOADS,
    **scoring.WORKLOADS,
}


@dataclass(frozen=True)
class Comparison:
    """One row of the table.

    ours, peers: contestants of the workload; of several peers the fastest is the opponent.
    kind: ``speedup`` is the peer's time over ours, ``cost`` our time over the peer's,
    ``memory`` our peak memory over the peer's. bar: at least this for a speedup, at most
    this for the others; None where a row only explains another. against: the peer, in words.
    """

    name: str
    title: str
    workload: str
    ours: str
    peers: tuple[str, ...]
    kind: Literal["speedup", "cost", "memory"]
    bar: float | None
    against: str


TRAINERS = ("trainer_eager", "trainer_sdpa")
TRAINER = "transformers' BertForMaskedLM and Trainer"
BARE = "the same step without it"
PUBLISHED = "stack all maps, float_power, maximum; the step otherwise the same"
PLAIN = "the same without float_power"
EVERYWHERE = "our loop, with the head at every position"

COMPARISONS = (
    Comparison(
        "train-packed", "training, 4 x 256, T = 128",
        "packed", "ours", TRAINERS, "speedup", 2.0, TRAINER,
    ),
    Comparison(
        "head-packed", "- of which the head",
        "packed", "ours", ("every_position",), "speedup", None, EVERYWHERE,
    ),
    Comparison(
        "train-toy", "training, toy runs",
        "toy", "ours", TRAINERS, "speedup", 1.8, TRAINER,
    ),
    Comparison(
        "head-toy", "- of which the head",
        "toy", "ours", ("every_position",), "speedup", None, EVERYWHERE,
    ),
    Comparison(
        "penalty-packed", "cost of the penalty, 4 x 256",
        "packed", "ours_penalised", ("ours",), "cost", 1.2, BARE,
    ),
    Comparison(
        "published-packed", "penalised step, 4 x 256",
        "packed", "ours_penalised", ("published",), "speedup", 1.3, PUBLISHED,
    ),
    Comparison(
        "plain-packed", "- less float_power",
        "packed", "ours_penalised", ("published_without_power",), "speedup", None, PLAIN,
    ),
    Comparison(
        "penalty-toy", "cost of the penalty, toy runs",
        "toy", "ours_penalised", ("ours",), "cost", 1.2, BARE,
    ),
    Comparison(
        "published-toy", "penalised step, toy runs",
        "toy", "ours_penalised", ("published",), "speedup", 1.3, PUBLISHED,
    ),
    Comparison(
        "plain-toy", "- less float_power",
        "toy", "ours_penalised", ("published_without_power",), "speedup", None, PLAIN,
    ),
    Comparison(
        "stacked", "four toy runs in one process",
        "seeds", "stacked", ("apart",), "speedup", None, "one run a process, per core",
    ),
    Comparison(
        "uas", "UAS of UD English EWT dev",
        "uas", "ours", ("forward",), "cost", 1.6, "the bare forward pass",
    ),
    Comparison(
        "scoring", "- the scoring alone",
        "scoring", "ours", ("loop",), "speedup", 20.0, "a loop over sentences and heads",
    ),
    Comparison(
        "pll", "pseudo-log-likelihoods",
        "pll", "ours", ("minicons_1", "minicons_8", "minicons_100"), "speedup", 4.0,
        "minicons at its best number of sentences at a time",
    ),
    Comparison(
        "pll-hundred", "- a hundred sentences at a time",
        "pll", "ours", ("minicons_100",), "speedup", None, "minicons, 100 sentences at a time",
    ),
    Comparison(
        "pll-memory", "- memory, four times as many",
        "stream", "all", ("quarter",), "memory", 1.1, "itself on a quarter of the sentences",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What came of a comparison; rates are units a second, peaks are bytes."""

    comparison: Comparison
    peer: str
    ratio: Ratio
    unit: str
    rates: dict[str, float]
    peaks: dict[str, int]

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None where there is none."""
        bar = self.comparison.bar
        if bar is None:
            return None
        speedup = self.comparison.kind == "speedup"
        return self.ratio.value >= bar if speedup else self.ratio.value <= bar

    @property
    def margin(self) -> float | None:
        """How much better than the bar, as a share of it; negative where it is missed."""
        bar = self.comparison.bar
        if bar is None:
            return None
        beyond = self.ratio.value / bar - 1
        return beyond if self.comparison.kind == "speedup" else -beyond


@dataclass
class Report:
    """All that was measured.

    seconds: of each round, by workload and contestant. skipped: comparison to reason.
    """

    results: list[Result]
    workloads: dict[str, Workload]
    seconds: dict[str, dict[str, list[float]]]
    skipped: dict[str, str]


def run(
    comparisons: Sequence[Comparison] = COMPARISONS,
    rounds: int = 9,
    threads: int = 1,
    quick: bool = False,
    memory: bool = True,
    progress: Callable[[str], object] = lambda doing: None,
) -> Report:
    """Run comparisons, the contestants of each workload in turn.

    progress: called with what is being done. Ctrl-C leaves out what is not done yet.
    """
    report = Report([], {}, {}, {})
    try:
        for name in dict.fromkeys(c.workload for c in comparisons):
            chosen = [c for c in comparisons if c.workload == name]
            try:
                _run_workload(report, name, chosen, rounds, threads, quick, memory, progress)
            except Unavailable as reason:
                report.skipped |= {c.name: str(reason) for c in chosen}
    except KeyboardInterrupt:
        done = {r.comparison.name for r in report.results} | report.skipped.keys()
        left = (c.name for c in comparisons if c.name not in done)
        report.skipped |= dict.fromkeys(left, "interrupted")
    return report


def _run_workload(
    report: Report,
    name: str,
    comparisons: Sequence[Comparison],
    rounds: int,
    threads: int,
    quick: bool,
    memory: bool,
    progress: Callable[[str], object],
) -> None:
    progress(f"{name}: getting ready")
    workload = WORKLOADS[name](quick)
    timed = _contestants(c for c in comparisons if c.kind != "memory")
    seconds = interleave(workload, timed, rounds, lambda: progress(f"{name}: rounds"))
    peaks: dict[str, int] = {}
    if memory:
        for contestant in _contestants(comparisons):
            progress(f"{name}: memory of {contestant}")
            peaks[contestant] = peak_of(name, contestant, threads, quick)
    report.workloads[name], report.seconds[name] = workload, seconds
    for comparison in comparisons:
        if comparison.kind == "memory" and not memory:
            report.skipped[comparison.name] = "memory was not measured"
        else:
            report.results.append(_result(comparison, workload, seconds, peaks))


def _contestants(comparisons: Iterable[Comparison]) -> list[str]:
    """All who take part, in the workload's order of first mention."""
    return list(dict.fromkeys(name for c in comparisons for name in (c.ours, *c.peers)))


def _result(
    c: Comparison, workload: Workload, seconds: dict[str, list[float]], peaks: dict[str, int]
) -> Result:
    if c.kind == "memory":
        peer = c.peers[0]
        grown = peaks[c.ours] / peaks[peer]
        found = Ratio(grown, grown, grown)
    else:
        peer = min(c.peers, key=lambda name: float(np.median(seconds[name])))
        above, below = (peer, c.ours) if c.kind == "speedup" else (c.ours, peer)
        found = ratio(seconds[above], seconds[below])
    both = (c.ours, peer)
    return Result(
        comparison=c,
        peer=peer,
        ratio=found,
        unit=workload.unit,
        rates={n: workload.units / float(np.median(seconds[n])) for n in both if n in seconds},
        peaks={n: peaks[n] for n in both if n in peaks},
    )


def by_name(names: Sequence[str]) -> Sequence[Comparison]:
    """The comparisons of these names, all for none.

    Raises:
        ValueError: there is none of a name.
    """
    known = {c.name: c for c in COMPARISONS}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no comparison {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)] or COMPARISONS


def described(report: Report) -> dict[str, Any]:
    """What each comparison is, as JSON can hold it, for the record and for machines."""
    return {
        r.comparison.name: {
            "title": r.comparison.title,
            "against": r.comparison.against,
            "kind": r.comparison.kind,
            "workload": r.comparison.workload,
            "ours": r.comparison.ours,
            "peer": r.peer,
            "unit": r.unit,
            "bar": r.comparison.bar,
        }
        for r in report.results
    }
