"""Convolutions and pools -> padded input and one sum (maximum) over windows.

graph.conv %x, %w  ->  %p = tensor.pad %x;  out[n, oc, oh, ow] = sum over ic, kh, kw of
                           p[n, ic, stride*oh + dilation*kh, stride*ow + dilation*kw] * w[oc, ic, kh, kw]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects import arith, math
from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.convolution import ConvIntegerOp, ConvOp
from stepwell.dialects.graph.pooling import AveragePoolOp, LpPoolOp, MaxPoolOp
from stepwell.dialects.graph.windows import Window
from stepwell.dialects.tensor import DimsAttr, IndexOp, PadOp, SizeOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.attributes import Attribute
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, floordiv
from stepwell.ir.types import F32, I32, I64, INDEX, FloatType, TensorType, Type, is_unsigned, numpy_dtype
from stepwell.lowering.to_tensor.contraction import less_zero, stretched
from stepwell.lowering.to_tensor.places import Places, moved, reshaped
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers, map_generic, reduce_generic, signless
from stepwell.lowering.to_tensor.scalars import Scalars

SPATIAL = ("d", "h", "w")


def spatial_names(prefix: str, rank: int) -> list[str]:
    """Names of the spatial dims: oh, ow; kh, kw; od, oh, ow."""
    names = SPATIAL[-rank:] if rank <= 3 else [str(axis) for axis in range(rank)]
    return [prefix + name for name in names]


def padded(c: Conversion, x: Value, window: Window, places: Sequence[Dim], value: Attribute) -> Value:
    """The input with the border that the windows reach into; the input itself where they stay inside."""
    type_ = tensor_type(x)
    low: list[Dim] = [0, 0]
    high: list[Dim] = [0, 0]
    for axis, (begin, end) in enumerate(window.pads_of(type_.shape[2:])):
        reach = (places[axis] - 1) * window.strides[axis] + window.extent(axis) - type_.shape[2 + axis] - begin
        if isinstance(end, int) and isinstance(reach, int):
            end = max(end, reach)
        elif isinstance(end, int) and window.ceil:
            end += window.strides[axis] - 1  # a last window overhangs by less than a stride
        low.append(begin)
        high.append(end)
    return bordered(c, x, low, high, value)


def bordered(c: Conversion, x: Value, low: Sequence[Dim], high: Sequence[Dim], value: Attribute) -> Value:
    """A border of one value around x, of `low` elements before and `high` behind along each axis; what is negative is
    cut off; x itself where there is none. A border of unknown width is read at computed places."""
    type_ = tensor_type(x)
    widths = [width for width in (*low, *high) if isinstance(width, int)]
    known = len(widths) == 2 * type_.rank
    if known and not any(widths):
        return x
    if known and min(widths) >= 0:
        begins, ends = widths[: type_.rank], widths[type_.rank :]
        return c.insert(PadOp(x, low=begins, high=ends, value=value)).result
    result = type_.with_shape([lo + size + hi for lo, size, hi in zip(low, type_.shape, high, strict=True)])

    def body(p: Places, source: Value) -> Value:
        places = [p.sub(p.at(axis), p.size(width)) for axis, width in enumerate(low)]
        return p.read(source, places, p.constant_of(value))

    return moved(c, result, body, sources=[x])


def window_indices(window: Window, out: Sequence[int], kernel: Sequence[int]) -> list[AffineExpr]:
    """stride * place + dilation * tap along each axis."""
    return [
        dim(o) * stride + dim(k) * dilation
        for o, k, stride, dilation in zip(out, kernel, window.strides, window.dilations, strict=True)
    ]


@lowers(ConvOp)
def conv(op: ConvOp, c: Conversion) -> Value:
    """graph.conv %x, %w, %bias  ->  sum over windows, + bias"""
    result = signless(op.result.type)
    assert isinstance(result, TensorType)
    made = convolved(c, c.new(op.x), c.new(op.w), op.window(tensor_type(op.w).shape), op.groups, result)
    return made if op.bias is None else with_channel_bias(c, made, c.new(op.bias), result)


@lowers(ConvIntegerOp)
def conv_integer(op: ConvIntegerOp, c: Conversion) -> Value:
    """graph.conv_integer %x, %w, %zx, %zw  ->  sum over windows of (x - zx) * (w - zw), in i32, padded with 0"""
    result = signless(op.result.type)
    assert isinstance(result, TensorType)
    x, w = (_less_zero_point(c, *side) for side in ((op.x, op.x_zero), (op.w, op.w_zero)))
    return convolved(c, x, w, op.window(tensor_type(op.w).shape), op.groups, result)


def _less_zero_point(c: Conversion, value: Value, zero: Value | None) -> Value:
    """8-bit integers less a zero point, a number or one per place of axis 0, in i32."""
    type_ = tensor_type(value)
    given = [] if zero is None else [stretched(c, c.new(zero), type_.shape[:1])]
    shapes = [tensor_type(item).shape for item in given]
    maps = [AffineMap(type_.rank, 0, [dim(0) if size != 1 else const(0) for size in shape]) for shape in shapes]

    def body(s: Scalars, x: Value, *zeros: Value) -> Value:
        return less_zero(s, x, zeros[0] if zeros else None, type_.element)

    return map_generic(c, [c.new(value), *given], type_.with_element(I32), body, maps=[None, *maps])


def convolved(c: Conversion, x: Value, w: Value, window: Window, groups: int, result: TensorType) -> Value:
    """The sum over windows of x, padded with zeros, times the weights. `groups` = 0: each channel is one."""
    shape = tensor_type(w).shape
    zero = attribute_of(0, result.element)
    x = padded(c, x, window, result.shape[2:], zero)
    known = isinstance(shape[0], int) and isinstance(shape[1], int)
    if groups > 1 and not known:
        return _by_group(c, x, w, window, groups, result)
    rank = window.rank
    depthwise = groups == 0 or (groups > 1 and shape[1] == 1)  # no sum over channels
    places = [2 + axis for axis in range(rank)]
    taps = [(2 if depthwise else 3) + rank + axis for axis in range(rank)]
    channels, group = dim(2 + rank), dim(3 + 2 * rank)
    summed = [] if depthwise else ["ic"]
    names = ["n", "oc", *spatial_names("o", rank), *summed, *spatial_names("k", rank)]
    sizes: list[Dim] = [*result.shape, *([] if depthwise else [shape[1]]), *shape[2:]]
    iterators = ["parallel"] * (2 + rank) + ["reduction"] * (len(sizes) - 2 - rank)
    target: list[AffineExpr] = [dim(d) for d in range(2 + rank)]
    source: AffineExpr = channels
    weights: list[AffineExpr] = [dim(1), channels]
    if depthwise:
        multiplier = whole(shape[0]) // groups if groups else 1
        source = dim(1) if multiplier == 1 else dim(1) // multiplier
        weights = [dim(1), const(0)]
    elif groups > 1:
        each = whole(shape[0]) // groups
        source = group * whole(shape[1]) + channels
        target[1] = group * each + dim(1)
        weights = [target[1], channels]
        sizes = [sizes[0], each, *sizes[2:], groups]
        names.append("g")
        iterators.append("parallel")
    weights = [*weights, *(dim(k) for k in taps)]
    total = len(sizes)
    accumulator = accumulator_type(result.element)
    return reduce_generic(
        c, [x, w], result, sizes=sizes, iterators=iterators, names=names,
        maps=[
            AffineMap(total, 0, [dim(0), source, *window_indices(window, places, taps)]),
            AffineMap(total, 0, weights),
            AffineMap(total, 0, target),
        ],
        body=lambda s, a, b: s.mul(a, b), combine=lambda s, a, b: s.add(a, b),
        identity=attribute_of(0, accumulator), accumulator=accumulator,
    )  # fmt: skip


def _by_group(c: Conversion, x: Value, w: Value, window: Window, groups: int, result: TensorType) -> Value:
    """Where run time tells how many channels a group has, the groups are an axis: x [n, g, c, spatial..], w
    [g, m, c, kernel..] -> [n, g, m, places..]"""
    rank = window.rank
    x, w = apart(c, x, 1, groups), apart(c, w, 0, groups)
    (_, _, channels, *taps), split = tensor_type(w).shape, apart_type(result, 1, groups)
    places, inner, kernel = [3 + axis for axis in range(rank)], 3 + rank, [4 + rank + axis for axis in range(rank)]
    total = 4 + 2 * rank
    accumulator = accumulator_type(result.element)
    made = reduce_generic(
        c, [x, w], split, sizes=[*split.shape, channels, *taps],
        iterators=["parallel"] * (3 + rank) + ["reduction"] * (1 + rank),
        names=["n", "g", "oc", *spatial_names("o", rank), "ic", *spatial_names("k", rank)],
        maps=[
            AffineMap(total, 0, [dim(0), dim(1), dim(inner), *window_indices(window, places, kernel)]),
            AffineMap(total, 0, [dim(1), dim(2), dim(inner), *(dim(k) for k in kernel)]),
            AffineMap(total, 0, [dim(d) for d in range(3 + rank)]),
        ],
        body=lambda s, a, b: s.mul(a, b), combine=lambda s, a, b: s.add(a, b),
        identity=attribute_of(0, accumulator), accumulator=accumulator,
    )  # fmt: skip
    return reshaped(c, made, result.shape)


def apart(c: Conversion, value: Value, axis: int, groups: int) -> Value:
    """An axis as two: groups, and places within one"""
    return reshaped(c, value, apart_type(tensor_type(value), axis, groups).shape)


def apart_type(type_: TensorType, axis: int, groups: int) -> TensorType:
    """The type of a tensor whose axis is seen as two: groups, and places within one."""
    shape = type_.shape
    return type_.with_shape([*shape[:axis], groups, floordiv(shape[axis], groups), *shape[axis + 1 :]])


def whole(size: Dim) -> int:
    """A size that has to be known. Raises NoMatch."""
    if not isinstance(size, int):
        raise NoMatch("grouped weights of unknown size")
    return size


def with_channel_bias(c: Conversion, x: Value, bias: Value, result: TensorType) -> Value:
    """x[n, c, ...] + bias[c]"""
    from stepwell.dialects.tensor import GenericOp
    from stepwell.lowering.to_tensor.rules import dim_names, scalar_region

    identity = AffineMap.identity(result.rank)

    def add(s: Scalars, a: Value, b: Value) -> Value:
        return s.narrowed(s.add(a, b), result.element)

    op = GenericOp(
        [x, bias], (), result_types=[result], regions=[scalar_region([result.element] * 2, add)],
        sizes=DimsAttr(tuple(result.shape)), iterators=["parallel"] * result.rank,
        maps=[identity, AffineMap(result.rank, 0, [dim(1)]), identity], names=dim_names(result.rank),
    )  # fmt: skip
    return c.insert(op).outputs[0]


def least(type_: Type, unsigned: bool) -> Attribute:
    """The value from which a maximum starts."""
    if isinstance(type_, FloatType):
        return attribute_of(-np.inf, type_)
    return attribute_of(0 if unsigned else np.iinfo(numpy_dtype(type_)).min, type_)


def pooled(c: Conversion, x: Value, window: Window, result: TensorType, kind: str, fill: Attribute,
           unsigned: bool = False) -> Value:  # fmt: skip
    """The sum or maximum over windows."""
    x = padded(c, x, window, result.shape[2:], fill)
    rank = window.rank
    places, taps = [2 + axis for axis in range(rank)], [2 + rank + axis for axis in range(rank)]
    total = 2 + 2 * rank
    accumulator = accumulator_type(result.element) if kind == "sum" else result.element
    widened = F32 if isinstance(accumulator, FloatType) and accumulator.width < 32 else accumulator
    if kind == "sum":
        identity = attribute_of(0, accumulator)
    else:
        identity, accumulator = least(widened, unsigned), widened
    return reduce_generic(
        c, [x], result, sizes=[*result.shape, *window.kernel],
        iterators=["parallel"] * (2 + rank) + ["reduction"] * rank,
        names=["n", "c", *spatial_names("o", rank), *spatial_names("k", rank)],
        maps=[
            AffineMap(total, 0, [dim(0), dim(1), *window_indices(window, places, taps)]),
            AffineMap(total, 0, [dim(d) for d in range(2 + rank)]),
        ],
        body=lambda s, a: a,
        combine=(lambda s, a, b: s.add(a, b)) if kind == "sum" else (lambda s, a, b: s.maximum(a, b, unsigned)),
        identity=identity, accumulator=accumulator,
    )  # fmt: skip


@lowers(MaxPoolOp)
def max_pool(op: MaxPoolOp, c: Conversion) -> Value:
    """graph.max_pool %x  ->  maximum over windows of the input padded with the least value"""
    result = signless(op.results[0].type)
    assert isinstance(result, TensorType)
    unsigned = is_unsigned(op.x.type)
    return pooled(c, c.new(op.x), op.window, result, "max", least(result.element, unsigned), unsigned)


@lowers(LpPoolOp)
def lp_pool(op: LpPoolOp, c: Conversion) -> Value:
    """graph.lp_pool %x {p = 2.0}  ->  (sum over windows of |x|^p)^(1/p)"""
    result = signless(op.results[0].type)
    assert isinstance(result, TensorType)
    x, wide = c.new(op.x), accumulator_type(result.element)

    def raised(s: Scalars, v: Value, exponent: float) -> Value:
        if exponent == 1:
            return v
        if exponent in (2, 0.5):
            return s.mul(v, v) if exponent == 2 else s.unary(math.SqrtOp, v)
        return s.emit(math.PowFOp(v, s.constant(exponent, v.type)))

    powers = map_generic(c, [x], tensor_type(x).with_element(wide),
                         lambda s, v: raised(s, s.unary(math.AbsFOp, v), op.p))  # fmt: skip
    total = pooled(c, powers, op.window, result.with_element(wide), "sum", attribute_of(0, wide))
    return map_generic(c, [total], result, lambda s, v: raised(s, v, 1 / op.p))


@lowers(AveragePoolOp)
def average_pool(op: AveragePoolOp, c: Conversion) -> Value:
    """graph.average_pool %x  ->  sum over windows / number of elements that count"""
    result = signless(op.results[0].type)
    assert isinstance(result, TensorType)
    window = op.window
    x = c.new(op.x)
    total = pooled(c, x, window, result, "sum", attribute_of(0, result.element))
    sizes = tensor_type(x).shape[2:]

    def divide(s: Scalars, a: Value) -> Value:
        return s.narrowed(s.divf(a, _count(s, op, window, sizes, a.type)), result.element)

    return map_generic(c, [total], result, divide)


def _count(s: Scalars, op: AveragePoolOp, window: Window, sizes: Sequence[Dim], type_: Type) -> Value:
    """How many elements of the window at this place count."""
    count: Value | None = None
    for axis, size in enumerate(sizes):
        begin, end = window.pads_of(sizes)[axis]
        inside = not begin and not end and not window.ceil
        if inside or (op.count_include_pad and not window.ceil):
            here = _extent(s, window.kernel[axis])
        else:
            here = _taps_inside(s, axis, window, size, begin, end if op.count_include_pad else 0,
                                begin if op.count_include_pad else 0)  # fmt: skip
        count = here if count is None else s.mul(count, here)
    assert count is not None
    return s.emit(arith.SIToFPOp(s.emit(arith.IndexCastOp(count, result_types=[I64])), result_types=[type_]))


def _taps_inside(s: Scalars, axis: int, window: Window, size: Dim, begin: Dim, after: Dim, before: Dim) -> Value:
    """Taps t with -before <= start + dilation * t < size + after, where start = stride * place - begin"""
    place = s.emit(IndexOp(dim=2 + axis))
    start = s.sub(s.mul(place, s.constant(window.strides[axis], INDEX)), _extent(s, begin))
    step = window.dilations[axis]

    def taps_before(position: Value) -> Value:
        """How many t >= 0 there are with start + step * t < position: ceil((position - start) / step)."""
        distance = s.sub(position, start)
        return distance if step == 1 else s.emit(arith.CeilDivSIOp(distance, s.constant(step, INDEX)))

    upper = s.minimum(_extent(s, window.kernel[axis]), taps_before(_extent(s, size + after)))
    lower = s.maximum(s.constant(0, INDEX), taps_before(_extent(s, -before)))
    return s.sub(upper, lower)


def _extent(s: Scalars, size: Dim) -> Value:
    """A size as an index."""
    return s.constant(size, INDEX) if isinstance(size, int) else s.emit(SizeOp(of=DimsAttr((size,))))
