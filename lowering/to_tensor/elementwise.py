"""Elementwise graph ops -> `tensor.generic` with a scalar body.

graph.add %a, %b  ->  tensor.generic %a, %b { arith.addf }
"""

from __future__ import annotations

from collections.abc import Callable

from stepwell.dialects import math
from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Operation, Value
from stepwell.ir.types import FloatType, TensorType, is_unsigned
from stepwell.lowering.to_tensor.rules import lowers, map_generic, signless
from stepwell.lowering.to_tensor.scalars import Scalars

ScalarBody = Callable[..., Value]


def _unary(cls: type[graph.UnaryOp], body: ScalarBody) -> tuple[type[Operation], ScalarBody]:
    return cls, lambda s, unsigned, x: body(s, x)


def _sigmoid(s: Scalars, x: Value) -> Value:
    one = s.constant(1.0, x.type)
    return s.divf(one, s.add(one, s.unary(math.ExpOp, s.negate(x))))


def _absolute(s: Scalars, x: Value) -> Value:
    return s.unary(math.AbsFOp if isinstance(x.type, FloatType) else math.AbsIOp, x)


# graph op class -> (scalars, whether the operands are unsigned, operands) -> result
BODIES: dict[type[Operation], ScalarBody] = dict([
    (graph.AddOp, lambda s, unsigned, a, b: s.add(a, b)),
    (graph.SubOp, lambda s, unsigned, a, b: s.sub(a, b)),
    (graph.MulOp, lambda s, unsigned, a, b: s.mul(a, b)),
    (graph.MaxOp, lambda s, unsigned, a, b: s.maximum(a, b, unsigned)),
    (graph.MinOp, lambda s, unsigned, a, b: s.minimum(a, b, unsigned)),
    _unary(graph.NegOp, lambda s, x: s.negate(x)),
    _unary(graph.AbsOp, _absolute),
    _unary(graph.ExpOp, lambda s, x: s.unary(math.ExpOp, x)),
    _unary(graph.LogOp, lambda s, x: s.unary(math.LogOp, x)),
    _unary(graph.SqrtOp, lambda s, x: s.unary(math.SqrtOp, x)),
    _unary(graph.TanhOp, lambda s, x: s.unary(math.TanhOp, x)),
    _unary(graph.ErfOp, lambda s, x: s.unary(math.ErfOp, x)),
    _unary(graph.SigmoidOp, _sigmoid),
    _unary(graph.ReluOp, lambda s, x: s.maximum(x, s.constant(0, x.type))),
])  # fmt: skip


@lowers(*BODIES)
def elementwise(op: graph.ElementwiseOp, c: Conversion) -> Value:
    """graph.OP %a, %b  ->  tensor.generic %a, %b { scalar body }"""
    body, unsigned = BODIES[type(op)], is_unsigned(op.operands[0].type)
    result = signless(op.results[0].type)
    assert isinstance(result, TensorType)
    return map_generic(c, [c.new(v) for v in op.operands], result, lambda s, *x: body(s, unsigned, *x))


@lowers(graph.DivOp)
def divide(op: Operation, c: Conversion) -> Value:
    """Division of floats; integer division needs a guard and is not lowered yet."""
    from stepwell.ir.conversion import NoMatch

    result = signless(op.results[0].type)
    assert isinstance(result, TensorType)
    if not isinstance(tensor_type(op.operands[0]).element, FloatType):
        raise NoMatch("integer division")
    return map_generic(c, [c.new(v) for v in op.operands], result, lambda s, a, b: s.divf(a, b))
