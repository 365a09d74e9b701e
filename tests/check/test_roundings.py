"""What roundings of inputs make of results."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from stepwell.check.compare import ROUNDINGS, Arithmetic, difference, step_of
from stepwell.check.roundings import nudged, slack_of
from stepwell.errors import RuntimeError

POLE = np.array([1.0, np.pi / 2 - 1e-5, -3.0])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_floats_are_moved_either_way(dtype: type) -> None:
    x = np.linspace(1, 2, 100).astype(dtype)
    ratio = nudged(x, np.random.default_rng(0)).astype(np.float64) / x.astype(np.float64) - 1
    step = ROUNDINGS * step_of(np.dtype(dtype))
    assert (ratio > 0).any() and (ratio < 0).any()
    assert np.abs(np.abs(ratio) - step).max() <= 1.01 * step_of(np.dtype(dtype))


def test_an_array_of_one_number_stays_an_array() -> None:
    found = nudged(np.array(3.0, np.float32), np.random.default_rng(0))
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == ((), np.float32)
    assert found != 3


def test_what_is_no_float_or_has_no_size_stays() -> None:
    for value in (np.arange(3), np.array([True]), 7, [1.5], None):
        assert nudged(value, np.random.default_rng(0)) is value
    special = np.array([0.0, np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(nudged(special, np.random.default_rng(0)), special)


def test_a_result_may_be_off_by_what_roundings_make_of_it() -> None:
    """The tangent of a place near its pole moves by 1e10 times as much as the place; the others are held as before."""
    result = np.tan(POLE)
    (slack,) = slack_of([result], lambda random: [np.tan(nudged(POLE, random))])
    assert slack is not None and slack[1] > 1e9 * slack[0] > 0
    off = np.tan(POLE * (1 + 4 * np.finfo(np.float64).eps))
    assert difference(result, off, Arithmetic(1)) is not None
    assert difference(result, off, Arithmetic(1), slack) is None
    assert difference(result, off + np.array([0, 1, 0]), Arithmetic(1), slack) is not None


def test_integers_made_of_rounded_numbers_may_be_off_by_what_roundings_make_of_them() -> None:
    """The bits of a float, and a float just below an integer that is cut off; another one stays what it is."""
    x = np.array([0.3, 2.5, 3 - 1e-7], np.float32)
    for made, off in ((lambda x: x.view(np.int32), [3, -2, 1]), (lambda x: x.astype(np.int64), [0, 0, 1])):
        result = made(x)
        (slack,) = slack_of([result], lambda random, made=made: [made(nudged(x, random))])
        other = result + np.array(off, result.dtype)
        assert difference(result, other, Arithmetic(1)) is not None
        assert difference(result, other, Arithmetic(1), slack) is None
        assert difference(result, other + np.array([0, 100, 0], result.dtype), Arithmetic(1), slack) is not None


def test_results_that_stay_or_have_no_place_in_others_have_no_slack() -> None:
    found = slack_of([np.arange(3), None, np.ones(2)], lambda random: [np.arange(3), None, np.ones(3)])
    assert found[0] is not None and not found[0].any()
    assert found[1:] == [None, None]


def test_what_fails_on_nudged_inputs_has_no_slack() -> None:
    def fails(random: np.random.Generator) -> list[np.ndarray]:
        raise RuntimeError("made-up numbers do not suit it")

    assert slack_of([np.ones(2)], fails) == [None]


def test_a_coarser_step_counts_where_one_is_given() -> None:
    """A kernel that computes in f32 of f64 numbers does not see the roundings of those."""
    x = np.array([1.0, -3.0])
    step = float(np.finfo(np.float32).eps)
    moved = np.abs(nudged(x, np.random.default_rng(0), step) / x - 1)
    np.testing.assert_allclose(moved, ROUNDINGS * step, rtol=1e-6)
    halves = x.astype(np.float16)
    finer, alone = (nudged(halves, np.random.default_rng(0), given) for given in (step, 0.0))
    np.testing.assert_array_equal(finer, alone)
