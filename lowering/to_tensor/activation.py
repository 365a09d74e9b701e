"""Activations -> `tensor.generic` with a scalar body."""

from __future__ import annotations

import math as constants

from stepwell.dialects import math
from stepwell.dialects.graph.activation import GeluOp, SiluOp, SoftplusOp
from stepwell.dialects.graph.elementwise import UnaryOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.lowering.to_tensor.rules import lowers, map_generic
from stepwell.lowering.to_tensor.scalars import Scalars


@lowers(GeluOp)
def gelu(op: GeluOp, c: Conversion) -> Value:
    """graph.gelu %x  ->  0.5 x (1 + erf(x / sqrt 2)), or its form with tanh"""
    body = _gelu_tanh if op.approximate == "tanh" else _gelu_exact
    return map_generic(c, [c.new(op.x)], tensor_type(op.result), body)


def _half_of_one_plus(s: Scalars, x: Value, y: Value) -> Value:
    return s.mul(s.mul(s.constant(0.5, x.type), x), s.add(s.constant(1.0, x.type), y))


def _gelu_exact(s: Scalars, x: Value) -> Value:
    scaled = s.mul(x, s.constant(constants.sqrt(0.5), x.type))
    return _half_of_one_plus(s, x, s.unary(math.ErfOp, scaled))


def _gelu_tanh(s: Scalars, x: Value) -> Value:
    cube = s.mul(s.mul(x, x), x)
    inner = s.add(x, s.mul(s.constant(0.044715, x.type), cube))
    scaled = s.mul(s.constant(constants.sqrt(2 / constants.pi), x.type), inner)
    return _half_of_one_plus(s, x, s.unary(math.TanhOp, scaled))


@lowers(SiluOp)
def silu(op: UnaryOp, c: Conversion) -> Value:
    """graph.silu %x  ->  x / (1 + e^-x)"""

    def body(s: Scalars, x: Value) -> Value:
        return s.divf(x, s.add(s.constant(1.0, x.type), s.unary(math.ExpOp, s.negate(x))))

    return map_generic(c, [c.new(op.x)], tensor_type(op.result), body)


@lowers(SoftplusOp)
def softplus(op: UnaryOp, c: Conversion) -> Value:
    """graph.softplus %x  ->  max(x, 0) + ln(1 + e^-|x|), which does not overflow"""

    def body(s: Scalars, x: Value) -> Value:
        power = s.unary(math.ExpOp, s.negate(s.unary(math.AbsFOp, x)))
        return s.add(s.maximum(x, s.constant(0.0, x.type)), s.unary(math.Log1pOp, power))

    return map_generic(c, [c.new(op.x)], tensor_type(op.result), body)
