"""Attention and rotary position embedding -> contractions, reductions over keys, and maps."""

from __future__ import annotations

from stepwell.dialects import math
from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.attention import AttentionOp, RotaryEmbeddingOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import F32, I1, TensorType, Type, bit_width
from stepwell.lowering.to_tensor.places import Places, dims, moved, reads_unsigned, result_type
from stepwell.lowering.to_tensor.reductions import ReducedAxes
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers, map_generic, reduce_generic
from stepwell.lowering.to_tensor.scalars import Scalars

MINUS_INFINITY = float("-inf")


@lowers(RotaryEmbeddingOp)
def rotary_embedding(op: RotaryEmbeddingOp, c: Conversion) -> Value:
    """graph.rotary_embedding %x, %cos, %sin  ->  out[.., j] = cos * x[.., j] + (j first of its pair ? -sin : sin) *
    x[.., partner of j]; what lies behind the pairs passes"""
    result, half = result_type(op), tensor_type(op.cos).shape[-1]

    def row_of(p: Places, position: Value) -> Value:
        rows = tensor_type(op.cos).shape[0]
        row = p.index_of(position, op.positions is not None and reads_unsigned(op.positions))
        p.require(p.compare("lt", row, p.size(rows), unsigned=True), row,
                  f"a position is outside the {rows} rows of the rotation tables")  # fmt: skip
        return row

    def body(p: Places, x: Value, *args: Value) -> Value:
        *position, source, cos, sin = args
        b, h, s, j = (p.at(axis) for axis in range(4))
        if op.interleaved:
            two = p.whole(2)
            pair = p.floordiv(j, two)
            first = p.compare("eq", p.mod(j, two), p.whole(0))
            partner = p.select(first, p.add(j, p.whole(1)), p.sub(j, p.whole(1)))
        else:
            first = p.compare("lt", j, p.size(half))
            pair = p.select(first, j, p.sub(j, p.size(half)))
            partner = p.select(first, p.add(j, p.size(half)), p.sub(j, p.size(half)))
        places = [row_of(p, position[0]), pair] if position else [b, s, pair]
        c_, s_, other = (p.widened(v) for v in (p.read(cos, places), p.read(sin, places),
                                                p.read(source, [b, h, s, partner])))  # fmt: skip
        own = p.widened(x)
        turned = p.add(p.mul(c_, own), p.mul(p.select(first, p.negate(s_), s_), other))
        inside = p.compare("lt", j, p.mul(p.size(half), p.whole(2)))
        return p.narrowed(p.select(inside, turned, own), result.element)

    x, cos, sin = (c.new(value) for value in (op.x, op.cos, op.sin))
    inputs, maps = [x], [dims(4)]
    if op.positions is not None:
        inputs.append(c.new(op.positions))
        maps.append([dim(0), dim(2)])
    return moved(c, result, body, inputs=inputs, maps=maps, sources=[x, cos, sin])


@lowers(AttentionOp)
def attention(op: AttentionOp, c: Conversion) -> list[Value]:
    """graph.attention %q, %k, %v  ->  raw = scale * q k^T; x = softcap(raw) + bias; p = max(x); e = exp(x - p);
    e / sum(e) v

    The square root of the scale goes to each side, as in the ONNX definition. Rows without an allowed key are zeros."""
    query, key = c.new(op.query), c.new(op.key)
    result = tensor_type(op.output)
    (b, heads, s, size), (_, groups, t, _) = tensor_type(query).shape, tensor_type(key).shape
    wide = accumulator_type(result.element)
    shape = (b, heads, s, t)
    root, sign = abs(op.scale) ** 0.5, -1.0 if op.scale < 0 else 1.0
    group = _group(heads, groups)

    def scaled(x: Value, factor: float) -> Value:
        type_ = tensor_type(x).with_element(wide)
        return map_generic(c, [x], type_, lambda z, v: z.mul(v, z.constant(factor, v.type)))

    raw = _product(c, scaled(query, root * sign), scaled(key, root), TensorType(shape, wide), size,
                   [dim(0), dim(1), dim(2), dim(4)], [dim(0), group, dim(3), dim(4)])  # fmt: skip
    capped = raw
    if op.softcap > 0:
        capped = map_generic(c, [raw], TensorType(shape, wide), lambda z, v: _capped(z, v, op.softcap))
    biased = _with_bias(op, c, capped, shape, wide)
    weights = _masked_softmax(op, c, biased, shape, wide)
    output = _product(c, weights, c.new(op.value), result, t, [dim(0), dim(1), dim(2), dim(4)],
                      [dim(0), group, dim(4), dim(3)])  # fmt: skip
    if op.scores is None:
        return [output]
    exposed = {"raw": raw, "capped": capped, "biased": biased, "probabilities": weights}[op.scores]
    return [output, map_generic(c, [exposed], TensorType(shape, result.element), lambda z, v: v)]


