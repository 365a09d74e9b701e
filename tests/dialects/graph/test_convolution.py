"""Convolutions: shapes in -> types out, and words for operands that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.convolution import ConvIntegerOp, ConvOp, ConvTransposeOp, DeformConvOp
from stepwell.errors import IRError
from stepwell.ir.core import Block, Value
from stepwell.ir.dims import parse_dim
from stepwell.ir.types import F32, SI8, UI8, TensorType, Type


def value(shape: str, element: Type = F32) -> Value:
    """A value of a shape written as "2 n 3*m"."""
    return Block([TensorType(tuple(parse_dim(part) for part in shape.split()), element)]).arguments[0]


def shown(type_: Type) -> str:
    assert isinstance(type_, TensorType)
    return " ".join(str(dim).replace(" ", "") for dim in type_.shape)


ONES: dict[str, Any] = {"strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0]}
CONVOLUTIONS: list[tuple[str, str, dict[str, Any], str]] = [
    ("1 3 8 8", "4 3 3 3", {}, "1 4 6 6"),
    ("n 3 h w", "4 3 3 3", {"pads": [1, 1, 1, 1]}, "n 4 h w"),
    ("n 3 h 9", "4 3 3 3", {"strides": [2, 2], "pads": [1, 1, 1, 1]}, "n 4 (h-1)//2+1 5"),
    ("n 4 h w", "4 1 3 3", {"groups": 4, "dilations": [2, 2]}, "n 4 h-4 w-4"),
    ("0 3 8 8", "4 3 3 3", {}, "0 4 6 6"),
    ("n 3 h 7", "4 3 3 3", {"strides": [2, 2], "padding": "same_upper"}, "n 4 (h+1)//2 4"),
    ("n 3 5 5", "m 3 3 3", {}, "n m 3 3"),
]


@pytest.mark.parametrize(("x", "w", "fields", "expected"), CONVOLUTIONS)
def test_convolution_type(x: str, w: str, fields: dict[str, Any], expected: str) -> None:
    op = ConvOp(value(x), value(w), **(ONES | fields))
    wanted = TensorType(tuple(parse_dim(part) for part in expected.split()), F32)
    assert op.result.type is wanted, shown(op.result.type)


MISFITS: list[tuple[str, str, str | None, dict[str, Any], str]] = [
    ("1 3 8 8", "4 2 3 3", None, {}, "data has 3 channels, weights expect 1 groups of 2"),
    ("1 4 8 8", "5 2 3 3", None, {"groups": 2}, "5 result channels do not split into 2 groups"),
    ("1 3 8", "4 3 3 3", None, {}, "the same rank of at least 3, not 3 and 4"),
    ("1 3 8 8", "4 3 3 3", "5", {}, r"the bias needs shape \[4\], not \[5\]"),
    ("1 3 8 8", "4 3 3 3", None, {"pads": [1, 1]}, r"2 spatial axes need 4 pads, not \[1, 1\]"),
    ("1 3 8 8", "4 3 3 3", None, {"strides": [0, 1]}, "strides must be positive"),
    ("1 3 2 8", "4 3 3 3", None, {}, "spatial axis 0 of size 2 with pads 0 and 0 is shorter than the window's 3"),
    ("1 3 8 8", "4 3 3 3", None, {"groups": -1}, "groups must not be negative"),
    ("1 3 8 8", "4 3 3 3", None, {"groups": 0}, "a group for each channel: .* are 3 and 4"),
    ("1 4 8 8", "4 3 3 3", None, {"groups": 0}, "a group for each channel: .* are 3 and 1"),
]


@pytest.mark.parametrize(("x", "w", "bias", "fields", "message"), MISFITS)
def test_convolution_of_misfits(x: str, w: str, bias: str | None, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(IRError, match=message):
        ConvOp(value(x), value(w), value(bias) if bias else None, **(ONES | fields))


TRANSPOSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("1 2 3 3", "2 5 3 3", {}, "1 5 5 5"),
    ("n 2 h w", "2 5 3 3", {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, "n 5 2*h 2*w"),
    ("n 4 h w", "4 3 2 2", {"groups": 2, "output_shape": [7, 9]}, "n 6 7 9"),
]


@pytest.mark.parametrize(("x", "w", "fields", "expected"), TRANSPOSED)
def test_transposed_type(x: str, w: str, fields: dict[str, Any], expected: str) -> None:
    op = ConvTransposeOp(value(x), value(w), **(ONES | {"output_padding": [0, 0]} | fields))
    assert shown(op.result.type) == expected


@pytest.mark.parametrize(
    ("x", "w", "fields", "message"),
    [
        ("1 3 3 3", "2 5 3 3", {}, "data has 3 channels, weights expect 2"),
        ("1 3 3 3", "3 5 3 3", {"groups": 2}, "3 channels do not split into 2 groups"),
        ("1 2 1 1", "2 5 1 1", {"pads": [1, 1, 1, 1]}, "leave a negative size"),
        ("1 2 3 3", "2 5 3 3", {"output_shape": [3]}, "does not have 2 spatial sizes"),
    ],
)
def test_transposed_misfits(x: str, w: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(IRError, match=message):
        ConvTransposeOp(value(x), value(w), **(ONES | {"output_padding": [0, 0]} | fields))


@pytest.mark.parametrize(("padding", "expected"), [("same_upper", [1, 1, 0]), ("same_lower", [1, 1, 0])])
def test_output_shape_longer_than_the_sum_is_filled_behind(padding: str, expected: list[float]) -> None:
    op = ConvTransposeOp(
        value("1 1 2"), value("1 1 1"), strides=[1], dilations=[1], pads=[0, 0], output_padding=[0], output_shape=[3],
        padding=padding,
    )  # fmt: skip
    made = op.interpret(None, np.ones((1, 1, 2), np.float32), np.ones((1, 1, 1), np.float32))
    np.testing.assert_array_equal(made, [[expected]])


def test_integer_convolution_wants_a_zero_point_of_the_data_type() -> None:
    with pytest.raises(IRError, match="element types si8, ui8 differ"):
        ConvIntegerOp(value("1 1 3 3", UI8), value("1 1 2 2", UI8), value("1", SI8), **ONES)


def test_deformable_convolution_wants_an_offset_per_tap_and_axis() -> None:
    with pytest.raises(IRError, match="the offset needs rank 4 and 8 channels"):
        DeformConvOp(value("1 1 3 3"), value("1 1 2 2"), value("1 4 2 2"), **ONES)


def test_offsets_of_symbolic_kernels_are_asked_for() -> None:
    op = DeformConvOp(value("1 1 h w"), value("1 1 i j"), value("1 2*i*j oh ow"), **ONES)
    assert shown(op.result.type) == "1 1 h-i+1 -j+w+1"


def test_infinity_reaches_samples_beside_it() -> None:
    """A place between two elements reads both, also where all the weight is on one."""
    op = DeformConvOp(value("1 1 1 3"), value("1 1 1 1"), value("1 2 1 3"), **ONES)
    x = np.array([[[[1, np.inf, 2]]]], np.float32)
    made = op.interpret(None, x, np.ones((1, 1, 1, 1), np.float32), np.zeros((1, 2, 1, 3), np.float32))
    np.testing.assert_array_equal(made, [[[[np.nan, np.inf, 2]]]])


def test_infinity_in_the_data_meets_no_padding() -> None:
    """Zero weights times infinity is NaN only in windows that hold the infinity."""
    op = ConvOp(value("1 1 4"), value("1 1 2"), strides=[1], dilations=[1], pads=[0, 1])
    x = np.array([[[np.inf, 1, 2, 3]]], np.float32)
    made = op.interpret(None, x, np.array([[[0, 1]]], np.float32))
    np.testing.assert_array_equal(made, [[[np.nan, 2, 3, 0]]])


def test_zero_weights_meet_infinity() -> None:
    """0 * inf is NaN also where the product of matrices is one of a vector and a number."""
    x, w = np.array([[[[0], [-np.inf]]]], np.float32), np.zeros((1, 1, 1, 1), np.float32)
    for op in (ConvOp(value("1 1 2 1"), value("1 1 1 1"), **ONES),
               ConvTransposeOp(value("1 1 2 1"), value("1 1 1 1"), **ONES, output_padding=[0, 0])):  # fmt: skip
        np.testing.assert_array_equal(op.interpret(None, x, w).reshape(2), [0, np.nan])
