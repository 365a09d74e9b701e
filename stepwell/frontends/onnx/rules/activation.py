"""Activations: a few named graph ops, the others as compositions that fuse into one kernel."""

from __future__ import annotations

from collections.abc import Callable

from stepwell.dialects.graph import activation
from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import tensor_type
from stepwell.dialects.graph.logic import CompareOp, WhereOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, in_f32, scalar, unary, widened
from stepwell.ir.core import Value
from stepwell.ir.types import F64, FloatType

Composition = Callable[[Node, Value], Value]


def _composed(*op_types: str, since: int = 1) -> Callable[[Composition], Composition]:
    """Register a composition of x; narrow floats go through it in f32."""

    def register(compose: Composition) -> Composition:
        def convert(node: Node) -> Value:
            return in_f32(node, node.input(0), lambda x: compose(node, x))

        rule(*op_types, since=since)(convert)
        return compose

    return register


def where_compared(node: Node, predicate: str, x: Value, bound: float, then: Value, otherwise: Value) -> Value:
    """where(x PREDICATE bound, then, otherwise)"""
    condition = node.insert(CompareOp(x, scalar(node, bound, x), predicate=predicate)).result
    return node.insert(WhereOp(condition, then, otherwise)).result


def expm1_below_zero(node: Node, x: Value, alpha: float, slope: float = 1.0) -> Value:
    """where(x > 0, x, alpha * expm1(x / slope))"""
    scaled = x if slope == 1.0 else binary(node, graph.DivOp, x, slope)
    below = binary(node, graph.MulOp, unary(node, graph.ExpM1Op, scaled), alpha)
    return where_compared(node, "gt", x, 0, x, below)


@_composed("LeakyRelu")
def leaky_relu(node: Node, x: Value) -> Value:
    """LeakyRelu(x) -> where(x < 0, alpha * x, x)"""
    return where_compared(node, "lt", x, 0, binary(node, graph.MulOp, x, node.float("alpha", 0.01)), x)


@_composed("Elu")
def elu(node: Node, x: Value) -> Value:
    """Elu(x) -> where(x > 0, x, alpha * expm1(x))"""
    return expm1_below_zero(node, x, node.float("alpha", 1.0))


@_composed("Selu")
def selu_with_rounded_defaults(node: Node, x: Value) -> Value:
    """Selu(x) -> gamma * where(x > 0, x, alpha * expm1(x)), with the defaults of opset 1"""
    return _selu(node, x, 1.6732, 1.0507)


@_composed("Selu", since=6)
def selu(node: Node, x: Value) -> Value:
    """Selu(x) -> gamma * where(x > 0, x, alpha * expm1(x))"""
    return _selu(node, x, 1.67326319217681884765625, 1.05070102214813232421875)


def _selu(node: Node, x: Value, alpha: float, gamma: float) -> Value:
    below = expm1_below_zero(node, x, node.float("alpha", alpha))
    return binary(node, graph.MulOp, below, node.float("gamma", gamma))


@_composed("Celu")
def celu(node: Node, x: Value) -> Value:
    """Celu(x) -> where(x > 0, x, alpha * expm1(x / alpha))"""
    alpha = node.float("alpha", 1.0)
    return expm1_below_zero(node, x, alpha, alpha)


@_composed("HardSigmoid")
def hard_sigmoid(node: Node, x: Value) -> Value:
    """HardSigmoid(x) -> max(min(alpha * x + beta, 1), 0)"""
    return clamped_line(node, x, node.float("alpha", 0.2), node.float("beta", 0.5))


def clamped_line(node: Node, x: Value, alpha: float, beta: float) -> Value:
    """max(min(alpha * x + beta, 1), 0)"""
    line = binary(node, graph.AddOp, binary(node, graph.MulOp, x, alpha), beta)
    return binary(node, graph.MaxOp, binary(node, graph.MinOp, line, 1), 0)


@_composed("HardSwish")
def hard_swish(node: Node, x: Value) -> Value:
    """HardSwish(x) -> x * max(min(x / 6 + 1/2, 1), 0)"""
    return binary(node, graph.MulOp, x, clamped_line(node, x, 1 / 6, 0.5))


@_composed("Softsign")
def softsign(node: Node, x: Value) -> Value:
    """Softsign(x) -> x / (1 + |x|)"""
    return binary(node, graph.DivOp, x, binary(node, graph.AddOp, unary(node, graph.AbsOp, x), 1))


@_composed("ThresholdedRelu")
def thresholded_relu(node: Node, x: Value) -> Value:
    """ThresholdedRelu(x) -> where(x > alpha, x, 0)"""
    return where_compared(node, "gt", x, node.float("alpha", 1.0), x, scalar(node, 0, x))


@_composed("Mish")
def mish(node: Node, x: Value) -> Value:
    """Mish(x) -> x * tanh(softplus(x))"""
    return binary(node, graph.MulOp, x, unary(node, graph.TanhOp, unary(node, activation.SoftplusOp, x)))


@rule("Softplus")
def softplus(node: Node) -> Value:
    return unary(node, activation.SoftplusOp, node.input(0))


@rule("Gelu")
def gelu(node: Node) -> Value:
    return node.insert(activation.GeluOp(node.input(0), approximate=node.string("approximate", "none"))).result


@rule("Swish")
def swish(node: Node) -> Value:
    """Swish(x) -> silu(x), or x * sigmoid(alpha * x)"""
    return in_f32(node, node.input(0), lambda x: gated(node, x, node.float("alpha", 1.0)))


def gated(node: Node, x: Value, alpha: float) -> Value:
    """x * sigmoid(alpha * x)"""
    if alpha == 1.0:
        return unary(node, activation.SiluOp, x)
    gate = unary(node, graph.SigmoidOp, binary(node, graph.MulOp, x, alpha))
    return binary(node, graph.MulOp, x, gate)


@rule("SwiGLU")
def swiglu(node: Node) -> Value:
    """SwiGLU(gate, x) -> swish(gate) * x"""
    gate, x, alpha = node.input(0), node.input(1), node.float("alpha", 1.0)
    return in_f32(node, gate, lambda wide: binary(node, graph.MulOp, gated(node, wide, alpha), widened(node, x)))


@rule("Shrink")
def shrink(node: Node) -> Value:
    """Shrink(x) -> where(x < -lambd, x + bias, where(x > lambd, x - bias, 0)), integers in f64"""
    element = tensor_type(node.input(0)).element
    x = widened(node, node.input(0)) if isinstance(element, FloatType) else cast(node, node.input(0), F64)
    bias, bound = node.float("bias", 0.0), node.float("lambd", 0.5)
    above = where_compared(node, "gt", x, bound, binary(node, graph.SubOp, x, bias), scalar(node, 0, x))
    return cast(node, where_compared(node, "lt", x, -bound, binary(node, graph.AddOp, x, bias), above), element)


