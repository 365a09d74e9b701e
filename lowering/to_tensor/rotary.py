"""Rotary position embedding -> one map that reads every element and its partner."""

from __future__ import annotations

from stepwell.dialects.graph.attention import RotaryEmbeddingOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.lowering.to_tensor.placed import Placed
from stepwell.lowering.to_tensor.places import Places, dims, moved, reads_unsigned, reshaped, result_type
from stepwell.lowering.to_tensor.rules import lowers


@lowers(RotaryEmbeddingOp)
def rotary_embedding(op: RotaryEmbeddingOp, c: Conversion) -> Value:
    """graph.rotary_embedding %x, %cos, %sin  ->  out[.., j] = cos * x[.., j] + (j first of its pair ? -sin : sin) *
    x[.., partner of j]; what lies behind the pairs passes"""
    half, size = tensor_type(op.cos).shape[-1], tensor_type(op.x).shape[-1]
    whole = isinstance(half, int) and size == 2 * half
    return _halves(op, c, half) if whole and not op.interleaved and op.positions is None else _pairs(op, c)


def _halves(op: RotaryEmbeddingOp, c: Conversion, half: Dim) -> Value:
    """x seen as [b, heads, s, 2, half]: the partner of [.., n, j] is [.., 1 - n, j], so that reads are affine."""
    result = result_type(op)
    placed = Placed.behind(c, op.x)
    last = placed.axes.index(3)
    if placed.axes[3] != 3:
        placed, last = Placed.of(c, c.new(op.x)), 3
    x = reshaped(c, placed.tensor, [*tensor_type(placed.tensor).shape[:3], 2, half])

    def at(which: AffineExpr) -> list[AffineExpr]:
        return [*placed.at(dims(4))[:last], which, dim(4)]

    def body(p: Places, own: Value, other: Value, cos: Value, sin: Value) -> Value:
        own, other, cos, sin = (p.widened(v) for v in (own, other, cos, sin))
        sign = p.select(p.compare("eq", p.at(3), p.whole(0)), p.negate(sin), sin)
        return p.narrowed(p.add(p.mul(cos, own), p.mul(sign, other)), result.element)

    tables = [c.new(op.cos), c.new(op.sin)]
    maps = [[const(0) if size == 1 else dim(axis) for axis, size in zip((0, 2), tensor_type(t).shape[:2], strict=True)]
            for t in tables]  # fmt: skip
    made = moved(
        c, result.with_shape([*result.shape[:3], 2, half]), body, inputs=[x, x, *tables],
        maps=[at(dim(3)), at(const(1) - dim(3)), *([*places, dim(4)] for places in maps)],
    )  # fmt: skip
    return reshaped(c, made, result.shape)


def _pairs(op: RotaryEmbeddingOp, c: Conversion) -> Value:
    """The same for pairs side by side, for tables that positions index, and for heads of which a part passes."""
    result, half = result_type(op), tensor_type(op.cos).shape[-1]

    def row_of(p: Places, position: Value) -> Value:
        rows = tensor_type(op.cos).shape[0]
        row = p.index_of(position, op.positions is not None and reads_unsigned(op.positions))
        p.require(p.compare("lt", row, p.size(rows), unsigned=True), row,
                  f"a position is outside the {rows} rows of the rotation tables")  # fmt: skip
        return row

    def at_pair(p: Places, table: Value, position: list[Value], pair: Value) -> Value:
        if position:
            return p.read(table, [row_of(p, position[0]), pair])
        sizes = tensor_type(table).shape[:2]
        return p.read(table, [*(p.stretched(axis, p.at(n)) for axis, n in zip(sizes, (0, 2), strict=True)), pair])

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
        c_, s_, other = (p.widened(v) for v in (at_pair(p, cos, position, pair), at_pair(p, sin, position, pair),
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
