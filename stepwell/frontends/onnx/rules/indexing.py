"""Operators that read, write and select through indices: Gather, Scatter, TopK, NonZero and their like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph import indexing, scatter, selection
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.elementwise import SubOp
from stepwell.dialects.graph.host import HostCallOp
from stepwell.dialects.graph.movement import ConcatOp, PadOp
from stepwell.dialects.graph.shape import ExpandOp, ShapeOp, product
from stepwell.frontends.onnx.registry import Node, calls_host, rule
from stepwell.frontends.onnx.rules.composing import HELD_AS_NUMBERS, config_of
from stepwell.frontends.onnx.shapes import as_list, axis_attr, exactly, int_list, rank_of, reshape
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import StringType, numpy_dtype


@rule("Gather")
def gather(node: Node) -> Value:
    """Along axis 0 by default."""
    axis = axis_attr(node, rank_of(node.input(0)), 0)
    return node.insert(indexing.GatherOp(*node.inputs(), axis=axis)).result


@rule("GatherElements", since=11)
def gather_elements(node: Node) -> Value:
    """Along axis 0 by default."""
    axis = axis_attr(node, rank_of(node.input(0)), 0)
    return node.insert(indexing.GatherElementsOp(*node.inputs(), axis=axis)).result


@rule("GatherND", since=11)
def gather_nd(node: Node) -> Value:
    """`batch_dims` came with version 12."""
    return node.insert(indexing.GatherNDOp(*node.inputs(), batch_dims=node.int("batch_dims", 0))).result


@rule("Scatter", since=9)
@rule("ScatterElements", since=11)
def scatter_elements(node: Node) -> Value:
    """Reductions came with versions 16 and 18; Scatter is the old name."""
    axis = axis_attr(node, rank_of(node.input(0)), 0)
    return node.insert(scatter.ScatterElementsOp(*node.inputs(), axis=axis, reduction=_reduction(node))).result


@rule("ScatterND", since=11)
def scatter_nd(node: Node) -> Value:
    """Reductions came with versions 16 and 18."""
    return node.insert(scatter.ScatterNDOp(*node.inputs(), reduction=_reduction(node))).result


def _reduction(node: Node) -> str:
    reduction = node.string("reduction", "none")
    if reduction not in scatter.REDUCTIONS:
        raise node.unsupported(f"reduction {reduction!r}", f"The reductions are {', '.join(scatter.REDUCTIONS)}.")
    return reduction


@rule("TensorScatter", since=24)
def tensor_scatter(node: Node) -> Value:
    """The update of a cache along axis -2 by default."""
    mode = node.string("mode", "linear")
    if mode not in ("linear", "circular"):
        raise node.unsupported(f"mode {mode!r}", "The modes are linear and circular.")
    axis = axis_attr(node, rank_of(node.input(0)), -2)
    operands = node.input(0), node.input(1), node.optional(2)
    return node.insert(scatter.TensorScatterOp(*operands, axis=axis, circular=mode == "circular")).result


@rule("OneHot", since=9)
def one_hot(node: Node) -> Value:
    """The new dim is the last one by default."""
    axis = axis_attr(node, rank_of(node.input(0)) + 1, -1)
    indices, depth, values = node.inputs()
    op = indexing.OneHotOp(indices, exactly(node, depth, 1), exactly(node, values, 2), axis=axis)
    return node.insert(op).result


@rule("NonZero", since=9)
def non_zero(node: Node) -> Value:
    """Positions as columns."""
    return node.insert(selection.NonZeroOp(node.input(0))).result


@rule("Unique", since=11)
@calls_host("string_rank", HELD_AS_NUMBERS, "for strings that are sorted")
def unique(node: Node) -> Sequence[Value]:
    """Of the flattened operand without `axis`. Strings are sorted by their ranks, which are found on the host."""
    x, is_sorted = node.input(0), bool(node.int("sorted", 1))
    axis = axis_attr(node, rank_of(x)) if node.has("axis") else None
    if not is_sorted or not isinstance(tensor_type(x).element, StringType):
        return node.insert(selection.UniqueOp(x, axis=axis, sorted=is_sorted)).results[: node.num_outputs]
    ranks = node.insert(HostCallOp([x], callee="string_rank", config=config_of())).results[0]
    op = node.insert(selection.UniqueOp(ranks, axis=axis, sorted=True))
    rows = reshape(node, x, [product(shape_of(x))]) if axis is None else x
    values = node.insert(indexing.GatherOp(rows, op.first, axis=axis or 0)).result
    return [values, *op.results[1 : node.num_outputs]]


@rule("Compress", since=9)
def compress(node: Node) -> Value:
    """Compress(x, condition, axis) -> gather(x, non_zero(condition), axis)"""
    x = node.input(0)
    if node.has("axis"):
        axis = axis_attr(node, rank_of(x))
    else:
        x, axis = reshape(node, x, [product(shape_of(x))]), 0
    found = node.insert(selection.NonZeroOp(node.input(1))).result
    places = reshape(node, found, shape_of(found)[1:])
    return node.insert(indexing.GatherOp(x, places, axis=axis)).result


@rule("TopK")
def top_k_1(node: Node) -> Sequence[Value]:
    """`k` is an attribute before version 10."""
    return _top_k(node, int_list(node, [node.int("k")]))


@rule("TopK", since=10)
def top_k_10(node: Node) -> Sequence[Value]:
    """`largest` and `sorted` came with version 11."""
    return _top_k(node, as_list(node, node.input(1)))


def _top_k(node: Node, k: Value) -> Sequence[Value]:
    x = node.input(0)
    largest, ordered = bool(node.int("largest", 1)), bool(node.int("sorted", 1))
    op = selection.TopKOp(x, k, axis=axis_attr(node, rank_of(x), -1), largest=largest, sorted=ordered)
    return node.insert(op).results[: node.num_outputs]


@rule("NonMaxSuppression", since=10)
def non_max_suppression(node: Node) -> Value:
    """Boxes are corners by default."""
    limits = [node.optional(index) for index in (2, 3, 4)]
    operands = [node.input(0), node.input(1), *(limit and exactly(node, limit, 1) for limit in limits)]
    boxes_as = "center" if node.int("center_point_box", 0) else "corners"
    return node.insert(selection.NonMaxSuppressionOp(*operands, boxes_as=boxes_as)).result


@rule("MaxUnpool", since=9)
def max_unpool(node: Node) -> Value:
    """MaxUnpool(x, indices) -> scatter x into zeros of the pooling's input size, all flattened

    A larger `output_shape` adds zeros behind; indices count in the size that follows from the attributes."""
    x, indices = node.input(0), node.input(1)
    kernel = node.ints("kernel_shape")
    strides, pads = node.ints("strides", [1] * len(kernel)), node.ints("pads", [0] * 2 * len(kernel))
    rank = rank_of(x)
    if not (len(kernel) == len(strides) == rank - 2 and len(pads) == 2 * len(kernel)):
        words = f"kernel {kernel}, strides {strides}, pads {pads} on {x.type}"
        raise node.unsupported(words, "The model is malformed.")
    dims: list[Dim] = list(shape_of(x))
    for axis, (size, stride) in enumerate(zip(kernel, strides, strict=True)):
        dims[axis + 2] = (dims[axis + 2] - 1) * stride - pads[axis] - pads[axis + len(kernel)] + size
    zero = node.constant(np.zeros((), numpy_dtype(tensor_type(x))))
    zeros = node.insert(ExpandOp.to(zero, [product(dims)])).result
    flat = [reshape(node, value, [product(shape_of(value))]) for value in (indices, x)]
    placed = reshape(node, node.insert(scatter.ScatterElementsOp(zeros, *flat, axis=0)).result, dims)
    if not node.has_input(2):
        return placed
    sizes = node.insert(ShapeOp(placed, start=0, end=rank)).result
    after = node.insert(SubOp(node.input(2), sizes)).result
    pad_list = node.insert(ConcatOp([int_list(node, [0] * rank), after], axis=0)).result
    return node.insert(PadOp(placed, pad_list)).result
