"""Movement along axes: affine maps where the places are known, guarded reads where sizes decide them."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import content, shape_of
from stepwell.dialects.graph.movement import (
    ConcatOp,
    PadOp,
    ReverseSequenceOp,
    SliceOp,
    SplitOp,
    TileOp,
    TransposeOp,
)
from stepwell.dialects.graph.slicing import wrap
from stepwell.dialects.tensor import ConcatOp as TensorConcatOp
from stepwell.dialects.tensor import PadOp as TensorPadOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, dim_max, proven_lt, proven_non_negative
from stepwell.lowering.to_tensor.operands import known_below
from stepwell.lowering.to_tensor.places import Places, moved, origin_place, reshaped, result_type
from stepwell.lowering.to_tensor.rules import lowers


@lowers(TransposeOp)
def transpose(op: TransposeOp, c: Conversion) -> Value:
    """graph.transpose %x {permutation = [2, 0, 1]}  ->  out[i, j, k] = x[j, k, i]; a view where only dims of size 1
    change places"""
    result = result_type(op)
    long = [axis for axis in op.permutation if result.shape[op.permutation.index(axis)] != 1]
    if long == sorted(long):
        return reshaped(c, c.new(op.x), result.shape)
    places = [dim(op.permutation.index(axis)) for axis in range(result.rank)]
    return moved(c, result, inputs=[c.new(op.x)], maps=[places])


@lowers(ConcatOp)
def concat(op: ConcatOp, c: Conversion) -> Value:
    """graph.concat %a, %b  ->  tensor.concat where the parts are long runs of the result's memory; else
    out[i] = a[i] where that is inside, else b[i - size of a]

    The parts are read with guards, each the other value of the one before it. A part whose size is not known is read at
    places behind the sum of the sizes before it."""
    result = result_type(op)
    parts = [part for part in op.xs if shape_of(part)[op.axis] != 0] or [op.xs[0]]
    if len(parts) == 1:
        return reshaped(c, c.new(parts[0]), result.shape)
    known = all(isinstance(shape_of(part)[op.axis], int) for part in parts)
    runs = op.axis + 1 < result.rank or all(n == 1 for n in result.shape[: op.axis])
    alike = all(around(shape_of(part), op.axis) == around(result.shape, op.axis) for part in parts)
    if known and runs and alike:
        return c.insert(TensorConcatOp([c.new(part) for part in parts], axis=op.axis)).result
    starts: list[Dim] = [0]
    for part in parts[:-1]:
        starts.append(starts[-1] + shape_of(part)[op.axis])

    def body(p: Places, *sources: Value) -> Value:
        value = p.constant(0, result.element)
        for source, start in zip(reversed(sources), reversed(starts), strict=True):
            places = [p.at(axis) for axis in range(result.rank)]
            places[op.axis] = p.sub(places[op.axis], p.size(start))
            value = p.read(source, places, value)
        return value

    return moved(c, result, body, sources=[c.new(part) for part in parts])


def around(shape: Sequence[Dim], axis: int) -> list[Dim]:
    """The other dims."""
    return [*shape[:axis], *shape[axis + 1 :]]


@lowers(SplitOp)
def split(op: SplitOp, c: Conversion) -> list[Value]:
    """graph.split %x  ->  one generic per part, out[i] = x[start + i]"""
    made: list[Value] = []
    start: Dim = 0
    for index, part in enumerate(op.parts):
        made.append(sliced(c, op, index, {op.axis: (start, 1)}))
        start = start + shape_of(part)[op.axis]
    return made


@lowers(SliceOp)
def slice_(op: SliceOp, c: Conversion) -> Value:
    """graph.slice %x  ->  out[i] = x[start + i * step]"""
    starts = content(op.starts)
    taken: dict[int, tuple[Dim, int]] = {}
    for number, (axis, bounds) in enumerate(zip(op.axes, op.bounds(), strict=True)):
        if bounds is None or starts is None:
            raise NoMatch("the bounds of the slice depend on data")
        first, _, step = bounds
        start = wrap(starts[number], shape_of(op.x)[axis])
        # Clamping to the size only matters where nothing is left: no element is read then.
        taken[axis] = (start if step > 0 and proven_non_negative(start) else first, step)
    return sliced(c, op, 0, taken)


def sliced(c: Conversion, op: SliceOp | SplitOp, index: int, taken: dict[int, tuple[Dim, int]]) -> Value:
    """out[.., i, ..] = x[.., start + i * step, ..] for each of the axes in `taken`."""
    result, x = result_type(op, index), c.new(op.x)
    if all(start == 0 and step == 1 for start, step in taken.values()) and result.shape == tensor_type(x).shape:
        return x
    if all(isinstance(start, int) for start, _ in taken.values()):
        return moved(c, result, inputs=[x], maps=[[
            dim(axis) * taken[axis][1] + const(taken[axis][0]) if axis in taken else dim(axis)  # type: ignore[arg-type]
            for axis in range(result.rank)
        ]])  # fmt: skip

    def body(p: Places, source: Value) -> Value:
        places = [p.at(axis) for axis in range(result.rank)]
        for axis, (start, step) in taken.items():
            places[axis] = p.add(p.mul(places[axis], p.whole(step)), p.size(start))
        return p.read(source, places)

    return moved(c, result, body, sources=[x])


@lowers(PadOp)
def pad(op: PadOp, c: Conversion) -> Value:
    """graph.pad %x  ->  tensor.pad where a known value is added on known borders, else out[i] = x[place of i]"""
    result, x = result_type(op), c.new(op.x)
    pads = content(op.pads)
    if pads is None:
        raise NoMatch("the borders depend on data")
    before, after = pads[: result.rank], pads[result.rank :]
    value = known_below(None if op.value is None else c.new(op.value))
    if op.mode == "constant" and (op.value is None or value is not None):
        low = [size for size in before if isinstance(size, int) and size >= 0]
        high = [size for size in after if isinstance(size, int) and size >= 0]
        if len(low) == len(high) == result.rank:
            number = attribute_of(0 if value is None else value.reshape(-1)[0], result.element)
            return c.insert(TensorPadOp(x, low=low, high=high, value=number, result_types=[result])).result
    if op.mode == "constant":
        return _padded_with_value(c, op, before)

    def body(p: Places, source: Value) -> Value:
        places = []
        for axis, (size, front, back) in enumerate(zip(tensor_type(x).shape, before, after, strict=True)):
            low = dim_max(-front, 0)
            window = size - low - dim_max(-back, 0)
            once = proven_lt(front, window) and proven_lt(back, window)
            inner = [p.size(dim) for dim in (low, window, dim_max(front, 0))]
            at = p.at(axis)
            places.append(at if front == 0 == back else border_source(p, op.mode, at, *inner, once=once))
        return p.read(source, places)

    return moved(c, result, body, sources=[x])


def _padded_with_value(c: Conversion, op: PadOp, before: Sequence[Dim]) -> Value:
    """out[i] = x[i - before], which is outside exactly where the value is wanted."""
    result = result_type(op)
    inputs = [c.new(op.value)] if op.value is not None else []

    def body(p: Places, *args: Value) -> Value:
        places = [p.sub(p.at(axis), p.size(size)) for axis, size in enumerate(before)]
        return p.read(args[-1], places, args[0] if inputs else None)

    return moved(c, result, body, inputs=inputs, maps=[origin_place(v) for v in inputs], sources=[c.new(op.x)])


def border_source(
    p: Places, mode: str, at: Value, low: Value, window: Value, front: Value, *, once: bool = False
) -> Value:  # fmt: skip
    """Where along an axis an element comes from: `window` elements from `low` on stand `front` elements behind the
    begin of the result, around which is a border. With `once` no border is longer than what is mirrored in it."""
    zero, one = p.whole(0), p.whole(1)
    position, last = p.sub(at, front), p.sub(window, one)
    if mode == "edge":
        inside = p.between(position, zero, last)
    elif mode == "wrap":
        inside = p.mod(position, p.maximum(window, one))
    elif once:
        distance = p.sub(last, p.maximum(position, p.sub(zero, position)))
        inside = p.sub(last, p.maximum(distance, p.sub(zero, distance)))
    else:
        period = p.maximum(p.mul(last, p.whole(2)), one)
        folded = p.mod(position, period)
        inside = p.maximum(p.minimum(p.minimum(folded, p.sub(period, folded)), last), zero)
    return p.add(inside, low)


@lowers(TileOp)
def tile(op: TileOp, c: Conversion) -> Value:
    """graph.tile %x by [a, b]  ->  t[i, j, k, l] = x[j, l] over [a, size 0, b, size 1], seen as [a * size 0, ..]"""
    result, x = result_type(op), c.new(op.x)
    repeats = content(op.repeats)
    if repeats is None:
        raise NoMatch("the number of repeats depends on data")
    shape: list[Dim] = []
    places: list[AffineExpr] = []
    for size, count in zip(tensor_type(x).shape, repeats, strict=True):
        if count != 1:
            shape.append(count)
        if size == 1 and count != 1:
            places.append(const(0))
        else:
            shape.append(size)
            places.append(dim(len(shape) - 1))
    if len(shape) == len(repeats) and all(count == 1 for count in repeats):
        return x
    return reshaped(c, moved(c, result.with_shape(shape), inputs=[x], maps=[places]), result.shape)


@lowers(ReverseSequenceOp)
def reverse_sequence(op: ReverseSequenceOp, c: Conversion) -> Value:
    """graph.reverse_sequence %x, %n  ->  out[t, b] = x[t < n[b] ? n[b] - 1 - t : t, b]"""
    result = result_type(op)

    def body(p: Places, length: Value, source: Value) -> Value:
        count, steps = p.index_of(length, False), result.shape[op.time_axis]
        inside = p.compare("le", count, p.size(steps), unsigned=True)
        p.require(inside, count, f"a sequence length is not in 0 to {steps}")
        places = [p.at(axis) for axis in range(result.rank)]
        time = places[op.time_axis]
        back = p.sub(p.sub(count, p.whole(1)), time)
        places[op.time_axis] = p.select(p.compare("lt", time, count), back, time)
        return p.read(source, places)

    maps = [[dim(op.batch_axis)]]
    return moved(c, result, body, inputs=[c.new(op.lengths)], maps=maps, sources=[c.new(op.x)])

