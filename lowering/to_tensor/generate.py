"""Tensors made from positions: ranges, diagonals, triangles."""

from __future__ import annotations

from stepwell.dialects.graph.generate import EyeOp, RangeOp, TriluOp
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.types import FloatType, Type
from stepwell.lowering.to_tensor.places import (
    Places,
    dims,
    moved,
    origin_place,
    reads_unsigned,
    result_type,
)
from stepwell.lowering.to_tensor.rules import lowers


@lowers(RangeOp)
def range_(op: RangeOp, c: Conversion) -> Value:
    """graph.range %start, %limit, %delta  ->  out[i] = start + i * delta

    The arithmetic of a `narrow` range is that of its type: every step is rounded. That f32 holds the exact product and
    sum of two such numbers to twice their precision makes the rounding of the wide result the right one."""
    result = result_type(op)
    element = result.element

    def rounded(p: Places, value: Value) -> Value:
        return p.widened(p.narrowed(value, element)) if op.narrow else value

    def body(p: Places, start: Value, delta: Value) -> Value:
        if not isinstance(element, FloatType):
            return p.add(start, p.mul(p.integer_of(p.at(0), element), delta))
        start, delta = p.widened(start), p.widened(delta)
        step = rounded(p, p.float_of(p.at(0), start.type))
        return p.narrowed(p.add(start, rounded(p, p.mul(step, delta))), element)

    operands = [c.new(op.start), c.new(op.delta)]
    return moved(c, result, body, inputs=operands, maps=[origin_place(value) for value in operands])


@lowers(EyeOp)
def eye(op: EyeOp, c: Conversion) -> Value:
    """graph.eye {k = 1}  ->  out[i, j] = j - i == k ? 1 : 0"""
    result = result_type(op)

    def body(p: Places) -> Value:
        here = p.compare("eq", p.sub(p.at(1), p.at(0)), p.whole(op.k))
        return _one_or_zero(p, here, result.element)

    return moved(c, result, body)


def _one_or_zero(p: Places, condition: Value, element: Type) -> Value:
    return condition if element is condition.type else p.one_or_zero(condition, element)


@lowers(TriluOp)
def trilu(op: TriluOp, c: Conversion) -> Value:
    """graph.trilu %x, %k {upper = true}  ->  out[i, j] = j - i >= k ? x[i, j] : 0"""
    result = result_type(op)
    rank = result.rank
    inputs = [c.new(op.x)] if op.k is None else [c.new(op.x), c.new(op.k)]

    def body(p: Places, x: Value, *given: Value) -> Value:
        k = p.index_of(given[0], op.k is not None and reads_unsigned(op.k)) if given else p.whole(0)
        distance = p.sub(p.at(rank - 1), p.at(rank - 2))
        kept = p.compare("ge" if op.upper else "le", distance, k)
        return p.select(kept, x, p.constant(0, result.element))

    maps = [dims(rank), *(origin_place(value) for value in inputs[1:])]
    return moved(c, result, body, inputs=inputs, maps=maps)
