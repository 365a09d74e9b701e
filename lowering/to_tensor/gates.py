"""The activations of recurrent layers as scalar code, by the names that `dialects.graph.recurrent` gives them."""

from __future__ import annotations

from collections.abc import Callable

from stepwell.dialects import math
from stepwell.ir.core import Value
from stepwell.lowering.to_tensor.elementwise import sigmoid
from stepwell.lowering.to_tensor.scalars import Scalars

Function = Callable[[Scalars, Value, float, float], Value]


def _linear(s: Scalars, x: Value, a: float, b: float) -> Value:
    return s.add(s.mul(s.constant(a, x.type), x), s.constant(b, x.type))


def _scaled_tanh(s: Scalars, x: Value, a: float, b: float) -> Value:
    return s.mul(s.constant(a, x.type), s.unary(math.TanhOp, s.mul(s.constant(b, x.type), x)))


def _below_zero(s: Scalars, x: Value, scale: float, value: Value) -> Value:
    """scale * value where x is negative, else x"""
    below = s.mul(s.constant(scale, x.type), value)
    return s.select(s.compare("lt", x, s.constant(0.0, x.type)), below, x)


def _thresholded(s: Scalars, x: Value, a: float, b: float) -> Value:
    """x above a, else 0 * x, which keeps a NaN."""
    return s.select(s.compare("gt", x, s.constant(a, x.type)), x, s.mul(s.constant(0.0, x.type), x))


def _hard_sigmoid(s: Scalars, x: Value, a: float, b: float) -> Value:
    raised = s.maximum(_linear(s, x, a, b), s.constant(0.0, x.type))
    return s.minimum(raised, s.constant(1.0, x.type))


def _softsign(s: Scalars, x: Value, a: float, b: float) -> Value:
    return s.divf(x, s.add(s.constant(1.0, x.type), s.unary(math.AbsFOp, x)))


def _softplus(s: Scalars, x: Value, a: float, b: float) -> Value:
    """max(x, 0) + ln(1 + e^-|x|), which does not overflow"""
    power = s.unary(math.ExpOp, s.negate(s.unary(math.AbsFOp, x)))
    return s.add(s.maximum(x, s.constant(0.0, x.type)), s.unary(math.Log1pOp, power))


# name -> f(scalars, x, alpha, beta)
FUNCTIONS: dict[str, Function] = {
    "relu": lambda s, x, a, b: s.maximum(x, s.constant(0.0, x.type)),
    "tanh": lambda s, x, a, b: s.unary(math.TanhOp, x),
    "sigmoid": lambda s, x, a, b: sigmoid(s, x),
    "affine": _linear,
    "leaky_relu": lambda s, x, a, b: _below_zero(s, x, a, x),
    "thresholded_relu": _thresholded,
    "scaled_tanh": _scaled_tanh,
    "hard_sigmoid": _hard_sigmoid,
    "elu": lambda s, x, a, b: _below_zero(s, x, a, s.unary(math.ExpM1Op, x)),
    "softsign": _softsign,
    "softplus": _softplus,
}
