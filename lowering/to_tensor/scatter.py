"""Writing through indices: places are computed by a map, then the updates are written one after the other.

An index out of range ends the run."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.indexing import tuple_length
from stepwell.dialects.graph.scatter import ScatterElementsOp, ScatterNDOp, TensorScatterOp
from stepwell.dialects.graph.shape import product
from stepwell.dialects.tensor import ScatterOp, tensor_type
from stepwell.ir.affine_expr import const, dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import F32, I1, I64, FloatType, TensorType, Type
from stepwell.lowering.to_tensor.places import (
    Places,
    dims,
    moved,
    places_region,
    reads_unsigned,
    reshaped,
    result_type,
)
from stepwell.lowering.to_tensor.proofs import checked_place
from stepwell.lowering.to_tensor.rules import lowers

NOWHERE = -1  # the place of an update that is left out


def combined(p: Places, kind: str, a: Value, b: Value, unsigned: bool) -> Value:
    """a and the update b merged; truths as NumPy does: sums and maxima are `or`, products and minima `and`."""
    if kind == "none":
        return b
    if a.type is I1:
        return p.either(a, b) if kind in ("add", "max") else p.both(a, b)
    if kind in ("add", "mul"):
        return p.add(a, b) if kind == "add" else p.mul(a, b)
    return (p.maximum if kind == "max" else p.minimum)(a, b, unsigned)


@lowers(ScatterElementsOp)
def scatter_elements(op: ScatterElementsOp, c: Conversion) -> Value:
    """graph.scatter_elements %x, %i, %u {axis = 1}  ->  tensor.scatter over [dims before, axis, dims behind]

    Lines of x beyond the indices get updates of no place."""
    result, axis, rank = result_type(op), op.axis, result_type(op).rank
    given = shape_of(op.indices)
    shape = [given[axis] if other == axis else size for other, size in enumerate(result.shape)]
    shorter = [other for other in range(rank) if given[other] != shape[other]]

    def place(p: Places, source: Value) -> Value:
        index = p.read(source, [p.at(other) for other in range(rank)])
        found = checked_place(p, op.indices, index, axis, result.shape[axis])
        inside = [p.compare("lt", p.at(other), p.size(given[other])) for other in shorter]
        return p.integer_of(p.select(p.all_of(inside), found, p.whole(NOWHERE)) if inside else found, I64)

    places = moved(c, TensorType(tuple(shape), I64), place, sources=[c.new(op.indices)])
    updates = c.new(op.updates)
    if shorter:
        whole = tensor_type(updates).with_shape(shape)
        updates = moved(c, whole, lambda p, source: p.read(source, [p.at(n) for n in range(rank)]), sources=[updates])
    sizes = [product(shape[:axis]), shape[axis], product(shape[axis + 1 :])]
    return _scattered(c, op, places, updates, sizes, sizes[2])


@lowers(ScatterNDOp)
def scatter_nd(op: ScatterNDOp, c: Conversion) -> Value:
    """graph.scatter_nd %x, %i, %u  ->  tensor.scatter over [1, places, elements of a slice], where a place is the index
    tuple as one number"""
    result, shape = result_type(op), shape_of(op.indices)
    depth = tuple_length(shape_of(op.x), shape, 0)
    count, sizes = product(shape[:-1]), shape_of(op.x)[:depth]
    indices = reshaped(c, c.new(op.indices), [count, depth])

    def place(p: Places, *numbers: Value) -> Value:
        total = p.whole(0)
        for axis, (number, size) in enumerate(zip(numbers, sizes, strict=True)):
            total = p.add(p.mul(total, p.size(size)), checked_place(p, op.indices, number, axis, size))
        return p.integer_of(total, I64)

    maps = [[dim(0), const(position)] for position in range(depth)]
    places = moved(c, TensorType((count,), I64), place, inputs=[indices] * depth, maps=maps)
    return _scattered(c, op, places, c.new(op.updates), [1, count, product(result.shape[depth:])], 1)


def _scattered(
    c: Conversion, op: ScatterElementsOp | ScatterNDOp, places: Value, updates: Value, sizes: Sequence[Dim], width: Dim
) -> Value:
    """The scatter over [lines, updates, elements], of which `width` have places of their own; floats narrower than f32
    are combined in f32."""
    result, kind, unsigned = result_type(op), op.reduction, reads_unsigned(op.x)
    lines, count, inner = sizes
    narrow = kind != "none" and isinstance(result.element, FloatType) and result.element.width < 32
    element: Type = F32 if narrow else result.element

    def widened(value: Value) -> Value:
        if not narrow:
            return value
        type_ = tensor_type(value)
        return moved(c, type_.with_element(F32), lambda p, v: p.widened(v), inputs=[value], maps=[dims(type_.rank)])

    x, updates = widened(c.new(op.x)), widened(updates)
    made = c.insert(
        ScatterOp(
            reshaped(c, x, [lines, _places_of(op, result), inner]), reshaped(c, places, [lines, count, width]),
            reshaped(c, updates, [lines, count, inner]),
            regions=[places_region([element] * 2, lambda p, a, b: combined(p, kind, a, b, unsigned))],
        )
    )  # fmt: skip
    out = reshaped(c, made.result, result.shape)
    if not narrow:
        return out
    return moved(c, result, lambda p, v: p.narrowed(v, result.element), inputs=[out], maps=[dims(result.rank)])


def _places_of(op: ScatterElementsOp | ScatterNDOp, result: TensorType) -> Dim:
    """How many places a line has."""
    if isinstance(op, ScatterElementsOp):
        return result.shape[op.axis]
    return product(result.shape[: tuple_length(shape_of(op.x), shape_of(op.indices), 0)])


@lowers(TensorScatterOp)
def tensor_scatter(op: TensorScatterOp, c: Conversion) -> Value:
    """graph.tensor_scatter %cache, %u, %first {axis = 2}  ->  out[b, h, s] = u[b, h, s - first[b]] where inside, else
    cache[b, h, s]; a circular place may be written several times, and keeps the last"""
    result, axis = result_type(op), op.axis
    cache, update = c.new(op.cache), c.new(op.update)
    size, steps = result.shape[axis], tensor_type(update).shape[axis]
    inputs = [cache] if op.write_indices is None else [cache, c.new(op.write_indices)]

    def body(p: Places, old: Value, *rest: Value) -> Value:
        *first, source = rest
        begin = p.index_of(first[0], False) if first else p.whole(0)
        if first and not op.circular:
            end = p.add(begin, p.size(steps))
            inside = [p.compare("ge", begin, p.whole(0)), p.compare("le", end, p.size(size))]
            p.require(p.all_of(inside), begin, f"a write position leaves axis {axis} of size {size}")
        places = [p.at(other) for other in range(result.rank)]
        step = p.sub(p.at(axis), begin)
        if op.circular:
            step = p.mod(step, p.size(size))
            rounds = p.floordiv(p.sub(p.sub(p.size(steps), p.whole(1)), step), p.size(size))
            step = p.add(step, p.mul(p.maximum(rounds, p.whole(0)), p.size(size)))
        places[axis] = step
        return p.read(source, places, old)

    maps = [dims(result.rank), [dim(0)]][: len(inputs)]
    return moved(c, result, body, inputs=inputs, maps=maps, sources=[update])
