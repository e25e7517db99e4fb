"""Least squares of many curves on many designs: broken lines and smooth curves on an axis.

The machinery of ``breaks``, which says what it is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sas_lib.onsets import CurveError

MERGE = 1 / 200  # of the axis: checkpoints closer than this count as one
MIN_POINTS = 8  # six parameters and something to judge them by
NARROWEST = 0.5  # of the axis: the fastest rise, 10 to 90 percent, that still counts as smooth
LENGTHS = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)  # of the run: correlation of the noise
BEND = 1e-6  # spreads of the curve per axis: a change of slope below is rounding
FLOOR = 1e-9  # of the variance: a residual below is rounding


@dataclass(frozen=True, eq=False)
class Axis:
    """Checkpoints on an axis from 0 to 1, near ones merged.

    merge [m, n]: averages n values to m. position [m]: on the axis. time [m]: share of the
    run, where noise lives whatever the axis. weight [m]: sums to 1. steps [m]: the axis in
    the caller's units.
    """

    merge: np.ndarray
    position: np.ndarray
    time: np.ndarray
    weight: np.ndarray
    steps: np.ndarray
    log: bool

    def step_at(self, position: np.ndarray) -> np.ndarray:
        first, last = self.steps[[0, -1]]
        if self.log:
            return np.asarray(first * (last / first) ** position)
        return np.asarray(first + position * (last - first))


def make_axis(steps: np.ndarray, log: bool) -> Axis:
    """The axis of increasing steps [n]; on a logarithmic one they are all above 0.

    Raises:
        CurveError: too few checkpoints that are not next to the same place.
    """
    at = np.log(steps) if log else steps
    groups = [[0]]
    for i in range(1, len(at)):
        if at[i] - at[groups[-1][0]] < MERGE * (at[-1] - at[0]):
            groups[-1].append(i)
        else:
            groups.append([i])
    if len(groups) < MIN_POINTS:
        raise CurveError(
            f"a two-knot fit needs at least {MIN_POINTS} checkpoints spread over the axis; "
            f"got {len(groups)}"
        )
    merge = np.zeros((len(groups), len(at)))
    for row, group in zip(merge, groups, strict=True):
        row[group] = 1 / len(group)
    means = merge @ at
    position = (means - means[0]) / (means[-1] - means[0])
    gaps = np.diff(position)
    weight = (np.append(gaps, 0) + np.append(0, gaps)) / 2
    merged = np.exp(means) if log else means
    time = (merged - merged[0]) / (merged[-1] - merged[0])
    return Axis(merge, position, time, weight, merged, log)


class Designs:
    """Weighted least squares of many curves on many designs [designs, m, p] at once."""

    def __init__(self, columns: np.ndarray, weight: np.ndarray) -> None:
        q, r = np.linalg.qr(np.sqrt(weight)[:, None] * columns)
        self.basis = np.ascontiguousarray(q.transpose(0, 2, 1))  # [designs, p, m]
        self.inverse = np.linalg.inv(r)  # [designs, p, p]

    def fit(self, weighted: np.ndarray, part: slice) -> tuple[np.ndarray, np.ndarray]:
        """Residuals [designs, b] and coefficients [designs, p, b] of curves [m, b]."""
        scores = self.basis[part] @ weighted
        return (weighted**2).sum(0) - (scores**2).sum(1), self.inverse[part] @ scores


def smooth_shapes(position: np.ndarray, time: np.ndarray) -> dict[str, np.ndarray]:
    """The family of smooth curves: name to shapes [k, m], on an axis and in the run's time.

    What only slows down in time stays smooth when time is drawn on a logarithmic axis, where
    it looks like a step; both are in.
    """
    rates = np.geomspace(0.01, 3, 16)[:, None]
    early = np.array([0.003, 0.01, 0.03, 0.1, 0.3])[:, None]
    powers = np.array([0.25, 0.5, 1.0, 2.0])[:, None, None]
    width, middle = np.meshgrid([NARROWEST, 0.6, 0.75, 1.0], np.linspace(-0.2, 1.2, 29))
    width, middle = width.reshape(-1, 1), middle.reshape(-1, 1)
    # From 10 to 90 percent a logistic takes 2 ln 9 scales, a Gompertz curve 3.08.
    gompertz = np.exp(-np.exp(-(position - middle) / (width / 3.08)))
    return {
        "quadratic": position[None] ** 2,
        "saturating exponential": np.exp(-np.concatenate([time / rates, position / rates])),
        "logarithm": np.log(time + early),
        "power law": ((time + early) ** -powers).reshape(-1, len(time)),
        "logistic": 1 / (1 + np.exp(-(position - middle) / (width / (2 * np.log(9))))),
        "Gompertz curve": gompertz,
    }


def knot_pairs(position: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Pairs of knots [k, 2] that the checkpoints can tell apart.

    Two checkpoints at least lie on either side, where the second knot is not the end of the
    axis; and between the knots there is one, unless they are neighbouring checkpoints.
    """
    first, second = np.meshgrid(knots, knots, indexing="ij")
    before = np.searchsorted(position, first, "right")
    after = len(position) - np.searchsorted(position, second, "left")
    between = np.searchsorted(position, second, "left") - before  # strictly between
    at_checkpoints = np.isin(first, position) & np.isin(second, position)
    fine = (first < second) & (before >= 2) & ((after >= 2) | (second == 1))
    fine &= (between >= 1) | at_checkpoints
    return np.stack([first[fine], second[fine]], axis=1)


