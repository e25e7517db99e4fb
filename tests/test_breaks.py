"""The two-knot fit and the verdict: against brute force, ruptures, and simulated curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import ruptures
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_lib import breaks, curve_fits
from sas_lib.breaks import by_two_knots, over_noise, two_knots, verdict
from sas_lib.onsets import CurveError, by_threshold

# The checkpoints of the book's toy runs and of its first run on real English.
TOY = np.array([0, 1, 3, 12, 40, 136, 300, *range(400, 1601, 100), 463, 1582, 1800])
TOY = np.sort(np.append(TOY, np.arange(2100, 7501, 300))).astype(float)
REAL = np.array([0, 1, 2, 4, 7, 14, 27, 53, 102, 197, 381, 737, *range(800, 2401, 100)])
REAL = np.sort(np.append(REAL, [1426, 2759, 3000, 4000, 5000, 5340, 6000, 7000, 8000.0]))
CHECKPOINTS = {
    "toy": (TOY, False),
    "toy, log": (TOY[1:], True),
    "real": (REAL, False),
    "real, log": (REAL[1:], True),
    "21 even": (np.linspace(0, 1e4, 21), False),
    "51 even": (np.linspace(0, 1e4, 51), False),
    "40 log-spaced, log": (np.geomspace(1, 1e4, 40), True),
}
Draw = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def broken(x: np.ndarray, onset: float, end: float, slopes: tuple[float, ...]) -> np.ndarray:
    """The curve through (onset, 0) of three slopes."""
    before, during, after = slopes
    return (
        before * np.minimum(x - onset, 0)
        + during * (np.clip(x, onset, end) - onset)
        + after * np.maximum(x - end, 0)
    )


# --- the two-knot fit -------------------------------------------------------------------


def test_a_broken_line_is_found_again() -> None:
    found = two_knots(TOY, 3 + broken(TOY, 900, 1500, (1e-4, 2e-3, 3e-4)))
    assert found is not None and (found.onset, found.end) == pytest.approx((900, 1500))
    assert found.slopes == pytest.approx((1e-4, 2e-3, 3e-4))
    assert found.levels == pytest.approx((3, 4.2))
    assert found(TOY) == pytest.approx(3 + broken(TOY, 900, 1500, (1e-4, 2e-3, 3e-4)))


def test_a_broken_line_is_found_again_on_a_logarithmic_axis() -> None:
    at = np.log(np.maximum(TOY, 1e-9))
    values = 3 + broken(at, np.log(300), np.log(1500), (0.01, 0.5, 0.05))
    found = two_knots(TOY, values, log=True)
    assert found is not None and (found.onset, found.end) == pytest.approx((300, 1500))
    assert found.slopes == pytest.approx((0.01, 0.5, 0.05))
    assert found(TOY[1:]) == pytest.approx(values[1:])


def test_a_rise_that_goes_on_has_no_end() -> None:
    values = broken(TOY, 4200, 9000, (0, 1e-3, 0))
    found = two_knots(TOY, values)
    assert found is not None and found.onset == pytest.approx(4200) and found.end is None
    assert found.slopes[2] is None and found(TOY) == pytest.approx(values, abs=1e-9)
    assert found.levels == pytest.approx((0, values[-1]))
    assert np.isnan(by_two_knots()(TOY, values[:, None])[0, 1])


def test_a_jump_lies_between_its_two_checkpoints() -> None:
    found = two_knots(TOY, (TOY > 2500) + TOY * 1e-5)
    assert found is not None and (found.onset, found.end) == (2400, 2700)


@pytest.mark.parametrize("curve", ["flat", "falling", "slowing down"])
def test_what_never_speeds_up_has_no_onset(curve: str) -> None:
    values = {
        "flat": np.full(51, 0.3),
        "falling": -np.arange(51.0),
        "slowing down": np.minimum(np.arange(51.0), 20),
    }
    assert two_knots(range(51), values[curve]) is None
    assert not verdict(range(51), values[curve]).is_break


def test_a_fall_that_slackens_for_a_while_is_no_rise() -> None:
    found = two_knots(TOY, broken(TOY, 900, 1500, (-3e-4, -1e-4, -3e-4)))
    assert found is None or found.slopes[1] > 0


@pytest.mark.parametrize("level", [0.1, 1e6 / 7, 0])
def test_rounding_of_a_flat_curve_is_no_break(level: float) -> None:
    values = level * (1 + np.finfo(float).eps * np.repeat([0, 1, 0], [20, 10, len(TOY) - 30]))
    assert two_knots(TOY, values) is None
    assert verdict(TOY, values).gain <= 0


def test_the_fit_is_the_least_of_all_lines_tried_one_by_one() -> None:
    rng = np.random.default_rng(0)
    x = np.sort(rng.choice(np.arange(0, 101.0), 12, replace=False))
    x = (x - x[0]) / (x[-1] - x[0]) * 100
    weight = np.gradient(x) * np.r_[0.5, np.ones(10), 0.5]  # the trapezoid rule
    weight[1:-1] = (x[2:] - x[:-2]) / 2
    for _ in range(3):
        y = rng.normal(size=12).cumsum()
        least, best = np.inf, None
        grid = np.union1d(np.arange(0, 101.0), x)
        for i, first in enumerate(grid):
            for second in grid[i + 1 :]:
                inside = ((x > first) & (x < second)).any() or {first, second} <= set(x)
                ended = second < 100
                if not inside or (x <= first).sum() < 2 or (ended and (x >= second).sum() < 2):
                    continue
                hinges = [np.maximum(x - knot, 0) for knot in (first, second)][: 1 + ended]
                columns = np.stack([np.ones(12), x, *hinges], axis=1)
                root = np.sqrt(weight)
                c = np.linalg.lstsq(columns * root[:, None], y * root, rcond=None)[0]
                error = (weight * (y - columns @ c) ** 2).sum()
                steepest = c[2] > 0 and c[1] + c[2] > 0 and (not ended or c[3] < 0)
                if steepest and error < least:
                    least, best = error, (first, second if ended else None)
        found = two_knots(x, y)
        assert found is not None and best is not None
        assert found.onset == pytest.approx(best[0])
        assert found.end == (None if best[1] is None else pytest.approx(best[1]))
        assert (weight * (y - found(x)) ** 2).sum() == pytest.approx(least)


def test_ruptures_finds_the_same_breaks() -> None:
    # Its cost of continuous straight pieces joins the noisy values at the knots, so the two
    # agree nearly, not exactly; on even checkpoints, which is what it takes.
    rng = np.random.default_rng(1)
    x = np.arange(101.0)
    ours, theirs = [], []
    truth = np.stack([rng.integers(20, 50, 25), rng.integers(60, 85, 25)], axis=1)
    for onset, end in truth:
        y = broken(x, onset, end, (0.002, 1 / (end - onset), 0.004))
        y += rng.normal(scale=0.015, size=101)
        found = two_knots(x, y)
        assert found is not None
        ours.append((found.onset, found.end))
        search = ruptures.Dynp(model="clinear", min_size=3, jump=1).fit(y[:, None])
        theirs.append(search.predict(n_bkps=2)[:2])
    assert np.abs(np.subtract(ours, theirs)).max() <= 4
    assert np.abs(np.subtract(ours, theirs)).mean() <= 1.5
    own, other = (np.abs(np.subtract(one, truth)).mean() for one in (ours, theirs))
    assert own <= other  # least squares does not hang on single noisy values


def test_dense_checkpoints_elsewhere_do_not_move_the_onset() -> None:
    def curve(x: np.ndarray) -> np.ndarray:  # an onset, then a tail that flattens out
        return np.where(x > 20, 1 - np.exp(-(x - 20) / 25), 0) + 0.002 * x

    even = np.linspace(0, 100, 41)
    marks = []
    for dense in (np.linspace(85, 100, 60), np.linspace(45, 60, 60), np.linspace(0, 10, 60)):
        x = np.union1d(even, dense)
        found = two_knots(x, curve(x))
        assert found is not None
        marks.append((found.onset, found.end))
    plain = two_knots(even, curve(even))
    assert plain is not None
    assert np.array(marks) == pytest.approx(np.tile((plain.onset, plain.end), (3, 1)), abs=3)


def test_checkpoints_at_one_place_count_once() -> None:
    rng = np.random.default_rng(3)
    x = np.linspace(0, 1e4, 41)
    y = broken(x, 4000, 6000, (0, 1, 0)) / 2000 + rng.normal(scale=0.05, size=41)
    again_x = np.sort(np.concatenate([x, x[10:13] + 1]))
    again_y = np.interp(again_x, x, y)
    plain, again = verdict(x, y), verdict(again_x, again_y)
    assert again.gain == pytest.approx(plain.gain, rel=1e-2)
    axis = curve_fits.make_axis(again_x, False)
    assert len(axis.steps) == 41 and axis.weight.sum() == pytest.approx(1)


wobbles = st.lists(st.integers(-100, 100), min_size=12, max_size=25)


@settings(deadline=None, max_examples=40)
@given(wobbles, st.integers(-50, 50), st.sampled_from([0.5, 2.0, 64.0]))
def test_shifting_or_scaling_leaves_everything_alone(values, shift, scale) -> None:
    values = np.add(values, np.random.default_rng(0).random(len(values)))  # no ties
    plain = two_knots(range(len(values)), values)
    moved = two_knots(range(len(values)), scale * values + shift)
    assert (plain is None) == (moved is None)
    if plain and moved:
        assert (moved.onset, moved.end) == (plain.onset, plain.end)
        assert np.array(moved.levels) == pytest.approx(np.array(plain.levels) * scale + shift)
    one, other = (verdict(range(len(values)), v) for v in (values, scale * values + shift))
    assert other.gain == pytest.approx(one.gain, abs=1e-6)
    assert (other.is_break, other.smooth) == (one.is_break, one.smooth)


def test_scaling_the_axis_scales_the_onset() -> None:
    values = broken(TOY, 900, 1500, (1e-4, 2e-3, 3e-4))
    tokens = two_knots(TOY * 1000, values)
    assert tokens is not None and tokens.onset == pytest.approx(900_000)
    assert verdict(TOY * 1000, values) == verdict(TOY, values)


@pytest.mark.parametrize("mark", [two_knots, verdict])
def test_bad_curves_are_named(mark) -> None:
    with pytest.raises(CurveError, match="at least 8 checkpoints spread"):
        mark(range(7), range(7))
    with pytest.raises(CurveError, match="at least 8"):  # they are next to each other
        mark([0, 1, 2, 3, 1000, 2000, 3000, 4000, 5000, 6000], range(10))
    with pytest.raises(CurveError, match="step 3 is not"):
        mark(range(10), [0, 1, 2, np.inf, 4, 5, 6, 7, 8, 9])
    with pytest.raises(CurveError, match="no step above 0"):
        mark([-2, -1, 0], [0, 1, 2], log=True)


# --- noise ------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0.0, 0.04])
def test_noise_like_a_residual_has_its_size_and_correlation(length: float) -> None:
    rng = np.random.default_rng(4)
    time = np.linspace(0, 1, 51)
    gaps = np.abs(time[:, None] - time)
    truth = 0.09 * (np.exp(-gaps / length) if length else np.eye(51))
    matrices = [
        curve_fits.noise_like(rng.multivariate_normal(np.zeros(51), truth), time, 0)
        for _ in range(300)
    ]
    covariance = np.mean([matrix @ matrix.T for matrix in matrices], axis=0)
    assert 0.95 * 0.09 <= np.diag(covariance).mean() <= (1.2, 2)[length > 0] * 0.09
    neighbours = np.diag(covariance, 1).mean() / np.diag(covariance).mean()
    # On purpose more correlated than the truth, and not much more so.
    correlation = np.exp(-0.02 / length) if length else 0
    assert correlation + 0.02 <= neighbours <= correlation + 0.25


def test_parameters_that_a_fit_had_count_in_the_size_of_its_noise() -> None:
    residual, time = np.random.default_rng(4).normal(size=51), np.linspace(0, 1, 51)
    few, many = (curve_fits.noise_like(residual, time, p) for p in (0, 26))
    assert many == pytest.approx(few * np.sqrt(51 / 25))


@pytest.mark.parametrize("rule", [by_two_knots(), by_threshold(level=0.5)])
def test_more_noise_widens_the_interval(rule) -> None:
    clean = broken(TOY, 900, 1500, (0, 1 / 600, 0))
    white = np.random.default_rng(5).normal(size=len(TOY))
    widths = []
    for noise in (0.01, 0.05, 0.2):
        interval = over_noise(TOY, clean + noise * white, rule, draws=200)
        assert interval is not None
        widths.append(interval.high - interval.low)
    assert widths[0] < widths[1] < widths[2]


def test_the_interval_over_noise_covers_the_true_onset() -> None:
    rng = np.random.default_rng(6)
    clean = broken(TOY, 900, 1500, (1e-5, 1 / 600, 2e-5))
    covered = 0
    for _ in range(100):
        values = clean + 0.03 * rng.normal(size=len(TOY))
        interval = over_noise(TOY, values, by_two_knots(), draws=100)
        assert interval is not None
        covered += interval.low <= 900 <= interval.high
    assert covered >= 90


def test_a_curve_without_an_onset_has_a_wide_interval_or_none() -> None:
    values = np.sqrt(np.arange(51.0)) + np.random.default_rng(7).normal(size=51) / 100
    interval = over_noise(range(51), values, by_two_knots(), draws=100)
    assert interval is None or interval.high - interval.low > 10
    flat = over_noise(range(51), np.full(51, 0.3), by_threshold(level=0.2), draws=10)
    assert flat is not None and flat.low == flat.high == 0


# --- the verdict ------------------------------------------------------------------------


def smooth(u: np.ndarray, t: np.ndarray, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """A smooth curve on an axis u, in the time t of the run; its kind."""
    kind = rng.choice("flat line quadratic exponential power logistic gompertz".split())
    if rng.random() < 0.3:
        kind = rng.choice("two-exponentials root half-wave".split())  # not in the family
    early, late = np.exp(rng.uniform(np.log([0.02, 0.2]), np.log([0.1, 1.0])))
    share, width = rng.uniform(0.2, 0.8), rng.uniform(0.5, 1)
    return str(kind), {
        "flat": 0 * u,
        "line": u,
        "quadratic": u + rng.uniform(-0.5, 1) * u**2,
        "exponential": -np.exp(-t / np.exp(rng.uniform(np.log(0.02), 0))),
        "power": -((t + np.exp(rng.uniform(-5, -1))) ** -rng.uniform(0.2, 2)),
        "logistic": 1 / (1 + np.exp(-(u - rng.uniform(-0.1, 1.1)) * 4.394 / width)),
        "gompertz": np.exp(-np.exp(-(u - rng.uniform(0, 0.8)) * 3.08 / width)),
        "two-exponentials": -share * np.exp(-t / early) - (1 - share) * np.exp(-t / late),
        "root": t ** rng.uniform(0.3, 0.8),
        "half-wave": -np.cos(np.pi * u),
    }[kind]


def abrupt(u: np.ndarray, t: np.ndarray, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """A curve that rises within 3 to 15 percent of the axis u; its kind."""
    kind = rng.choice("plain sloping rounded saturating step".split())
    width, onset = rng.uniform(0.03, 0.15), rng.uniform(0.08, 0.7)
    up, past = np.clip((u - onset) / width, 0, 1), np.maximum(u - onset - width, 0)
    middle = onset + width / 2
    return str(kind), {
        "plain": up,
        "sloping": 0.7 * up + 0.1 * u + 0.2 * past,
        "rounded": 1 / (1 + np.exp(-(u - middle) * 4.394 / width)) + 0.15 * u,
        "saturating": 0.7 * up - 0.3 * np.exp(-np.maximum(u - middle, 0) / 0.2),
        "step": (u > onset) + 0.2 * u,
    }[kind]


def noise(t: np.ndarray, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    white = rng.normal(size=len(t))
    kind = rng.choice("white growing short long".split())
    if kind == "growing":
        return "growing", white * (0.2 + 1.2 * t)
    length = {"white": 1e-9, "short": 0.03, "long": 0.1}[kind]
    covariance = np.exp(-np.abs(t[:, None] - t) / length) + 1e-9 * np.eye(len(t))
    return str(kind), np.linalg.cholesky(covariance) @ white


def calls(draw: Callable, per_checkpoints: int, seed: int) -> dict[str, float]:
    """The share of simulated curves that are called breaks: of all, and by each aspect."""
    rng = np.random.default_rng(seed)
    total: Counter[str] = Counter()
    breaking: Counter[str] = Counter()
    for name, (steps, log) in CHECKPOINTS.items():
        t = (steps - steps[0]) / np.ptp(steps)
        u = np.log(steps / steps[0]) / np.log(steps[-1] / steps[0]) if log else t
        for i in range(per_checkpoints):
            kind, curve = draw(u, t, rng)
            of_noise, wobble = noise(t, rng)
            size = rng.choice([0.002, 0.005, 0.02, 0.05, 0.1])
            values = curve / (np.ptp(curve) or 1) + size * wobble
            aspects = ["all", name, kind, f"{of_noise} noise", f"noise of {size}"]
            total.update(aspects)
            if verdict(steps, values, log, seed=i).is_break:
                breaking.update(aspects)
    return {aspect: breaking[aspect] / n for aspect, n in total.items()}


def test_at_most_5_percent_of_smooth_curves_are_called_breaks() -> None:
    shares = calls(smooth, per_checkpoints=120, seed=0)
    assert shares["all"] <= 0.03, shares
    assert shares["all"] > 0.003, shares  # a test that never calls has no power to speak of
    # 5 percent in each kind of curve, of noise, of checkpoints; these are shares of 80 to
    # 240 curves, so one of .05 may come out a little higher.
    assert max(shares.values()) <= 0.05 + 1.65 * np.sqrt(0.05 * 0.95 / 80), shares


def test_most_abrupt_rises_are_called_breaks() -> None:
    shares = calls(abrupt, per_checkpoints=30, seed=1)
    assert shares["all"] >= 0.85, shares
    assert shares["noise of 0.02"] >= 0.9 and shares["noise of 0.1"] >= 0.55, shares


def test_a_straight_line_has_no_break() -> None:
    for steps, log in CHECKPOINTS.values():
        at = np.log(steps) if log else steps
        assert not verdict(steps, 2 + 3 * at, log).is_break


def test_smooth_curves_without_noise_have_no_break() -> None:
    rng = np.random.default_rng(8)
    for steps, log in CHECKPOINTS.values():
        t = (steps - steps[0]) / np.ptp(steps)
        u = np.log(steps / steps[0]) / np.log(steps[-1] / steps[0]) if log else t
        for _ in range(20):
            kind, curve = smooth(u, t, rng)
            assert not verdict(steps, curve, log).is_break, kind


@pytest.mark.parametrize("log", [False, True])
def test_gain_and_p_value_are_those_of_fits_written_out(log: bool) -> None:
    steps = np.array([1, 2, 4, 9, 15, 20, 40, 50, 60, 70, 80, 90, 120, 150, 200.0])
    rng = np.random.default_rng(10)
    at, size = (np.log(steps), 0.6) if log else (steps / 40, 0.3)
    knots = (np.log(9), np.log(70)) if log else (1, 3)
    values = 5 + broken(at, *knots, (0.1, 1.5, 0.2)) + rng.normal(scale=size, size=15)
    axis = curve_fits.make_axis(steps, log)
    root = np.sqrt(axis.weight)
    shapes = np.concatenate(list(curve_fits.smooth_shapes(axis.position, axis.time).values()))
    smooths = [np.stack([axis.position**0, axis.position, shape], axis=1) for shape in shapes]
    pairs = curve_fits.knot_pairs(axis.position, axis.position)

    def fit(columns: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        c = np.linalg.lstsq(columns * root[:, None], y * root)[0]
        return float(((root * (y - columns @ c)) ** 2).sum()), columns @ c, c

    def gain(y: np.ndarray) -> tuple[float, np.ndarray]:
        best = min((fit(columns, y) for columns in smooths), key=lambda found: found[0])
        least = np.inf
        for (_, second), columns in zip(
            pairs, curve_fits.knot_columns(axis.position, pairs), strict=True
        ):
            error, _, c = fit(columns if second < 1 else columns[:, :3], y)
            slopes = np.cumsum(c[1:])
            if slopes[1] > max(0, slopes[0]) and (second == 1 or slopes[1] > slopes[2]):
                least = min(least, error)
        return np.log(best[0] / least), best[1]

    y = axis.merge @ values
    own, smooth_fit = gain(y)
    noise_matrix = curve_fits.noise_like(y - smooth_fit, axis.time, 4)
    white = np.random.default_rng(0).normal(size=(len(y), 59))
    simulated = [gain(smooth_fit + wobble)[0] for wobble in (noise_matrix @ white).T]
    found = verdict(steps, values, log, draws=59)
    assert found.gain == pytest.approx(own, rel=1e-3)
    assert 0.05 < found.p_value < 0.95  # or it would say little
    assert found.p_value == pytest.approx((1 + np.sum(simulated >= own)) / 60)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("kind", ["logarithm", "power law", "saturating exponential"])
def test_what_slows_down_in_time_is_known_on_either_axis(kind: str, log: bool) -> None:
    t = (REAL[1:] - 1) / 7999
    curves = {
        "logarithm": np.log(t + 0.01),
        "power law": -((t + 0.01) ** -0.5),
        "saturating exponential": -np.exp(-t / 0.1),
    }
    found = verdict(REAL[1:], curves[kind], log)
    assert (found.smooth, found.is_break) == (kind, False)


def test_the_verdict_names_the_smooth_rival_and_is_the_same_each_time() -> None:
    u = np.linspace(0, 1, 41)
    one = verdict(u, np.exp(-u / 0.09) * -1 + np.random.default_rng(9).normal(size=41) / 500)
    assert one.smooth == "saturating exponential" and str(one) == "no break"
    values = broken(TOY, 900, 1500, (0, 1, 0)) + 20 * np.sin(TOY)
    assert verdict(TOY, values) == verdict(TOY, values)
    assert str(verdict(TOY, values)) == "break" and verdict(TOY, values).p_value == 1 / 200


def test_the_level_is_what_the_calibration_was_made_for() -> None:
    assert (breaks.LEVEL, curve_fits.NARROWEST) == (0.02, 0.5)
