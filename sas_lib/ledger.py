"""Verdicts on claims, computed from runs: the figures, the rule, and no more.

A claim is judged by figures that were named beforehand. Each is a number per seed with a
border and the side of it on which the claim has the number. Over the seeds a figure has an
interval by Student's t. It speaks *for* the claim where the interval lies wholly on the
claim's side of the border, *against* it where it lies wholly on the other, and is silent
where the border lies inside, with a single seed, or where all seeds have the same number:
no spread is no evidence. The rule is the same on both sides.

A claim *holds* if all its deciding figures speak for it, *does not hold* if one speaks
against it, is *not tested* where no run bears on it or what it presupposes is not shown, and
is *not settled* otherwise. The intervals of the deciding figures of a claim hold together
with 95% (Bonferroni). A claim that the design of the runs makes true is no finding but a
*manipulation check*, and is counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from sas_lib import arms, breaks, results
from sas_lib.onsets import CurveError, first_crossing, largest_rise

VERDICTS = ("holds", "does not hold", "not settled", "not tested")
HOLDS, FAILS, OPEN, UNTESTED = VERDICTS
CHECK = "manipulation check"
STATUSES = (*VERDICTS, CHECK)
LEVEL = 0.95
FALLING = ("valid_loss",)  # metrics that are better, the lower
Role = Literal["decides", "withholds", "presupposed", "beside"]


@dataclass(frozen=True)
class Figure:
    """A number per seed that a verdict hangs on.

    values: by seed. border, side: the claim has the figure above the border (1) or below
    (-1). role: ``decides``; ``withholds``, which keeps a claim from holding but does not
    refute it, as a test that finds nothing does; ``presupposed``, without which there is
    nothing to test; or ``beside``, which is shown and has no say. picked_from: of so many
    figures it is the most favourable. ratio: the mean and its interval are geometric.
    votes: each seed decides for itself, and the figure speaks for the claim if ``most`` of
    them do or ``all``, of two at least; it never speaks against it.
    """

    name: str
    values: pd.Series
    border: float = 0.0
    side: Literal[1, -1] = 1
    role: Role = "decides"
    picked_from: int = 1
    ratio: bool = False
    votes: Literal["", "most", "all"] = ""
    digits: int = 2
    signed: bool = False

    @property
    def n(self) -> int:
        """In how many seeds it was measured."""
        return len(self._there)

    @property
    def constant(self) -> bool:
        """Whether two seeds or more all have the same number, but for rounding."""
        return self.n > 1 and bool(np.isclose(self._there, self._there[0], atol=0).all())

    @property
    def _there(self) -> np.ndarray:
        return self.values[np.isfinite(self.values.to_numpy(float))].to_numpy(float)

    def interval(self, level: float = LEVEL) -> dict[str, float]:
        """Mean and interval over seeds, as ``arms.mean_interval``; of none, NaN and n = 0."""
        found = self._even(level)
        if not self.ratio:
            return found
        return {k: v if k == "n" else float(np.exp(v)) for k, v in found.items()}

    def _even(self, level: float) -> dict[str, float]:
        """The interval on the scale on which it is symmetric."""
        if self.n == 0:
            return {**dict.fromkeys(("mean", "low", "high"), np.nan), "n": 0}
        there = np.log(self._there) if self.ratio else self._there
        return arms.mean_interval(there, self.own(level))

    def own(self, level: float) -> float:
        """The level of its interval, so that the pick holds at a level."""
        return 1 - (1 - level) / self.picked_from

    def distance(self, level: float = LEVEL) -> tuple[float, float]:
        """How far the mean lies on the claim's side of the border, and the half-width of the
        interval, on the scale on which it is symmetric."""
        found, border = self._even(level), np.log(self.border) if self.ratio else self.border
        return self.side * (found["mean"] - border), found["high"] - found["mean"]

    def speaks(self, level: float = LEVEL) -> int:
        """1 for the claim, -1 against it, 0 neither."""
        if self.votes:
            least = self.n if self.votes == "all" else self.n // 2 + 1
            return int(self.n > 1 and self.in_favour >= least)
        if self.constant:
            return 0
        found = self.interval(level)
        above, below = found["low"] > self.border, found["high"] < self.border
        return self.side * (int(above) - int(below))

    @property
    def in_favour(self) -> int:
        """In how many seeds the number is on the claim's side, or at the border."""
        return int((self.side * (self._there - self.border) >= 0).sum())

    def told(self, level: float = LEVEL) -> str:
        """The mean, and in brackets the interval and the number of seeds; of votes, how many
        seeds are in favour."""
        if self.votes:
            return f"{self.in_favour} of {self.n} seed{'s' * (self.n != 1)}"
        return arms.told(self.interval(level), self.digits, self.signed) if self.n else "none"


