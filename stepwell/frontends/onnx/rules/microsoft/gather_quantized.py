"""Rows of a table that is quantised in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.elementwise import AddOp, DivOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.logic import AndOp, CompareOp, WhereOp
from stepwell.dialects.graph.quantization import DequantizeOp
from stepwell.dialects.graph.shape import ExpandOp, ShapeOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, reshaped, scalar
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN
from stepwell.frontends.onnx.rules.microsoft.packed_weights import MALFORMED, known_size, unpacked, width_of
from stepwell.frontends.onnx.shapes import axis_attr
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import UI8, FloatType


@rule("GatherBlockQuantized", domain=DOMAIN)
def gather_block_quantized(node: Node) -> Value:
    """Inputs data, indices, scales, zero points: what the indices name is gathered, then unpacked and dequantised. An
    index out of range gives zeros."""
    data, scales = node.input(0), node.input(2)
    rank = len(shape_of(data))
    axis, along = axis_attr(node, rank, 0, "gather_axis"), axis_attr(node, rank, 1, "quantize_axis")
    element = tensor_type(data).element
    bits = width_of(node) if element is UI8 else 8
    if bits < 8 and axis == rank - 1:
        raise node.unsupported(f"its data is packed along axis {axis}, along which it gathers", MALFORMED)
    block = _block(node, shape_of(data)[along], isinstance(element, FloatType))
    places, inside = _places(node, node.input(1), data, axis)
    x = node.insert(GatherOp(data, places, axis=axis)).result
    x = unpacked(node, x, bits, shape_of(x)[-1] * (8 // bits))
    scales = _stretched(node, scales, data, along, bits)
    of_block = places if axis != along else binary(node, DivOp, places, block)
    scale = node.insert(GatherOp(scales, of_block, axis=axis)).result
    zero = _zero_points(node, of_block, axis, scale, bits)
    moved = along + tensor_type(places).rank - 1 if along >= axis else along
    fields: dict[str, Any] = {"axis": moved, "block_size": block} if axis != along else {"axis": 0, "block_size": 1}
    made = node.insert(DequantizeOp(x, scale, zero, element=tensor_type(scale).element, **fields)).result
    wide = reshaped(node, inside, (*shape_of(inside), *[1] * (rank - 1 - axis)))
    return node.insert(WhereOp(wide, made, scalar(node, 0, made))).result


def _block(node: Node, size: Dim, floats: bool) -> int:
    block = node.int("block_size", 128)
    if block == 0 and floats:
        return max(known_size(node, size, "data along the quantised axis"), 1)
    if block < 1:
        raise node.unsupported(f"block_size {block} of data of {tensor_type(node.input(0)).element}", MALFORMED)
    return block


def _places(node: Node, indices: Value, data: Value, axis: int) -> tuple[Value, Value]:
    """(indices from the front, 0 for those out of range; whether each is in range)"""
    given = shape_of(data)[axis]
    if isinstance(given, int):
        size = scalar(node, given, indices)
    else:
        size = node.insert(ShapeOp(data, start=axis, end=axis + 1)).result
        size = cast(node, reshaped(node, size, ()), tensor_type(indices).element)
    zero = scalar(node, 0, indices)
    below = node.insert(CompareOp(indices, zero, predicate="lt")).result
    places = node.insert(WhereOp(below, binary(node, AddOp, indices, size), indices)).result
    low, high = (
        node.insert(CompareOp(places, bound, predicate=predicate)).result
        for bound, predicate in ((zero, "ge"), (size, "lt"))
    )
    inside = node.insert(AndOp(low, high)).result
    return node.insert(WhereOp(inside, places, zero)).result, inside


def _stretched(node: Node, scales: Value, data: Value, along: int, bits: int) -> Value:
    """The scales with the sizes of the data on all axes but the quantised one, where they may be 1."""
    shape = list(shape_of(data))
    shape[-1] = shape[-1] * (8 // bits)
    if len(shape) != len(shape_of(scales)):
        raise node.unsupported(f"the scales have rank {len(shape_of(scales))}, the data {len(shape)}", MALFORMED)
    shape[along] = shape_of(scales)[along]
    return scales if shape_of(scales) == tuple(shape) else node.insert(ExpandOp.to(scales, shape)).result


def _zero_points(node: Node, of_block: Value, axis: int, scale: Value, bits: int) -> Value | None:
    """The zero points of what is gathered; for bytes without them the middle of the range."""
    if node.has_input(3):
        packed = node.insert(GatherOp(node.input(3), of_block, axis=axis)).result
        return unpacked(node, packed, bits, shape_of(scale)[-1])
    if tensor_type(node.input(0)).element is not UI8:
        return None
    middle = node.constant(np.array(1 << (bits - 1), np.uint8))
    return node.insert(ExpandOp.to(middle, shape_of(scale))).result
