"""Quantisation, and the operators on quantised tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import normalize_axis, shape_of, tensor_type
from stepwell.dialects.graph.contraction import MatmulIntegerOp, MatmulOp
from stepwell.dialects.graph.convolution import ConvIntegerOp
from stepwell.dialects.graph.elementwise import AddOp, DivOp, MulOp
from stepwell.dialects.graph.quantization import DequantizeOp, DynamicQuantizeOp, QuantizeOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import cast, reshaped
from stepwell.frontends.onnx.rules.contraction import as_matrices, without_unit_axes
from stepwell.frontends.onnx.rules.convolution import conv_window, group_count, window_fields
from stepwell.ir.core import Value
from stepwell.ir.types import F32, UI8, FloatType, IntegerType, Type, numpy_dtype


def granularity(node: Node, x: Value, scale: Value, zero: Value | None) -> tuple[Value, Value | None, dict[str, Any]]:
    """(scale, zero point, axis and block_size) of a (de)quantisation; a list of one number becomes a scalar."""
    rank, scale_rank = len(shape_of(x)), len(shape_of(scale))
    block = node.int("block_size", 0)
    if scale_rank == 0 or (scale_rank == 1 and shape_of(scale)[0] == 1 and not block):
        return reshaped(node, scale, ()), None if zero is None else reshaped(node, zero, ()), {}
    axis = normalize_axis(node.int("axis", 1), rank) if rank > 1 else 0
    if not block:
        return scale, zero, {"axis": axis}
    return scale, zero, {"axis": axis, "block_size": block}


def stored_zero(node: Node, zero: Value | None, scale: Value, element: Type) -> Value | None:
    """The zero point; absent where it is known to be zero."""
    array = node.constant_input(2)
    if zero is None or (array is not None and not np.any(array.astype(np.float32))):
        return None
    return zero


@rule("QuantizeLinear", since=10)
def quantize_linear(node: Node) -> Value:
    """The storage type is output_dtype's, else the zero point's, else ui8."""
    x, zero = node.input(0), node.optional(2)
    element: Type = UI8 if zero is None else tensor_type(zero).element
    if node.int("output_dtype", 0):
        element = node.element_type("output_dtype")
    scale, zero, fields = granularity(node, x, node.input(1), zero)
    precision = node.element_type("precision") if node.int("precision", 0) else None
    if precision is None and tensor_type(scale).element is not tensor_type(x).element:
        precision = division_type(node, x, scale)
    saturate = None if node.int("saturate", 1) else False
    zero = stored_zero(node, zero, scale, element)
    return node.insert(
        QuantizeOp(x, scale, zero, element=element, saturate=saturate, precision=precision, **fields)
    ).result


def division_type(node: Node, x: Value, scale: Value) -> Type | None:
    """The type of the division where data and scale differ: the scale's, unless that has no mantissa."""
    for value in (scale, x):
        element = tensor_type(value).element
        if isinstance(element, FloatType) and element.width >= 16:
            return element
    return F32


@rule("DequantizeLinear", since=10)
def dequantize_linear(node: Node) -> Value:
    """The result has output_dtype, else the scale's type."""
    x = node.input(0)
    scale, zero, fields = granularity(node, x, node.input(1), node.optional(2))
    element: Type = tensor_type(scale).element
    if node.int("output_dtype", 0):
        element = node.element_type("output_dtype")
    zero = stored_zero(node, zero, scale, element)
    return node.insert(DequantizeOp(x, scale, zero, element=element, **fields)).result


