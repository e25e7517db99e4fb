"""Whether a curve breaks: a two-knot fit, weighed against smooth curves.

**Where.** A continuous line of three straight pieces, the middle one the steepest: its knots
are the onset and the end of the rise (least squares over all pairs of knots on a grid).
Checkpoints are unevenly spaced, so each counts by the stretch of the axis that it stands for
(the trapezoid rule), and those closer together than 1/200 of the axis count as one, their
mean. No real curve is three straight lines; weighted so, the fit is the one nearest to the
curve along the axis, and does not move when another stretch is measured more densely. In
simulations this costs nothing in accuracy against equal weights.

**Whether.** The same fit against the best of a family of smooth curves: straight lines,
quadratics, saturating exponentials, power laws and logarithms, and S-curves (logistic and
Gompertz) that take at least half of the axis to rise from a tenth to nine tenths, each with
a straight line added. What is compared is the logarithm of the ratio of their residuals, as
in BIC; but BIC's penalty supposes independent noise and parameters that are not searched for
on a grid, so the yardstick is simulated: the smooth fit with noise of the same size and
autocorrelation added, fitted again many times. "Break" therefore means: a rise that begins
or ends too abruptly for the axis as long as it is. It is relative to the axis and to the
length of the run; on a longer run the same rise is steeper.

Curves rise here; negate a loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from sas_lib.curve_fits import Axis, BrokenLines, Rivals, knot_columns, make_axis, noise_like
from sas_lib.onsets import CurveError, Interval, Rule, checked, spread

GRID = 100  # steps of the grid of knots, besides the checkpoints
LEVEL = 0.02  # of the test: what errors it leads to, tests/test_breaks.py counts


@dataclass(frozen=True)
class Break:
    """The two-knot line. onset, end: its knots, in the caller's steps; end is None where the
    rise goes on to the last checkpoint. slopes: of the pieces, before the rise, in it, after
    it (None), per step, or per unit of natural logarithm. levels: of the curve at the knots
    (the last checkpoint for an end of None). log: whether the axis was logarithmic."""

    onset: float
    end: float | None
    slopes: tuple[float, float, float | None]
    levels: tuple[float, float]
    log: bool

    def __call__(self, steps: ArrayLike) -> np.ndarray:
        """The line at steps [n], to draw it beside the curve."""
        x, knot = np.asarray(steps, dtype=float), self.onset
        at = np.log(x / knot) if self.log else x - knot
        before, during, after = self.slopes
        line = self.levels[0] + np.where(at < 0, before, during) * at
        if self.end is None or after is None:
            return line
        past = np.log(x / self.end) if self.log else x - self.end
        return np.where(past > 0, self.levels[1] + after * past, line)


@dataclass(frozen=True)
class Verdict:
    """is_break: whether a two-knot line is better than smooth curves beyond chance. p_value:
    the share of simulated smooth curves with as large a gain. gain: the logarithm of the
    smooth fit's residual over the two-knot one's. smooth: the best smooth curve's kind."""

    is_break: bool
    p_value: float
    gain: float
    smooth: str

    def __str__(self) -> str:
        return "break" if self.is_break else "no break"


def two_knots(steps: ArrayLike, values: ArrayLike, log: bool = False) -> Break | None:
    """The onset and the end of a rise: the continuous line of three pieces nearest the curve.

    On ``log``, the axis is the logarithm of the steps, and step 0 is left out. Knots lie on
    the checkpoints or on hundredths of the axis. None where there is nothing to mark: a flat
    or falling curve, one that only slows down. A rise that goes on, with noise, is often
    given an end where the noise bends it.

    Raises:
        CurveError: as ``onsets.checked``, or fewer than 8 checkpoints that are apart.
    """
    x, y = _on_axis(*checked(steps, values), log)
    axis, lines = _fine_lines(tuple(x), log)
    merged, scale, shift = _normal(axis, y[:, None])
    root = np.sqrt(axis.weight)[:, None]
    knots = lines.best(root * merged)[1]
    if np.isnan(knots).any():
        return None
    columns, which = knot_columns(axis.position, knots)[0], 4 if knots[0, 1] < 1 else 3
    solved = np.linalg.lstsq(root * columns[:, :which], root * merged, rcond=None)[0][:, 0]
    unit = float(np.log(axis.steps[-1] / axis.steps[0]) if log else np.ptp(axis.steps))
    slopes = [float(slope) for slope in np.cumsum(solved[1:]) * scale[0] / unit]
    levels = knot_columns(knots[0], knots)[0][:, :which] @ solved * scale[0] + shift[0]
    onset, end = (float(step) for step in axis.step_at(knots[0]))
    return Break(
        onset,
        end if which == 4 else None,
        (slopes[0], slopes[1], slopes[2] if which == 4 else None),
        (float(levels[0]), float(levels[1])),
        log,
    )


