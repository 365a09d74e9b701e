"""Quantisation: between floats and small storage types, with scales and zero points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, GraphOp, shape_of, tensor_type
from stepwell.dialects.graph.demands import demand_equal
from stepwell.dialects.graph.numeric import rounded, widened
from stepwell.errors import IRError
from stepwell.ir.attrkinds import BOOL, INT, type_attr_of
from stepwell.ir.constraints import FLOAT_TENSOR, NUMERIC_TENSOR, tensor_with
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, ceildiv
from stepwell.ir.opdef import attr, operand, optional_operand, result
from stepwell.ir.types import F32, UI8, FloatType, IntegerType, TensorType, Type, bit_width, is_unsigned, numpy_dtype

BYTE = tensor_with("a tensor of ui8", lambda e: e is UI8)
FLOAT_TYPE = type_attr_of(lambda t: isinstance(t, FloatType), "a float type")
STORAGE_TYPE = type_attr_of(
    lambda t: (isinstance(t, IntegerType) and 2 <= t.width <= 16) or (isinstance(t, FloatType) and t.width <= 8),
    "an integer type of 2 to 16 bits or a float type of at most 8",
)


class ScaledOp(GraphOp):
    """Base of the two directions. A scale (and the zero point, of the same shape) is a scalar; or, with `axis`, one
    number per place of that axis; or, with `block_size` too, of x's shape with that axis divided (rounded up) by it."""

    x: Value = operand(NUMERIC_TENSOR)
    scale: Value = operand(FLOAT_TENSOR)
    zero: Value | None = optional_operand(NUMERIC_TENSOR)
    axis: int | None = attr(INT, default=None)
    block_size: int | None = attr(INT, default=None)

    def check_scale(self) -> None:
        """Raise IRError where the scale or the zero point do not fit x."""
        x, scale = shape_of(self.x), shape_of(self.scale)
        if self.zero is not None and not _fits(shape_of(self.zero), scale):
            raise IRError(f"scale and zero point differ in shape: [{_show(scale)}] and [{_show(shape_of(self.zero))}]")
        if self.axis is not None and not 0 <= self.axis < len(x):
            raise IRError(f"axis {self.axis} is out of range for rank {len(x)}")
        if self.block_size is not None and (self.axis is None or self.block_size < 1):
            raise IRError("a block size is positive and needs an axis")
        expected: tuple[Dim, ...] = () if self.axis is None else (x[self.axis],)
        if self.axis is not None and self.block_size is not None:
            expected = (*x[: self.axis], ceildiv(x[self.axis], self.block_size), *x[self.axis + 1 :])
        if not _fits(scale, expected):
            raise IRError(f"the scale needs shape [{_show(expected)}], not [{_show(scale)}]")
        zero = scale if self.zero is None else shape_of(self.zero)
        for size, zeros, wanted in zip(scale, zero, expected, strict=True):
            demand_equal(size, wanted, "the scale")
            demand_equal(zeros, wanted, "the zero point")

    def spread(self, values: Any, shape: Sequence[int]) -> Array:
        """A scale or zero point so that it broadcasts over an array of `shape`."""
        given: Array = np.asarray(values)
        if self.axis is None:
            return given
        if self.block_size is None:
            return given.reshape([-1 if axis == self.axis else 1 for axis in range(len(shape))])
        repeated = np.repeat(given, self.block_size, axis=self.axis)
        return np.asarray(np.take(repeated, np.arange(shape[self.axis]), axis=self.axis))


def _fits(given: Sequence[Dim], expected: Sequence[Dim]) -> bool:
    return len(given) == len(expected) and not any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(given, expected, strict=True)
    )


def _show(shape: Sequence[Dim]) -> str:
    return ", ".join(map(str, shape))


def saturated(values: Array, element: Type, saturate: bool = True) -> Array:
    """Floats in a storage type: integers are clamped after rounding half to even (NaN gives the least), small floats
    are rounded once; out of range they give the largest finite number, or, without `saturate`, what the format
    has for overflow (infinity or NaN)."""
    dtype = numpy_dtype(element)
    if isinstance(element, IntegerType):
        low, high = integer_range(element)
        values = np.clip(np.rint(values.astype(np.float64)), low, high)
        return np.where(np.isnan(values), low, values).astype(np.int64).astype(dtype)
    import ml_dtypes

    if saturate:
        top = float(ml_dtypes.finfo(dtype).max)
        values = np.clip(values, -top, top)
    return rounded(values, dtype)


def integer_range(element: IntegerType) -> tuple[int, int]:
    """The least and the greatest value of an integer type."""
    width = bit_width(element)
    return (0, (1 << width) - 1) if is_unsigned(element) else (-(1 << (width - 1)), (1 << (width - 1)) - 1)