@dataclass(frozen=True)
class Finding:
    """The figures of a claim at one scale, and what follows from them."""

    figures: Sequence[Figure]

    @property
    def shares(self) -> int:
        """How many figures decide and have an interval; they share the error allowed."""
        return max(1, sum(f.role == "decides" and f.n > 1 for f in self.figures))

    def level(self, joint: float = LEVEL) -> float:
        """The level of each interval, so that those that decide hold jointly."""
        return 1 - (1 - joint) / self.shares

    def verdict(self, joint: float = LEVEL) -> str:
        """One of ``VERDICTS``."""
        if self.unmeasured or self.lacking(joint):
            return UNTESTED
        level = self.level(joint)
        speaks = [f.speaks(level) for f in self.figures if f.role == "decides"]
        if -1 in speaks:
            return FAILS
        withheld = [f.speaks(level) for f in self.figures if f.role == "withholds"]
        return HOLDS if all(one == 1 for one in speaks + withheld) else OPEN

    @property
    def unmeasured(self) -> bool:
        """Whether no run bears on the claim."""
        return not any(f.n for f in self.figures if f.role == "decides")

    @property
    def in_part(self) -> bool:
        """Whether some of the figures that decide are measured and others are not."""
        return len({f.n > 0 for f in self.figures if f.role == "decides"}) == 2

    def lacking(self, joint: float = LEVEL) -> list[Figure]:
        """What the claim presupposes and is not shown."""
        asked = [f for f in self.figures if f.role == "presupposed"]
        return [f for f in asked if f.speaks(self.level(joint)) < 1]


Rule = Callable[["Runs"], list[Figure]]


@dataclass(frozen=True)
class Claim:
    """A claim in our words. source: where it is stated. trust: the tag of how surely we know
    that it is. holds_if, fails_if: the rule in words, decided beforehand. check: whether the
    design of the runs makes it true."""

    name: str
    says: str
    source: str
    trust: str
    holds_if: str
    fails_if: str
    rule: Rule
    check: bool = False

    def status(self, finding: Finding) -> str:
        """One of ``STATUSES``: ``CHECK``, or else the verdict."""
        return CHECK if self.check else finding.verdict()


@dataclass
class Ledger:
    """Claims in order, each with its rule; ``add`` takes a rule in, as a decorator."""

    claims: list[Claim] = field(default_factory=list)

    def add(self, name: str, check: bool = False, **words: str) -> Callable[[Rule], Rule]:
        """Enter the decorated rule under a claim. words: the other fields of ``Claim``."""

        def enter(rule: Rule) -> Rule:
            self.claims.append(Claim(name, **words, rule=rule, check=check))
            return rule

        return enter

    def judge(self, scales: dict[str, Runs]) -> list[tuple[Claim, dict[str, Finding]]]:
        """Every claim with its finding at each scale."""

        def found(claim: Claim, runs: Runs) -> Finding:
            return Finding(claim.rule(runs) if runs.length else [])

        return [(c, {scale: found(c, r) for scale, r in scales.items()}) for c in self.claims]


