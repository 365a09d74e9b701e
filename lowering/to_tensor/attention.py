"""Attention -> contractions, reductions over keys, and maps."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects import math
from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.attention import AttentionOp, default_scale
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, divide_exact, proven_equal
from stepwell.ir.types import F32, F64, I1, INDEX, TensorType, Type, bit_width, numpy_dtype
from stepwell.lowering.precision import is_strict
from stepwell.lowering.to_tensor.placed import Placed
from stepwell.lowering.to_tensor.places import Places, dims, moved, reads_unsigned
from stepwell.lowering.to_tensor.reductions import ReducedAxes
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers, map_generic, reduce_generic
from stepwell.lowering.to_tensor.scalars import Scalars
from stepwell.lowering.to_tensor.softmax import PEAK

MINUS_INFINITY = float("-inf")


@lowers(AttentionOp)
def attention(op: AttentionOp, c: Conversion) -> list[Value]:
    """graph.attention %q, %k, %v  ->  raw = (scale * q) k^T; x = softcap(raw) + bias; p = max(x); e = exp(x - p);
    (e v) * (1 / sum(e))

    There are fewer columns of values than keys to divide. Where the probabilities are asked for, and for one row of
    queries, (e * (1 / sum(e))) v; in strict arithmetic (e / sum(e)) v.

    The keys are turned, so that neighbouring columns of the product are neighbours in memory, where they are not and
    several rows of queries read them. A `narrow` op keeps every step in its own type, and divides."""
    query, shape = tensor_type(op.query), tensor_type(op.key)
    result = tensor_type(op.output)
    (b, heads, s, size), (_, groups, t, _) = query.shape, shape.shape
    wide = result.element if op.narrow else accumulator_type(result.element)
    scores = TensorType((b, heads, s, t), wide)
    group = shared_group(heads, groups)
    key, values = Placed.behind(c, op.key), Placed.behind(c, op.value)
    if group is None:
        key, values, group = (*(Placed.of(c, repeated(c, x, heads)) for x in (key, values)), dim(1))
    raw = _product(c, _scaled(op, c, wide), (dim(0), dim(1), dim(2), dim(4)),
                   _turned(op, c, key), (dim(0), group, dim(4), dim(3)), scores, size)  # fmt: skip
    capped = raw
    if op.softcap > 0:
        capped = map_generic(c, [raw], scores, lambda z, v: _capped(z, v, op.softcap))
    biased = _with_bias(op, c, capped, scores.shape, wide)
    powers, total = _powers(op, c, biased, wide)
    places = (dim(0), dim(1), dim(2), dim(4)), (dim(0), group, dim(4), dim(3))
    exposed = {"raw": raw, "capped": capped, "biased": biased}.get(op.scores or "")
    if op.scores != "probabilities" and s != 1 and not is_strict(op) and not op.narrow:
        terms = powers
        if tensor_type(powers).element is not result.element:
            terms = map_generic(c, [powers], scores.with_element(result.element), lambda z, e: e)
        sums = _product(c, Placed.of(c, terms), places[0], values, places[1], result.with_element(wide), t)
        output = _shared_out(op, c, sums, total)
    else:
        weights = _divided(op, c, powers, total, result.element)
        output = _product(c, Placed.of(c, weights), places[0], values, places[1], result, t)
        exposed = exposed or weights
    if op.scores is None or exposed is None:
        return [output]
    return [output, map_generic(c, [exposed], scores.with_element(result.element), lambda z, v: v)]


def _scaled(op: AttentionOp, c: Conversion, wide: Type) -> Placed:
    """scale * q"""
    query = tensor_type(op.query)
    return _multiplied(op, c, Placed.behind(c, op.query), query.with_element(wide), query.shape[3])


def _multiplied(op: AttentionOp, c: Conversion, placed: Placed, type_: TensorType, size: Dim) -> Placed:
    """Queries, or a narrow op's keys, times their factor."""
    if op.scale == 1.0:
        return placed
    maps = [AffineMap(4, 0, placed.at(dims(4)))]
    return Placed.of(c, map_generic(c, [placed.tensor], type_, lambda z, v: z.mul(v, _factor(z, op, size, v.type)),
                                    maps=maps))  # fmt: skip


