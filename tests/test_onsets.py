"""Onsets: by hand on small curves, and properties of the rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sas_lib.onsets import (
    CurveError,
    by_second_difference,
    by_threshold,
    first_crossing,
    largest_rise,
    on_log,
    onset,
    over_items,
    over_seeds,
    second_difference,
    spread,
)


def test_second_difference_by_hand() -> None:
    # f:   0  0  0  1  3  4 at steps 0..5; second differences at 1..4 are 0, 1, 1, -1.
    grid, bend = second_difference(range(6), [0, 0, 0, 1, 3, 4], 1)
    assert grid.tolist() == [1, 2, 3, 4]
    assert bend.tolist() == [0, 1, 1, -1]
    found = onset(range(6), [0, 0, 0, 1, 3, 4], 1)
    assert (found.step, found.size) == (2, 1)  # the first of two equal ones


def test_uneven_checkpoints_are_interpolated() -> None:
    steps, values = [0, 10, 20, 40, 80], [0.0, 0.0, 0.0, 1.0, 1.0]
    dense = np.interp(range(81), steps, values)
    assert onset(steps, values, 10).step == onset(range(81), dense, 10).step == 20


def test_the_published_curve_breaks_where_the_figure_marks_it() -> None:
    # Means of three base runs every 5,000 steps, read off the study's figures.
    steps = [0, 5000, 10000, 15000, 20000, 25000, 30000]
    uas = [0.054, 0.073, 0.083, 0.084, 0.088, 0.328, 0.368]
    assert onset(steps, uas, 5000).step == 20000


@pytest.mark.parametrize(
    ("steps", "values", "resolution", "says"),
    [
        ([0, 1], [0, 1], 0.5, "at least 3 points"),
        ([0, 2, 1], [0, 1, 2], 0.5, "increase"),
        ([0, 1, 2], [0, np.nan, 2], 0.5, "finite; that at step 1"),
        ([0, np.nan, 2], [0, 1, 2], 0.5, "increase"),
        ([0, 1, 2], [0, 1], 0.5, "3 steps, 2 values"),
        ([0, 1, 2], [0, 1, 2], 2, "at most half"),
        ([0, 1, 2], [0, 1, 2], 0, "above 0"),
    ],
)
def test_bad_curves_are_named(steps, values, resolution, says) -> None:
    with pytest.raises(CurveError, match=says):
        onset(steps, values, resolution)


curves = st.lists(st.integers(-100, 100), min_size=5, max_size=30)


@given(curves, st.integers(-50, 50), st.sampled_from([0.5, 2.0, 4.0]))
def test_shifting_or_scaling_leaves_the_onset_alone(values, shift, scale) -> None:
    plain = onset(range(len(values)), values, 1)
    moved = onset(range(len(values)), [scale * v + shift for v in values], 1)
    assert moved.step == plain.step
    assert moved.size == scale * plain.size


@given(curves, st.integers(1, 20))
def test_largest_rise_equals_a_search_over_all_stretches(values, width) -> None:
    steps = np.arange(len(values), dtype=float)
    width = min(width, len(values) - 1)
    starts = np.arange(0, steps[-1] - width + 1e-9, 0.5)
    brute = max(
        np.interp(s + width, steps, values) - np.interp(s, steps, values) for s in starts
    )
    begin, rise = largest_rise(steps, values, width)
    assert rise == pytest.approx(brute)
    assert np.interp(begin + width, steps, values) - np.interp(begin, steps, values) == rise


def test_a_straight_line_rises_everywhere_alike() -> None:
    assert largest_rise([0, 10, 20], [0, 1, 2], 5)[1] == pytest.approx(0.5)


# --- thresholds and axes ----------------------------------------------------------------


def test_first_crossing_by_hand() -> None:
    steps, values = [0, 10, 30, 40], [1, 2, 6, 3]
    assert first_crossing(steps, values, 4) == 20
    assert first_crossing(steps, values, 2) == 10
    assert first_crossing(steps, values, 0.5) == 0
    assert first_crossing(steps, values, 7) is None


def test_a_threshold_is_a_share_of_the_way_up_or_a_level() -> None:
    steps, curves = np.array([0.0, 10, 20]), np.array([[2.0, 4], [2, 5], [6, 6]])
    assert by_threshold()(steps, curves)[:, 0].tolist() == [15, 10]
    assert by_threshold(0.25)(steps, curves)[:, 0].tolist() == [12.5, 5]
    assert by_threshold(level=5.5)(steps, curves)[:, 0].tolist() == [18.75, 15]
    assert np.isnan(by_threshold(level=9)(steps, curves)).all()
    with pytest.raises(CurveError, match="share"):
        by_threshold(0)


def test_on_log_is_the_rule_on_exponents_without_step_0() -> None:
    exponents = np.arange(8.0)
    curve = np.array([[0, 0, 0, 0, 1, 4, 5, 5]]).T
    plain = by_second_difference(1)(exponents, curve)[0, 0]
    stretched = on_log(by_second_difference(np.log(10)))
    assert stretched(10**exponents, curve)[0, 0] == pytest.approx(10**plain)
    with_zero = stretched(np.append(0, 10**exponents), np.vstack([[99], curve]))
    assert with_zero[0, 0] == pytest.approx(10**plain)


def test_the_resolution_is_a_twentieth_by_default() -> None:
    steps, curve = np.arange(0.0, 201), np.random.default_rng(0).normal(size=(201, 1))
    assert by_second_difference()(steps, curve)[0, 0] == onset(steps, curve[:, 0], 10).step


# --- intervals --------------------------------------------------------------------------

STEPS = np.arange(0.0, 101, 5)
half_way = by_threshold(level=0.5)


def rises(onsets: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Curves [n, steps] that rise from 0 to 1 within 40 steps of their onset."""
    clean = np.clip((STEPS - onsets[:, None]) / 40, 0, 1)
    return clean + noise * rng.normal(size=clean.shape)


