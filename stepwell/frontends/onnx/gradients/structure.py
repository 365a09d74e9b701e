"""Rules of ops that move, sum up or contract."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.dialects.graph.convolution import ConvOp, ConvTransposeOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.logic import CompareOp, OrOp
from stepwell.dialects.graph.movement import ConcatOp, SliceOp, TransposeOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.dialects.graph.shape import ExpandOp, ReshapeOp, product
from stepwell.dialects.graph.softmax import LogSoftmaxOp, SoftmaxOp
from stepwell.frontends.onnx.gradients.rules import Backward, vjp
from stepwell.frontends.onnx.rules.composing import cast
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim

Gradients = list["Value | None"]


@vjp(ReshapeOp)
def reshape(op: Any, g: Value, b: Backward) -> Gradients:
    return [b.reshape(g, shape_of(op.x)), *[None] * (len(op.operands) - 1)]


@vjp(ExpandOp)
def expand(op: Any, g: Value, b: Backward) -> Gradients:
    return [b.gathered(g, op.x), *[None] * (len(op.operands) - 1)]


@vjp(TransposeOp)
def transpose(op: Any, g: Value, b: Backward) -> Gradients:
    return [b.transpose(g, [int(axis) for axis in np.argsort(op.permutation)])]


@vjp(ConcatOp)
def concat(op: Any, g: Value, b: Backward) -> Gradients:
    """Each operand's part of the gradient."""
    found: Gradients = []
    start: Dim = 0
    for x in op.xs:
        end = start + shape_of(x)[op.axis]
        if not isinstance(start, int) or not isinstance(end, int):
            raise b.node.unsupported("the parts of a concatenation have unknown sizes")
        bounds = [b.node.constant(np.array([at], np.int64)) for at in (start, end)]
        found.append(b.node.insert(SliceOp(g, *bounds, axes=[op.axis])).result)
        start = end
    return found


@vjp(ReduceOp)
def reduce(op: Any, g: Value, b: Backward) -> Gradients:
    """The gradient for every element of a sum; for the extreme ones, in equal parts, of an extreme."""
    shape = shape_of(op.x)
    kept = [1 if axis in op.axes else size for axis, size in enumerate(shape)]
    g, y = b.reshape(g, kept), b.reshape(op.result, kept)
    if op.kind == "sum":
        return [b.spread(g, shape)]
    if op.kind == "mean":
        ones = b.spread(b.constant(1, g), shape)
        return [b.mul(ones, b.div(g, b.total(ones, op.axes)))]
    if op.kind == "prod":
        return [b.div(b.mul(g, y), op.x)]
    if op.kind == "log_sum_exp":
        return [b.mul(g, b.unary(graph.ExpOp, b.sub(op.x, y)))]
    taken = b.where(b.compare("eq", op.x, y), b.constant(1, g), 0.0)
    return [b.mul(g, b.div(taken, b.total(taken, op.axes)))]


@vjp(SoftmaxOp)
def softmax(op: Any, g: Value, b: Backward) -> Gradients:
    """y (g - sum(g y))"""
    weighted = b.mul(g, op.result)
    return [b.sub(weighted, b.mul(op.result, b.total(weighted, op.axes)))]


@vjp(LogSoftmaxOp)
def log_softmax(op: Any, g: Value, b: Backward) -> Gradients:
    """g - e^y sum(g)"""
    return [b.sub(g, b.mul(b.unary(graph.ExpOp, op.result), b.total(g, op.axes)))]


@vjp(MatmulOp)
def matmul(op: Any, g: Value, b: Backward) -> Gradients:
    """g B', A' g"""
    left = b.node.insert(MatmulOp(g, b.turned(op.rhs))).result
    right = b.node.insert(MatmulOp(b.turned(op.lhs), g)).result
    return [b.gathered(left, op.lhs, matrix=2), b.gathered(right, op.rhs, matrix=2)]


@vjp(GatherOp)
def gather(op: Any, g: Value, b: Backward) -> Gradients:
    """The sum of what was read from each row: g times the places, one hot."""
    axis, shape, places = op.axis, shape_of(op.x), shape_of(op.indices)
    if not isinstance(shape[axis], int):
        raise b.node.unsupported("a gather's axis has an unknown size")
    size, count = int(shape[axis]), product(places)
    numbers = np.arange(size)
    flat = b.reshape(op.indices, (1, count))
    column = b.constant(numbers.reshape(-1, 1), op.indices)
    negative = b.constant(numbers.reshape(-1, 1) - size, op.indices)
    hit, other = (b.node.insert(CompareOp(side, flat, predicate="eq")).result for side in (column, negative))
    marks = cast(b.node, b.node.insert(OrOp(hit, other)).result, tensor_type(g).element)
    before, after = shape[:axis], shape[axis + 1 :]
    rank = len(before)
    lying = b.reshape(g, (*before, count, *after))
    first = b.transpose(lying, [rank, *range(rank), *range(rank + 1, rank + 1 + len(after))])
    summed = b.node.insert(MatmulOp(marks, b.reshape(first, (count, product([*before, *after]))))).result
    back = b.reshape(summed, (size, *before, *after))
    return [b.transpose(back, [*range(1, rank + 1), 0, *range(rank + 1, rank + 1 + len(after))]), None]


@vjp(ConvOp)
def conv(op: Any, g: Value, b: Backward) -> Gradients:
    """By the data: the transposed convolution of g; by the weights: x and g convolved, with samples as channels."""
    x, w = shape_of(op.x), shape_of(op.w)
    spatial = len(x) - 2
    image, window = ([size for size in sizes[2:] if isinstance(size, int)] for sizes in (x, w))
    if op.padding != "explicit" or op.groups != 1 or len(image) < spatial or len(window) < spatial:
        raise b.node.unsupported("the gradient of a convolution needs one group, explicit padding and known sizes")
    sums = [op.pads[k] + op.pads[k + spatial] - op.dilations[k] * (window[k] - 1) - 1 for k in range(spatial)]
    left = [(image[k] + sums[k]) % op.strides[k] for k in range(spatial)]
    shared = {"strides": op.strides, "dilations": op.dilations, "pads": op.pads}
    by_data = b.node.insert(ConvTransposeOp(g, op.w, None, **shared, output_padding=left)).result
    swap = [1, 0, *range(2, 2 + spatial)]
    made = b.node.insert(
        ConvOp(b.transpose(op.x, swap), b.transpose(g, swap), None, strides=op.dilations, dilations=op.strides,
               pads=op.pads)
    ).result  # fmt: skip
    bounds = [b.node.constant(np.array(ends, np.int64)) for ends in ([0] * spatial, window)]
    cut = b.node.insert(SliceOp(made, *bounds, axes=list(range(2, 2 + spatial)))).result
    found: Gradients = [by_data, b.transpose(cut, swap)]
    if op.bias is not None:
        found.append(b.total(g, [0, *range(2, 2 + spatial)], keep=False))
    return found
