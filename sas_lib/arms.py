"""Arms of an experiment, compared seed by seed.

An arm is a kind of run; its runs differ in their seed. A run of an arm and the base run of
the same seed begin with the same weights and see the same sentences in the same order, so
their difference is taken within a seed: what seeds do by themselves drops out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from sas_lib import results


def load(name: str = "toy_interventions") -> pd.DataFrame:
    """The metrics of a bundle of arms, with a column ``arm``.

    Raises:
        results.BundleError: there is no such bundle, or its manifest names no arms.
    """
    described = results.manifest(name)["parameters"].get("runs", {})
    arms = {run: about["arm"] for run, about in described.items()}
    metrics = results.load(name)
    found = metrics["run"].astype(str).map(arms)
    if found.isna().any():
        raise results.BundleError(f"the manifest of {name!r} does not say each run's arm")
    return metrics.assign(arm=found.astype("category"))


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