def by_two_knots(log: bool = False) -> Rule:
    """The two-knot fit as a rule for ``onsets.over_seeds`` and ``onsets.over_items``."""

    def rule(steps: np.ndarray, curves: np.ndarray) -> np.ndarray:
        x, y = _on_axis(steps, curves, log)
        axis, lines = _fine_lines(tuple(x), log)
        merged = _normal(axis, y)[0]
        knots = lines.best(np.sqrt(axis.weight)[:, None] * merged)[1]
        found = axis.step_at(knots)
        found[knots[:, 1] == 1, 1] = np.nan
        return found

    return rule


def verdict(
    steps: ArrayLike, values: ArrayLike, log: bool = False, draws: int = 199, seed: int = 0
) -> Verdict:
    """Does the curve break, or would a smooth one look like that? (See the module's words.)

    A break is called at p <= 0.02. Counted by the tests, over checkpoints spaced evenly,
    logarithmically and as in the book's runs, that calls breaks in at most 5 in 100 of
    simulated smooth curves: those of the family, and sums of two exponentials, roots and
    half-waves, which it does not hold; with noise of 0.2 to 10 percent of the rise, white,
    growing over the run, or correlated over 3 or 10 percent of it. Noise correlated over
    more of a run cannot be told from the curve. Of rises within 3 to 15 percent of the axis,
    about nine in ten are called breaks; one of 30 percent only where there is little noise,
    and one of 40 percent hardly ever.

    Raises:
        CurveError: as ``two_knots``.
    """
    x, y = _on_axis(*checked(steps, values), log)
    rivals = _rivals(tuple(x), log)
    axis, curve = rivals.axis, _normal(rivals.axis, y[:, None])[0]
    gain, design, coefficients = rivals.gain(curve)
    smooth = rivals.names[design[0]]
    if not gain[0] > 0:
        return Verdict(False, 1.0, float(gain[0]), smooth)
    fit = rivals.columns[design[0]] @ coefficients
    noise = noise_like((curve - fit)[:, 0], axis.time, parameters=4)
    white = np.random.default_rng(seed).normal(size=(len(noise), draws))
    as_large = (rivals.gain(fit + noise @ white)[0] >= gain[0]).sum()
    p = float((1 + as_large) / (1 + draws))
    return Verdict(p <= LEVEL, p, float(gain[0]), smooth)


def over_noise(
    steps: ArrayLike,
    values: ArrayLike,
    rule: Rule,
    log: bool = False,
    level: float = 0.95,
    draws: int = 400,
    seed: int = 0,
) -> Interval | None:
    """An interval for the onset of a single curve: what noise between checkpoints does to it.

    A parametric bootstrap: the two-knot line (a smooth curve where there is none) with noise
    like the residual's, marked again by the rule. It says nothing of other seeds. None where
    the rule finds no onset in any draw.

    Raises:
        CurveError: as ``two_knots``.
    """
    x, y = _on_axis(*checked(steps, values), log)
    if found := two_knots(x, y, log):
        axis, parameters = _fine_lines(tuple(x), log)[0], 6
        fit = found(x)
    else:
        rivals = _rivals(tuple(x), log)
        axis, parameters = rivals.axis, 4
        curve, scale, shift = _normal(axis, y[:, None])
        _, design, coefficients = rivals.gain(curve)
        smooth = (rivals.columns[design[0]] @ coefficients)[:, 0] * scale[0] + shift[0]
        fit = np.interp(x, axis.steps, smooth)
    noise = noise_like(axis.merge @ (y - fit), axis.time, parameters)
    white = np.random.default_rng(seed).normal(size=(len(noise), draws))
    noisy = fit[:, None] + (axis.merge > 0).T @ noise @ white  # merged checkpoints share it
    return spread(rule(x, noisy)[:, 0], (1 - level) / 2)


def _on_axis(x: np.ndarray, y: np.ndarray, log: bool) -> tuple[np.ndarray, np.ndarray]:
    if log:
        x, y = x[x > 0], y[x > 0]
        if len(x) == 0:
            raise CurveError("no step above 0: nothing to put on a logarithmic axis")
    return x, y


def _normal(axis: Axis, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Curves [n, b] merged to [m, b], at mean 0 and spread 1; the spreads [b] and means [b]."""
    merged = axis.merge @ curves
    shift = axis.weight @ merged
    scale = np.sqrt(axis.weight @ (merged - shift) ** 2)
    scale[scale < 1e-12 * np.abs(shift)] = 0  # flat but for rounding
    return (merged - shift) / np.where(scale > 0, scale, np.inf), scale, shift


@lru_cache(maxsize=8)  # the runs of a bundle have their checkpoints in common
def _rivals(steps: tuple[float, ...], log: bool) -> Rivals:
    return Rivals(make_axis(np.array(steps), log))


@lru_cache(maxsize=4)
def _fine_lines(steps: tuple[float, ...], log: bool) -> tuple[Axis, BrokenLines]:
    axis = make_axis(np.array(steps), log)
    grid = np.union1d(np.linspace(0, 1, GRID + 1), axis.position)
    return axis, BrokenLines(axis, grid)
