"""Reading through indices: guarded reads at the places that index tensors name. An index out of range ends the run."""

from __future__ import annotations

import itertools

from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.indexing import (
    GatherElementsOp,
    GatherNDOp,
    GatherOp,
    OneHotOp,
    known_integers,
    tuple_length,
)
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.types import FloatType
from stepwell.lowering.to_tensor.places import Places, dims, moved, reads_unsigned, reshaped, result_type
from stepwell.lowering.to_tensor.proofs import checked_place
from stepwell.lowering.to_tensor.rules import lowers


@lowers(GatherOp)
def gather(op: GatherOp, c: Conversion) -> Value:
    """graph.gather %x, %i {axis = 0}  ->  out[a, b, c] = x[i[a, b], c]; an affine read where the indices are known and
    evenly spaced"""
    result, x = result_type(op), c.new(op.x)
    rank, count, size = result.rank, len(shape_of(op.indices)), shape_of(op.x)[op.axis]
    front, back = dims(op.axis), dims(rank - op.axis - count, op.axis + count)
    known = known_place(op)
    if known is not None:
        if tensor_type(x).shape == result.shape and known == dim(op.axis):
            return x
        return moved(c, result, inputs=[x], maps=[[*front, known, *back]])
    constant = known_integers(op.indices)
    only = constant[0] if constant is not None and len(constant) == 1 else None

    def body(p: Places, *args: Value) -> Value:
        *index, source = args
        if only is not None:
            place = p.size(only if only >= 0 else size + only)
        else:
            place = checked_place(p, op.indices, index[0], op.axis, size)
        before = [p.at(axis) for axis in range(op.axis)]
        return p.read(source, [*before, place, *(p.at(axis) for axis in range(op.axis + count, rank))])

    inputs, maps = ([], []) if only is not None else ([c.new(op.indices)], [dims(count, op.axis)])
    return moved(c, result, body, inputs=inputs, maps=maps, sources=[x])


def known_place(op: GatherOp) -> AffineExpr | None:
    """The place along the axis as an expression of the index' dim, where the indices are known, all inside, and evenly
    spaced along at most one dim."""
    indices, size, count = known_integers(op.indices), shape_of(op.x)[op.axis], len(shape_of(op.indices))
    if not indices or not isinstance(size, int) or count > 1 or not all(-size <= index < size for index in indices):
        return None
    found = [index % size for index in indices]
    if len(found) == 1:
        return const(found[0])
    step = found[1] - found[0]
    if any(b - a != step for a, b in itertools.pairwise(found)):
        return None
    return dim(op.axis) * step + found[0]


@lowers(GatherElementsOp)
def gather_elements(op: GatherElementsOp, c: Conversion) -> Value:
    """graph.gather_elements %x, %i {axis = 0}  ->  out[a, b] = x[i[a, b], b]"""
    result, size = result_type(op), shape_of(op.x)[op.axis]

    def body(p: Places, index: Value, source: Value) -> Value:
        places = [p.at(axis) for axis in range(result.rank)]
        places[op.axis] = checked_place(p, op.indices, index, op.axis, size)
        return p.read(source, places)

    return moved(c, result, body, inputs=[c.new(op.indices)], maps=[dims(result.rank)], sources=[c.new(op.x)])


@lowers(GatherNDOp)
def gather_nd(op: GatherNDOp, c: Conversion) -> Value:
    """graph.gather_nd %x, %i  ->  out[a, b] = x[i[a, 0], i[a, 1], b], an input for each number of the tuples"""
    result, batch = result_type(op), op.batch_dims
    shape, indices = shape_of(op.x), shape_of(op.indices)
    depth, leading = tuple_length(shape, indices, batch), len(indices) - 1

    def body(p: Places, *args: Value) -> Value:
        *numbers, source = args
        places = [p.at(axis) for axis in range(batch)]
        for axis, number in enumerate(numbers, start=batch):
            places.append(checked_place(p, op.indices, number, axis, shape[axis]))
        places.extend(p.at(axis) for axis in range(leading, result.rank))
        return p.read(source, places)

    maps = [[*dims(leading), const(position)] for position in range(depth)]
    return moved(c, result, body, inputs=[c.new(op.indices)] * depth, maps=maps, sources=[c.new(op.x)])


@lowers(OneHotOp)
def one_hot(op: OneHotOp, c: Conversion) -> Value:
    """graph.one_hot %i, %depth, %v {axis = 1}  ->  out[a, k] = wrapped(i[a]) == k ? v[1] : v[0]"""
    result, axis = result_type(op), op.axis
    size = result.shape[axis]

    def body(p: Places, index: Value, off: Value, on: Value) -> Value:
        if isinstance(index.type, FloatType):
            wide = p.widened(index)
            place = p.wrapped(p.whole_of(wide), p.size(size))
        else:
            place = p.index_of(index, reads_unsigned(op.indices))
            if not reads_unsigned(op.indices):  # large ones look negative, and are at no place
                place = p.wrapped(place, p.size(size))
        return p.select(p.compare("eq", place, p.at(axis)), on, off)

    values = reshaped(c, c.new(op.values), [2])
    maps = [[*dims(axis), *dims(result.rank - axis - 1, axis + 1)], [const(0)], [const(1)]]
    return moved(c, result, body, inputs=[c.new(op.indices), values, values], maps=maps)
