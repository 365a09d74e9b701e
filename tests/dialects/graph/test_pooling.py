"""Pools: windows in -> sizes out, hazards of ceil mode and of padding, words for operands that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.pooling import AveragePoolOp, LpPoolOp, MaxPoolIndicesOp, MaxPoolOp, MaxRoiPoolOp, PoolOp
from stepwell.errors import IRError
from stepwell.ir.core import Block, Value
from stepwell.ir.dims import evaluate, parse_dim
from stepwell.ir.types import F32, SI8, TensorType, Type


def value(shape: str, element: Type = F32) -> Value:
    """A value of a shape written as "2 n 3*m"."""
    return Block([TensorType(tuple(parse_dim(part) for part in shape.split()), element)]).arguments[0]


def pool(cls: type[PoolOp], x: str, kernel: int, element: Type = F32, **fields: Any) -> PoolOp:
    """A pool over one spatial axis."""
    window = {"kernel": [kernel], "strides": [1], "dilations": [1], "pads": [0, 0]}
    return cls(value(x, element), **(window | fields))


@pytest.mark.parametrize(
    ("x", "kernel", "fields", "expected"),
    [
        ("1 2 8", 2, {"strides": [2]}, "1 2 4"),
        ("n c w", 2, {"strides": [2]}, "n c w//2"),
        ("n c w", 3, {"pads": [1, 1]}, "n c w"),
        ("1 1 9", 3, {"dilations": [2]}, "1 1 5"),
        ("1 1 5", 2, {"strides": [2], "ceil_mode": True}, "1 1 3"),
        ("1 1 3", 1, {"strides": [2], "pads": [0, 1], "ceil_mode": True}, "1 1 2"),  # the window at 4 is in the padding
        ("n c w", 3, {"strides": [2], "padding": "same_lower"}, "n c (w+1)//2"),
    ],
)
def test_pooled_type(x: str, kernel: int, fields: dict[str, Any], expected: str) -> None:
    found = pool(MaxPoolOp, x, kernel, **fields).results[0].type
    assert found is TensorType(tuple(parse_dim(part) for part in expected.split()), F32), found


@pytest.mark.parametrize("size", range(3, 12))
@pytest.mark.parametrize(("kernel", "stride", "begin", "end"), [(3, 2, 1, 1), (2, 3, 1, 0), (3, 3, 0, 2), (1, 2, 0, 0)])
def test_symbolic_ceil_mode_at_every_size(size: int, kernel: int, stride: int, begin: int, end: int) -> None:
    fields: dict[str, Any] = {"strides": [stride], "pads": [begin, end], "ceil_mode": True}
    symbolic = pool(MaxPoolOp, "1 1 w", kernel, **fields).results[0].type
    static = pool(MaxPoolOp, f"1 1 {size}", kernel, **fields).results[0].type
    assert isinstance(symbolic, TensorType)
    assert isinstance(static, TensorType)
    assert evaluate(symbolic.shape[2], {"w": size}) == static.shape[2]


@pytest.mark.parametrize(
    ("x", "fields", "message"),
    [
        ("1 8", {}, "a batch, channels and spatial axes, not rank 2"),
        ("1 1 8 8", {}, "a window of 1 axes cannot slide over 2 spatial axes"),
        ("1 1 2", {}, "shorter than the window's 3"),
        ("1 1 8", {"dilations": [0]}, "dilations must be positive"),
        ("1 1 8", {"padding": "valid"}, "'valid' is not one of"),
    ],
)
def test_misfits(x: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(IRError, match=message):
        pool(MaxPoolOp, x, 3, **fields)


def run(op: PoolOp, row: list[float], dtype: Any = np.float32) -> Any:
    made = op.interpret(None, np.array([[row]], dtype))
    return [part[0, 0].tolist() for part in made] if isinstance(made, tuple) else made[0, 0].tolist()


NAN, INF = float("nan"), float("inf")


def test_maximum_propagates_nan_and_never_takes_padding() -> None:
    row = run(pool(MaxPoolOp, "1 1 5", 2, pads=[1, 1]), [-3, NAN, -INF, -INF, -1])
    np.testing.assert_array_equal(row, [-3, NAN, NAN, -INF, -1, -1])
    assert run(pool(MaxPoolOp, "1 1 2", 2, SI8, pads=[1, 0]), [-128, -5], np.int8) == [-128, -5]


def test_there_may_be_nothing_to_pool() -> None:
    made = pool(MaxPoolOp, "n 1 5", 2).interpret(None, np.zeros((0, 1, 5), np.float32))
    assert made.shape == (0, 1, 4)


def test_indices_name_elements_not_padding_and_the_first_of_equals() -> None:
    values, indices = run(pool(MaxPoolIndicesOp, "1 1 4", 2, pads=[1, 0]), [-INF, 7, 7, NAN])
    np.testing.assert_array_equal(values, [-INF, 7, 7, NAN])
    assert indices == [0, 1, 1, 3]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"pads": [1, 1]}, [1.5, 2, 2.5]),
        ({"pads": [1, 1], "count_include_pad": True}, [1, 2, 5 / 3]),
        ({"strides": [2], "ceil_mode": True, "pads": [0, 0]}, [2]),
        ({"strides": [2], "ceil_mode": True, "pads": [1, 1], "count_include_pad": True}, [1, 5 / 3]),
        ({"strides": [2], "pads": [0, 1], "ceil_mode": True, "count_include_pad": True}, [2, 1.5]),
    ],
)
def test_average_counts(fields: dict[str, Any], expected: list[float]) -> None:
    """Elements 1, 2, 3 and windows of 3: what overhangs the declared padding is not counted."""
    np.testing.assert_allclose(run(pool(AveragePoolOp, "1 1 3", 3, **fields), [1, 2, 3]), expected, rtol=1e-6)


def test_norms() -> None:
    assert run(pool(LpPoolOp, "1 1 3", 2), [3, -4, 0]) == [5, 4]
    assert run(pool(LpPoolOp, "1 1 3", 2, p=1), [3, -4, 0]) == [7, 4]


def test_regions() -> None:
    op = MaxRoiPoolOp(value("1 1 4 4"), value("r 5"), pooled=[2, 2], spatial_scale=0.5)
    assert str(op.result.type) == 'tensor<?x1x2x2xf32, #graph.shape<["r"]>>'
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    rois = np.array([[0, 0, 0, 6, 6], [0, 5, 5, 5, 5], [0, 9, 9, 12, 12]], np.float32)
    made = op.interpret(None, x, rois)
    np.testing.assert_array_equal(made[0, 0], [[5, 7], [13, 15]])
    np.testing.assert_array_equal(made[1, 0], [[15, 15], [15, 15]])  # 2.5 rounds away from zero, to 3
    np.testing.assert_array_equal(made[2, 0], [[0, 0], [0, 0]])
    with pytest.raises(IRError, match=r"regions the shape \[regions, 5\]"):
        MaxRoiPoolOp(value("1 1 4 4"), value("r 4"), pooled=[2, 2])
