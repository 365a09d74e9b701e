"""Sums of products: matrix products, Einstein sums, convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepwell.dialects.graph import contraction as graph
from stepwell.dialects.graph import convolution
from stepwell.dialects.graph.base import shape_of
from stepwell.frontends.onnx.exports.composing import is_float, through, wide, wide_integer, window_attributes
from stepwell.frontends.onnx.registry import Unsupported
from stepwell.frontends.onnx.writer import Writer, element_of, exports
from stepwell.ir.core import Value
from stepwell.ir.types import BF16, SI32, SI64, UI32, UI64, Type

PRODUCTS: tuple[Type, ...] = (SI32, SI64, UI32, UI64)


def _product_type(x: Value) -> Type:
    element = element_of(x)
    return element if is_float(x) or element in PRODUCTS else wide_integer(element)


@exports(graph.MatmulOp)
def matmul(op: graph.MatmulOp, writer: Writer) -> None:
    """graph.matmul %a, %b -> MatMul(a, b); narrow integers in wider ones with the same low bits"""
    computed = _product_type(op.lhs)
    if computed is element_of(op.lhs):
        writer.node("MatMul", op.operands, op.results)
    else:
        through(writer, op, computed, lambda args: writer.make("MatMul", args))


@exports(graph.MatmulIntegerOp)
def matmul_integer(op: graph.MatmulIntegerOp, writer: Writer) -> None:
    """graph.matmul_integer %a, %b, %za, %zb -> MatMulInteger(a, b, za, zb)"""
    writer.node("MatMulInteger", [op.lhs, op.rhs, op.lhs_zero, op.rhs_zero], op.results)


@exports(graph.EinsumOp)
def einsum(op: graph.EinsumOp, writer: Writer) -> None:
    """graph.einsum %a, %b {equation} -> Einsum(a, b) {equation}; bf16 in f32"""
    if element_of(op.inputs[0]) is BF16:
        emit = wide(BF16)
        through(writer, op, emit, lambda args: writer.make("Einsum", args, equation=op.equation))
        return
    writer.node("Einsum", op.operands, op.results, equation=op.equation)


def conv_attributes(op: Any) -> dict[str, Any]:
    """The window, its kernel that of the weights, and the groups."""
    groups = op.groups or shape_of(op.x)[1]
    if not isinstance(groups, int):
        raise Unsupported(f"Conv needs a known number of groups, not {groups}")
    return window_attributes(op, shape_of(op.w)[2:]) | {"group": groups}


@exports(convolution.ConvOp)
def conv(op: convolution.ConvOp, writer: Writer) -> None:
    """graph.conv %x, %w, %b -> Conv(x, w, b); with a group for each of an unknown number of channels, along one axis,
    CausalConvWithState(x, w, b)[k - 1 :], which has windows that begin before x as well"""
    plain = (list(op.strides), list(op.dilations), list(op.pads), op.padding) == ([1], [1], [0, 0], "explicit")
    if not op.groups and plain and not isinstance(shape_of(op.x)[1], int):
        lack = writer.shape((shape_of(op.w)[2] - 1,))
        last, axis = (writer.constant(np.array([n], np.int64)) for n in (np.iinfo(np.int64).max, 2))
        outputs = [writer.fresh("longer"), writer.fresh("present")]
        longer, _ = writer.node("CausalConvWithState", [op.x, op.w, op.bias], outputs)
        writer.node("Slice", [longer, lack, last, axis], [op.result])
        return
    writer.node("Conv", [op.x, op.w, op.bias], op.results, **conv_attributes(op))


@exports(convolution.ConvIntegerOp)
def conv_integer(op: convolution.ConvIntegerOp, writer: Writer) -> None:
    """graph.conv_integer %x, %w, %zx, %zw -> ConvInteger(x, w, zx, zw)"""
    writer.node("ConvInteger", [op.x, op.w, op.x_zero, op.w_zero], op.results, **conv_attributes(op))


@exports(convolution.ConvTransposeOp)
def conv_transpose(op: convolution.ConvTransposeOp, writer: Writer) -> None:
    """graph.conv_transpose %x, %w, %b -> ConvTranspose(x, w, b); a given result shape stands for the pads"""
    attributes = conv_attributes(op)
    if op.output_shape is not None:
        attributes |= {"pads": None, "output_shape": list(op.output_shape)}
    writer.node(
        "ConvTranspose", [op.x, op.w, op.bias], op.results, output_padding=list(op.output_padding), **attributes
    )  # fmt: skip


@exports(convolution.DeformConvOp)
def deform_conv(op: convolution.DeformConvOp, writer: Writer) -> None:
    """graph.deform_conv %x, %w, %offset, %b, %mask -> DeformConv(x, w, offset, b, mask)"""
    operands = [op.x, op.w, op.offset, op.bias, op.mask]
    writer.node("DeformConv", operands, op.results, offset_group=op.offset_groups, **conv_attributes(op))
