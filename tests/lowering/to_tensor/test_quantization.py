"""Quantisation: scales per tensor, axis and block; rounding and saturation."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from stepwell.dialects.graph.quantization import DequantizeOp, DynamicQuantizeOp, QuantizeOp
from stepwell.ir.types import F16, F32, F64, SI8, SI16, UI8, UI16, FloatType, Type
from tests.lowering.to_tensor.descent import descend, f32
from tests.lowering.to_tensor.test_elementwise import I8, ODD

X = np.random.default_rng(4).standard_normal((2, 3, 8)).astype(np.float32) * 20
HALVES = np.arange(-6, 7).astype(np.float32) / 2
SCALES = f32([0.5, 0.2, 0.3])


@pytest.mark.parametrize(("element", "dtype"), [(SI8, np.int8), (UI8, np.uint8), (SI16, np.int16), (UI16, np.uint16)])
def test_quantize(element: Type, dtype: Any) -> None:
    for values in (X, ODD, HALVES):
        descend(lambda x, s: QuantizeOp(x, s, element=element), values, f32(1.0), native=element is UI8)
        descend(lambda x, s, z: QuantizeOp(x, s, z, element=element), values, f32(0.37), dtype(7))
    zeros = np.array([1, 2, 3], dtype)
    descend(lambda x, s, z: QuantizeOp(x, s, z, element=element, axis=1), X, SCALES, zeros, loops=True, symbolic=True)


def test_blocks() -> None:
    scales = np.repeat(f32([[[0.5, 0.2]]]), 2, 0).repeat(3, 1)
    descend(lambda x, s: QuantizeOp(x, s, element=SI8, axis=2, block_size=4), X, scales, loops=True, native=True)
    descend(lambda x, s: DequantizeOp(x, s, element=F32, axis=1, block_size=4), I8.reshape(1, 8), f32([[0.1, 3.0]]),
            loops=True, native=True)  # fmt: skip


@pytest.mark.parametrize("precision", [None, F16, F64], ids=str)
@pytest.mark.parametrize("scale", [np.float16, np.float32])
def test_division_in_a_type_of_its_own(precision: Type | None, scale: Any) -> None:
    descend(lambda x, s: QuantizeOp(x, s, element=SI8, precision=precision), X.astype(scale), scale(0.3))


@pytest.mark.parametrize("saturate", [True, False])
@pytest.mark.parametrize("name", ["f8E4M3FN", "f8E5M2"])
def test_small_floats(name: str, saturate: bool) -> None:
    dtype = np.dtype(getattr(ml_dtypes, {"f8E4M3FN": "float8_e4m3fn", "f8E5M2": "float8_e5m2"}[name]))
    zero = np.zeros((), dtype)
    descend(lambda x, s, z: QuantizeOp(x, s, z, element=FloatType(name), saturate=saturate), ODD, f32(0.5), zero)
    descend(lambda x, s: DequantizeOp(x, s, element=F32), X.astype(dtype), f32(0.5))


@pytest.mark.parametrize("element", [F32, F16, F64], ids=str)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32])
def test_dequantize(element: Type, dtype: Any) -> None:
    values = I8.view(np.uint8) if dtype == np.uint8 else I8.astype(dtype) * (1 if dtype == np.int8 else 200)
    values = values.astype(dtype).reshape(2, 4)
    descend(lambda x, s, z: DequantizeOp(x, s, z, element=element), values, f32(0.1), dtype(3))
    zeros = np.array([1, 2], dtype)
    descend(lambda x, s, z: DequantizeOp(x, s, z, element=element, axis=0), values, f32([0.1, 3]), zeros)


@pytest.mark.parametrize("element", [F32, F16, F64], ids=str)
def test_zero_points_between_whole_numbers(element: Type) -> None:
    values, dtype = I8.reshape(2, 4), np.float16 if element is F16 else np.float32
    descend(lambda x, s, z: DequantizeOp(x, s, z, element=element), values, dtype(0.1), dtype(2.7), native=True)
    scales, zeros = np.array([[0.1, 3], [2, 1]], dtype), np.array([[7.5, 0.3], [8.1, 2]], dtype)
    descend(lambda x, s, z: DequantizeOp(x, s, z, element=element, axis=1, block_size=3), values, scales, zeros,
            loops=True)  # fmt: skip


def test_extreme_integers_do_not_overflow() -> None:
    values = np.array([2**31 - 1, -(2**31)], np.int32)
    descend(lambda x, s, z: DequantizeOp(x, s, z, element=F32), values, f32(1.0), np.int32(-5))


@pytest.mark.parametrize("values", [X, np.abs(X), -np.abs(X), np.zeros((2, 2), np.float32), f32(3.0)], ids=str)
def test_ranges_of_their_own(values: Any) -> None:
    descend(DynamicQuantizeOp, values, loops=True, native=True)
