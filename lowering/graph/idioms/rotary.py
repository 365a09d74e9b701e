"""Rotary position embedding written out as halves that change places.

Exporters double the tables of cosines and sines; here a table is halved by going back to where it was doubled."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.attention import RotaryEmbeddingOp
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.conversion import CastOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.movement import ConcatOp, TransposeOp
from stepwell.dialects.graph.shape import ReshapeOp
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import Dim
from stepwell.ir.rewrite import Rewriter
from stepwell.lowering.graph.idioms import recognises, take_over
from stepwell.lowering.graph.matching import array_of, constant_like, either_order, made_by, number, part_of

ELEMENTWISE = (graph.CosOp, graph.SinOp, graph.NegOp, CastOp)


@recognises(graph.AddOp)
def rotate_halves(op: graph.BinaryOp, rewriter: Rewriter) -> bool:
    """x * concat(c, c) + concat(-x[.., h:], x[.., :h]) * concat(s, s) -> rotary_embedding(x, c, s)

    x: [b, heads, n, 2h]. The tables broadcast over the heads; where those are behind the positions, they change places
    around the op."""
    for own, turned in either_order(op):
        found = _terms(own, turned)
        if found is None or found[0].type is not op.result.type or tensor_type(found[0]).rank != 4:
            continue
        x, cos, sin = found
        for heads in (1, 2):
            if _rotate(x, cos, sin, heads, op.result, rewriter):
                return True
    return False


def _rotate(x: Value, cos: Value, sin: Value, heads: int, last: Value, rewriter: Rewriter) -> bool:
    """Replace `last` by the rotation of x, whose axis of heads is given."""
    shapes = [_shape_of_half(table, x, heads) for table in (cos, sin)]
    if shapes[0] is None or shapes[1] is None:
        return False
    tables = [
        rewriter.insert(ReshapeOp.to(_half(table, rewriter), shape)).result
        for table, shape in zip((cos, sin), shapes, strict=True)
        if shape is not None
    ]
    if heads == 1:
        take_over(rewriter, last, rewriter.insert(RotaryEmbeddingOp(x, tables[0], tables[1])))
        return True
    order = [0, 2, 1, 3]
    rotated = rewriter.insert(
        RotaryEmbeddingOp(rewriter.insert(TransposeOp(x, permutation=order)).result, tables[0], tables[1])
    )
    old = last.defining_op
    assert old is not None
    rewriter.replace(old, rewriter.insert(TransposeOp(rotated.result, permutation=order)).result)
    rewriter.remark(rotated, f"recognised as {rotated.op_name}")
    return True


def _terms(own: Value, turned: Value) -> tuple[Value, Value, Value] | None:
    """(x, cos, sin) of x * cos and turn(x) * sin."""
    first, second = made_by(own, graph.MulOp), made_by(turned, graph.MulOp)
    if first is None or second is None:
        return None
    for rotated, sin in either_order(second):
        x = _source_of_turn(rotated)
        if x is not None and x in first.operands:
            return x, first.rhs if first.lhs is x else first.lhs, sin
    return None


def _source_of_turn(value: Value) -> Value | None:
    """x of concat(-x[.., h:], x[.., :h])"""
    concat = made_by(value, ConcatOp)
    if concat is None or len(concat.xs) != 2:
        return None
    negated, low = made_by(concat.xs[0], graph.NegOp), part_of(concat.xs[1])
    high = part_of(negated.operands[0]) if negated is not None else None
    if high is None or low is None or high[0] is not low[0] or high[0].type is not value.type:
        return None
    rank, (x, _, half, size) = tensor_type(value).rank, high
    is_halves = high[1] == low[1] == concat.axis == rank - 1 and low[2] == 0 and low[3] == half == size
    return x if is_halves and isinstance(half, int) else None


def _shape_of_half(table: Value, x: Value, heads: int) -> list[Dim] | None:
    """[b or 1, n or 1, h] of a doubled table that broadcasts over the heads of x; None for any other value."""
    size = shape_of(x)[-1]
    shape = (*[1] * (4 - tensor_type(table).rank), *shape_of(table))
    if len(shape) != 4 or shape[heads] != 1 or shape[-1] != size or not isinstance(size, int):
        return None
    kept, own = _without(shape, heads), _without(shape_of(x), heads)
    if any(dim not in (1, other) for dim, other in zip(kept[:2], own[:2], strict=True)) or not _is_doubled(table):
        return None
    return [*kept[:2], size // 2]


def _without(shape: tuple[Dim, ...], axis: int) -> list[Dim]:
    return [dim for n, dim in enumerate(shape) if n != axis]


def _is_doubled(value: Value) -> bool:
    """Whether the second half of a value's last axis is plainly its first half: cos(reshape(concat(f, f)))"""
    size, op = shape_of(value)[-1], value.defining_op
    if not isinstance(size, int) or size % 2 or op is None:
        return False
    array = array_of(value)
    if array is not None:
        return np.array_equal(array[..., : size // 2], array[..., size // 2 :])
    if isinstance(op, ConcatOp):
        return op.axis == tensor_type(value).rank - 1 and len(op.xs) == 2 and op.xs[0] is op.xs[1]
    if isinstance(op, ReshapeOp):
        return op.shape is None and not op.new_dims and shape_of(op.x)[-1:] == (size,) and _is_doubled(op.x)
    if isinstance(op, GatherOp):
        return op.axis < tensor_type(op.x).rank - 1 and _is_doubled(op.x)
    if isinstance(op, graph.MulOp):
        return any(number(b) is not None and a.type is value.type and _is_doubled(a) for a, b in either_order(op))
    return isinstance(op, ELEMENTWISE) and _is_doubled(op.operands[0])


def _half(value: Value, rewriter: Rewriter) -> Value:
    """The first half of a doubled value: cos(reshape(concat(f, f))) -> cos(reshape(f))"""
    op = value.defining_op
    assert op is not None
    array = array_of(value)
    if array is not None:
        return constant_like(rewriter, array[..., : array.shape[-1] // 2], value, value.name or "table")
    made: Operation
    if isinstance(op, ConcatOp):
        return op.xs[0]
    if isinstance(op, ReshapeOp):
        shape = shape_of(value)
        made = ReshapeOp.to(_half(op.x, rewriter), [*shape[:-1], shape[-1] // 2])
    elif isinstance(op, GatherOp):
        made = GatherOp(_half(op.x, rewriter), op.indices, axis=op.axis)
    elif isinstance(op, graph.MulOp):
        table, factor = next((a, b) for a, b in either_order(op) if number(b) is not None)
        made = graph.MulOp(_half(table, rewriter), factor)
    else:
        inner = _half(op.operands[0], rewriter)
        made = type(op).make([inner], [tensor_type(value).with_shape(shape_of(inner))], op.properties, loc=op.loc)
    return rewriter.insert(made).results[0]
