"""Writing through indices, seen from the places that are written: each looks for the updates that name it.

`none` finds the last update of each place by a maximum over the updates' numbers, then reads it; a reduction combines
all updates that name a place. That visits every pair of place and update (of one line for scatter_elements): right at
every size, and slow where both are many. An index out of range ends the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.indexing import tuple_length
from stepwell.dialects.graph.scatter import ScatterElementsOp, ScatterNDOp, TensorScatterOp
from stepwell.dialects.graph.shape import product
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.attributes import Attribute
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import F32, I1, I64, FloatType, TensorType, Type
from stepwell.lowering.to_tensor.places import (
    Places,
    dims,
    highest,
    lowest,
    moved,
    reads_unsigned,
    reduced,
    reshaped,
    result_type,
)
from stepwell.lowering.to_tensor.proofs import checked_place
from stepwell.lowering.to_tensor.rules import lowers

Update = Callable[..., tuple[Value, Value]]
NOWHERE = -1  # the number of the last update of a place that none names


def combined(p: Places, kind: str, a: Value, b: Value, unsigned: bool) -> Value:
    """a and b merged; truths as NumPy does: sums and maxima are `or`, products and minima `and`."""
    if a.type is I1:
        return p.either(a, b) if kind in ("add", "max") else p.both(a, b)
    if kind in ("add", "mul"):
        return p.add(a, b) if kind == "add" else p.mul(a, b)
    return (p.maximum if kind == "max" else p.minimum)(a, b, unsigned)


def identity(kind: str, type_: Type, unsigned: bool) -> Attribute:
    """What does not change the other one."""
    if kind in ("add", "mul"):
        return attribute_of(0 if kind == "add" else 1, type_)
    return lowest(type_, unsigned) if kind == "max" else highest(type_, unsigned)


@lowers(ScatterElementsOp)
def scatter_elements(op: ScatterElementsOp, c: Conversion) -> Value:
    """graph.scatter_elements %x, %i, %u {axis = 0}  ->  last[a, b] = max over k of (i[k, b] == a ? k : -1);
    out[a, b] = last[a, b] >= 0 ? u[last[a, b], b] : x[a, b]"""
    result, axis = result_type(op), op.axis
    rank, count = result.rank, shape_of(op.indices)[op.axis]
    indices, updates = c.new(op.indices), c.new(op.updates)

    def line(p: Places) -> list[Value]:
        return [p.at(rank) if other == axis else p.at(other) for other in range(rank)]

    def named(p: Places, source: Value) -> Value:
        """Whether update k of the line is for this place. Lines beyond the indices have no updates."""
        index = p.read(source, line(p))
        place = checked_place(p, op.indices, index, axis, shape_of(op.x)[axis])
        inside = [
            p.compare("lt", p.at(other), p.size(size))
            for other, size in enumerate(shape_of(op.indices))
            if other != axis and size != result.shape[other]
        ]
        return p.all_of([p.compare("eq", place, p.at(axis)), *inside])

    if op.reduction != "none":
        return _combined_updates(c, op, [count], lambda p, i, u: (named(p, i), p.read(u, line(p))), [indices, updates])
    last = reduced(
        c, result.with_element(I64), [count],
        lambda p, i: p.select(named(p, i), p.integer_of(p.at(rank), I64), p.constant(NOWHERE, I64)),
        lambda p, a, b: p.maximum(a, b), attribute_of(NOWHERE, I64), sources=[indices],
    )  # fmt: skip

    def body(p: Places, found: Value, x: Value, source: Value) -> Value:
        places = [p.at(other) for other in range(rank)]
        places[axis] = p.index_of(found, False)
        return p.read(source, places, x)

    return moved(c, result, body, inputs=[last, c.new(op.x)], maps=[dims(rank)] * 2, sources=[updates])


@lowers(ScatterNDOp)
def scatter_nd(op: ScatterNDOp, c: Conversion) -> Value:
    """graph.scatter_nd %x, %i, %u  ->  last[a] = max over k of (i[k] == a ? k : -1);
    out[a, b] = last[a] >= 0 ? u[last[a], b] : x[a, b]"""
    result, shape = result_type(op), shape_of(op.indices)
    depth = tuple_length(shape_of(op.x), shape, 0)
    count = product(shape[:-1])
    indices = reshaped(c, c.new(op.indices), [count, depth])
    updates = reshaped(c, c.new(op.updates), [count, *result.shape[depth:]])

    def named(p: Places, numbers: Sequence[Value]) -> Value:
        """Whether an update is for this place."""
        places = [
            checked_place(p, op.indices, number, axis, shape_of(op.x)[axis]) for axis, number in enumerate(numbers)
        ]
        return p.all_of([p.compare("eq", place, p.at(axis)) for axis, place in enumerate(places)])

    def numbers_at(update: AffineExpr) -> list[list[AffineExpr]]:
        return [[update, const(position)] for position in range(depth)]

    if op.reduction != "none":
        rank = result.rank
        return _combined_updates(
            c, op, [count], lambda p, *numbers: (named(p, numbers[:-1]), numbers[-1]), [],
            inputs=[indices] * depth + [updates],
            maps=[*numbers_at(dim(rank)), [dim(rank), *dims(rank - depth, depth)]],
        )  # fmt: skip
    last = reduced(
        c, TensorType(result.shape[:depth], I64), [count],
        lambda p, *numbers: p.select(named(p, numbers), p.integer_of(p.at(depth), I64), p.constant(NOWHERE, I64)),
        lambda p, a, b: p.maximum(a, b), attribute_of(NOWHERE, I64), inputs=[indices] * depth,
        maps=numbers_at(dim(depth)),
    )  # fmt: skip

    def body(p: Places, found: Value, x: Value, source: Value) -> Value:
        return p.read(source, [p.index_of(found, False), *(p.at(axis) for axis in range(depth, result.rank))], x)

    return moved(
        c, result, body, inputs=[last, c.new(op.x)], maps=[dims(depth), dims(result.rank)], sources=[updates]
    )


def _combined_updates(
    c: Conversion, op: ScatterElementsOp | ScatterNDOp, over: Sequence[Dim], update: Update,
    sources: Sequence[Value], *, inputs: Sequence[Value] = (), maps: Sequence[Sequence[AffineExpr]] = (),
) -> Value:  # fmt: skip
    """out[a] = x[a] combined with all updates for a. `update` gives (whether there is one, its value)."""
    result, unsigned, kind = result_type(op), reads_unsigned(op.x), op.reduction
    element = result.element
    narrow = isinstance(element, FloatType) and element.width < 32
    accumulator: Type = F32 if narrow else element
    neutral = identity(kind, accumulator, unsigned)

    def body(p: Places, *args: Value) -> Value:
        condition, value = update(p, *args)
        return p.select(condition, p.widened(value), p.constant_of(neutral))

    total = reduced(
        c, result.with_element(accumulator), over, body, lambda p, a, b: combined(p, kind, a, b, unsigned), neutral,
        inputs=inputs, maps=maps, sources=sources,
    )  # fmt: skip

    def finish(p: Places, x: Value, found: Value) -> Value:
        return p.narrowed(combined(p, kind, p.widened(x), found, unsigned), element)

    return moved(c, result, finish, inputs=[c.new(op.x), total], maps=[dims(result.rank)] * 2)


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
