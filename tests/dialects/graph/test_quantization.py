"""Quantisation: rounding, saturation and granularity, and words for scales that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.quantization import DequantizeOp, DynamicQuantizeOp, QuantizeOp
from stepwell.errors import IRError
from stepwell.ir.core import Block, Value
from stepwell.ir.dims import parse_dim
from stepwell.ir.types import (
    F16,
    F32,
    SI8,
    SI16,
    SI32,
    UI8,
    FloatType,
    IntegerType,
    Signedness,
    TensorType,
    Type,
    numpy_dtype,
)

SI4, UI2 = IntegerType(4, Signedness.SIGNED), IntegerType(2, Signedness.UNSIGNED)
E4M3FN, E5M2, E2M1 = FloatType("f8E4M3FN"), FloatType("f8E5M2"), FloatType("f4E2M1FN")
NAN, INF = float("nan"), float("inf")


def value(shape: str, element: Type = F32) -> Value:
    """A value of a shape written as "2 n 3*m"."""
    return Block([TensorType(tuple(parse_dim(part) for part in shape.split()), element)]).arguments[0]


@pytest.mark.parametrize(
    ("element", "x", "scale", "zero", "expected"),
    [
        (UI8, [0.5, 1.5, 2.5, -0.5], 1, 0, [0, 2, 2, 0]),
        (UI8, [-300, 300, INF, -INF], 1, 128, [0, 255, 255, 0]),
        (SI8, [1e30, -1e30, 127.5, -128.5], 1, 0, [127, -128, 127, -128]),
        (SI8, [1, 2, 3, 5], 2, 1, [1, 2, 3, 3]),
        (SI16, [32767.4, -40000, 0.1, 1], 0.5, 0, [32767, -32768, 0, 2]),
        (SI4, [7.5, -8.6, 3.5, -0.4], 1, 0, [7, -8, 4, 0]),
        (UI2, [3.6, -1, 1.5, 0.5], 1, 1, [3, 0, 3, 1]),
        (SI8, [NAN, 0, 0, 0], 1, 0, [-128, 0, 0, 0]),
    ],
)
def test_integers_round_half_to_even_and_saturate(
    element: Type, x: list[float], scale: float, zero: int, expected: list[int]
) -> None:
    dtype = numpy_dtype(element)
    op = QuantizeOp(value("4"), value(""), value("", element), element=element)
    made = op.interpret(None, np.array(x, np.float32), np.array(scale, np.float32), np.array(zero).astype(dtype))
    assert made.dtype == dtype
    assert made.astype(int).tolist() == expected


@pytest.mark.parametrize(
    ("element", "saturate", "expected"),
    [
        (E4M3FN, True, [448, -448, 448, 1.0]),
        (E4M3FN, False, [NAN, NAN, NAN, 1.0]),
        (E5M2, True, [57344, -57344, 57344, 1.0]),
        (E5M2, False, [INF, -INF, INF, 1.0]),
        (E2M1, True, [6, -6, 6, 1.0]),
    ],
)
def test_small_floats_saturate_or_overflow(element: Type, saturate: bool, expected: list[float]) -> None:
    op = QuantizeOp(value("4"), value(""), element=element, saturate=saturate)
    made = op.interpret(None, np.array([1e6, -1e6, INF, 1.01], np.float32), np.array(1, np.float32))
    np.testing.assert_array_equal(made.astype(np.float32), expected)


def test_division_is_not_a_product_with_the_inverse() -> None:
    """2.5 * 0.83 divided by 0.83 is a tie in f32, which goes to the even 2; times fl(1 / 0.83) it is above."""
    scale = np.float32(0.83)
    x = np.float32(2.5) * scale
    assert np.rint(x * (np.float32(1) / scale)) == 3
    op = QuantizeOp(value("1"), value(""), element=UI8)
    assert op.interpret(None, np.array([x]), np.array(scale)).tolist() == [2]


def test_division_happens_in_the_given_precision() -> None:
    """2049 is no f16: it becomes 2048 there."""
    ops = [QuantizeOp(value("1"), value(""), element=SI16, precision=p) for p in (None, F16)]
    found = [op.interpret(None, np.array([2049], np.float32), np.array(1, np.float32)).tolist() for op in ops]
    assert found == [[2049], [2048]]


def test_per_axis_and_blocked_scales() -> None:
    x = np.arange(6, dtype=np.int8).reshape(2, 3)
    scale = np.array([1, 10, 100], np.float32)
    by_axis = DequantizeOp(value("2 3", SI8), value("3"), axis=1, element=F32)
    np.testing.assert_array_equal(by_axis.interpret(None, x, scale), x * scale)
    blocked = DequantizeOp(value("2 3", SI8), value("2 2"), axis=1, block_size=2, element=F32)
    scale = np.array([[1, 10], [100, 1000]], np.float32)
    np.testing.assert_array_equal(blocked.interpret(None, x, scale), [[0, 1, 20], [300, 400, 5000]])


def test_zero_points_between_whole_numbers() -> None:
    op = DequantizeOp(value("2", UI8), value("2"), value("2"), axis=0, element=F32)
    assert op.has_float_zero
    scales, zeros = np.array([2, 4], np.float32), np.array([0.5, 7.5], np.float32)
    made = op.interpret(None, np.array([3, 7], np.uint8), scales, zeros)
    assert made.tolist() == [5.0, -2.0]
    with pytest.raises(IRError, match="the zero point is f16, the data ui8 and the scale f32"):
        DequantizeOp(value("2", UI8), value(""), value("", F16), element=F32)


def test_dequantising_si32_does_not_wrap() -> None:
    op = DequantizeOp(value("1", SI32), value(""), value("", SI32), element=F32)
    low = np.array([-(2**31)], np.int32)
    assert op.interpret(None, low, np.array(1, np.float32), np.array(2**31 - 1, np.int32)).tolist() == [-(2.0**32)]


@pytest.mark.parametrize(
    ("scale", "fields", "message"),
    [
        ("3", {}, r"the scale needs shape \[\], not \[3\]"),
        ("2", {"axis": 1}, r"the scale needs shape \[3\], not \[2\]"),
        ("3", {"axis": 2}, "axis 2 is out of range for rank 2"),
        ("2 3", {"axis": 1, "block_size": 2}, r"the scale needs shape \[n, 2\], not \[2, 3\]"),
        ("", {"block_size": 2}, "a block size is positive and needs an axis"),
    ],
)
def test_scales_that_do_not_fit(scale: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(IRError, match=message):
        QuantizeOp(value("n 3"), value(scale), element=UI8, **fields)


def test_zero_points_that_do_not_fit() -> None:
    with pytest.raises(IRError, match="the zero point is si8, the result ui8"):
        QuantizeOp(value("3"), value(""), value("", SI8), element=UI8)
    with pytest.raises(IRError, match="scale and zero point differ in shape"):
        DequantizeOp(value("3", UI8), value(""), value("3", UI8), element=F32)


@pytest.mark.parametrize(
    ("x", "scale", "zero", "y"),
    [
        ([0, 2, -3, -2.5, 1.34, 0.5], 0.0196078438, 153, [153, 255, 0, 26, 221, 179]),
        ([1, 2.1, 1.3, 2.5, 3.34, 4.0], 0.0156862754, 0, [64, 134, 83, 159, 213, 255]),
        ([0, 0, 0], 0.00392156886, 0, [0, 0, 0]),
        ([], 0.00392156886, 0, []),
    ],
)
def test_dynamic_range(x: list[float], scale: float, zero: int, y: list[int]) -> None:
    op = DynamicQuantizeOp(value("n"))
    made = op.interpret(None, np.array(x, np.float32))
    assert made[0].tolist() == y
    assert made[1] == np.float32(scale)
    assert made[2] == zero