def _factor(s: Scalars, op: AttentionOp, size: Dim, type_: Type) -> Value:
    """The scale; of a narrow op its root, rounded to the type of the queries whatever it is computed in."""
    if not op.narrow:
        return scale_of(s, op.scale, size, type_)
    own = tensor_type(op.query).element
    if op.scale is not None or isinstance(size, int):
        return s.constant(op.factors(size if isinstance(size, int) else 0, numpy_dtype(own))[0], type_)
    return s.narrowed(s.narrowed(s.unary(math.SqrtOp, scale_of(s, None, size, F64)), own), type_)


def scale_of(s: Scalars, given: float | None, size: Dim, type_: Type) -> Value:
    """The scale of attention: the given one, or 1 / sqrt(size), computed in f64."""
    if given is None and isinstance(size, int):
        given = default_scale(size)
    if given is not None:
        return s.constant(given, type_)
    positive = s.maximum(s.size(size), s.constant(1, INDEX))
    root = s.unary(math.SqrtOp, s.index_to_float(positive, F64))
    return s.narrowed(s.divf(s.constant(1.0, F64), root), type_)


def _turned(op: AttentionOp, c: Conversion, placed: Placed) -> Placed:
    """The keys as [b, groups, d, t]; where they lie if there is one row of queries, as each key is read once"""
    if op.narrow:
        element = tensor_type(op.key).element
        placed = _multiplied(op, c, placed, TensorType(tuple(placed.shape), element), placed.shape[3])
    b, groups, t, size = placed.shape
    if placed.axes[2] == 3 or tensor_type(op.query).shape[2] == 1:
        return Placed(placed.tensor, tuple(placed.axes[n] for n in (0, 1, 3, 2)))
    turned = tensor_type(placed.tensor).with_shape((b, groups, size, t))
    return Placed.of(c, moved(c, turned, inputs=[placed.tensor], maps=[placed.at([dim(0), dim(1), dim(3), dim(2)])]))


def _capped(s: Scalars, x: Value, cap: float) -> Value:
    """cap * tanh(x / cap)"""
    limit = s.constant(cap, x.type)
    return s.mul(s.unary(math.TanhOp, s.divf(x, limit)), limit)


def shared_group(heads: Dim, groups: Dim) -> AffineExpr | None:
    """The group that head d1 reads; None where only run time tells how many heads share one."""
    if heads == groups:
        return dim(1)
    if groups == 1:
        return const(0)
    repeats = divide_exact(heads, groups)
    return dim(1) // repeats if isinstance(repeats, int) and repeats > 0 else None


def repeated(c: Conversion, groups: Placed, heads: Dim) -> Value:
    """[b, groups, ..] -> [b, heads, ..]: each group as often as it is shared, which run time tells"""
    b, count, *rest = groups.shape
    result = tensor_type(groups.tensor).with_shape((b, heads, *rest))

    def body(p: Places, source: Value) -> Value:
        places = [p.at(axis) for axis in range(result.rank)]
        each = p.floordiv(p.size(heads), p.size(count))
        places[1] = p.floordiv(places[1], each)
        return p.read(source, groups.at(places))

    return moved(c, result, body, sources=[groups.tensor])


def _product(
    c: Conversion, lhs: Placed, left: Sequence[AffineExpr], rhs: Placed, right: Sequence[AffineExpr],
    result: TensorType, depth: Dim,
) -> Value:  # fmt: skip
    """result[d0 .. d3] = sum over d4 of lhs[left] * rhs[right]"""
    accumulator = accumulator_type(result.element)

    def multiplied(z: Scalars, x: Value, y: Value) -> Value:
        return z.mul(z.narrowed(x, accumulator), z.narrowed(y, accumulator))

    return reduce_generic(
        c, [lhs.tensor, rhs.tensor], result, sizes=[*result.shape, depth], iterators=["parallel"] * 4 + ["reduction"],
        maps=[AffineMap(5, 0, lhs.at(left)), AffineMap(5, 0, rhs.at(right)), AffineMap(5, 0, dims(4))],
        names=["b", "h", "m", "n", "k"], body=multiplied, combine=lambda z, x, y: z.add(x, y),
        identity=attribute_of(0, accumulator), accumulator=accumulator,
    )  # fmt: skip


