"""Reductions over axes -> `tensor.generic` with reduction dims, of sizes that data tell where they tell the axes."""

from __future__ import annotations

from stepwell.dialects import arith, math
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.reduction import NO_MEAN, ArgReduceOp, ReduceOp, no_extreme
from stepwell.dialects.tensor import ReshapeOp, tensor_type
from stepwell.ir.affine_expr import const
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, dim_max, proven_positive, symbol
from stepwell.ir.types import I64, FloatType, IntegerType, TensorType, Type, is_unsigned
from stepwell.lowering.to_tensor.axes import axis_counts
from stepwell.lowering.to_tensor.born import COUNT, bear
from stepwell.lowering.to_tensor.places import Places, moved
from stepwell.lowering.to_tensor.reductions import (
    AxesByData,
    ReducedAxes,
    ReductionSpace,
    extreme_identities,
    first_extreme,
)
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers, signless
from stepwell.lowering.to_tensor.scalars import Scalars


def reshaped(c: Conversion, x: Value, shape: TensorType) -> Value:
    """The same elements in another shape."""
    if x.type is shape:
        return x
    return c.insert(ReshapeOp(x, result_types=[shape])).result


@lowers(ReduceOp)
def reduce(op: ReduceOp, c: Conversion) -> Value:
    """graph.reduce %x {kind = "mean", axes = [1]}  ->  sums over d1, each divided by the count"""
    x, result = c.new(op.x), signless(op.result.type)
    assert isinstance(result, TensorType)
    axes = op.known_axes()
    if axes is None:
        return _reduced_over(AxesByData(tensor_type(x).shape, kept_sizes(op, c)), op, c, x, result)
    if not axes:
        return x
    return _reduced_over(ReducedAxes(tensor_type(x).shape, axes), op, c, x, result)


def _reduced_over(space: ReductionSpace, op: ReduceOp, c: Conversion, x: Value, result: TensorType) -> Value:
    unsigned = is_unsigned(op.x.type)
    if op.kind == "mean":
        made = _mean(c, space, x, result.element, unsigned)
    elif op.kind == "log_sum_exp":
        made = _log_sum_exp(c, space, x, result.element)
    else:
        made = space.merge(c, op.kind, x, unsigned=unsigned)
        if tensor_type(made).element is not result.element:
            made = space.on_kept(c, [made], result.element, lambda s, total: total)
    return reshaped(c, made, result)


def kept_sizes(op: ReduceOp, c: Conversion) -> tuple[Dim, ...]:
    """graph.reduce %x, %axes  ->  tensor.born: the size that each axis has where reduced ones have size 1

    Without `keepdims` these are symbols of the lowering, and the result's sizes are those of the axes that stay."""
    assert op.where is not None
    shape = tensor_type(op.x).shape
    counts = axis_counts(c, c.new(op.where), len(shape), all_if_empty=not op.none_if_empty)

    def kept(p: Places, count: Value, size: Dim) -> Value:
        """1 where the axis is reduced, else its size."""
        return p.select(p.compare("ne", count, p.constant(0, I64)), p.whole(1), p.size(size))

    def size_of(axis: int) -> Value:
        return moved(
            c, COUNT, lambda p, count: p.integer_of(kept(p, count, shape[axis]), I64), inputs=[counts],
            maps=[[const(axis)]],
        )  # fmt: skip

    def size_at(place: int) -> Value:
        """The size of the axis that stays at a place: as many axes before it stay."""

        def body(p: Places, *found: Value) -> Value:
            stayed, size = p.whole(0), p.whole(0)
            for length, count in zip(shape, found, strict=True):
                stays = p.compare("eq", count, p.constant(0, I64))
                here = p.both(stays, p.compare("eq", stayed, p.whole(place)))
                size = p.select(here, p.size(length), size)
                stayed = p.add(stayed, p.select(stays, p.whole(1), p.whole(0)))
            return p.integer_of(size, I64)

        rank = len(shape)
        return moved(c, COUNT, body, inputs=[counts] * rank, maps=[[const(axis)] for axis in range(rank)])

    if op.keepdims:
        names = [None if dim == 1 else str(dim) for dim in shape_of(op.result)]
    else:
        names = [None if dim == 1 else f"{op.new_dims[0]}.kept{axis}" for axis, dim in enumerate(shape)]
        bear(op, c, {name: (size_at(place), None) for place, name in enumerate(op.new_dims)})
    bear(op, c, {name: (size_of(n), dim_max(shape[n], 1)) for n, name in enumerate(names) if name is not None})
    return tuple(1 if name is None else symbol(name) for name in names)


