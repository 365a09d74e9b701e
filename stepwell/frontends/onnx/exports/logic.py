"""Comparison, predicates, selection, logic on bits."""

from __future__ import annotations

from typing import Any

from stepwell.dialects.graph import logic as graph
from stepwell.dialects.graph.elementwise import BinaryOp
from stepwell.frontends.onnx.exports.composing import Item, cast, finish, is_unsigned, scalar
from stepwell.frontends.onnx.writer import Writer, element_of, exports
from stepwell.ir.core import Operation, Value
from stepwell.ir.types import I1, UI8, IntegerType, Signedness

PREDICATES = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}
BITS: dict[type[Operation], str] = {graph.AndOp: "And", graph.OrOp: "Or", graph.XorOp: "Xor", graph.NotOp: "Not"}


@exports(graph.CompareOp)
def comparison(op: graph.CompareOp, writer: Writer) -> None:
    """graph.compare %a, %b {lt} -> Less(a, b); {ne} -> Not(Equal(a, b)); an order of i1 is that of bytes"""
    if op.predicate == "ne":
        writer.node("Not", [writer.make("Equal", op.operands)], op.results)
        return
    operands: list[Item] = list(op.operands)
    if element_of(op.lhs) is I1 and op.predicate != "eq":
        operands = [cast(writer, operand, UI8) for operand in op.operands]
    writer.node(PREDICATES[op.predicate], operands, op.results)


@exports(graph.IsNanOp)
def is_nan(op: graph.IsNanOp, writer: Writer) -> None:
    """graph.is_nan %x -> IsNaN(x)"""
    writer.node("IsNaN", [op.x], op.results)


@exports(graph.IsInfOp)
def is_inf(op: graph.IsInfOp, writer: Writer) -> None:
    """graph.is_inf %x {negative, positive} -> IsInf(x) {detect_negative, detect_positive}"""
    signs: dict[str, Any] = {"detect_negative": int(op.negative), "detect_positive": int(op.positive)}
    writer.node("IsInf", [op.x], op.results, **signs)


@exports(*BITS)
def bits(op: Operation, writer: Writer) -> None:
    """graph.and %a, %b -> And(a, b), of integers BitwiseAnd(a, b)"""
    prefix = "" if element_of(op.operands[0]) is I1 else "Bitwise"
    writer.node(f"{prefix}{BITS[type(op)]}", op.operands, op.results)


@exports(graph.ShiftLeftOp)
def shift_left(op: BinaryOp, writer: Writer) -> None:
    """graph.shift_left %x, %n -> BitShift(x, n) {LEFT}; BitShift takes unsigned integers: signed ones are cast"""
    if is_unsigned(op.lhs):
        writer.node("BitShift", op.operands, op.results, direction="LEFT")
        return
    x, amount = (cast(writer, operand, _unsigned(op.lhs)) for operand in op.operands)
    finish(writer, writer.make("BitShift", [x, amount], direction="LEFT"), _unsigned(op.lhs), op.result)


@exports(graph.ShiftRightOp)
def shift_right(op: BinaryOp, writer: Writer) -> None:
    """graph.shift_right %x, %n -> BitShift(x, n) {RIGHT}; of signed integers

    xor(cast(BitShift(cast(xor(x, m)), cast(n)) {RIGHT}), m) with m = where(x < 0, -1, 0), so that signs come in"""
    if is_unsigned(op.lhs):
        writer.node("BitShift", op.operands, op.results, direction="RIGHT")
        return
    element = element_of(op.lhs)
    zero, ones = scalar(writer, 0, element), scalar(writer, -1, element)
    mask = writer.make("Where", [writer.make("Less", [op.lhs, zero]), ones, zero])
    flipped = cast(writer, writer.make("BitwiseXor", [op.lhs, mask]), _unsigned(op.lhs))
    shifted = writer.make("BitShift", [flipped, cast(writer, op.rhs, _unsigned(op.lhs))], direction="RIGHT")
    writer.node("BitwiseXor", [cast(writer, shifted, element), mask], op.results)


def _unsigned(value: Value) -> IntegerType:
    element = element_of(value)
    assert isinstance(element, IntegerType)
    return IntegerType(element.width, Signedness.UNSIGNED)


@exports(graph.WhereOp)
def where(op: graph.WhereOp, writer: Writer) -> None:
    """graph.where %c, %x, %y -> Where(c, x, y)"""
    writer.node("Where", op.operands, op.results)
