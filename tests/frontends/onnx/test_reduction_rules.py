"""Reductions, ArgMax, cumulative sums: axes in all their forms, empty sets, special values."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from stepwell.errors import IRError, RuntimeError
from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.rule_harness import Array, assert_matches, f32, i32, node, refused

NAN, INF = np.nan, np.inf
X = np.arange(-12, 12, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(
    ("axes", "keepdims", "reduced"), [([1], 1, (1,)), ([-1, 0], 0, (0, 2)), (None, 1, (0, 1, 2)), ([], 0, (0, 1, 2))]
)
def test_axes_as_attribute_and_as_input(axes: Any, keepdims: int, reduced: tuple[int, ...], symbolic: bool) -> None:
    expected = X.sum(axis=reduced, keepdims=bool(keepdims))
    attributes = {} if not axes else {"axes": axes}
    assert_matches(node("ReduceSum", X, version=11, keepdims=keepdims, symbolic=symbolic, **attributes), expected)
    given = None if axes is None else np.array(axes, np.int64)
    made = node("ReduceSum", X, given, version=13, keepdims=keepdims, constants=[1], symbolic=symbolic)
    assert_matches(made, expected)


@pytest.mark.parametrize(
    ("op_type", "expected"),
    [
        ("ReduceSum", X), ("ReduceL1", np.abs(X)), ("ReduceL2", np.abs(X)), ("ReduceSumSquare", X * X),
        ("ReduceMean", X), ("ReduceMax", X), ("ReduceProd", X), ("ReduceLogSumExp", X),
    ],
)  # fmt: skip
def test_no_axes_reduce_nothing_when_so_asked(op_type: str, expected: Array) -> None:
    assert_matches(node(op_type, X, version=18, noop_with_empty_axes=1), expected)
    none = np.zeros(0, np.int64)
    assert_matches(node(op_type, X, none, version=18, constants=[1], noop_with_empty_axes=1), expected)


@pytest.mark.parametrize(
    ("op_type", "dtype", "expected"),
    [
        ("ReduceSum", np.float32, 0), ("ReduceProd", np.int32, 1), ("ReduceMax", np.float16, -INF),
        ("ReduceMin", np.float32, INF), ("ReduceMax", np.int8, -128), ("ReduceMin", np.uint8, 255),
        ("ReduceMax", np.bool_, False), ("ReduceMin", np.bool_, True), ("ReduceMean", np.float32, NAN),
        ("ReduceLogSumExp", np.float32, -INF), ("ReduceLogSum", np.float32, -INF), ("ReduceL2", np.float32, 0),
    ],
)  # fmt: skip
def test_empty_sets(op_type: str, dtype: Any, expected: Any) -> None:
    made = node(op_type, np.zeros((2, 0), dtype), np.array([1]), version=20, keepdims=0, constants=[1])
    assert_matches(made, np.array([expected] * 2, dtype))


def test_the_mean_of_no_integers_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="mean of no integers"):
        node("ReduceMean", np.zeros((2, 0), np.int32), np.array([1]), version=18, constants=[1])


@pytest.mark.parametrize(
    ("op_type", "values", "expected"),
    [
        ("ReduceMax", [1, NAN, 3], NAN), ("ReduceMin", [1, NAN, 3], NAN), ("ReduceLogSumExp", [1000, 1000], 1000.6931),
        ("ReduceLogSumExp", [-INF, -INF], -INF), ("ReduceLogSumExp", [INF, 1], INF), ("ReduceLogSum", [-1], NAN),
        ("ReduceLogSumExp", [NAN, 1], NAN),
    ],
)  # fmt: skip
def test_special_values(op_type: str, values: list[float], expected: float) -> None:
    assert_matches(node(op_type, f32(values), version=18, keepdims=0), f32(expected))


def test_integers_wrap_and_their_means_are_cut_towards_zero() -> None:
    assert_matches(node("ReduceSum", i32([2**31 - 1, 1]), version=13), i32([-(2**31)]))
    assert_matches(node("ReduceMean", i32([-1, -2]), version=18), i32([-1]))
    assert_matches(node("ReduceL2", i32([3, 4]), version=18), i32([5]))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_long_sums_of_narrow_floats_are_kept_in_f32(dtype: Any) -> None:
    ones = np.ones(4096, dtype)
    assert_matches(node("ReduceSum", ones, version=13), np.array([4096], dtype))
    assert node("CumSum", ones, np.array(0), version=14)[-1] == dtype(4096)


@pytest.mark.parametrize(
    ("values", "first", "last"),
    [([2, 5, 5, 1], 1, 2), ([NAN, 5, NAN, 6], 0, 2), ([INF, INF], 0, 1), ([3], 0, 0)],
)
def test_index_of_the_largest(values: list[float], first: int, last: int) -> None:
    x = f32(values)
    assert_matches(node("ArgMax", x, version=13, keepdims=0), np.int64(first))
    assert_matches(node("ArgMax", x, version=13, select_last_index=1), np.array([last]))
    assert_matches(node("ArgMin", -x, version=1, keepdims=0), np.int64(first))


def test_no_largest_of_nothing() -> None:
    with refused("axis 0 of size 0 has no maximum", IRError):
        node("ArgMax", np.zeros((0, 2), np.float32), version=13)
    with pytest.raises(RuntimeError, match="axis 0 of size 0 has no maximum"):
        node("ArgMax", np.zeros((0, 2), np.float32), version=13, symbolic=True)


@pytest.mark.parametrize(
    ("exclusive", "reverse", "sums", "products"),
    [
        (0, 0, [1, 3, 6], [1, 2, 6]), (1, 0, [0, 1, 3], [1, 1, 2]),
        (0, 1, [6, 5, 3], [6, 6, 3]), (1, 1, [5, 3, 0], [6, 3, 1]),
    ],
)  # fmt: skip
def test_running_totals(exclusive: int, reverse: int, sums: list[int], products: list[int]) -> None:
    x, axis = i32([[1, 2, 3]]), np.array(-1)
    options: dict[str, Any] = {"exclusive": exclusive, "reverse": reverse}
    assert_matches(node("CumSum", x, axis, version=14, constants=[1], **options), i32([sums]))
    assert_matches(node("CumProd", x, axis, version=26, constants=[1], **options), i32([products]))
    assert node("CumSum", x[:, :0], axis, version=14, constants=[1], **options).shape == (1, 0)


def test_axes_that_are_known_at_run_time_only() -> None:
    assert_matches(node("ReduceSum", X, np.array([2, 0, 1]), version=13), X.sum(keepdims=True))
    assert_matches(node("ReduceSum", X, np.zeros(0, np.int64), version=13), X.sum(keepdims=True))
    assert_matches(node("CumSum", X[0, 0], np.array(-1), version=14), X[0, 0].cumsum())
    assert_matches(node("CumSum", X, np.array(1), version=14), X.cumsum(1, dtype=X.dtype))
    assert_matches(node("ReduceMax", X, np.array([-1]), version=18), X.max(2, keepdims=True))
    assert_matches(node("ReduceMax", X, np.array([-1]), version=18, keepdims=0), X.max(2))
    given = np.array([2, 0])
    for symbolic in (False, True):
        assert_matches(node("ReduceSum", X, given, version=13, symbolic=symbolic), X.sum((0, 2), keepdims=True))
    none = node("ReduceSum", X, np.zeros(0, np.int64), version=13, noop_with_empty_axes=1, symbolic=True)
    assert_matches(none, X)


def test_axes_of_unknown_number_decide_a_rank() -> None:
    with refused("the rank of the result is the length of a list", Unsupported):
        node("ReduceSum", X, np.array([0, 1]), version=13, keepdims=0, symbolic=True)


@pytest.mark.parametrize(
    ("axes", "message"), [([3], "axis 3 is out of range for rank 3"), ([0, -3], "name an axis twice")]
)
def test_bad_axes(axes: list[int], message: str) -> None:
    with refused(message, IRError):
        node("ReduceSum", X, np.array(axes), version=13, constants=[1])