def _with_bias(op: AttentionOp, c: Conversion, scores: Value, shape: tuple[Dim, ...], wide: Type) -> Value:
    """The scores plus the float mask, -inf where anything forbids the key."""
    mapped = None if op.mask is None else _mask_places(shape_of(op.mask), shape)
    late = [None if mapped else op.mask, op.lengths, op.offset]
    sources = [c.new(value) for value in late if value is not None]

    def body(p: Places, score: Value, *given: Value) -> Value:
        rest = iter(given)
        places = [p.at(axis) for axis in range(4)]
        allowed: list[Value] = []
        if op.mask is not None:
            truth = next(rest) if mapped else _mask_at(p, op, next(rest), places)
            score = _masked(p, op, truth, score, allowed)
        if op.lengths is not None:
            length = p.read(next(rest), [places[0]])
            allowed.append(p.compare("lt", places[3], p.index_of(length, reads_unsigned(op.lengths))))
        position = places[2]
        if op.offset is not None:
            one = tensor_type(op.offset).shape[0] == 1
            offset = p.read(next(rest), [p.whole(0) if one else places[0]])
            position = p.add(position, p.index_of(offset, reads_unsigned(op.offset)))
        if op.causal:
            allowed.append(p.compare("le", places[3], position))
        if op.left >= 0:
            allowed.append(p.compare("ge", places[3], p.sub(position, p.whole(op.left))))
        if op.right >= 0:
            allowed.append(p.compare("le", places[3], p.add(position, p.whole(op.right))))
        if allowed:
            score = p.select(p.all_of(allowed), score, p.constant(MINUS_INFINITY, wide))
        return score

    if op.mask is None and not sources and not op.causal and op.left < 0 and op.right < 0:
        return scores
    inputs, maps = [scores], [dims(4)]
    if op.mask is not None and mapped:
        inputs.append(c.new(op.mask))
        maps.append(mapped)
    return moved(c, TensorType(shape, wide), body, inputs=inputs, maps=maps, sources=sources)


def _mask_places(mask: Sequence[Dim], scores: Sequence[Dim]) -> list[AffineExpr] | None:
    """Where a mask that broadcasts to the scores is read; None where run time decides, or keys lie behind its last."""
    sizes = list(zip(mask, scores[4 - len(mask) :], strict=True))
    if not proven_equal(*sizes[-1]) or not all(size == 1 or proven_equal(size, other) for size, other in sizes):
        return None
    return [const(0) if size == 1 and n < 3 else dim(n) for n, size in enumerate(mask, start=4 - len(mask))]


def _masked(p: Places, op: AttentionOp, mask: Value, score: Value, allowed: list[Value]) -> Value:
    """A mask of truths that forbid keys joins `allowed`, another one fills scores in; one of floats is added."""
    if mask.type is not I1:
        wide = p.widened(score)
        return p.narrowed(p.add(wide, p.narrowed(mask, wide.type)), score.type)
    if op.fill != MINUS_INFINITY:
        return p.select(mask, score, p.constant(op.fill, score.type))
    allowed.append(mask)
    return score


def _mask_at(p: Places, op: AttentionOp, mask: Value, places: list[Value]) -> Value:
    """The mask's element for a score; behind its last key everything is forbidden."""
    type_ = tensor_type(mask)
    rows = zip(type_.shape[:-1], places[4 - type_.rank : -1], strict=True)
    at = [*(p.stretched(size, place) for size, place in rows), places[-1]]
    if type_.element is I1:
        return p.read(mask, at)
    return p.read(mask, at, p.constant(MINUS_INFINITY, type_.element))


