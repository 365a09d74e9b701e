"""Activations, some with a bias added first, and those that are fused behind products by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from stepwell.dialects.graph.activation import GeluOp, SoftplusOp
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.elementwise import AbsOp, AddOp, DivOp, MaxOp, MinOp, MulOp, ReluOp, SigmoidOp, TanhOp
from stepwell.dialects.graph.movement import SplitOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.activation import clamped_line, expm1_below_zero, gated, where_compared
from stepwell.frontends.onnx.rules.composing import binary, in_f32, scalar, unary
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, rounded_like, summed
from stepwell.ir.core import Value
from stepwell.ir.dims import divide_exact


@rule("Gelu", "BiasGelu", "FastGelu", domain=DOMAIN)
def gelu(node: Node) -> Value:
    """gelu(x + bias), by the error function; FastGelu by the hyperbolic tangent."""
    approximate = "tanh" if node.op_type == "FastGelu" else "none"
    made = node.insert(GeluOp(summed(node, node.input(0), node.optional(1)), approximate=approximate)).result
    return rounded_like(node, made, node.input(0))


@rule("QuickGelu", domain=DOMAIN)
def quick_gelu(node: Node) -> Value:
    """x * sigmoid(alpha * x)"""
    return in_f32(node, node.input(0), lambda x: gated(node, x, node.float("alpha", 1.702)))


@rule("BiasSplitGelu", domain=DOMAIN)
def bias_split_gelu(node: Node) -> Value:
    """left * gelu(right) of the halves of the last axis of x + bias."""
    x = node.input(0)
    total, axis = summed(node, x, node.input(1)), len(shape_of(x)) - 1
    half = divide_exact(shape_of(x)[axis], 2)
    if half is None:
        raise node.unsupported(f"a last axis of {shape_of(x)[axis]} has no halves")
    left, right = node.insert(SplitOp.into(total, [half, half], axis)).parts
    return rounded_like(node, binary(node, MulOp, left, node.insert(GeluOp(right)).result), x)


@rule("BiasAdd", domain=DOMAIN)
def bias_add(node: Node) -> Value:
    """x + bias + skip"""
    return rounded_like(node, summed(node, *node.inputs()), node.input(0))


@attrs.frozen
class Fused:
    """An activation that stands behind a product: its parameters, by ONNX's names, and what it composes."""

    parameters: tuple[str, ...]
    compose: Callable[..., Value]


def _line(node: Node, x: Value, alpha: float, beta: float) -> Value:
    return binary(node, AddOp, binary(node, MulOp, x, alpha), beta)


def _scaled(node: Node, x: Value, factor: float) -> Value:
    return binary(node, MulOp, x, factor)


FUSED = {
    "Relu": Fused((), lambda node, x: unary(node, ReluOp, x)),
    "Tanh": Fused((), lambda node, x: unary(node, TanhOp, x)),
    "Sigmoid": Fused((), lambda node, x: unary(node, SigmoidOp, x)),
    "Softplus": Fused((), lambda node, x: unary(node, SoftplusOp, x)),
    "Softsign": Fused((), lambda node, x: binary(node, DivOp, x, binary(node, AddOp, unary(node, AbsOp, x), 1))),
    "HardSwish": Fused((), lambda node, x: binary(node, MulOp, x, clamped_line(node, x, 1 / 6, 0.5))),
    "HardSigmoid": Fused(("alpha", "beta"), clamped_line),
    "Clip": Fused(("min", "max"), lambda node, x, low, high: binary(node, MinOp, binary(node, MaxOp, x, low), high)),
    "LeakyRelu": Fused(("alpha",), lambda node, x, a: where_compared(node, "lt", x, 0, _scaled(node, x, a), x)),
    "ThresholdedRelu": Fused(("alpha",), lambda node, x, a: where_compared(node, "gt", x, a, x, scalar(node, 0, x))),
    "Elu": Fused(("alpha",), expm1_below_zero),
    "Celu": Fused(("alpha",), lambda node, x, a: expm1_below_zero(node, x, a, a)),
    "Selu": Fused(("alpha", "gamma"), lambda node, x, a, g: _scaled(node, expm1_below_zero(node, x, a), g)),
    "ScaledTanh": Fused(
        ("alpha", "beta"), lambda node, x, a, b: _scaled(node, unary(node, TanhOp, _scaled(node, x, b)), a)
    ),
    "ParametricSoftplus": Fused(
        ("alpha", "beta"), lambda node, x, a, b: _scaled(node, unary(node, SoftplusOp, _scaled(node, x, b)), a)
    ),
    "Affine": Fused(("alpha", "beta"), _line),
}


def fused_by_list(node: Node, x: Value) -> Value:
    """x through the attribute `activation`, with the list `activation_params`."""
    fused = _named(node)
    return x if fused is None else _composed(node, x, fused, node.floats("activation_params", []))


def fused_by_name(node: Node, x: Value) -> Value:
    """x through the attribute `activation`, with `activation_alpha`, `activation_beta` and `activation_gamma`."""
    fused = _named(node)
    if fused is None:
        return x
    names = [name for name in fused.parameters if node.has(f"activation_{name}")]
    return _composed(node, x, fused, [node.float(f"activation_{name}") for name in names])


def _named(node: Node) -> Fused | None:
    name = node.string("activation", "")
    if name and name not in FUSED:
        raise node.unsupported(f"the activation {name!r} is not one of {', '.join(sorted(FUSED))}")
    return FUSED.get(name)


def _composed(node: Node, x: Value, fused: Fused, given: Sequence[float]) -> Value:
    if len(given) != len(fused.parameters):
        needed = ", ".join(fused.parameters) or "no parameters"
        raise node.unsupported(f"its activation takes {needed}, not {list(given)}")
    return in_f32(node, x, lambda wide: fused.compose(node, wide, *given))