def knot_columns(position: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Columns [k, m, 4] of broken lines: 1, the axis, a hinge at each knot [k, 2]."""
    one = np.ones((len(knots), len(position)))
    hinges = np.maximum(position[None, :, None] - knots[:, None, :], 0)
    return np.concatenate([np.stack([one, one * position], axis=-1), hinges], axis=-1)


class BrokenLines:
    """All broken lines with knots on a grid; where a rise goes on to the end, one knot."""

    def __init__(self, axis: Axis, knots: np.ndarray) -> None:
        pairs = knot_pairs(axis.position, knots)
        ended = pairs[:, 1] < 1
        columns = knot_columns(axis.position, pairs)
        self.parts = [
            (pairs[which], Designs(columns[which][:, :, :p], axis.weight))
            for which, p in ((ended, 4), (~ended, 3))
            if which.any()
        ]
        single = knots[(knots > 0) & (knots < 1)]
        columns = knot_columns(axis.position, np.stack([single, single], axis=1))[:, :, :3]
        self.single = Designs(columns, axis.weight)

    def best(self, weighted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least residuals [b] and their knots [b, 2], of lines steepest in the middle.

        Infinite and NaN where no such line rises, or none fits better than a line that only
        slows down, at a single knot.
        """
        b = np.arange(weighted.shape[1])
        least, knots = np.full(len(b), np.inf), np.full((len(b), 2), np.nan)
        for pairs, residual in self._residuals(weighted):
            choice = residual.argmin(0)
            better = residual[choice, b] < least
            least[better] = residual[choice, b][better]
            knots[better] = pairs[choice][better]
        residual, c = self.single.fit(weighted, slice(None))
        none = np.where(c[:, 2] <= 0, residual, np.inf).min(0) <= least + BEND**2
        least[none], knots[none] = np.inf, np.nan
        return least, knots

    def _residuals(self, weighted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for pairs, designs in self.parts:
            for start in range(0, len(pairs), 1000):  # in parts: memory
                part = slice(start, start + 1000)
                residual, c = designs.fit(weighted, part)
                rises = (c[:, 2] > BEND) & (c[:, 1] + c[:, 2] > BEND)
                if c.shape[1] == 4:
                    rises &= c[:, 3] < -BEND
                yield pairs[part], np.where(rises, residual, np.inf)


class Rivals:
    """Both families on an axis. The knots of the test are at checkpoints, for speed."""

    def __init__(self, axis: Axis) -> None:
        self.axis = axis
        self.root = np.sqrt(axis.weight)[:, None]
        shapes = smooth_shapes(axis.position, axis.time)
        self.names = [name for name, of_name in shapes.items() for _ in of_name]
        stacked = np.concatenate(list(shapes.values()))
        stacked = (stacked - stacked.mean(1, keepdims=True)) / np.ptp(stacked, 1)[:, None]
        line = np.stack([np.ones_like(stacked), stacked * 0 + axis.position], axis=-1)
        self.columns = np.concatenate([line, stacked[..., None]], axis=-1)
        self.smooth = Designs(self.columns, axis.weight)
        self.broken = BrokenLines(axis, axis.position)

    def gain(self, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of curves [m, b]: log of smooth over broken residual [b], best smooth design [b]
        and its coefficients [3, b]."""
        weighted = self.root * curves
        residual, coefficients = self.smooth.fit(weighted, slice(None))
        best, b = residual.argmin(0), np.arange(curves.shape[1])
        smooth = np.maximum(residual[best, b], FLOOR)
        broken = np.maximum(self.broken.best(weighted)[0], FLOOR)
        return np.log(smooth / np.minimum(broken, 1e300)), best, coefficients[best, :, b].T


def noise_like(residual: np.ndarray, time: np.ndarray, parameters: int) -> np.ndarray:
    """A matrix [m, m] that turns white noise [m, b] into noise like a fit's residual [m].

    An Ornstein-Uhlenbeck process: its correlation length is the likeliest, then the next
    longer one, since residuals are less correlated than the noise that a fit ran after.
    """
    m, likelihood, scaled = len(residual), [], []
    for length in LENGTHS:
        gaps = np.abs(time[:, None] - time)
        covariance = np.exp(-gaps / length) if length else np.eye(m)
        root = np.linalg.cholesky(covariance + 1e-9 * np.eye(m))
        variance = (np.linalg.solve(root, residual) ** 2).sum() / (m - parameters)
        scaled.append(np.sqrt(variance) * root)
        likelihood.append(-m / 2 * np.log(variance + FLOOR**2) - np.log(np.diag(root)).sum())
    return scaled[min(int(np.argmax(likelihood)) + 1, len(scaled) - 1)]