def _capped(s: Scalars, x: Value, cap: float) -> Value:
    """cap * tanh(x / cap)"""
    limit = s.constant(cap, x.type)
    return s.mul(s.unary(math.TanhOp, s.divf(x, limit)), limit)


def _group(heads: Dim, groups: Dim) -> AffineExpr:
    """The group of keys and values that head d1 reads."""
    if heads == groups:
        return dim(1)
    if groups == 1:
        return const(0)
    if not isinstance(heads, int) or not isinstance(groups, int):
        raise NoMatch("query heads and groups of unknown number")
    return dim(1) // (heads // groups)


def _product(
    c: Conversion, lhs: Value, rhs: Value, result: TensorType, depth: Dim, left: list[AffineExpr],
    right: list[AffineExpr],
) -> Value:  # fmt: skip
    """result[d0 .. d3] = sum over d4 of lhs[left] * rhs[right]"""
    accumulator = accumulator_type(result.element)
    return reduce_generic(
        c, [lhs, rhs], result, sizes=[*result.shape, depth], iterators=["parallel"] * 4 + ["reduction"],
        maps=[AffineMap(5, 0, left), AffineMap(5, 0, right), AffineMap(5, 0, [dim(d) for d in range(4)])],
        names=["b", "h", "m", "n", "k"], body=lambda z, x, y: z.mul(x, y), combine=lambda z, x, y: z.add(x, y),
        identity=attribute_of(0, accumulator), accumulator=accumulator,
    )  # fmt: skip


def _with_bias(op: AttentionOp, c: Conversion, scores: Value, shape: tuple[Dim, ...], wide: Type) -> Value:
    """The scores plus the float mask, -inf where anything forbids the key."""
    sources = [c.new(value) for value in (op.mask, op.lengths, op.offset) if value is not None]

    def body(p: Places, score: Value, *given: Value) -> Value:
        rest = iter(given)
        places = [p.at(axis) for axis in range(4)]
        allowed: list[Value] = []
        if op.mask is not None:
            score = _masked(p, op, next(rest), score, places, allowed)
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

    if not sources and not op.causal and op.left < 0 and op.right < 0:
        return scores
    return moved(c, TensorType(shape, wide), body, inputs=[scores], maps=[dims(4)], sources=sources)


def _masked(
    p: Places, op: AttentionOp, mask: Value, score: Value, places: list[Value], allowed: list[Value]
) -> Value:  # fmt: skip
    """A mask of truths joins `allowed`; one of floats is added. Behind its last key everything is forbidden."""
    type_ = tensor_type(mask)
    zero, one = p.whole(0), p.whole(1)
    at = []
    for size, place in zip(type_.shape[:-1], places[4 - type_.rank : -1], strict=True):
        stays = p.compare("eq", p.size(size), one)  # a dim of one row broadcasts
        at.append(place if isinstance(size, int) and size != 1 else p.select(stays, zero, place))
    at.append(places[-1])
    if type_.element is I1:
        allowed.append(p.read(mask, at))
        return score
    forbidden = p.constant(MINUS_INFINITY, type_.element)
    return p.add(score, p.narrowed(p.widened(p.read(mask, at, forbidden)), score.type))


def _masked_softmax(op: AttentionOp, c: Conversion, biased: Value, shape: tuple[Dim, ...], wide: Type) -> Value:
    """Softmax over the keys; a row of -inf gives zeros."""
    element = tensor_type(op.output).element
    working: Type = wide
    if op.precision is not None:
        working = op.precision if bit_width(op.precision) > 32 else F32
    space = ReducedAxes(shape, (3,))
    x = map_generic(c, [biased], TensorType(shape, working), lambda z, v: v) if working is not wide else biased
    peak = space.merge(c, "max", x)

    def power(z: Scalars, v: Value, top: Value) -> Value:
        low = z.compare("eq", top, z.constant(MINUS_INFINITY, top.type))
        return z.unary(math.ExpOp, z.sub(v, z.select(low, z.constant(0.0, top.type), top)))

    def weight(z: Scalars, e: Value, total: Value) -> Value:
        empty = z.compare("eq", total, z.constant(0.0, total.type))
        return z.narrowed(z.divf(e, z.select(empty, z.constant(1.0, total.type), total)), element)

    powers = map_generic(c, [x, peak], TensorType(shape, working), power, maps=[None, space.spread_map])
    total = space.merge(c, "sum", powers)
    return map_generic(c, [powers, total], TensorType(shape, element), weight, maps=[None, space.spread_map])
