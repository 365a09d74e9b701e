"""Operators that ONNX has taken over, or that it has under another name: they get ONNX's rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.elementwise import AddOp, SubOp
from stepwell.dialects.graph.generate import RangeOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.dialects.graph.selection import UniqueOp
from stepwell.dialects.graph.shape import ShapeOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.attention import causal_conv_with_state, linear_attention
from stepwell.frontends.onnx.rules.composing import cast, reshaped, scalar
from stepwell.frontends.onnx.rules.contraction import transpose
from stepwell.frontends.onnx.rules.indexing import gather_nd
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN
from stepwell.frontends.onnx.rules.movement import pad_11, trilu
from stepwell.frontends.onnx.rules.resampling import grid_sample
from stepwell.frontends.onnx.shapes import checked_axes, known_input, rank_of, reshape
from stepwell.ir.core import Value
from stepwell.ir.types import SI8, SI32, UI32

for _name, _rule in (("Trilu", trilu), ("GatherND", gather_nd), ("Pad", pad_11), ("GridSample", grid_sample)):
    rule(_name, domain=DOMAIN)(_rule)


@rule("LinearAttention", domain=DOMAIN)
def linear_attention_with_state(node: Node) -> Sequence[Value]:
    """ONNX's, without a window of states."""
    _need(node, state_window=0)
    return linear_attention(node)


@rule("CausalConvWithState", domain=DOMAIN)
def causal_conv(node: Node) -> Sequence[Value]:
    """ONNX's: along one axis, which is the last."""
    _need(node, state_window=0, channels_last=0, dilation=1, ndim=1)
    return causal_conv_with_state(node)


def _need(node: Node, **values: int) -> None:
    for name, value in values.items():
        if node.int(name, value) != value:
            raise node.unsupported(f"{name} = {node.int(name)} is not supported, {value} is")


@rule("TorchEmbedding", domain=DOMAIN)
def torch_embedding(node: Node) -> Value:
    """Rows of a table; the other inputs are about training."""
    return node.insert(GatherOp(node.input(0), node.input(1), axis=0)).result


@rule("ExpandDims", domain=DOMAIN)
def expand_dims(node: Node) -> Value:
    """Unsqueeze at one axis, which is known."""
    x, axes = node.input(0), known_input(node, 1)
    if axes is None or len(axes) != 1:
        raise node.unsupported("its axis (input 1) must be one integer that is known when the model is compiled")
    shape = list(shape_of(x))
    (axis,) = checked_axes(node, axes, len(shape) + 1)
    return reshape(node, x, [*shape[:axis], 1, *shape[axis:]])


@rule("Range", domain=DOMAIN)
def range_by_one(node: Node) -> Value:
    """By steps of 1 where none is given."""
    start, limit = (reshaped(node, node.input(index), ()) for index in range(2))
    delta = reshaped(node, node.input(2), ()) if node.has_input(2) else scalar(node, 1, start)
    return node.insert(RangeOp(start, limit, delta)).result


@rule("Unique", domain=DOMAIN)
def unique_in_order(node: Node) -> Sequence[Value]:
    """In the order in which they first come: values, the index of each element's among them, and counts."""
    op = node.insert(UniqueOp(node.input(0), sorted=False))
    return [op.results[index] for index in (0, 2, 3)][: node.num_outputs]


@rule("ReduceSumInteger", domain=DOMAIN)
def reduce_sum_integer(node: Node) -> Value:
    """Sums of 8-bit integers in 32 bits."""
    x = node.input(0)
    wide = cast(node, x, SI32 if tensor_type(x).element is SI8 else UI32)
    axes = sorted(checked_axes(node, node.ints("axes"), rank_of(x)))
    return node.insert(ReduceOp(wide, kind="sum", axes=axes, keepdims=bool(node.int("keepdims", 1)))).result


@rule("UnfoldTensor", domain=DOMAIN)
def unfold_tensor(node: Node) -> Value:
    """Windows of `size` elements along an axis, `step` apart, as a last axis: gathered at start + offset."""
    x, size, step = node.input(0), node.int("size"), node.int("step", 1)
    rank = rank_of(x)
    (axis,) = checked_axes(node, [node.int("dim", -1)], rank)
    zero, stride = (node.constant(np.array(number, np.int64)) for number in (0, step))
    rows = node.insert(ShapeOp(x, start=axis, end=axis + 1)).result
    ends = node.insert(SubOp(reshaped(node, rows, ()), node.constant(np.array(size - 1, np.int64)))).result
    starts = node.insert(RangeOp(zero, ends, stride)).result
    column = reshaped(node, starts, (*shape_of(starts), 1))
    places = node.insert(AddOp(column, node.constant(np.arange(size, dtype=np.int64)))).result
    made = node.insert(GatherOp(x, places, axis=axis)).result
    order = [*range(axis + 1), *range(axis + 2, rank + 1), axis + 1]
    return transpose(node, made, order)
