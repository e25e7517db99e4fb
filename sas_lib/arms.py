"""Arms of an experiment, compared seed by seed.

An arm is a kind of run; its runs differ in their seed. A run of an arm and the base run of
the same seed begin with the same weights and see the same sentences in the same order, so
their difference is taken within a seed: what seeds do by themselves drops out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sas_lib import results

KINDS = ("arm", "run", "metric", "detail", "direction")


def load(*names: str, only: Sequence[str] | None = None) -> pd.DataFrame:
    """The metrics of bundles of arms, together, with a column ``arm``.

    only: as of ``results.load``.

    Raises:
        results.BundleError: there is no such bundle, or its manifest names no arms.
    """
    tables = pd.concat([_of_bundle(name, only) for name in names], ignore_index=True)
    return tables.astype(dict.fromkeys(KINDS, "category"))


def described(*names: str) -> dict[str, dict[str, Any]]:
    """What the manifests of bundles say of each run: its arm, its seed, its schedule.

    Raises:
        results.BundleError: there is no such bundle.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        found |= results.manifest(name)["parameters"].get("runs", {})
    return found


def _of_bundle(name: str, only: Sequence[str] | None) -> pd.DataFrame:
    arms = {run: about["arm"] for run, about in described(name).items()}
    metrics = results.load(name, only=only)
    found = metrics["run"].astype(str).map(arms)
    if found.isna().any():
        raise results.BundleError(f"the manifest of {name!r} does not say each run's arm")
    # As objects, since the categories of two bundles differ.
    return metrics.assign(arm=found).astype(dict.fromkeys(KINDS, object))


def at(metrics: pd.DataFrame, metric: str, step: int) -> pd.DataFrame:
    """A metric at a step, [seeds, arms], NaN where an arm was not run with a seed."""
    rows = metrics[(metrics["metric"] == metric) & (metrics["step"] == step)]
    return rows.pivot(index="seed", columns="arm", values="value").astype(float)


def mean_interval(
    values: Sequence[float] | np.ndarray | pd.Series, level: float = 0.95
) -> dict[str, float]:
    """Mean and interval by Student's t: ``mean``, ``low``, ``high``, ``n``.

    A single value has no interval: its ends are NaN.
    """
    there = np.asarray(values, dtype=float)
    there = there[np.isfinite(there)]
    n, mean, half = len(there), float(there.mean()), float("nan")
    if n > 1:
        half = float(stats.t.ppf((1 + level) / 2, n - 1) * stats.sem(there))
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def told(
    found: Mapping[str, float] | Sequence[float] | np.ndarray | pd.Series,
    digits: int = 2,
    signed: bool = True,
    percent: bool = False,
) -> str:
    """Values, or their ``mean_interval``, in words: the mean, and in brackets the interval and
    the number of values."""
    if not isinstance(found, Mapping):
        found = mean_interval(found)
    form = f"{'+' if signed else ''}z,.{digits}{'%' if percent else 'f'}"
    if found["n"] < 2:
        return f"{found['mean']:{form}} [one seed]".replace("-", "−")
    low, high = (f"{found[end]:{form}}" for end in ("low", "high"))
    return f"{found['mean']:{form}} [{low}, {high}; {found['n']:.0f}]".replace("-", "−")


def against(
    metrics: pd.DataFrame,
    metric: str,
    step: int,
    arms: Sequence[str],
    base: str = "base",
    level: float = 0.95,
) -> pd.DataFrame:
    """Arms less the base, paired by seed: one row an arm, as ``mean_interval`` has it.

    level: of each interval. Of k intervals at 1 - 0.05 / k, all hold together with at least
    95% (Bonferroni), and so does the one that was picked among them.

    Raises:
        ValueError: an arm has no seed in common with the base at this step.
    """
    table = at(metrics, metric, step)
    rows = []
    for arm in arms:
        differences = (table[arm] - table[base]).dropna() if arm in table else []
        if len(differences) == 0:
            raise ValueError(f"no {metric} of {arm!r} beside {base!r} at step {step}")
        rows.append({"arm": arm, **mean_interval(differences, level)})
    return pd.DataFrame(rows)
