"""Rules of elementwise ops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.activation import SoftplusOp
from stepwell.dialects.graph.base import tensor_type
from stepwell.dialects.graph.conversion import CastOp
from stepwell.dialects.graph.logic import WhereOp
from stepwell.frontends.onnx.gradients.rules import RULES, Backward, vjp
from stepwell.ir.core import Value
from stepwell.ir.types import FloatType

# Of each function of one operand: the derivative by x and y = f(x).
DERIVATIVES: dict[Any, Callable[[Backward, Value, Value], Value]] = {
    graph.ExpOp: lambda b, x, y: y,
    graph.ExpM1Op: lambda b, x, y: b.add(y, 1.0),
    graph.LogOp: lambda b, x, y: b.div(b.constant(1, x), x),
    graph.SqrtOp: lambda b, x, y: b.div(b.constant(0.5, x), y),
    graph.ErfOp: lambda b, x, y: b.mul(b.unary(graph.ExpOp, b.neg(b.mul(x, x))), 2 / math.sqrt(math.pi)),
    graph.SinOp: lambda b, x, y: b.unary(graph.CosOp, x),
    graph.CosOp: lambda b, x, y: b.neg(b.unary(graph.SinOp, x)),
    graph.TanOp: lambda b, x, y: b.add(b.mul(y, y), 1.0),
    graph.AtanOp: lambda b, x, y: b.div(b.constant(1, x), b.add(b.mul(x, x), 1.0)),
    graph.SinhOp: lambda b, x, y: b.unary(graph.CoshOp, x),
    graph.CoshOp: lambda b, x, y: b.unary(graph.SinhOp, x),
    graph.TanhOp: lambda b, x, y: b.sub(b.constant(1, x), b.mul(y, y)),
    graph.SigmoidOp: lambda b, x, y: b.mul(y, b.sub(b.constant(1, x), y)),
    SoftplusOp: lambda b, x, y: b.unary(graph.SigmoidOp, x),
    graph.AbsOp: lambda b, x, y: b.unary(graph.SignOp, x),
}


def _chained(derivative: Callable[[Backward, Value, Value], Value]) -> Any:
    return lambda op, g, b: [b.mul(g, derivative(b, op.x, op.result))]


for _class, _derivative in DERIVATIVES.items():
    RULES[_class] = _chained(_derivative)


@vjp(graph.AddOp)
def add(op: Any, g: Value, b: Backward) -> list[Value | None]:
    return [b.gathered(g, op.lhs), b.gathered(g, op.rhs)]


@vjp(graph.SubOp)
def sub(op: Any, g: Value, b: Backward) -> list[Value | None]:
    return [b.gathered(g, op.lhs), b.gathered(b.neg(g), op.rhs)]


@vjp(graph.MulOp)
def mul(op: Any, g: Value, b: Backward) -> list[Value | None]:
    return [b.gathered(b.mul(g, op.rhs), op.lhs), b.gathered(b.mul(g, op.lhs), op.rhs)]


@vjp(graph.DivOp)
def div(op: Any, g: Value, b: Backward) -> list[Value | None]:
    share = b.div(g, op.rhs)
    return [b.gathered(share, op.lhs), b.gathered(b.neg(b.mul(share, op.result)), op.rhs)]


@vjp(graph.PowOp)
def power(op: Any, g: Value, b: Backward) -> list[Value | None]:
    """y x^(y - 1), and x^y ln x, which is 0 where x is"""
    below = b.node.insert(graph.PowOp(op.lhs, b.sub(op.rhs, 1.0))).result
    positive = b.compare("gt", op.lhs, 0.0)
    log = b.unary(graph.LogOp, b.where(positive, op.lhs, 1.0))
    return [b.gathered(b.mul(b.mul(g, op.rhs), below), op.lhs), b.gathered(b.mul(g, b.mul(op.result, log)), op.rhs)]


@vjp(graph.NegOp)
def neg(op: Any, g: Value, b: Backward) -> list[Value | None]:
    return [b.neg(g)]


@vjp(graph.ReluOp)
def relu(op: Any, g: Value, b: Backward) -> list[Value | None]:
    return [b.where(b.compare("gt", op.x, 0.0), g)]


@vjp(graph.MaxOp, graph.MinOp)
def extreme(op: Any, g: Value, b: Backward) -> list[Value | None]:
    """The gradient goes to the operand that is taken; the first of equal ones."""
    first = b.compare("ge" if isinstance(op, graph.MaxOp) else "le", op.lhs, op.rhs)
    zero = b.mul(g, 0.0)
    return [b.gathered(b.where(first, g, zero), op.lhs), b.gathered(b.where(first, zero, g), op.rhs)]


@vjp(graph.SignOp, graph.CeilOp, graph.FloorOp, graph.RoundOp)
def step(op: Any, g: Value, b: Backward) -> list[Value | None]:
    return [None]


@vjp(WhereOp)
def where(op: Any, g: Value, b: Backward) -> list[Value | None]:
    zero = b.mul(g, 0.0)
    return [None, b.gathered(b.where(op.condition, g, zero), op.x), b.gathered(b.where(op.condition, zero, g), op.y)]


@vjp(CastOp)
def cast(op: Any, g: Value, b: Backward) -> list[Value | None]:
    element = tensor_type(op.x).element
    return [b.node.insert(CastOp(g, to=element)).result if isinstance(element, FloatType) else None]
