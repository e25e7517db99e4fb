"""Where a curve breaks.

The study marks an onset at the step of maximal acceleration: the largest second difference
at a resolution (Chen et al. 2024, arXiv:2309.07311, section 4; the exact wording of its
Eq. 3 is not verified). Any curve, even a flat one, has such a step, so an onset means
nothing without the size of the break, which is returned beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Onset:
    """step: where the curve accelerates most. size: the second difference there, in units of
    the curve. resolution: the spacing, in steps, at which it was taken."""

    step: float
    size: float
    resolution: float


def second_difference(
    steps: Sequence[float], values: Sequence[float], resolution: float
) -> tuple[np.ndarray, np.ndarray]:
    """Second differences on an even grid: (grid, f(t + D) - 2 f(t) + f(t - D)).

    The curve is interpolated linearly, so checkpoints need not be evenly spaced; the grid
    runs in steps of ``resolution`` from one resolution after the first checkpoint.

    Raises:
        ValueError: fewer than three checkpoints, steps that do not increase, values that
            are not finite, or a resolution the curve is too short for.
    """
    x, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if len(x) < 3 or x.shape != y.shape:
        raise ValueError(
            f"a curve needs at least 3 points; got {len(x)} steps, {len(y)} values"
        )
    if not (np.diff(x) > 0).all() or not np.isfinite(y).all():
        raise ValueError("steps must increase and values be finite")
    if not 0 < resolution <= (x[-1] - x[0]) / 2:
        raise ValueError(
            f"resolution {resolution} must be above 0 and at most half the curve, "
            f"{(x[-1] - x[0]) / 2}"
        )
    grid = np.arange(x[0] + resolution, x[-1] - resolution + 1e-9, resolution)
    f = [np.interp(grid + shift, x, y) for shift in (-resolution, 0.0, resolution)]
    return grid, f[2] - 2 * f[1] + f[0]


def onset(steps: Sequence[float], values: Sequence[float], resolution: float) -> Onset:
    """The step of largest second difference of a rising curve (negate a loss)."""
    grid, bend = second_difference(steps, values, resolution)
    best = int(bend.argmax())
    return Onset(float(grid[best]), float(bend[best]), float(resolution))


def largest_rise(
    steps: Sequence[float], values: Sequence[float], width: float
) -> tuple[float, float]:
    """The largest rise within a stretch of ``width`` steps: (its first step, the rise).

    The curve is taken as straight between checkpoints; the best stretch then begins or
    ends at one, so those are all that is tried.
    """
    x, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    starts = np.clip(np.concatenate([x, x - width]), x[0], max(x[0], x[-1] - width))
    rise = np.interp(starts + width, x, y) - np.interp(starts, x, y)
    best = int(rise.argmax())
    return float(starts[best]), float(rise[best])
