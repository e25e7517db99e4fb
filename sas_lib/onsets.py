"""Where a curve breaks, and how surely.

The study marks an onset at the step of maximal acceleration: the largest second difference
at a resolution (Chen et al. 2024, arXiv:2309.07311, section 4; the exact wording of its
Eq. 3 is not verified). Any curve, even a flat one, has such a step, so an onset means
nothing without the size of the break, which is returned beside it, an interval, and the
verdict of ``breaks``, where the two-knot rule is too.

A ``Rule`` marks many curves at once, so that a bootstrap over seeds or over evaluation items
takes any rule. Steps are any axis that increases: steps or tokens as they are, or, through
``on_log``, their logarithm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

# (steps [n], rising curves [n, b]) to (onset, end) of each [b, 2], NaN where there is none.
Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]


class CurveError(ValueError):
    """A curve that no onset can be taken of; the message says why."""


@dataclass(frozen=True)
class Onset:
    """step: where the curve accelerates most. size: the second difference there, in units of
    the curve. resolution: the spacing, in steps, at which it was taken."""

    step: float
    size: float
    resolution: float


def checked(steps: ArrayLike, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Steps [n] and values [n] or [n, curves] as float arrays.

    Raises:
        CurveError: fewer than three checkpoints, as many steps as values not there, steps
            that do not increase, or numbers that are not finite; names the first such step.
    """
    x, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if x.ndim != 1 or len(x) < 3 or len(x) != len(y):
        raise CurveError(
            f"a curve needs at least 3 points; got {len(x)} steps, {len(y)} values"
        )
    if not np.isfinite(x).all() or not (np.diff(x) > 0).all():
        raise CurveError("steps must increase and be finite")
    finite = np.isfinite(y.reshape(len(y), -1)).all(axis=1)
    if not finite.all():
        raise CurveError(f"values must be finite; that at step {x[~finite][0]:g} is not")
    return x, y


def second_difference(
    steps: ArrayLike, values: ArrayLike, resolution: float
) -> tuple[np.ndarray, np.ndarray]:
    """Second differences on an even grid: (grid, f(t + D) - 2 f(t) + f(t - D)).

    The curve is interpolated linearly, so checkpoints need not be evenly spaced; the grid
    runs in steps of ``resolution`` from one resolution after the first checkpoint.

    Raises:
        CurveError: as ``checked``, or a resolution the curve is too short for.
    """
    x, y = checked(steps, values)
    if not 0 < resolution <= (x[-1] - x[0]) / 2:
        raise CurveError(
            f"resolution {resolution} must be above 0 and at most half the curve, "
            f"{(x[-1] - x[0]) / 2}"
        )
    grid = np.arange(x[0] + resolution, x[-1] - resolution + 1e-9, resolution)
    f = [np.interp(grid + shift, x, y) for shift in (-resolution, 0.0, resolution)]
    return grid, f[2] - 2 * f[1] + f[0]


def onset(
    steps: ArrayLike,
    values: ArrayLike,
    resolution: float,
) -> Onset:
    """The step of largest second difference of a rising curve (negate a loss)."""
    grid, bend = second_difference(steps, values, resolution)
    best = int(bend.argmax())
    return Onset(float(grid[best]), float(bend[best]), float(resolution))


def largest_rise(steps: ArrayLike, values: ArrayLike, width: float) -> tuple[float, float]:
    """The largest rise within a stretch of ``width`` steps: (its first step, the rise).

    The curve is taken as straight between checkpoints; the best stretch then begins or
    ends at one, so those are all that is tried.
    """
    x, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    starts = np.clip(np.concatenate([x, x - width]), x[0], max(x[0], x[-1] - width))
    rise = np.interp(starts + width, x, y) - np.interp(starts, x, y)
    best = int(rise.argmax())
    return float(starts[best]), float(rise[best])


