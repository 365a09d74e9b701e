"""Axes that data tell: which of a tensor's axes a list names, and a tensor around one axis as three."""

from __future__ import annotations

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.reduction import AXIS_TWICE, axis_out_of_range
from stepwell.dialects.graph.symbols import DataDependentOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, symbol
from stepwell.ir.types import I64, TensorType
from stepwell.lowering.to_tensor.born import COUNT, as_size, bear
from stepwell.lowering.to_tensor.places import Places, moved, reduced


def axis_counts(c: Conversion, axes: Value, rank: int, *, all_if_empty: bool) -> Value:
    """How often a list names each axis of a rank, as tensor<rank x i64>: 0 or 1, or 1 where the list is empty and that
    means all. An axis out of range or given twice ends the run."""
    length = tensor_type(axes).shape[0]

    def hit(p: Places, axis: Value) -> Value:
        given = p.index_of(axis, False)
        wrapped = p.wrapped(given, p.whole(rank))
        p.require(p.compare("lt", wrapped, p.whole(rank), unsigned=True), given, axis_out_of_range(rank))
        return p.one_or_zero(p.compare("eq", wrapped, p.at(0)), I64)

    counts = reduced(
        c, TensorType((rank,), I64), [length], hit, lambda p, a, b: p.add(a, b), attribute_of(0, I64), inputs=[axes],
        maps=[[dim(1)]],
    )  # fmt: skip

    def once(p: Places, count: Value) -> Value:
        p.require(p.compare("le", count, p.constant(1, I64)), p.at(0), AXIS_TWICE)
        if all_if_empty:
            empty = p.compare("eq", p.size(length), p.whole(0))
            count = p.select(empty, p.constant(1, I64), count)
        return count

    return moved(c, tensor_type(counts), once, inputs=[counts], maps=[[dim(0)]])


def around_axis(c: Conversion, op: DataDependentOp, x: Value, axis: Value) -> tuple[Dim, Dim, Dim]:
    """%x, %axis  ->  tensor.born: how many elements there are before the axis, along it, and behind it

    The symbols are the first three of the op's `new_dims`. An axis out of range ends the run."""
    shape, place = shape_of(x), as_size(c, axis)
    rank = len(shape)

    def part(wanted: str) -> Value:
        """The product of the sizes of the axes whose number is lt, eq or gt the axis."""

        def body(p: Places, number: Value) -> Value:
            given = p.index_of(number, False)
            found = p.wrapped(given, p.whole(rank))
            p.require(p.compare("lt", found, p.whole(rank), unsigned=True), given, axis_out_of_range(rank))
            total = p.whole(1)
            for other, size in enumerate(shape):
                counts = p.compare(wanted, p.whole(other), found)
                total = p.mul(total, p.select(counts, p.size(size), p.whole(1)))
            return p.integer_of(total, I64)

        return moved(c, COUNT, body, inputs=[place], maps=[[]])

    before, along, behind = op.new_dims[:3]
    bear(op, c, {name: (part(wanted), None) for name, wanted in ((before, "lt"), (along, "eq"), (behind, "gt"))})
    return symbol(before), symbol(along), symbol(behind)
