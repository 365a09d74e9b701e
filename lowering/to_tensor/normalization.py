"""Normalisations -> two passes for mean and variance in the type of the statistics, then one map."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects import math
from stepwell.dialects.graph.normalization import BatchNormOp, GroupNormOp, LayerNormOp, LrnOp, RmsNormOp
from stepwell.dialects.tensor import ReadOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import const, dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import F64, INDEX, TensorType, Type
from stepwell.lowering.to_tensor.elementwise import float_power
from stepwell.lowering.to_tensor.places import Places, moved
from stepwell.lowering.to_tensor.reduction import reshaped
from stepwell.lowering.to_tensor.reductions import ReducedAxes, identity_of
from stepwell.lowering.to_tensor.rules import accumulator_type, dim_names, lowers, map_generic, reduce_generics
from stepwell.lowering.to_tensor.scalars import Scalars


def _inverse_root(s: Scalars, variance: Value, epsilon: float) -> Value:
    """1 / sqrt(variance + epsilon)"""
    root = s.unary(math.SqrtOp, s.add(variance, s.constant(epsilon, variance.type)))
    return s.divf(s.constant(1.0, variance.type), root)


def _mean(c: Conversion, space: ReducedAxes, x: Value, wide: Type) -> Value:
    total = space.merge(c, "sum", x, lambda s, v: s.narrowed(v, wide), element=wide)
    return space.on_kept(c, [total], wide, lambda s, t: s.divf(t, s.count(space.count, t.type)))


def _inverse_deviation(c: Conversion, space: ReducedAxes, x: Value, mean: Value, epsilon: float) -> Value:
    """1 / sqrt(mean of (x - mean)^2 + epsilon)"""

    def square(s: Scalars, v: Value, m: Value) -> Value:
        centred = s.sub(s.narrowed(v, m.type), m)
        return s.mul(centred, centred)

    wide = tensor_type(mean).element
    total = space.merge(c, "sum", x, square, [mean], element=wide)
    return _root_of_mean(c, space, total, epsilon)


def _root_of_mean(c: Conversion, space: ReducedAxes, total: Value, epsilon: float) -> Value:
    return space.on_kept(
        c, [total], tensor_type(total).element,
        lambda s, t: _inverse_root(s, s.divf(t, s.count(space.count, t.type)), epsilon),
    )  # fmt: skip


def _scaled(s: Scalars, y: Value, scale: Value | None, bias: Value | None) -> Value:
    """y * scale + bias in the type of y."""
    if scale is not None:
        y = s.mul(y, s.narrowed(scale, y.type))
    return y if bias is None else s.add(y, s.narrowed(bias, y.type))


def _statistic(c: Conversion, value: Value, given: Value) -> Value:
    """A statistic of the kept axes as the result that the op gives: narrowed, its merged dims 1."""
    type_ = tensor_type(given)
    if not given.has_uses:
        return value
    if tensor_type(value).element is not type_.element:
        value = map_generic(c, [value], tensor_type(value).with_element(type_.element), lambda s, v: v)
    return reshaped(c, value, type_)


@lowers(LayerNormOp)
def layer_norm(op: LayerNormOp, c: Conversion) -> Sequence[Value]:
    """graph.layer_norm %x, %w, %b  ->  m = mean(x); r = 1 / sqrt(mean((x - m)^2) + eps); (x - m) * r * w + b"""
    x, result = c.new(op.x), tensor_type(op.y)
    space = ReducedAxes(result.shape, tuple(op.axes))
    wide = accumulator_type(op.stash)
    mean = _mean(c, space, x, wide)
    inverse = _inverse_deviation(c, space, x, mean, op.epsilon)
    factors = [c.new(value) for value in (op.scale, op.bias) if value is not None]

    def body(s: Scalars, v: Value, m: Value, r: Value, *rest: Value) -> Value:
        y = s.narrowed(s.mul(s.sub(s.narrowed(v, wide), m), r), accumulator_type(result.element))
        scale = rest[0] if op.scale is not None else None
        return _scaled(s, y, scale, rest[-1] if op.bias is not None else None)

    spread = space.spread_map
    maps = [None, spread, spread, *(None for _ in factors)]
    y = map_generic(c, [x, mean, inverse, *factors], result, body, maps=maps)
    return y, _statistic(c, mean, op.mean), _statistic(c, inverse, op.inverse_deviation)


@lowers(RmsNormOp)
def rms_norm(op: RmsNormOp, c: Conversion) -> Sequence[Value]:
    """graph.rms_norm %x, %w  ->  r = 1 / sqrt(mean(x^2) + eps); x * r * w"""
    x, scale, result = c.new(op.x), c.new(op.scale), tensor_type(op.y)
    space = ReducedAxes(result.shape, tuple(op.axes))
    wide = accumulator_type(op.stash)

    def square(s: Scalars, v: Value) -> Value:
        value = s.narrowed(v, wide)
        return s.mul(value, value)

    total = space.merge(c, "sum", x, square, element=wide)
    inverse = _root_of_mean(c, space, total, op.epsilon)

    def body(s: Scalars, v: Value, r: Value, w: Value) -> Value:
        y = s.narrowed(s.mul(s.narrowed(v, wide), r), accumulator_type(result.element))
        return _scaled(s, y, w, None)

    y = map_generic(c, [x, inverse, scale], result, body, maps=[None, space.spread_map, None])
    return y, _statistic(c, inverse, op.inverse_rms)


@lowers(BatchNormOp)
def batch_norm(op: BatchNormOp, c: Conversion) -> Value:
    """graph.batch_norm %x, %w, %b, %m, %v  ->  f = w / sqrt(v + eps) per channel; (x - m) * f + b"""
    result = tensor_type(op.result)
    x, scale, bias, mean, variance = (c.new(value) for value in op.operands)
    types = [tensor_type(value).element for value in op.operands]
    wide = F64 if F64 in types else accumulator_type(result.element)

    def factor(s: Scalars, w: Value, v: Value) -> Value:
        root = s.unary(math.SqrtOp, s.add(s.narrowed(v, wide), s.constant(op.epsilon, wide)))
        return s.divf(s.narrowed(w, wide), root)

    channels = TensorType(tensor_type(variance).shape, wide)
    factors = map_generic(c, [scale, variance], channels, factor)

    def body(s: Scalars, v: Value, m: Value, f: Value, b: Value) -> Value:
        centred = s.sub(s.narrowed(v, wide), s.narrowed(m, wide))
        return s.add(s.mul(centred, f), s.narrowed(b, wide))

    along = AffineMap(result.rank, 0, [dim(1) if result.rank > 1 else const(0)])
    return map_generic(c, [x, mean, factors, bias], result, body, maps=[None, along, along, along])


@lowers(GroupNormOp)
def group_norm(op: GroupNormOp, c: Conversion) -> Value:
    """graph.group_norm %x  ->  layer norm over the last two axes of x as [N, groups, channels / groups, rest]"""
    result = tensor_type(op.result)
    batch, channels, *spatial = result.shape
    groups, size = (channels, 1) if op.groups is None else (op.groups, channels // op.groups)
    rest: Dim = 1
    for extent in spatial:
        rest = rest * extent
    split = result.with_shape([batch, groups, size, rest])
    x = reshaped(c, c.new(op.x), split)
    space, wide = ReducedAxes(split.shape, (2, 3)), accumulator_type(op.stash)
    mean = _mean(c, space, x, wide)
    inverse = _inverse_deviation(c, space, x, mean, op.epsilon)
    factors = [_by_group(c, c.new(value), channels, groups, size) for value in (op.scale, op.bias)]

    def body(s: Scalars, v: Value, m: Value, r: Value, w: Value, b: Value) -> Value:
        y = s.narrowed(s.mul(s.sub(s.narrowed(v, wide), m), r), accumulator_type(result.element))
        return _scaled(s, y, w, b)

    maps = [None, space.spread_map, space.spread_map, *(map_ for _, map_ in factors)]
    y = map_generic(c, [x, mean, inverse, *(value for value, _ in factors)], split, body, maps=maps)
    return reshaped(c, y, result)


def _by_group(c: Conversion, vector: Value, channels: Dim, groups: Dim, size: Dim) -> tuple[Value, AffineMap]:
    """A vector per channel, or per group, and where a map over [N, groups, channels / groups, rest] reads it."""
    type_ = tensor_type(vector)
    if type_.shape[0] == channels or groups == channels:
        return reshaped(c, vector, type_.with_shape([groups, size])), AffineMap(4, 0, [dim(1), dim(2)])
    if type_.shape[0] == groups:
        return vector, AffineMap(4, 0, [dim(1)])

    def chosen(p: Places, source: Value) -> Value:
        by_channel = p.compare("eq", p.size(type_.shape[0]), p.size(channels))
        within = p.add(p.mul(p.at(0), p.size(size)), p.at(1))
        return p.read(source, [p.select(by_channel, within, p.at(0))])

    made = moved(c, type_.with_shape([groups, size]), chosen, sources=[vector])
    return made, AffineMap(4, 0, [dim(1), dim(2)])


@lowers(LrnOp)
def lrn(op: LrnOp, c: Conversion) -> Value:
    """graph.lrn %x  ->  s = sum of x^2 over the neighbouring channels; x / (bias + alpha / size * s)^beta"""
    x, result = c.new(op.x), tensor_type(op.result)
    rank, wide = result.rank, accumulator_type(result.element)

    def square(s: Scalars, tensor: Value) -> Value:
        places = [s.index(axis) for axis in range(rank)]
        offset = s.sub(s.index(rank), s.constant((op.size - 1) // 2, INDEX))
        places[1] = s.add(places[1], offset)
        read = s.widened(s.emit(ReadOp(tensor, places, s.constant(0.0, result.element))))
        return s.mul(read, read)

    (total,) = reduce_generics(
        c, [], [result.with_element(wide)], sizes=[*result.shape, op.size],
        iterators=["parallel"] * rank + ["reduction"], maps=[AffineMap(rank + 1, 0, [dim(n) for n in range(rank)])],
        names=dim_names(rank + 1), body=square, combine=lambda s, a, b: s.add(a, b),
        identities=[identity_of("sum", wide)], sources=[x],
    )  # fmt: skip

    def body(s: Scalars, v: Value, t: Value) -> Value:
        scaled = s.mul(s.constant(op.alpha / op.size, wide), t)
        base = s.add(s.constant(op.bias, wide), scaled)
        return s.divf(v, float_power(s, base, s.constant(op.beta, wide)))

    return map_generic(c, [x, total], result, body)