def first_crossing(steps: ArrayLike, values: ArrayLike, level: float) -> float | None:
    """The first step at which the curve, straight between checkpoints, is at or over a level.

    None where it never is.
    """
    x, y = checked(steps, values)
    above = np.flatnonzero(y >= level)
    if len(above) == 0:
        return None
    i = int(above[0])
    if i == 0:
        return float(x[0])
    return float(x[i - 1] + (level - y[i - 1]) / (y[i] - y[i - 1]) * (x[i] - x[i - 1]))


def by_second_difference(resolution: float | None = None) -> Rule:
    """The study's rule at a resolution; by default a twentieth of the axis, as there."""

    def rule(steps: np.ndarray, curves: np.ndarray) -> np.ndarray:
        width = (steps[-1] - steps[0]) / 20 if resolution is None else resolution
        return np.array([[onset(steps, curve, width).step, np.nan] for curve in curves.T])

    return rule


def by_threshold(share: float = 0.5, level: float | None = None) -> Rule:
    """The first crossing of a level, or of a share of the way from the lowest to the highest.

    A share goes with the curve when that is shifted or scaled; a level does not.
    """
    if not 0 < share <= 1:
        raise CurveError(f"share {share} must be above 0 and at most 1")

    def rule(steps: np.ndarray, curves: np.ndarray) -> np.ndarray:
        found = []
        for y in curves.T:
            at = y.min() + share * np.ptp(y) if level is None else level
            step = first_crossing(steps, y, at)
            found.append([np.nan if step is None else step, np.nan])
        return np.array(found)

    return rule


def on_log(rule: Rule) -> Rule:
    """The rule on the logarithm of the steps; step 0 has no place there and is left out.

    What the rule is set to (a resolution) is then in natural logarithms.
    """

    def logged(steps: np.ndarray, curves: np.ndarray) -> np.ndarray:
        return np.exp(rule(np.log(steps[steps > 0]), curves[steps > 0]))

    return logged


@dataclass(frozen=True)
class Interval:
    """An interval for an onset, 95 percent by default. share: of the resampled curves, those
    on which the rule found an onset at all; the interval is over these."""

    low: float
    high: float
    share: float


def over_seeds(
    steps: ArrayLike,
    curves: ArrayLike,
    rule: Rule,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """An interval for the onset of the mean curve: bootstrap over seeds. curves: [seeds, n].

    Few seeds give a percentile bootstrap that is too narrow; its percentiles are moved out
    accordingly (the expanded percentile interval, Hesterberg 2015, The American Statistician
    69(4)). Even so, under about five seeds it still covers too rarely. None where the rule
    finds no onset in any draw.

    Raises:
        CurveError: as ``checked``, or fewer than two seeds.
    """
    by_step = np.atleast_2d(np.asarray(curves, dtype=float)).T  # [n, seeds]
    return over_items(steps, by_step, rule, level, draws, seed)


def over_items(
    steps: ArrayLike,
    items: ArrayLike,
    rule: Rule,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """An interval for the onset of one run: bootstrap over evaluation items. items: [n, items].

    An item is what would be drawn anew for another test set, such as a sentence, a minimal
    pair or, where what is asked is about other constructions, a paradigm. Values are kept
    together over checkpoints.

    Raises:
        CurveError: as ``checked``, or fewer than two items.
    """
    x, values = checked(steps, items)
    n = values.shape[1] if values.ndim == 2 else 1
    if n < 2:
        raise CurveError(f"a bootstrap needs at least 2 seeds or items; got {n}")
    picked = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
    shapes, back = np.unique(picked, axis=0, return_inverse=True)
    found = rule(x, values @ shapes.T / n)[back.ravel(), 0]
    tail = stats.norm.cdf(np.sqrt(n / (n - 1)) * stats.t.ppf((1 - level) / 2, n - 1))
    return spread(found, tail)


def spread(onsets: np.ndarray, tail: float = 0.025) -> Interval | None:
    """The interval that leaves a share ``tail`` of the resampled onsets out on either side."""
    there = onsets[np.isfinite(onsets)]
    if len(there) == 0:
        return None
    low, high = np.quantile(there, [tail, 1 - tail])
    return Interval(float(low), float(high), len(there) / len(onsets))
