"""Arithmetic, rounding, elementary functions."""

from __future__ import annotations

from stepwell.dialects.graph import elementwise as graph
from stepwell.frontends.onnx.exports.composing import (
    cast,
    finish,
    is_float,
    is_unsigned,
    scalar,
    through,
    wide,
)
from stepwell.frontends.onnx.writer import Writer, element_of, exports
from stepwell.ir.core import Operation
from stepwell.ir.types import SI32, SI64, IntegerType

OPERATORS: dict[type[Operation], str] = {
    graph.AddOp: "Add", graph.SubOp: "Sub", graph.MulOp: "Mul", graph.DivOp: "Div", graph.MaxOp: "Max",
    graph.MinOp: "Min", graph.AbsOp: "Abs", graph.SignOp: "Sign", graph.CeilOp: "Ceil", graph.FloorOp: "Floor",
    graph.RoundOp: "Round", graph.ExpOp: "Exp", graph.LogOp: "Log", graph.SqrtOp: "Sqrt", graph.ErfOp: "Erf",
    graph.SinOp: "Sin", graph.CosOp: "Cos", graph.TanOp: "Tan", graph.AsinOp: "Asin", graph.AcosOp: "Acos",
    graph.AtanOp: "Atan", graph.SinhOp: "Sinh", graph.CoshOp: "Cosh", graph.TanhOp: "Tanh", graph.AsinhOp: "Asinh",
    graph.AcoshOp: "Acosh", graph.AtanhOp: "Atanh", graph.SigmoidOp: "Sigmoid",
}  # fmt: skip


@exports(*OPERATORS)
def elementwise(op: Operation, writer: Writer) -> None:
    """graph.add %a, %b -> Add(a, b)"""
    writer.node(OPERATORS[type(op)], op.operands, op.results)


@exports(graph.NegOp)
def negation(op: graph.UnaryOp, writer: Writer) -> None:
    """graph.neg %x -> Neg(x); of unsigned integers Sub(0, x)"""
    if is_unsigned(op.x):
        writer.node("Sub", [scalar(writer, 0, element_of(op.x)), op.x], op.results)
    else:
        writer.node("Neg", [op.x], op.results)


@exports(graph.ReluOp)
def relu(op: graph.UnaryOp, writer: Writer) -> None:
    """graph.relu %x -> Relu(x); of unsigned integers Identity(x)"""
    writer.node("Identity" if is_unsigned(op.x) else "Relu", [op.x], op.results)


@exports(graph.PowOp)
def power(op: graph.BinaryOp, writer: Writer) -> None:
    """graph.pow %a, %b -> Pow(a, b); of integers that Pow lacks, in wider ones with the same low bits"""
    element = element_of(op.lhs)
    if isinstance(element, IntegerType) and element.width < 64 and element is not SI32:
        through(writer, op, SI64, lambda args: writer.make("Pow", args))
    else:
        writer.node("Pow", op.operands, op.results)


@exports(graph.RemOp)
def remainder(op: graph.BinaryOp, writer: Writer) -> None:
    """graph.rem %a, %b -> Mod(a, b) {fmod = 1}"""
    writer.node("Mod", op.operands, op.results, fmod=1)


@exports(graph.ModOp)
def modulo(op: graph.BinaryOp, writer: Writer) -> None:
    """graph.mod %a, %b -> Mod(a, b); of floats, for which Mod knows C's fmod only:

    where(r = 0, where(b < 0, -0.0, 0.0), where((r < 0) != (b < 0), r + b, r)) with r = fmod(a, b)"""
    if not is_float(op.lhs):
        writer.node("Mod", op.operands, op.results)
        return
    element = wide(element_of(op.lhs))
    zero, minus_zero = scalar(writer, 0.0, element), scalar(writer, -0.0, element)
    a, b = (cast(writer, operand, element) for operand in op.operands)
    r = writer.make("Mod", [a, b], fmod=1)
    negative = writer.make("Less", [b, zero])
    differ = writer.make("Xor", [writer.make("Less", [r, zero]), negative])
    moved = writer.make("Where", [differ, writer.make("Add", [r, b]), r])
    signed_zero = writer.make("Where", [negative, minus_zero, zero])
    made = writer.make("Where", [writer.make("Equal", [r, zero]), signed_zero, moved])
    finish(writer, made, element, op.result)


@exports(graph.ExpM1Op)
def exponential_less_one(op: graph.UnaryOp, writer: Writer) -> None:
    """graph.expm1 %x -> tanh(x / 2) * (exp(x) + 1), which does not cancel near 0"""
    element = wide(element_of(op.x))
    x = cast(writer, op.x, element)
    half = writer.make("Tanh", [writer.make("Mul", [x, scalar(writer, 0.5, element)])])
    above = writer.make("Add", [writer.make("Exp", [x]), scalar(writer, 1, element)])
    finish(writer, writer.make("Mul", [half, above]), element, op.result)
