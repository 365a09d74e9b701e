"""Cast at the edges of its types; BitCast."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

from stepwell.errors import IRError
from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.rule_harness import Array, f32, node, refused

NAN, INF = np.nan, np.inf
BIG = 2.0**70


def number_of(dtype: Any) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def cast(x: Array, dtype: Any, **attributes: Any) -> Array:
    return node("Cast", x, version=28, to=number_of(dtype), **attributes)


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([NAN, INF, -INF, 3e9, -1.9, 1.9], np.int32, [0, 2**31 - 1, -(2**31), 2**31 - 1, -1, 1]),
        ([NAN, INF, -INF, -BIG, 2.5], np.int64, [0, 2**63 - 1, -(2**63), -(2**63), 2]),
        ([NAN, INF, BIG, 2.0**63, -1.0], np.uint64, [0, 2**64 - 1, 2**64 - 1, 2**63, 2**64 - 1]),
        ([-1.0, 3e9, 300.0], np.uint32, [2**32 - 1, 3000000000, 300]),
        ([200.0, -200.0, 1e12], np.int8, [-56, 56, -1]),
        ([-1.0, 256.5], np.uint8, [255, 0]),
        ([0.0, -0.0, NAN, 0.5], np.bool_, [False, False, True, True]),
    ],
)
def test_floats_to_integers(values: list[float], dtype: Any, expected: list[int]) -> None:
    made = cast(np.array(values, np.float64), dtype)
    assert made.dtype == dtype
    assert made.tolist() == expected


@pytest.mark.parametrize(
    ("x", "dtype", "expected"),
    [
        (np.array([200, -129, 5], np.int16), np.int8, [-56, 127, 5]),
        (np.array([-1], np.int64), np.uint64, [2**64 - 1]),
        (np.array([7, 8, -9, 16], np.int32), ml_dtypes.int4, [7, -8, 7, 0]),
        (np.array([7, 17, -1], np.int32), ml_dtypes.uint4, [7, 1, 15]),
        (np.array([1, 2, -3], np.int32), ml_dtypes.int2, [1, -2, 1]),
        (np.array([-8, 7], ml_dtypes.int4), np.int32, [-8, 7]),
        (np.array([15, 7], ml_dtypes.uint4), np.bool_, [1, 1]),
        (np.array([True, False]), np.int8, [1, 0]),
    ],
)
def test_integers_to_integers(x: Array, dtype: Any, expected: list[int]) -> None:
    made = cast(x, dtype)
    assert made.dtype == np.dtype(dtype)
    assert made.astype(np.uint64 if dtype == np.uint64 else np.int64).tolist() == expected


@pytest.mark.parametrize(
    ("dtype", "saturated", "plain"),
    [
        (ml_dtypes.float8_e4m3fn, [448, -448, 448, NAN], [NAN, NAN, NAN, NAN]),
        (ml_dtypes.float8_e4m3fnuz, [240, -240, 240, NAN], [NAN, NAN, NAN, NAN]),
        (ml_dtypes.float8_e5m2, [57344, -57344, 57344, NAN], [INF, -INF, INF, NAN]),
        (ml_dtypes.float8_e5m2fnuz, [57344, -57344, 57344, NAN], [NAN, NAN, NAN, NAN]),
    ],
)
@pytest.mark.parametrize("source", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_eight_bit_floats_saturate(dtype: Any, saturated: list[float], plain: list[float], source: Any) -> None:
    x = np.array([INF, -INF, 1e6, NAN], source)
    np.testing.assert_array_equal(cast(x, dtype).astype(np.float32), f32(saturated))
    np.testing.assert_array_equal(cast(x, dtype, saturate=0).astype(np.float32), f32(plain))


@pytest.mark.parametrize(
    ("round_mode", "expected"),
    [("up", [1, 2, 2, 2, 0.25]), ("down", [1, 1, 1, 1, 0.25]), ("nearest", [1, 1, 2, 2, 0.25])],
)
def test_powers_of_two_round_by_mode(round_mode: str, expected: list[float]) -> None:
    x = np.array([1, 1.2, 1.5, 1.8, 0.25], np.float32)
    made = cast(x, ml_dtypes.float8_e8m0fnu, round_mode=round_mode)
    np.testing.assert_array_equal(made.astype(np.float32), f32(expected))


def test_powers_of_two_saturate_or_become_nan() -> None:
    x = np.array([0, INF, NAN, 2.0**127, 1e-44, 2.0**-127], np.float64)
    low, high = 2.0**-127, 2.0**127
    made = cast(x, ml_dtypes.float8_e8m0fnu).astype(np.float64)
    np.testing.assert_array_equal(made, [low, high, NAN, high, low, low])
    made = cast(x, ml_dtypes.float8_e8m0fnu, saturate=0, round_mode="nearest").astype(np.float64)
    np.testing.assert_array_equal(made, [NAN, NAN, NAN, high, NAN, low])


def test_numbers_and_strings() -> None:
    to_text = node("Cast", np.array([314.15926, NAN, INF, -INF, 1], np.float32), version=13, to=8)
    assert to_text.tolist() == ["314.15927", "NaN", "INF", "-INF", "1.0"]
    assert cast(np.array([-5, 0], np.int8), object).tolist() == ["-5", "0"]
    texts = np.array(["3.5", "1e-5", "+INF", "-inf", "NaN"], object)
    np.testing.assert_array_equal(cast(texts, np.float32), f32([3.5, 1e-5, INF, -INF, NAN]))
    whole = np.array(["9007199254740993", "-7", "2.9"], object)
    assert cast(whole[:2], np.int64).tolist() == [9007199254740993, -7]
    assert cast(whole[1:], np.int16).tolist() == [-7, 2]


def test_a_string_that_is_no_number_is_an_error() -> None:
    with pytest.raises(IRError, match="'abc' is no number"):
        cast(np.array(["abc"], object), np.float32)


def test_cast_by_name_in_opset_1() -> None:
    made = node("Cast", np.array([1.7], np.float32), version=1, to="INT32")
    assert made.dtype == np.int32
    assert made.tolist() == [1]
    with refused("no element type is called 'COLOUR'", Unsupported):
        node("Cast", np.array([1.7], np.float32), version=1, to="colour")


def test_cast_like_takes_the_type_of_its_second_input() -> None:
    made = node("CastLike", np.array([1e6], np.float32), np.zeros(2, ml_dtypes.float8_e5m2), version=19, saturate=0)
    assert np.isinf(made.astype(np.float32)[0])


def test_bits_are_read_as_another_type() -> None:
    made = node("BitCast", np.array([1.0, -0.0], np.float32), version=26, to=number_of(np.uint32))
    assert made.tolist() == [0x3F800000, 0x80000000]
    with refused("f32 of 32 bits cannot be read as si8 of 8 bits"):
        node("BitCast", np.array([1.0], np.float32), version=26, to=number_of(np.int8))
