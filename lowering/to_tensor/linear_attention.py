"""Linear attention -> a loop over positions that carries the state (Katharopoulos et al., "Transformers are RNNs",
2020; the gated delta rule: Yang et al., 2024)."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects import math
from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.attention import LinearAttentionOp
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.tensor import DimsAttr, ForOp, RowOp, YieldOp, tensor_type
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import INDEX, TensorType, Type
from stepwell.lowering.to_tensor.attention import repeated, scale_of, shared_group
from stepwell.lowering.to_tensor.operands import is_aligned
from stepwell.lowering.to_tensor.placed import Placed
from stepwell.lowering.to_tensor.places import Places, dims, moved, reduced, result_type
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers, map_generic


@lowers(LinearAttentionOp)
def linear_attention(op: LinearAttentionOp, c: Conversion) -> list[Value]:
    """graph.linear_attention %q, %k, %v  ->  for t { S = S * exp(decay[t]) + k[t] * v[t]; y[t] = scale * S^T q[t] }"""
    output, final = result_type(op, 0), result_type(op, 1)
    wide = accumulator_type(output.element)
    steps = output.shape[2]
    state = moved(
        c, final.with_element(wide), (lambda p, s: p.widened(s)) if op.state is not None
        else (lambda p: p.constant(0.0, wide)),
        inputs=[c.new(op.state)] if op.state is not None else [], maps=[dims(4)] if op.state is not None else [],
    )  # fmt: skip
    given = {name: getattr(op, name) for name in ("query", "key", "value", "decay", "beta")}
    b, groups, _, size = shape_of(op.key)
    spread = {"decay": (b, groups, steps, size), "beta": (b, groups, steps, 1)}
    rows = {name: _positions_first(c, c.new(value), wide, spread.get(name))
            for name, value in given.items() if value is not None}  # fmt: skip
    block = Block([INDEX, state.type])
    outside, c.builder = c.builder, Builder.at_end(block, c.builder.loc)
    row = {name: c.insert(RowOp(value, block.arguments[0])).result for name, value in rows.items()}
    following, y = _step(op, c, block.arguments[1], row, output, wide)
    c.insert(YieldOp([following, y]))
    c.builder = outside
    made = c.insert(ForOp([state], steps=DimsAttr((steps,)), backward=[0], regions=[Region([block])]))
    ys = moved(c, output, inputs=[made.stacks[0]], maps=[[dim(2), dim(0), dim(1), dim(3)]])
    last = moved(c, final, lambda p, s: p.narrowed(s, final.element), inputs=[made.finals[0]], maps=[dims(4)])
    return [ys, last]


def _positions_first(c: Conversion, x: Value, wide: Type, spread: Sequence[Dim] | None = None) -> Value:
    """[b, heads, t, d] -> [t, b, heads, d], in the type of the state; sizes that may be 1 when the model runs
    broadcast."""
    type_ = tensor_type(x)
    if spread is not None and not all(map(is_aligned, type_.shape, spread)):
        x = map_generic(c, [x], type_.with_shape(spread), lambda s, v: v)
        type_ = tensor_type(x)
    b, heads, steps, d = type_.shape
    result = TensorType((steps, b, heads, d), wide)
    return moved(c, result, lambda p, v: p.widened(v), inputs=[x], maps=[[dim(1), dim(2), dim(0), dim(3)]])


def _step(
    op: LinearAttentionOp, c: Conversion, state: Value, row: dict[str, Value], output: TensorType, wide: Type
) -> tuple[Value, Value]:
    """(the state behind a position, its row of the output [b, heads, e])."""
    type_ = tensor_type(state)
    b, groups, d, e = type_.shape
    if "decay" in row:
        shared = tensor_type(row["decay"]).shape[2] == 1
        place: list[AffineExpr] = [dim(0), dim(1), const(0) if shared else dim(2)]
        state = moved(c, type_, lambda p, s, x: p.mul(s, p.unary(math.ExpOp, x)), inputs=[state, row["decay"]],
                      maps=[dims(4), place])  # fmt: skip
    zero, values = attribute_of(0.0, wide), TensorType((b, groups, e), wide)
    written = row["value"]
    if "beta" in row:
        recalled = reduced(
            c, values, [d], lambda p, s, k: p.mul(s, k), lambda p, x, y: p.add(x, y), zero, inputs=[state, row["key"]],
            maps=[[dim(0), dim(1), dim(3), dim(2)], [dim(0), dim(1), dim(3)]],
        )  # fmt: skip
        gate = [dim(0), const(0) if tensor_type(row["beta"]).shape[1] == 1 else dim(1), const(0)]
        written = moved(c, values, lambda p, v, m, x: p.mul(x, p.sub(v, m)), inputs=[written, recalled, row["beta"]],
                        maps=[dims(3), dims(3), gate])  # fmt: skip
    outer = [[dim(0), dim(1), dim(2)], [dim(0), dim(1), dim(3)]]
    following = moved(c, type_, lambda p, s, k, v: p.add(s, p.mul(k, v)), inputs=[state, row["key"], written],
                      maps=[dims(4), *outer])  # fmt: skip
    heads = output.shape[1]
    read, group = following, shared_group(heads, groups)
    if group is None:
        read, group = repeated(c, Placed.of(c, following), heads), dim(1)
    asked = reduced(
        c, TensorType((output.shape[0], heads, e), wide), [d], lambda p, q, s: p.mul(q, s),
        lambda p, x, y: p.add(x, y), zero, inputs=[row["query"], read],
        maps=[[dim(0), dim(1), dim(3)], [dim(0), group, dim(3), dim(2)]],
    )  # fmt: skip

    def scaled(p: Places, value: Value) -> Value:
        return p.narrowed(p.mul(value, scale_of(p, op.scale, d, wide)), output.element)

    result = TensorType((output.shape[0], heads, e), output.element)
    return following, moved(c, result, scaled, inputs=[asked], maps=[dims(3)])