@rule("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(node: Node) -> Sequence[Value]:
    """Outputs y, scale, zero point."""
    return node.insert(DynamicQuantizeOp(node.input(0))).results


def requantized(node: Node, sums: Value, factor: Value, axis: int, zero: Value) -> Value:
    """Integer sums times a factor (a scalar, or one per place of `axis`), rounded into the zero point's type."""
    if len(shape_of(factor)) == 1 and shape_of(factor)[0] == 1:
        factor = reshaped(node, factor, ())
    fields: dict[str, Any] = {"axis": axis} if shape_of(factor) else {}
    scaled = node.insert(DequantizeOp(sums, factor, None, element=F32, **fields)).result
    return rounded_to(node, scaled, zero)


def rounded_to(node: Node, x: Value, zero: Value) -> Value:
    """x rounded to whole numbers plus a zero point, in the zero point's type."""
    one = node.constant(np.array(1, numpy_dtype(tensor_type(x).element)))
    return node.insert(QuantizeOp(x, one, reshaped(node, zero, ()), element=tensor_type(zero).element)).result


def factor_of(node: Node, first: Value, second: Value, y_scale: Value) -> Value:
    """first * second / y_scale."""
    product = node.insert(MulOp(first, second)).result
    y_scale = reshaped(node, y_scale, ()) if len(shape_of(y_scale)) == 1 else y_scale
    return node.insert(DivOp(product, y_scale)).result


@rule("QLinearConv", since=10)
def qlinear_conv(node: Node) -> Value:
    """Channels first."""
    return quantized_convolution(node, node.input(0))


def quantized_convolution(node: Node, x: Value) -> Value:
    """Exact integer convolution of x, the first input in the axes' usual order; bias in the sums' unit, then one factor
    x_scale * w_scale / y_scale per channel."""
    w = node.input(3)
    fields = window_fields(conv_window(node, x, w))
    op = ConvIntegerOp(x, w, node.input(2), node.input(5), groups=group_count(node), **fields)
    sums = node.insert(op).result
    bias = node.optional(8)
    if bias is not None:
        spread = (*shape_of(bias), *[1] * (len(shape_of(x)) - 2))
        sums = node.insert(AddOp(sums, reshaped(node, bias, spread))).result
    x_scale, w_scale = (reshaped(node, s, ()) if shape_of(s) == (1,) else s for s in (node.input(1), node.input(4)))
    return requantized(node, sums, factor_of(node, x_scale, w_scale, node.input(6)), 1, node.input(7))


@rule("QLinearMatMul", since=10)
def qlinear_matmul(node: Node) -> Value:
    """Exact integer product times a_scale * b_scale / y_scale; 8-bit floats are multiplied as floats."""
    a, b, a_scale, b_scale = node.input(0), node.input(3), node.input(1), node.input(4)
    if not isinstance(tensor_type(a).element, IntegerType):
        return _float_matmul(node)
    lhs, rhs, row, column = as_matrices(node, a, b)
    sums = node.insert(MatmulIntegerOp(lhs, rhs, node.input(2), node.input(5))).result
    rank = len(shape_of(sums))
    a_scale, b_scale = (reshaped(node, s, ()) if shape_of(s) == (1,) else s for s in (a_scale, b_scale))
    if not shape_of(b_scale) and len(shape_of(a_scale)) <= 1:
        made = requantized(node, sums, factor_of(node, a_scale, b_scale, node.input(6)), rank - 2, node.input(7))
    elif not shape_of(a_scale) and len(shape_of(b_scale)) == 1:
        made = requantized(node, sums, factor_of(node, a_scale, b_scale, node.input(6)), rank - 1, node.input(7))
    else:
        made = _by_row_and_column(node, sums, a_scale, b_scale)
    return without_unit_axes(node, made, row, column)


def _by_row_and_column(node: Node, sums: Value, a_scale: Value, b_scale: Value) -> Value:
    if len(shape_of(a_scale)) == 1:
        a_scale = reshaped(node, a_scale, (*shape_of(a_scale), 1))
    one = node.constant(np.array(1, np.float32))
    products = node.insert(DequantizeOp(sums, one, None, element=F32)).result
    factor = cast(node, factor_of(node, a_scale, b_scale, node.input(6)), F32)
    return rounded_to(node, node.insert(MulOp(products, factor)).result, node.input(7))


def _float_matmul(node: Node) -> Value:
    sides = []
    for index in (0, 3):
        x, scale = node.input(index), node.input(index + 1)
        if len(shape_of(scale)) > 1 or (shape_of(scale) and shape_of(scale)[0] != 1):
            raise node.unsupported("8-bit floats are supported with one scale per tensor")
        scale = reshaped(node, scale, ())
        sides.append(node.insert(DequantizeOp(x, scale, None, element=F32)).result)
    lhs, rhs, row, column = as_matrices(node, *sides)
    product = without_unit_axes(node, node.insert(MatmulOp(lhs, rhs)).result, row, column)
    y_scale, zero = reshaped(node, node.input(6), ()), node.input(7)
    op = QuantizeOp(product, y_scale, None, element=tensor_type(zero).element, precision=F32)
    return node.insert(op).result
