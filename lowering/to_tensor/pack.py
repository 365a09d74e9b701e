"""Tensors in a list: reads at a place that data tell, and what is required of such numbers."""

from __future__ import annotations

from stepwell.dialects.graph.pack import RequiredOp, UnpackOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import const
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.lowering.to_tensor.born import Sizes, entry, sizes_by_data
from stepwell.lowering.to_tensor.places import Places, dims, moved, reads_unsigned, result_type
from stepwell.lowering.to_tensor.rules import lowers


@sizes_by_data(UnpackOp)
def unpacked_sizes(op: UnpackOp, c: Conversion) -> Sizes:
    """The numbers at the axes whose sizes are not known."""
    axes = [axis for axis, size in enumerate(op.known) if size < 0]
    return {name: (entry(c, op.sizes, axis), None) for name, axis in zip(op.new_dims, axes, strict=True)}


@lowers(UnpackOp)
def unpack(op: UnpackOp, c: Conversion) -> Value:
    """graph.unpack %x, %p, %s  ->  out[i, j] = x[p + i * size of j + j]"""
    result, x = result_type(op), c.new(op.x)
    unsigned = reads_unsigned(op.start)

    def body(p: Places, start: Value, source: Value) -> Value:
        place = p.whole(0)
        for axis, size in enumerate(result.shape):
            place = p.add(p.mul(place, p.size(size)), p.at(axis))
        return p.read(source, [p.add(p.index_of(start, unsigned), place)])

    assert tensor_type(x).rank == 1
    return moved(c, result, body, inputs=[c.new(op.start)], maps=[[const(0)]], sources=[x])


@lowers(RequiredOp)
def required(op: RequiredOp, c: Conversion) -> Value:
    """graph.required %x, %h  ->  out[i] = x[i], with a check.require"""

    def body(p: Places, x: Value, holds: Value) -> Value:
        p.require(holds, x, op.message)
        return x

    return moved(c, result_type(op), body, inputs=[c.new(op.x), c.new(op.holds)], maps=[dims(1), dims(1)])
