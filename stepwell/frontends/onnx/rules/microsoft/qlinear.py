"""The QLinear operators: arithmetic, activations, pools and a convolution from quantised tensors to one.

Products, sums and means are rounded after their zero point is added, values that are looked up or chosen before, as
onnxruntime does: that decides where halves go when the zero point is odd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stepwell.dialects.graph.base import normalize_axes, normalize_axis, shape_of
from stepwell.dialects.graph.elementwise import AddOp, DivOp, MulOp, SigmoidOp
from stepwell.dialects.graph.logic import WhereOp
from stepwell.dialects.graph.movement import ConcatOp
from stepwell.dialects.graph.pooling import AveragePoolOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.dialects.graph.shape import ShapeOp
from stepwell.dialects.graph.softmax import SoftmaxOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.activation import leaky_relu
from stepwell.frontends.onnx.rules.composing import binary, cast, unary
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN
from stepwell.frontends.onnx.rules.microsoft.convolution import channels_last
from stepwell.frontends.onnx.rules.microsoft.quantization import (
    centred,
    dequantized,
    element_of,
    quantized,
    rounded_with_zero,
    scale_of,
)
from stepwell.frontends.onnx.rules.pooling import pool_fields, spatial_axes
from stepwell.frontends.onnx.rules.quantization import quantized_convolution
from stepwell.ir.core import Value
from stepwell.ir.types import F32

# Element by element


@rule("QLinearAdd", domain=DOMAIN)
def qlinear_add(node: Node) -> Value:
    """(a - a_zero) * (a_scale / c_scale) + (b - b_zero) * (b_scale / c_scale) + c_zero"""
    c_scale = scale_of(node, 6)
    sides = [
        dequantized(node, index, scale=binary(node, DivOp, scale_of(node, index + 1), c_scale)) for index in (0, 3)
    ]
    return rounded_with_zero(node, binary(node, AddOp, *sides), 7, element_of(node, 0))


@rule("QLinearMul", domain=DOMAIN)
def qlinear_mul(node: Node) -> Value:
    """(a - a_zero) * (b - b_zero) * (a_scale * b_scale / c_scale) + c_zero"""
    scales = binary(node, MulOp, scale_of(node, 1), scale_of(node, 4))
    factor = binary(node, DivOp, scales, scale_of(node, 6))
    product = binary(node, MulOp, centred(node, 0), centred(node, 3))
    return rounded_with_zero(node, binary(node, MulOp, product, factor), 7, element_of(node, 0))


def _through_floats(op_type: str, compute: Callable[[Node, Value], Value]) -> None:
    """Register quantize(compute(dequantize(x)))."""
    rule(op_type, domain=DOMAIN)(
        lambda node: quantized(node, compute(node, dequantized(node, 0)), 3, element_of(node, 0))
    )


_through_floats("QLinearSigmoid", lambda node, x: unary(node, SigmoidOp, x))
_through_floats("QLinearLeakyRelu", leaky_relu)


@rule("QLinearWhere", domain=DOMAIN)
def qlinear_where(node: Node) -> Value:
    """quantize(where(condition, dequantize(x), dequantize(y)))"""
    chosen = node.insert(WhereOp(node.input(0), dequantized(node, 1), dequantized(node, 4))).result
    return quantized(node, chosen, 7, element_of(node, 1))


@rule("QLinearConcat", domain=DOMAIN)
def qlinear_concat(node: Node) -> Value:
    """Inputs y_scale, y_zero, then x, scale, zero of each part; a part with the result's scale and zero point is as it
    is."""
    if node.num_inputs < 5 or (node.num_inputs - 2) % 3:
        reason = f"{node.num_inputs} inputs are not a scale, a zero point and parts of three inputs each"
        raise node.unsupported(reason, "The model is malformed.")
    element = element_of(node, 1)
    parts = []
    for index in range(2, node.num_inputs, 3):
        same = _known_equal(node, 0, index + 1) and _known_equal(node, 1, index + 2)
        part = node.input(index)
        parts.append(part if same else quantized(node, dequantized(node, index), 0, element))
    axis = normalize_axis(node.int("axis"), len(shape_of(parts[0])))
    return node.insert(ConcatOp(parts, axis=axis)).result


def _known_equal(node: Node, first: int, second: int) -> bool:
    a, b = node.constant_input(first), node.constant_input(second)
    return a is not None and b is not None and a.dtype == b.dtype and a.size == b.size == 1 and bool(np.all(a == b))


@rule("QLinearSoftmax", domain=DOMAIN)
def qlinear_softmax(node: Node) -> Value:
    """Over one axis, or, as `opset` says, over all from it on, which Softmax did before 13."""
    x = dequantized(node, 0)
    rank = len(shape_of(x))
    axis = normalize_axis(node.int("axis", -1), rank)
    axes = [axis] if node.int("opset") >= 13 else range(axis, rank)
    return quantized(node, node.insert(SoftmaxOp(x, axes=axes)).result, 3, element_of(node, 0))


# Means


@rule("QLinearReduceMean", domain=DOMAIN)
def qlinear_reduce_mean(node: Node) -> Value:
    """quantize(mean(dequantize(x))) over some axes, or all."""
    x = dequantized(node, 0)
    rank = len(shape_of(x))
    axes = normalize_axes(node.ints("axes", range(rank)), rank)
    mean = node.insert(ReduceOp(x, kind="mean", axes=axes, keepdims=bool(node.int("keepdims", 1)))).result
    return quantized(node, mean, 3, element_of(node, 0))


@rule("QLinearAveragePool", domain=DOMAIN)
def qlinear_average_pool(node: Node) -> Value:
    """average(dequantize(x)) / y_scale + y_zero"""

    def pool(x: Value) -> Value:
        x = dequantized(node, 0, x)
        include = bool(node.int("count_include_pad", 0)) or None
        mean = node.insert(AveragePoolOp(x, count_include_pad=include, **pool_fields(node, x))).result
        return rounded_with_zero(node, binary(node, DivOp, mean, scale_of(node, 3)), 4, element_of(node, 0))

    return _in_order(node, pool)


@rule("QLinearGlobalAveragePool", domain=DOMAIN)
def qlinear_global_average_pool(node: Node) -> Value:
    """sum(x - x_zero) * (x_scale / (count * y_scale)) + y_zero"""

    def pool(x: Value) -> Value:
        axes = spatial_axes(node, x)
        total = node.insert(ReduceOp(centred(node, 0, x), kind="sum", axes=axes, keepdims=True)).result
        sizes = node.insert(ShapeOp(x, start=2, end=len(shape_of(x)))).result
        count = node.insert(ReduceOp(sizes, kind="prod", axes=(0,), keepdims=False)).result
        divisor = binary(node, MulOp, cast(node, count, F32), scale_of(node, 3))
        factor = binary(node, DivOp, scale_of(node, 1), divisor)
        return rounded_with_zero(node, binary(node, MulOp, total, factor), 4, element_of(node, 0))

    return _in_order(node, pool)


# Convolution and its like


def _in_order(node: Node, compute: Callable[[Value], Value]) -> Value:
    """compute(x) of the first input with its channels in front, wherever the model has them."""
    x = node.input(0)
    if not node.int("channels_last", 0):
        return compute(x)
    return channels_last(node, x, compute)


@rule("QLinearConv", domain=DOMAIN)
def qlinear_conv(node: Node) -> Value:
    """The standard's, with channels last if asked for; the weights are [m, c / group, ..] in both cases."""
    return _in_order(node, lambda x: quantized_convolution(node, x))