class QuantizeOp(ScaledOp):
    """saturate(round(x / scale) + zero) in the storage type `element`; small floats are not rounded to integers.

    The division is true division, in the float type `precision` (default: the scale's, f32 for one without a
    mantissa); rounding is half to even. Stands for ONNX QuantizeLinear and the end of the QLinear operators.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %s = "test.value"() : () -> tensor<3xf32>
    %z = "test.value"() : () -> tensor<3xui8>
    %r = graph.quantize %x, %s, %z {axis = 1, element = ui8}
      : (tensor<2x3xf32>, tensor<3xf32>, tensor<3xui8>) -> tensor<2x3xui8>
    ```
    """

    name = "graph.quantize"
    element: Type = attr(STORAGE_TYPE)
    saturate: bool = attr(BOOL, default=True)
    precision: Type | None = attr(FLOAT_TYPE, default=None)
    result: Value = result(NUMERIC_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        self.check_scale()
        if self.zero is not None and tensor_type(self.zero).element is not self.element:
            raise IRError(f"the zero point is {tensor_type(self.zero).element}, the result {self.element}")
        return [tensor_type(self.x).with_element(self.element)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, scale = np.asarray(args[0]), self.spread(args[1], np.shape(args[0]))
        working = numpy_dtype(self.division_type)
        with np.errstate(all="ignore"):
            quotient = (x.astype(working) / scale.astype(working)).astype(np.float64)
            if isinstance(self.element, IntegerType):
                quotient = np.rint(quotient)
            if len(args) == 3:
                quotient = quotient + self.spread(args[2], x.shape).astype(np.float64)
            if not isinstance(self.element, IntegerType):
                quotient = quotient.astype(np.float32)  # the types' tables start from f32
            return saturated(quotient, self.element, self.saturate)

    @property
    def division_type(self) -> Type:
        """The float type in which x is divided by the scale."""
        scale = tensor_type(self.scale).element
        return self.precision or (scale if bit_width(scale) >= 16 else F32)


class DequantizeOp(ScaledOp):
    """(x - zero) * scale as floats of type `element`; floats narrower than f32 are computed in f32 and rounded once.

    The zero point has x's type; or that of the scale, for one between whole numbers. Stands for ONNX DequantizeLinear,
    the start of the QLinear operators and the packed weights of matrix products.

    ```mlir
    %x = "test.value"() : () -> tensor<2x8xsi4>
    %s = "test.value"() : () -> tensor<2x2xf32>
    %z = "test.value"() : () -> tensor<2x2xf32>
    %q = graph.dequantize %x, %s, %z {axis = 1, block_size = 4, element = f32}
      : (tensor<2x8xsi4>, tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x8xf32>
    %r = graph.dequantize %x, %s {axis = 1, block_size = 4, element = f32}
      : (tensor<2x8xsi4>, tensor<2x2xf32>) -> tensor<2x8xf32>
    ```
    """

    name = "graph.dequantize"
    element: Type = attr(FLOAT_TYPE)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        self.check_scale()
        x, scale = tensor_type(self.x), tensor_type(self.scale).element
        if self.zero is not None and tensor_type(self.zero).element not in (x.element, scale):
            given = tensor_type(self.zero).element
            raise IRError(f"the zero point is {given}, the data {x.element} and the scale {scale}")
        return [x.with_element(self.element)]

    @property
    def has_float_zero(self) -> bool:
        """Whether whole numbers are less a zero point that need not be one."""
        whole = isinstance(tensor_type(self.x).element, IntegerType)
        return whole and self.zero is not None and isinstance(tensor_type(self.zero).element, FloatType)

    def interpret(self, frame: Any, *args: Any) -> Any:
        dtype = numpy_dtype(self.element)
        working: Any = np.float64 if dtype == np.float64 else np.float32
        exact = np.asarray(args[0]).astype(working if self.has_float_zero else np.float64)  # f64 holds si32
        if len(args) == 3:
            exact = exact - self.spread(args[2], exact.shape).astype(exact.dtype)
        with np.errstate(all="ignore"):
            scale: Array = widened(self.spread(args[1], exact.shape)).astype(working)
            return rounded(exact.astype(working) * scale, dtype)


class DynamicQuantizeOp(GraphOp):
    """x in ui8 with the scale and zero point that its own range, widened to hold 0, asks for.

    scale = (max - min) / 255; zero = saturate(round(-min / scale)); y = saturate(round(x / scale) + zero). A range
    of nothing but zeros has scale 1 / 255 and zero point 0. Stands for ONNX DynamicQuantizeLinear.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %y, %s, %z = graph.dynamic_quantize %x : (tensor<2x3xf32>) -> (tensor<2x3xui8>, tensor<f32>, tensor<ui8>)
    ```
    """

    name = "graph.dynamic_quantize"
    x: Value = operand(tensor_with("a tensor of f32", lambda e: e is F32))
    y: Value = result(BYTE)
    scale: Value = result(FLOAT_TENSOR)
    zero: Value = result(BYTE)

    def infer_types(self) -> Sequence[Type]:
        return [tensor_type(self.x).with_element(UI8), TensorType((), F32), TensorType((), UI8)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = np.asarray(args[0], np.float32)
        with np.errstate(all="ignore"):
            high, low = np.max(x, initial=np.float32(0)), np.min(x, initial=np.float32(0))
            span = np.float32(1) if high == low else high - low
            scale = np.float32(span / np.float32(255))
            zero = saturated(np.asarray(-low / scale), UI8)
            y = saturated(np.rint(x / scale).astype(np.float64) + zero.astype(np.float64), UI8)
        return y, np.asarray(scale), zero
