"""Broadcasts: affine where every dim is known to be repeated or not, guarded reads where run time tells."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects.graph.shape import ExpandOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, proven_equal
from stepwell.lowering.to_tensor.places import Places, moved, reshaped, result_type
from stepwell.lowering.to_tensor.rules import lowers


def repetition(size: Dim, target: Dim, axis: int) -> AffineExpr | None:
    """Where an axis of `size` is read when it is broadcast to dim `axis` of `target`; None where only its run-time
    size tells."""
    if size == 1:
        return const(0)
    if (isinstance(size, int) and isinstance(target, int)) or proven_equal(size, target):
        return dim(axis)
    return dim(axis) if isinstance(size, int) else None


def broadcast(c: Conversion, value: Value, shape: Sequence[Dim]) -> Value:
    """The value repeated to a shape, as NumPy does; itself where it has that shape.

    A dim of unknown size s is read at i where s is not 1, else at 0."""
    type_ = tensor_type(value)
    result = type_.with_shape(shape)
    if value.type is result:
        return value
    first = result.rank - type_.rank
    found = [repetition(size, result.shape[axis], axis) for axis, size in enumerate(type_.shape, start=first)]
    known = [expr for expr in found if expr is not None]
    if len(known) == len(found):
        return moved(c, result, inputs=[value], maps=[known])

    def body(p: Places, source: Value) -> Value:
        places = []
        for axis, (size, expr) in enumerate(zip(type_.shape, found, strict=True), start=first):
            if size == 1:
                places.append(p.whole(0))
            elif expr is None:
                single = p.compare("eq", p.size(size), p.whole(1))
                places.append(p.mul(p.at(axis), p.select(single, p.whole(0), p.whole(1))))
            else:
                places.append(p.at(axis))
        return p.read(source, places)

    return moved(c, result, body, sources=[value])


@lowers(ExpandOp)
def expand(op: ExpandOp, c: Conversion) -> Value:
    """graph.expand %x  ->  a view where only dims of size 1 are added, else out[i, j] = x[j]"""
    result, value = result_type(op), c.new(op.x)
    type_ = tensor_type(value)
    front = result.rank - type_.rank
    if all(size == 1 for size in result.shape[:front]) and result.shape[front:] == type_.shape:
        return reshaped(c, value, result.shape)
    return broadcast(c, value, result.shape)
