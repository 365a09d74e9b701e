"""Matrix products of integers with scales: the operators that onnxruntime's quantisation tools put in the place of
MatMul and Gemm."""

from __future__ import annotations

from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.contraction import MatmulIntegerOp, MatmulOp
from stepwell.dialects.graph.elementwise import AddOp, MulOp
from stepwell.dialects.graph.quantization import DequantizeOp, DynamicQuantizeOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, reshaped
from stepwell.frontends.onnx.rules.contraction import as_matrices, scaled, transpose, without_unit_axes
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, added
from stepwell.frontends.onnx.rules.microsoft.quantization import one_number, rounded_with_zero, scale_of
from stepwell.frontends.onnx.rules.quantization import factor_of
from stepwell.ir.core import Value
from stepwell.ir.types import F32, SI32, UI32, IntegerType, is_unsigned

Quantised = tuple[Value, Value, "Value | None"]
"""A tensor, its scale and its zero point."""


def by_column(node: Node, value: Value) -> Value:
    """A scale or zero point of a matrix: a scalar, [n], or one row per matrix of a batch; a list of one is a scalar."""
    return reshaped(node, value, ()) if shape_of(value) == (1,) else value


def product_in_floats(node: Node, a: Quantised, b: Quantised) -> Value:
    """(a - a_zero) x (b - b_zero) * (a_scale * b_scale), the sums exact and the scales in f32; in a_scale's type."""
    (x, x_scale, x_zero), (w, w_scale, w_zero) = a, b
    lhs, rhs, row, column = as_matrices(node, x, w)
    w_zero = None if w_zero is None else by_column(node, w_zero)
    sums = node.insert(MatmulIntegerOp(lhs, rhs, x_zero, w_zero)).result
    factor = binary(node, MulOp, cast(node, x_scale, F32), cast(node, by_column(node, w_scale), F32))
    made = cast(node, in_floats(node, sums, factor), tensor_type(x_scale).element)
    return without_unit_axes(node, made, row, column)


def in_floats(node: Node, sums: Value, factor: Value) -> Value:
    """si32 sums times a factor that is a scalar, one number per column, or of a shape that broadcasts."""
    rank = len(shape_of(factor))
    if rank < 2:
        axis = len(shape_of(sums)) - 1 if rank else None
        return node.insert(DequantizeOp(sums, factor, None, element=F32, axis=axis)).result
    return binary(node, MulOp, cast(node, sums, F32), factor)


@rule("MatMulIntegerToFloat", domain=DOMAIN)
def matmul_integer_to_float(node: Node) -> Value:
    """Inputs A, B, a_scale, b_scale, a_zero, b_zero, bias; A has one scale, B one or one per column."""
    a = node.input(0), scale_of(node, 2), one_number(node, 4)
    b = node.input(1), node.input(3), node.optional(5)
    return added(node, product_in_floats(node, a, b), node.optional(6))


@rule("DynamicQuantizeMatMul", domain=DOMAIN)
def dynamic_quantize_matmul(node: Node) -> Value:
    """Inputs A, B, b_scale, b_zero, bias: A is quantised to ui8 by its own range."""
    a, scale, zero = node.insert(DynamicQuantizeOp(node.input(0))).results
    b = node.input(1), node.input(2), node.optional(3)
    return added(node, product_in_floats(node, (a, scale, zero), b), node.optional(4))


@rule("MatMulInteger16", domain=DOMAIN)
def matmul_integer_16(node: Node) -> Value:
    """A x B in si32 (ui32 of two unsigned operands) that wraps."""
    elements = [tensor_type(node.input(index)).element for index in range(2)]
    for element in elements:
        if not isinstance(element, IntegerType) or element.width != 16:
            raise node.unsupported(f"operands of {element} are not supported, integers of 16 bits are")
    wide = UI32 if all(map(is_unsigned, elements)) else SI32
    lhs, rhs, row, column = as_matrices(node, *(cast(node, node.input(index), wide) for index in range(2)))
    return without_unit_axes(node, node.insert(MatmulOp(lhs, rhs)).result, row, column)


@rule("QGemm", domain=DOMAIN)
def qgemm(node: Node) -> Value:
    """((A - a_zero)' x (B - b_zero)' + C) * (alpha * a_scale * b_scale), in f32; quantised where y_scale is given."""
    sides = []
    for index, name in ((0, "transA"), (3, "transB")):
        x = node.input(index)
        if len(shape_of(x)) != 2:
            raise node.unsupported(f"its input {index} needs rank 2, not {len(shape_of(x))}")
        sides.append(transpose(node, x, (1, 0)) if node.int(name, 0) else x)
    b_zero = by_column(node, node.input(5)) if node.has_input(5) else None
    sums = node.insert(MatmulIntegerOp(*sides, one_number(node, 2), b_zero)).result
    if node.has_input(6):
        sums = binary(node, AddOp, sums, node.input(6))
    b_scale, first = by_column(node, node.input(4)), scaled(node, scale_of(node, 1), node.float("alpha", 1.0))
    if not node.has_input(7):
        return in_floats(node, sums, binary(node, MulOp, first, b_scale))
    made = in_floats(node, sums, factor_of(node, first, b_scale, scale_of(node, 7)))
    zero = tensor_type(node.input(8)).element if node.has_input(8) else tensor_type(node.input(0)).element
    return rounded_with_zero(node, made, 8, zero)
