"""Comparison, predicates, selection and logic on bits -> `tensor.generic` with a scalar body."""

from __future__ import annotations

from collections.abc import Callable

from stepwell.dialects import arith
from stepwell.dialects.graph import logic as graph
from stepwell.dialects.graph.elementwise import BinaryOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Operation, Value
from stepwell.ir.types import I1, FloatType, IndexType, IntegerType, TensorType, Type, is_unsigned
from stepwell.lowering.to_tensor import integers
from stepwell.lowering.to_tensor.rules import lowers, map_generic, signless
from stepwell.lowering.to_tensor.scalars import Scalars


def require_number(type_: Type) -> None:
    """Raises NoMatch for complex numbers, and for strings where more than their handles is asked for."""
    if not isinstance(type_, (FloatType, IntegerType, IndexType)):
        raise NoMatch(f"{type_} is no type of scalar code")


@lowers(graph.CompareOp)
def compare(op: graph.CompareOp, c: Conversion) -> Value:
    """graph.compare %a, %b {predicate = "lt"}  ->  tensor.generic %a, %b { arith.cmpf olt }"""
    element = signless(tensor_type(op.lhs).element)  # strings are compared by their handles
    require_number(element)
    unsigned = is_unsigned(tensor_type(op.lhs).element)
    return map_generic(
        c, [c.new(op.lhs), c.new(op.rhs)], tensor_type(op.result),
        lambda s, a, b: s.compare(op.predicate, a, b, unsigned),
    )  # fmt: skip


@lowers(graph.IsNanOp)
def is_nan(op: graph.IsNanOp, c: Conversion) -> Value:
    """graph.is_nan %x  ->  tensor.generic %x { arith.cmpf uno }"""
    return map_generic(c, [c.new(op.x)], tensor_type(op.result), lambda s, x: s.is_nan(x))


@lowers(graph.IsInfOp)
def is_inf(op: graph.IsInfOp, c: Conversion) -> Value:
    """graph.is_inf %x  ->  x == inf or x == -inf, as far as asked for"""
    asked = [float(text) for text, wanted in (("inf", op.positive), ("-inf", op.negative)) if wanted]

    def body(s: Scalars, x: Value) -> Value:
        found = s.constant(0, tensor_type(op.result).element)
        for infinity in asked:
            found = s.either(found, s.compare("eq", x, s.constant(infinity, x.type)))
        return found

    return map_generic(c, [c.new(op.x)], tensor_type(op.result), body)


_BITS: dict[type[Operation], Callable[..., Value]] = {
    graph.AndOp: lambda s, unsigned, a, b: s.both(a, b),
    graph.OrOp: lambda s, unsigned, a, b: s.either(a, b),
    graph.XorOp: lambda s, unsigned, a, b: s.emit(arith.XOrIOp(a, b)),
    graph.ShiftLeftOp: integers.shift_left,
    graph.ShiftRightOp: integers.shift_right,
}


@lowers(*_BITS)
def bits(op: BinaryOp, c: Conversion) -> Value:
    """graph.and %a, %b  ->  tensor.generic %a, %b { arith.andi }"""
    body, unsigned = _BITS[type(op)], is_unsigned(op.lhs.type)
    result = signless(op.result.type)
    assert isinstance(result, TensorType)
    return map_generic(c, [c.new(op.lhs), c.new(op.rhs)], result, lambda s, a, b: body(s, unsigned, a, b))


@lowers(graph.NotOp)
def invert(op: graph.NotOp, c: Conversion) -> Value:
    """graph.not %x  ->  tensor.generic %x { arith.xori %x, -1 }"""
    result = signless(op.result.type)
    assert isinstance(result, TensorType)
    return map_generic(
        c, [c.new(op.x)], result,
        lambda s, x: s.emit(arith.XOrIOp(x, s.constant(1 if x.type is I1 else -1, x.type))),
    )  # fmt: skip


@lowers(graph.WhereOp)
def where(op: graph.WhereOp, c: Conversion) -> Value:
    """graph.where %c, %x, %y  ->  tensor.generic %c, %x, %y { arith.select }"""
    result = signless(op.result.type)
    assert isinstance(result, TensorType)
    require_number(result.element)
    operands = [c.new(op.condition), c.new(op.x), c.new(op.y)]
    return map_generic(c, operands, result, lambda s, p, x, y: s.select(p, x, y), widen=False)