def _mean(c: Conversion, space: ReductionSpace, x: Value, element: Type, unsigned: bool) -> Value:
    total = space.merge(c, "sum", x)
    if isinstance(element, FloatType):
        return space.on_kept(c, [total], element, lambda s, t: s.divf(t, s.count(space.count, t.type)))

    def cut(s: Scalars, t: Value) -> Value:
        """The quotient in 64 bits; a count of 0, which has no mean, is an error."""
        assert isinstance(element, IntegerType)
        wide = s.resized(t, I64, unsigned)
        count = _required_count(s, space, NO_MEAN)
        count = s.emit(arith.MaxSIOp(count, s.constant(1, I64)))
        quotient = s.emit((arith.DivUIOp if unsigned else arith.DivSIOp)(wide, count))
        return s.resized(quotient, element, unsigned)

    return space.on_kept(c, [total], element, cut)


def _required_count(s: Scalars, space: ReductionSpace, message: str) -> Value:
    """How many elements are merged into one, as i64; the message ends the run where there are none."""
    count = s.emit(arith.IndexCastOp(s.size(space.count), result_types=[I64]))
    if not proven_positive(space.count):
        s.require(s.compare("gt", count, s.constant(0, I64)), count, message)
    return count


def _log_sum_exp(c: Conversion, space: ReductionSpace, x: Value, element: Type) -> Value:
    """ln(sum(e^(x - peak))) + peak, where an infinite or NaN peak counts as 0."""
    wide = accumulator_type(element)

    def finite(s: Scalars, peak: Value) -> Value:
        below = s.compare("lt", s.unary(math.AbsFOp, peak), s.constant(float("inf"), wide))
        return s.select(below, peak, s.constant(0.0, wide))

    peak = space.on_kept(c, [space.merge(c, "max", x)], wide, finite)
    total = space.merge(c, "sum", x, lambda s, v, p: s.unary(math.ExpOp, s.sub(v, p)), [peak])
    return space.on_kept(c, [total, peak], element, lambda s, t, p: s.add(s.unary(math.LogOp, t), p))


@lowers(ArgReduceOp)
def arg_reduce(op: ArgReduceOp, c: Conversion) -> Value:
    """graph.arg_reduce %x {axis = 1}  ->  pairs (value, place along d1) merged by the extreme value"""
    x, result = c.new(op.x), signless(op.result.type)
    assert isinstance(result, TensorType)
    space = ReducedAxes(tensor_type(x).shape, (op.axis,))
    places = extreme_places(c, space, x, op.kind, is_unsigned(op.x.type), last=op.last)
    if not proven_positive(space.count):

        def checked(s: Scalars, place: Value) -> Value:
            _required_count(s, space, no_extreme(op.axis, op.kind))
            return place

        places = space.on_kept(c, [places], I64, checked)
    return reshaped(c, places, result)


def extreme_places(
    c: Conversion, space: ReducedAxes, x: Value, kind: str, unsigned: bool = False, *, last: bool = False
) -> Value:
    """The place of the extreme element over the axes, counted in row-major order, as i64."""
    element = accumulator_type(tensor_type(x).element)

    def body(s: Scalars, value: Value) -> list[Value]:
        return [value, row_major_place(s, space, [space.position(axis) for axis in space.axes])]

    _, places = space.reduce(
        c, [x], [], [element, I64], body, first_extreme(kind, unsigned, last=last),
        extreme_identities(kind, element, unsigned, I64, last=last),
    )  # fmt: skip
    return places


def row_major_place(s: Scalars, space: ReducedAxes, dims: list[int]) -> Value:
    """The number of a place among the merged axes, which run along `dims` of the iteration space, as i64."""
    place: Value | None = None
    for axis, d in zip(space.axes, dims, strict=True):
        step = s.index(d)
        place = step if place is None else s.add(s.mul(place, s.size(space.shape[axis])), step)
    assert place is not None
    return s.emit(arith.IndexCastOp(place, result_types=[I64]))