@dataclass(frozen=True)
class Runs:
    """The runs at one scale. metrics: as ``read`` gives them."""

    metrics: pd.DataFrame

    def table(self, arm: str, metric: str, detail: str | None = None) -> pd.DataFrame:
        """A metric of an arm, [steps, seeds]; the mean over details where none is named.

        Steps at which not all seeds were measured are left out; of a metric that was not
        measured the table is empty.
        """
        rows = self._groups.get((arm, metric), self.metrics[:0])
        if detail is not None:
            rows = rows[rows["detail"] == detail]
        found = rows.pivot_table(index="step", columns="seed", values="value", aggfunc="mean")
        return found.astype(float).dropna()

    @cached_property
    def _groups(self) -> dict[Any, pd.DataFrame]:
        return dict(list(self.metrics.groupby(["arm", "metric"])))

    def arms(self, beginning: str = "") -> list[str]:
        """The arms whose names begin so."""
        return sorted({arm for arm, _ in self._groups if arm.startswith(beginning)})

    @cached_property
    def length(self) -> int:
        """The last step of the base runs; 0 where there are none."""
        base = self.metrics[self.metrics["arm"] == "base"]
        return int(base["step"].max()) if len(base) else 0

    def last(self, arm: str, metric: str) -> pd.Series:
        """The value at the end of the runs of an arm, by seed."""
        found = self.table(arm, metric)
        ended = len(found) > 0 and found.index[-1] == self.length
        return found.iloc[-1] if ended else pd.Series(dtype=float)

    def less(self, arm: str, metric: str, other: str = "base") -> pd.Series:
        """At the end, an arm less another, in the seeds that both have."""
        return (self.last(arm, metric) - self.last(other, metric)).dropna()

    def rising(self, arm: str, metric: str) -> pd.DataFrame:
        """``table``, turned so that it rises; a loss from the unigram entropy downwards, since
        a first fall, while the model learns how frequent pieces are, is not in question."""
        found = self.table(arm, metric)
        if metric not in FALLING or found.empty:
            return found
        entropy = self.table("base", "unigram_entropy")
        return -found if entropy.empty else -found.clip(upper=float(entropy.iloc[0].mean()))

    def way(self, arm: str, metric: str) -> pd.DataFrame:
        """``rising`` as the share of its way: 0 at the mean over seeds of the first
        checkpoint, 1 where each run ends.

        NaN in a run that ends with less than half of its range above where it began: it has
        come no way to speak of.
        """
        found = self.rising(arm, metric)
        if found.empty:
            return found
        start = found.iloc[0].mean()
        whole, spread = found.iloc[-1] - start, found.max() - found.min()
        return (found - start) / whole.where(whole > spread / 2)

    def steepest_fifth(self, arm: str, metric: str) -> pd.DataFrame:
        """By seed, of the fifth of the run in which the curve rises most: ``begins`` (its
        first step) and ``share`` (of the way, made in it)."""
        way = self.way(arm, metric)
        way = way.dropna(axis="columns")
        found = {s: largest_rise(way.index, way[s], self.length / 5) for s in way}
        return pd.DataFrame.from_dict(found, "index", columns=["begins", "share"])

    def break_p(self, arm: str, metric: str) -> pd.Series:
        """The p-value of each run's test for a break (``breaks.verdict``)."""
        curves, found = self.rising(arm, metric), {}
        if metric in FALLING and len(curves):  # from where all are below the unigram entropy
            start = int((curves > curves.iloc[0]).all(axis=1).to_numpy().argmax())
            curves = curves.iloc[start:]
        for seed in curves:
            try:
                found[seed] = breaks.verdict(curves.index, curves[seed]).p_value
            except CurveError:
                found[seed] = np.nan
        return pd.Series(found, dtype=float)

    def crossing(self, arm: str, metric: str, level: float, since: int = 0) -> pd.Series:
        """Steps from ``since`` until each run of an arm is at a level; for one that never gets
        there, until its last checkpoint, although it would take longer still."""
        curves = self.rising(arm, metric)
        curves, found = curves[curves.index >= since], {}
        for seed in curves:
            step = first_crossing(curves.index, curves[seed], level)
            found[seed] = (curves.index[-1] if step is None else step) - since
        return pd.Series(found, dtype=float)

    def middle(self, metric: str) -> float:
        """Half way between where the base runs begin, in the mean, and where they end."""
        base = self.rising("base", metric)
        return float(base.iloc[[0, -1]].to_numpy().mean()) if len(base) else np.nan

    def mean_lead(self, arm: str, metric: str, until: float, since: float = 100) -> pd.Series:
        """An arm less the base of the same seed, turned so that more is better: its mean over
        the steps from ``since``, before which arms have hardly moved from the weights that
        they share, to ``until``. A loss counts above the unigram entropy too."""
        lead = self.table(arm, metric) - self.table("base", metric)
        lead = lead.dropna(axis="columns", how="all").dropna()
        if metric in FALLING:
            lead = -lead
        inside = lead.index[(lead.index > since) & (lead.index < until)]
        steps = np.array([since, *inside, until], dtype=float)
        at = {seed: np.interp(steps, lead.index, lead[seed]) for seed in lead}
        mean = {seed: np.trapezoid(y, steps) / (until - since) for seed, y in at.items()}
        return pd.Series(mean, dtype=float)


def read(*names: str) -> Runs:
    """The runs of those bundles, among the ones named, that there are.

    A bundle whose manifest names no arms is one of base runs. Where two bundles have the
    same metric of the same run, the first one counts.
    """
    there, seen, tables = set(results.names()), pd.MultiIndex.from_tuples([("", 0, "")]), []
    for name in (name for name in names if name in there):
        of_runs = {run: about["arm"] for run, about in arms.described(name).items()}
        rows = results.load(name)
        arm = rows["run"].astype(str).map(of_runs) if of_runs else "base"
        kept = rows[["detail", "seed", "step", "value"]].astype({"detail": object})
        kept = kept.assign(arm=arm, metric=rows["metric"].astype(str))
        key = pd.MultiIndex.from_frame(kept[["arm", "seed", "metric"]])
        tables.append(kept[~key.isin(seen)])
        seen = seen.append(key).unique()
    if not tables:
        return Runs(
            pd.DataFrame([], columns=["arm", "metric", "detail", "seed", "step", "value"])
        )
    return Runs(pd.concat(tables, ignore_index=True))
