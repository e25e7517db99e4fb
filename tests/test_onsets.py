"""Onsets: by hand on small curves, and properties of the rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sas_lib.onsets import largest_rise, onset, second_difference


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
        ([0, 1, 2], [0, np.nan, 2], 0.5, "finite"),
        ([0, 1, 2], [0, 1, 2], 2, "at most half"),
        ([0, 1, 2], [0, 1, 2], 0, "above 0"),
    ],
)
def test_bad_curves_are_named(steps, values, resolution, says) -> None:
    with pytest.raises(ValueError, match=says):
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