def test_over_seeds_covers_the_true_onset() -> None:
    # The mean of very many seeds crosses 0.5 where a seed of onset 30 does: at 50.
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        curves = rises(rng.normal(30, 4, size=5), 0.05, rng)
        interval = over_seeds(STEPS, curves, half_way, draws=400)
        assert interval is not None
        covered += interval.low <= 50 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99  # a plain percentile interval covers .80


def test_over_items_equals_a_bootstrap_written_out() -> None:
    rng = np.random.default_rng(1)
    items = (rng.random((21, 40)) < np.linspace(0, 1, 21)[:, None]).astype(float)
    got = over_items(STEPS, items, half_way, draws=4000)
    crossings = []
    for _ in range(4000):
        mean = items[:, rng.integers(40, size=40)].mean(1)
        crossings.append(first_crossing(STEPS, mean, 0.5))
    assert got is not None and got.share == 1
    assert [got.low, got.high] == pytest.approx(np.quantile(crossings, [0.025, 0.975]), abs=1.5)


@pytest.mark.parametrize("rule", [half_way, by_second_difference(15)])
def test_more_noise_widens_the_interval_over_seeds(rule) -> None:
    widths = []
    for noise in (0.01, 0.1, 0.4):
        curves = rises(np.full(5, 30.0), noise, np.random.default_rng(2))
        interval = over_seeds(STEPS, curves, rule)
        assert interval is not None
        widths.append(interval.high - interval.low)
    assert widths[0] < widths[1] <= widths[2] and widths[0] < widths[2]


def test_few_seeds_make_a_wide_interval() -> None:
    # Of the same five curves, doubled, the bootstrap's own spread is that of ten.
    curves = rises(np.array([20, 25, 30, 35, 40.0]), 0, np.random.default_rng(0))
    five = over_seeds(STEPS, curves, half_way)
    ten = over_seeds(STEPS, np.concatenate([curves, curves]), half_way)
    assert five and ten and five.high - five.low > 1.4 * (ten.high - ten.low)


def test_intervals_say_how_often_there_was_an_onset() -> None:
    curves = np.outer([0.0, 1.0], np.linspace(0, 1, 21))  # the mean reaches 0.5 in 3 of 4
    interval = over_seeds(STEPS, curves, half_way, draws=2000)
    assert interval is not None and interval.share == pytest.approx(0.75, abs=0.04)
    assert over_seeds(STEPS, curves, by_threshold(level=2)) is None
    assert spread(np.array([np.nan, np.nan])) is None


def test_a_bootstrap_of_one_is_refused() -> None:
    with pytest.raises(CurveError, match="at least 2"):
        over_seeds(STEPS, [np.arange(21)], half_way)
    with pytest.raises(CurveError, match="at least 2"):
        over_items(STEPS, np.arange(21), half_way)
    with pytest.raises(CurveError, match="21 steps, 20 values"):
        over_items(STEPS, np.zeros((20, 4)), half_way)
