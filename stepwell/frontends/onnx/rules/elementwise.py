"""Elementwise operators: arithmetic, functions, comparison, logic, selection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph import logic
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.frontends.onnx.registry import RULES, Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, in_f32, reshaped, scalar, widened
from stepwell.ir.core import Value
from stepwell.ir.types import F32, F64, FloatType, IntegerType, Signedness, Type, bit_width

# Operators that are one graph op of the same operands in all their versions.
UNARY: dict[str, type[graph.ElementwiseOp]] = {
    "Neg": graph.NegOp, "Abs": graph.AbsOp, "Sign": graph.SignOp, "Exp": graph.ExpOp, "Log": graph.LogOp,
    "Sqrt": graph.SqrtOp, "Sigmoid": graph.SigmoidOp, "Relu": graph.ReluOp,
    "Ceil": graph.CeilOp, "Floor": graph.FloorOp, "Round": graph.RoundOp,
    "Sin": graph.SinOp, "Cos": graph.CosOp, "Tan": graph.TanOp,
    "Asin": graph.AsinOp, "Acos": graph.AcosOp, "Atan": graph.AtanOp,
    "Sinh": graph.SinhOp, "Cosh": graph.CoshOp, "Tanh": graph.TanhOp,
    "Asinh": graph.AsinhOp, "Acosh": graph.AcoshOp, "Atanh": graph.AtanhOp,
    "IsNaN": logic.IsNanOp, "Not": logic.NotOp, "BitwiseNot": logic.NotOp,
    "BitwiseAnd": logic.AndOp, "BitwiseOr": logic.OrOp, "BitwiseXor": logic.XorOp,
}  # fmt: skip

BINARY: dict[str, type[graph.BinaryOp]] = {
    "Add": graph.AddOp, "Sub": graph.SubOp, "Mul": graph.MulOp, "Div": graph.DivOp,
    "And": logic.AndOp, "Or": logic.OrOp, "Xor": logic.XorOp,
}  # fmt: skip

PREDICATES = {"Equal": "eq", "Less": "lt", "LessOrEqual": "le", "Greater": "gt", "GreaterOrEqual": "ge"}

Combine = Callable[[Node, Value, Value], Value]


def _one_to_one(cls: type[graph.ElementwiseOp]) -> Callable[[Node], Value]:
    def convert(node: Node) -> Value:
        return node.insert(cls(*node.inputs())).results[0]

    return convert


def _broadcasting(combine: Combine) -> Callable[[Node], Value]:
    """The form from opset 7 on: both operands broadcast."""
    return lambda node: combine(node, node.input(0), node.input(1))


def _aligning(combine: Combine) -> Callable[[Node], Value]:
    """The form before opset 7: op(a, b {broadcast, axis}) -> op(a, reshape(b) with 1s behind)"""

    def convert(node: Node) -> Value:
        a, b = node.input(0), node.input(1)
        if node.int("broadcast", 0) and node.has("axis"):
            rank = tensor_type(a).rank
            behind = rank - node.int("axis") % max(rank, 1) - tensor_type(b).rank
            b = reshaped(node, b, (*shape_of(b), *[1] * behind))
        return combine(node, a, b)

    return convert


def _pair(cls: type[graph.BinaryOp]) -> Combine:
    return lambda node, a, b: node.insert(cls(a, b)).result


def _comparison(predicate: str) -> Combine:
    return lambda node, a, b: node.insert(logic.CompareOp(a, b, predicate=predicate)).result


def _power(node: Node, base: Value, exponent: Value) -> Value:
    """pow(base, exponent) of two types -> cast(pow(cast(base), cast(exponent)), type of base)"""
    element = tensor_type(base).element
    common = _power_type(element, tensor_type(exponent).element)
    powered = node.insert(graph.PowOp(cast(node, base, common), cast(node, exponent, common))).result
    return cast(node, powered, element)


def _power_type(base: Type, exponent: Type) -> Type:
    if base is exponent:
        return base
    width = max(bit_width(base), bit_width(exponent))
    if isinstance(base, FloatType) and isinstance(exponent, FloatType):
        return F64 if width == 64 else F32
    if isinstance(base, FloatType):
        return base if bit_width(base) >= 32 else F32
    if isinstance(exponent, FloatType):
        return F64
    return IntegerType(width, Signedness.SIGNED)


for _name, _cls in UNARY.items():
    RULES.add("", _name, 1, _one_to_one(_cls))
_COMBINED = {
    **{name: _pair(cls) for name, cls in BINARY.items()},
    **{name: _comparison(predicate) for name, predicate in PREDICATES.items()},
    "Pow": _power,
}
for _name, _combine in _COMBINED.items():
    RULES.add("", _name, 1, _aligning(_combine))
    RULES.add("", _name, 7, _broadcasting(_combine))


@rule("Erf")
def erf(node: Node) -> Value:
    """Of integers, as in version 9: erf(x)  ->  cast(erf(cast(x, f32)), type of x); 0 up to 3, then 1, or -1."""
    x = node.input(0)
    element = tensor_type(x).element
    if isinstance(element, FloatType):
        return node.insert(graph.ErfOp(x)).result
    return cast(node, node.insert(graph.ErfOp(cast(node, x, F32))).result, element)


@rule("Reciprocal")
def reciprocal(node: Node) -> Value:
    """Reciprocal(x) -> 1 / x"""
    x = node.input(0)
    return node.insert(graph.DivOp(scalar(node, 1, x), x)).result


@rule("IsInf")
def is_inf(node: Node) -> Value:
    negative, positive = bool(node.int("detect_negative", 1)), bool(node.int("detect_positive", 1))
    return node.insert(logic.IsInfOp(node.input(0), negative=negative, positive=positive)).result


@rule("Mod")
def modulo(node: Node) -> Value:
    """Mod {fmod = 0} -> mod, {fmod = 1} -> rem"""
    return binary(node, graph.RemOp if node.int("fmod", 0) else graph.ModOp, node.input(0), node.input(1))


@rule("BitShift")
def bit_shift(node: Node) -> Value:
    direction = node.string("direction")
    if direction not in logic.SHIFTS:
        raise node.unsupported(f"direction {direction!r} is neither LEFT nor RIGHT")
    return binary(node, logic.SHIFTS[direction], node.input(0), node.input(1))


@rule("Where")
def where(node: Node) -> Value:
    return node.insert(logic.WhereOp(*node.inputs())).result


def _chained(node: Node, cls: type[graph.BinaryOp], values: list[Value]) -> Value:
    first, *rest = values
    for other in rest:
        first = node.insert(cls(first, other)).result
    return first


@rule("Max", "Min")
def extremum(node: Node) -> Value:
    """Max(a, b, c) -> max(max(a, b), c)"""
    return _chained(node, graph.MaxOp if node.op_type == "Max" else graph.MinOp, node.inputs())


@rule("Sum", "Mean")
def total(node: Node) -> Value:
    """Sum(a, b, c) -> (a + b) + c; Mean(a, b, c) -> ((a + b) + c) / 3"""
    values = node.inputs()
    if len(values) == 1:
        return values[0]
    element = tensor_type(values[0]).element
    summed = _chained(node, graph.AddOp, [widened(node, value) for value in values])
    if node.op_type == "Mean":
        summed = binary(node, graph.DivOp, summed, len(values))
    return cast(node, summed, element)


@rule("Clip")
def clip_to_attributes(node: Node) -> Value:
    """Clip(x) {min, max} -> min(max(x, min), max)"""
    x = node.input(0)
    for name, cls in (("min", graph.MaxOp), ("max", graph.MinOp)):
        if node.has(name):
            x = binary(node, cls, x, node.float(name))
    return x


@rule("Clip", since=6)
def clip_to_finite(node: Node) -> Value:
    """Clip(x) {min, max} -> min(max(x, min), max), the limits of f32 where a bound is absent"""
    limits = np.finfo(np.float32)
    x = binary(node, graph.MaxOp, node.input(0), node.float("min", float(limits.min)))
    return binary(node, graph.MinOp, x, node.float("max", float(limits.max)))


@rule("Clip", since=11)
def clip(node: Node) -> Value:
    """Clip(x, low, high) -> min(max(x, low), high)"""
    x = node.input(0)
    for index, cls in ((1, graph.MaxOp), (2, graph.MinOp)):
        if node.has_input(index):
            x = binary(node, cls, x, reshaped(node, node.input(index), ()))
    return x


@rule("Identity")
def identity(node: Node) -> Value:
    return node.input(0)


@rule("PRelu")
def prelu_per_channel(node: Node) -> Value:
    """PRelu(x, slope of one element or one per channel) -> where(x < 0, slope * x, x)"""
    x, slope = node.input(0), node.input(1)
    if tensor_type(slope).rank == 1 and shape_of(slope) != (1,) and tensor_type(x).rank > 1:
        slope = reshaped(node, slope, (*shape_of(slope), *[1] * (tensor_type(x).rank - 2)))
    return _prelu(node, x, slope)


@rule("PRelu", since=7)
def prelu(node: Node) -> Value:
    """PRelu(x, slope) -> where(x < 0, slope * x, x)"""
    return _prelu(node, node.input(0), node.input(1))


def _prelu(node: Node, x: Value, slope: Value) -> Value:
    def compute(wide: Value) -> Value:
        scaled = binary(node, graph.MulOp, wide, cast(node, slope, tensor_type(wide).element))
        negative = node.insert(logic.CompareOp(wide, scalar(node, 0, wide), predicate="lt")).result
        return node.insert(logic.WhereOp(negative, scaled, wide)).result

    return in_f32(node, x, compute)
