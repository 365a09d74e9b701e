"""Resizing: nearest elements are affine or tabulated reads, interpolation is one weighted sum per axis.

Which elements make up which, and their weights, are tables of one axis: constants where its sizes are known, else
computed at run time. Coordinates are exact quotients of integers, so that no rounding decides which is nearest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import Array, constant_array, shape_of
from stepwell.dialects.graph.resize import AxisResize, ResizeOp, coordinates_at, filter_taps, nearest, source_map
from stepwell.dialects.tensor import ConstantOp, tensor_type
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.attributes import elements
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, ceildiv, dim_max
from stepwell.ir.types import F32, F64, I64, FloatType, TensorType, Type, numpy_dtype
from stepwell.lowering.to_tensor.fractions import quotients
from stepwell.lowering.to_tensor.numbers import as_float, from_float
from stepwell.lowering.to_tensor.places import Places, dims, moved, reads_unsigned, reduced, result_type
from stepwell.lowering.to_tensor.resize_axes import REACH, AxisPlan
from stepwell.lowering.to_tensor.rules import lowers

UNROLLED_TAPS = 4  # more are a reduction


@lowers(ResizeOp)
def resize(op: ResizeOp, c: Conversion) -> Value:
    """graph.resize %x  ->  out[i] = sum over t of weights[i, t] * x[places[i, t]], axis by axis"""
    result, x = result_type(op), c.new(op.x)
    region = _region(op, c)
    axes = [AxisPlan.of(op, position, region) for position in range(len(op.axes))]
    if op.mode == "nearest":
        made = _nearest(c, op, x, result, axes)
        return _with_outside(c, op, made, axes)
    computed = _computing_type(result.element)
    unsigned = reads_unsigned(op.x)
    moving = [axis for axis in axes if not axis.is_identity]
    if not moving:
        return _with_outside(c, op, x, axes)
    value = moved(
        c, tensor_type(x).with_element(computed), lambda p, v: as_float(p, v, computed, unsigned), inputs=[x],
        maps=[dims(result.rank)],
    )  # fmt: skip
    for axis in moving:
        value = _interpolated(c, op, value, axis)
    value = _with_outside(c, op, value, axes)
    return moved(
        c, result, lambda p, v: from_float(p, v, result.element, unsigned), inputs=[value], maps=[dims(result.rank)]
    )


def _region(op: ResizeOp, c: Conversion) -> Value | None:
    """The region of a crop as quotients of f64, where it or the sizes it is made of are only known at run time."""
    if op.coordinates != "tf_crop_and_resize" or op.region is None:
        return None
    sizes = [shape_of(value)[axis] for value in (op.x, op.result) for axis in op.axes]
    if constant_array(op.region) is not None and all(isinstance(size, int) for size in sizes):
        return None
    return quotients(c, c.new(op.region))


def _regions(axes: Sequence[AxisPlan]) -> list[Value]:
    """The region as the source of a body, where it is one."""
    return [plan.region for plan in axes[:1] if plan.region is not None]


def _computing_type(element: Type) -> FloatType:
    return F32 if isinstance(element, FloatType) and element.width <= 32 else F64


def _constant(c: Conversion, array: Array, element: Type) -> Value:
    type_ = TensorType(tuple(int(n) for n in array.shape), element)
    return c.insert(ConstantOp(value=elements(array.astype(numpy_dtype(type_)), type_))).result


# Nearest


def _nearest(c: Conversion, op: ResizeOp, x: Value, result: TensorType, axes: Sequence[AxisPlan]) -> Value:
    exprs: list[AffineExpr | None] = list(dims(result.rank))
    tables: dict[int, Value] = {}
    for plan in axes:
        if plan.known is None:
            exprs[plan.axis] = repeated_places(plan, op.rounding)
            continue
        at = coordinates_at(plan.known, op.coordinates)
        found = np.clip(nearest(at, op.rounding), 0, max(plan.known.size - 1, 0))
        exprs[plan.axis] = affine_places(plan.known, op, found, plan.axis)
        if exprs[plan.axis] is None:
            tables[plan.axis] = _constant(c, found, I64)
    known = [expr for expr in exprs if expr is not None]
    if len(known) == result.rank:
        return moved(c, result, inputs=[x], maps=[known])
    computed = {plan.axis: plan for plan in axes if plan.known is None and exprs[plan.axis] is None}

    def body(p: Places, *args: Value) -> Value:
        found, (source, *regions) = args[: len(tables)], args[len(tables) :]
        tabled = dict(zip(tables, found, strict=True))
        places = [p.at(axis) for axis in range(result.rank)]
        for axis, expr in enumerate(exprs):
            if axis in tabled:
                places[axis] = p.index_of(tabled[axis], False)
            elif axis in computed:
                place = computed[axis].coordinate(p, p.at(axis), regions).nearest(p, op.rounding)
                last = p.sub(p.size(computed[axis].size), p.whole(1))
                places[axis] = p.between(place, p.whole(0), last)
            elif expr is not None and expr is not dim(axis):
                places[axis] = affine_value(p, expr)
        return p.read(source, places)

    maps = [[dim(axis)] for axis in tables]
    return moved(c, result, body, inputs=list(tables.values()), maps=maps, sources=[x, *_regions(axes)])


def affine_places(how: AxisResize, op: ResizeOp, found: Array, axis: int) -> AffineExpr | None:
    """The nearest places as an affine expression, where clamping them changes nothing."""
    if how.size == 0 or how.new_size == 0:
        return None
    slope, offset = source_map(how, op.coordinates)
    below = math.lcm(slope.denominator, offset.denominator)
    number = dim(axis) * int(slope * below) + int(offset * below)
    expr = rounded_quotient(number, below, op.rounding)
    return expr if all(expr.evaluate([x] * (axis + 1), ()) == place for x, place in enumerate(found)) else None


def repeated_places(plan: AxisPlan, rounding: str) -> AffineExpr | None:
    """The nearest places along an axis of unknown size that gets a whole number of times as many elements, where
    clamping them changes nothing: with f(x + times) = f(x) + 1, that is where f(-1) < 0 <= f(0)."""
    a, b, below = plan.quotient() if plan.region is None else (None, None, None)
    if not (isinstance(a, int) and isinstance(b, int) and isinstance(below, int)) or a < 1 or below % a:
        return None
    times = below // a
    if times < 2 or plan.new_size != plan.size * times:
        return None
    expr = rounded_quotient(dim(plan.axis) * a + b, below, rounding)
    before, first = (expr.evaluate([x] * (plan.axis + 1), ()) for x in (-1, 0))
    return expr if before < 0 <= first else None


def rounded_quotient(number: AffineExpr, below: int, rounding: str) -> AffineExpr:
    """number / below as a whole number."""
    if rounding == "floor":
        return number // below
    if rounding == "ceil":
        return (number + (below - 1)) // below
    # to nearest: ceil(q - 1/2) or floor(q + 1/2)
    return (number * 2 + (below - 1 if rounding == "round_prefer_floor" else below)) // (2 * below)


def affine_value(p: Places, expr: AffineExpr) -> Value:
    """An affine expression of the iteration dims as code: sums of multiples of dims and one quotient."""
    total = p.whole(expr.constant)
    for atom, factor in expr.terms:
        term = p.at(atom.index) if atom.is_leaf else p.floordiv(affine_value(p, atom.operand), p.whole(atom.divisor))
        if not atom.is_leaf and atom.kind == "mod":
            inner = affine_value(p, atom.operand)
            term = p.sub(inner, p.mul(term, p.whole(atom.divisor)))
        total = p.add(total, p.mul(term, p.whole(factor)))
    return total


def _with_outside(c: Conversion, op: ResizeOp, value: Value, axes: Sequence[AxisPlan]) -> Value:
    """The extrapolation value where a cropped region lies outside the operand."""
    if op.coordinates != "tf_crop_and_resize":
        return value
    masks, places = [], []
    for plan in axes:
        if plan.known is None:
            continue
        at = coordinates_at(plan.known, op.coordinates)
        beyond = (at < 0) | (at > plan.known.size - 1)
        if beyond.any():
            masks.append(_constant(c, beyond.astype(np.int64), I64))
            places.append([dim(plan.axis)])
    regions = _regions(axes)
    if not masks and not regions:
        return value
    type_ = tensor_type(value)
    number = attribute_of(np.asarray(op.extrapolation).astype(numpy_dtype(type_)), type_.element)

    def body(p: Places, inside: Value, *rest: Value) -> Value:
        for plan in axes if regions else ():
            at = plan.coordinate(p, p.at(plan.axis), rest[len(masks) :]).value(p)
            last = p.float_of(p.sub(p.size(plan.size), p.whole(1)))
            within = p.both(p.compare("ge", at, p.constant(0.0, F64)), p.compare("le", at, last))
            inside = p.select(within, inside, p.constant_of(number))
        for mask in rest[: len(masks)]:
            outside = p.compare("ne", mask, p.constant(0, I64))
            inside = p.select(outside, p.constant_of(number), inside)
        return inside

    return moved(c, type_, body, inputs=[value, *masks], maps=[dims(type_.rank), *places], sources=regions)


# Interpolation


def _interpolated(c: Conversion, op: ResizeOp, x: Value, plan: AxisPlan) -> Value:
    """One axis of a separable filter."""
    type_, axis = tensor_type(x), plan.axis
    shape = list(type_.shape)
    shape[axis] = plan.new_size
    result = type_.with_shape(shape)
    places, weights, taps = _tables(c, op, plan, type_.element)
    rank = result.rank

    def term(p: Places, source: Value, place: Value, weight: Value) -> Value:
        at = [p.at(other) for other in range(rank)]
        at[axis] = p.index_of(place, False)
        return p.mul(p.read(source, at), weight)

    if not isinstance(taps, int) or taps > UNROLLED_TAPS:
        return reduced(
            c, result, [taps], lambda p, place, weight, source: term(p, source, place, weight),
            lambda p, a, b: p.add(a, b), attribute_of(0.0, type_.element), inputs=[places, weights],
            maps=[[dim(axis), dim(rank)]] * 2, sources=[x],
        )  # fmt: skip

    def body(p: Places, *args: Value) -> Value:
        *tables, source = args
        terms = [term(p, source, *tables[2 * tap : 2 * tap + 2]) for tap in range(taps)]
        total = terms[0]
        for other in terms[1:]:
            total = p.add(total, other)
        return total

    maps = [[dim(axis), const(tap)] for tap in range(taps) for _ in range(2)]
    return moved(c, result, body, inputs=[places, weights] * taps, maps=maps, sources=[x])


def _tables(c: Conversion, op: ResizeOp, plan: AxisPlan, element: Type) -> tuple[Value, Value, Dim]:
    """Places and weights [new size, taps] of the elements that make up each element, and the number of taps."""
    if plan.known is None:
        return _computed_tables(c, op, plan, element)
    at = coordinates_at(plan.known, op.coordinates)
    places, weights = filter_taps(at, plan.known, op.mode, op.cubic_a, op.antialias, op.exclude_outside)
    return _constant(c, places, I64), _constant(c, weights, element), places.shape[1]


def _computed_tables(c: Conversion, op: ResizeOp, plan: AxisPlan, element: Type) -> tuple[Value, Value, Dim]:
    """The tables of an axis whose sizes are known at run time; the filter of antialiasing may be wider the smaller the
    scale is."""
    reach = REACH[op.mode]
    up, down = plan.ratio if op.antialias else (1, 1)
    widest, radius = dim_max(up, down), plan.radius  # distances shrink by up / widest
    if radius is None and not (isinstance(up, int) and isinstance(widest, int)):
        raise NoMatch("the width of the filter is only known at run time")
    if radius is None:
        radius = ceildiv(widest * reach, dim_max(up, 1))
    taps, first = 2 * radius, 1 - radius

    def place_of(p: Places, regions: Sequence[Value]) -> tuple[Value, Value]:
        """(position of a tap, coordinate)"""
        at = plan.coordinate(p, p.at(0), regions)
        return p.add(p.add(at.floor(p), p.size(first)), p.at(1)), at.value(p)

    def weight_of(p: Places, *regions: Value) -> Value:
        place, at = place_of(p, regions)
        distance = p.magnitude(p.sub(p.float_of(place), at))
        if up != widest:
            distance = p.mul(distance, p.divf(p.float_of(p.size(up)), p.float_of(p.size(dim_max(widest, 1)))))
        weight = p.tent(distance) if op.mode == "linear" else p.keys(distance, op.cubic_a)
        if op.exclude_outside:
            inside = p.both(p.compare("ge", place, p.whole(0)), p.compare("lt", place, p.size(plan.size)))
            weight = p.select(inside, weight, p.constant(0.0, F64))
        return weight

    def inside_place(p: Places, *regions: Value) -> Value:
        last = p.sub(p.size(plan.size), p.whole(1))
        return p.integer_of(p.between(place_of(p, regions)[0], p.whole(0), last), I64)

    shape: tuple[Dim, Dim] = (plan.new_size, taps)
    places = moved(c, TensorType(shape, I64), inside_place, sources=_regions([plan]))
    weights = moved(c, TensorType(shape, F64), weight_of, sources=_regions([plan]))
    if op.antialias or op.exclude_outside:
        weights = _normalized(c, weights)
    if element is not F64:
        narrow = TensorType(shape, element)
        weights = moved(c, narrow, lambda p, w: p.narrowed(w, element), inputs=[weights], maps=[dims(2)])
    return places, weights, taps


def _normalized(c: Conversion, weights: Value) -> Value:
    """Weights divided by their sums, where these are not 0."""
    size, taps = tensor_type(weights).shape
    total = reduced(
        c, TensorType((size,), F64), [taps], lambda p, w: w, lambda p, a, b: p.add(a, b), attribute_of(0.0, F64),
        inputs=[weights], maps=[dims(2)],
    )  # fmt: skip

    def body(p: Places, weight: Value, whole: Value) -> Value:
        nothing = p.compare("eq", whole, p.constant(0.0, F64))
        return p.divf(weight, p.select(nothing, p.constant(1.0, F64), whole))

    return moved(c, tensor_type(weights), body, inputs=[weights, total], maps=[dims(2), [dim(0)]])