def _powers(op: AttentionOp, c: Conversion, biased: Value, wide: Type) -> tuple[Value, Value]:
    """e = exp(x - p) with p = max(x), and its sum over the keys; of an undefined row they are what the op says."""
    working: Type = wide
    if op.precision is not None:
        working = op.precision if bit_width(op.precision) > 32 else F32
    scores = tensor_type(biased).with_element(working)
    space = ReducedAxes(scores.shape, (3,))
    x = map_generic(c, [biased], scores, lambda z, v: v) if working is not wide else biased
    peak = space.merge(c, "max" if op.undefined == "zero" else PEAK, x)

    def power(z: Scalars, v: Value, top: Value) -> Value:
        zero, infinity = z.constant(0.0, top.type), z.constant(-MINUS_INFINITY, top.type)
        if op.undefined == "masked" or (op.undefined == "nan" and not is_strict(op)):
            top = z.select(z.compare("eq", top, z.constant(MINUS_INFINITY, top.type)), zero, top)
        made = z.share(z.sub(v, top))
        if op.undefined == "zero":
            made = z.select(z.compare("lt", z.unary(math.AbsFOp, top), infinity), made, zero)
        return made

    powers = map_generic(c, [x, peak], scores, power, maps=[None, space.spread_map])
    total = space.merge(c, "sum", powers)
    if op.sinks is not None:
        total = _with_sinks(op, c, total, peak)
    return powers, space.on_kept(c, [total], scores.element, lambda z, v: v) if op.narrow else total


def _with_sinks(op: AttentionOp, c: Conversion, total: Value, peak: Value) -> Value:
    """sum(e) + exp(sink of the head - p). A sink far above p makes it inf, and all weights 0, as they are then."""
    assert op.sinks is not None

    def more(z: Scalars, sum_: Value, top: Value, sink: Value) -> Value:
        sink = z.narrowed(z.widened(sink), top.type)
        bottom = z.constant(MINUS_INFINITY, top.type)
        if op.undefined != "nan":
            top = z.select(z.compare("eq", top, bottom), z.constant(0.0, top.type), top)
        return z.add(sum_, z.unary(math.ExpOp, z.sub(sink, top)))

    by_head = AffineMap(3, 0, [dim(1)])
    return map_generic(c, [total, peak, c.new(op.sinks)], tensor_type(total), more, maps=[None, None, by_head])


def _shared_out(op: AttentionOp, c: Conversion, sums: Value, total: Value) -> Value:
    """sums * (1 / total of their row)"""
    result, factors = tensor_type(op.output), _factors(op, c, total, tensor_type(sums).element)
    return map_generic(c, [sums, factors], result, lambda z, x, r: z.mul(x, r), maps=[None, AffineMap(4, 0, dims(3))])


def _factors(op: AttentionOp, c: Conversion, total: Value, element: Type) -> Value:
    """1 / total. The largest e is 1, or all are NaN, or all are 0."""

    def inverse(z: Scalars, sum_: Value) -> Value:
        return z.narrowed(z.divf(z.constant(1.0, sum_.type), _divisor(op, z, sum_)), element)

    return map_generic(c, [total], tensor_type(total).with_element(element), inverse)


def _divided(op: AttentionOp, c: Conversion, x: Value, total: Value, element: Type) -> Value:
    """x / total of its row"""
    type_ = tensor_type(x).with_element(element)
    if not is_strict(op) and not op.narrow:
        factors = _factors(op, c, total, tensor_type(x).element)
        return map_generic(
            c, [x, factors], type_, lambda z, v, r: z.narrowed(z.mul(v, r), element),
            maps=[None, AffineMap(4, 0, dims(3))],
        )  # fmt: skip

    def quotient(z: Scalars, v: Value, sum_: Value) -> Value:
        return z.narrowed(z.divf(v, _divisor(op, z, sum_)), element)

    return map_generic(c, [x, total], type_, quotient, maps=[None, AffineMap(4, 0, dims(3))])


def _divisor(op: AttentionOp, z: Scalars, total: Value) -> Value:
    """The sum of a row, or 1 where its e are zeros, which stay so; those of keys that are all forbidden become NaN if
    the op says so, since they are divided by 0."""
    one, empty = z.constant(1.0, total.type), z.compare("eq", total, z.constant(0.0, total.type))
    if op.undefined != "nan":
        return z.select(empty, one, total)
    keys = tensor_type(op.key).shape[2]
    if isinstance(keys, int):
        return total if keys else one
    return z.select(z.compare("eq", z.size(keys), z.size(0)), one, total)
