"""Activations written out as arithmetic. What is left is one op that reads its operand once, so that it can become the
end of the kernel that makes the operand.

The association order does not matter: both sides are compared as polynomials of x and of the function's value."""

from __future__ import annotations

import math

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.activation import GeluOp, SiluOp
from stepwell.ir.core import Value
from stepwell.ir.rewrite import Rewriter
from stepwell.lowering.graph.idioms import recognises, take_over
from stepwell.lowering.graph.matching import (
    Polynomial,
    is_polynomial,
    made_by,
    near,
    number,
    only_user,
    polynomial,
    result_of_polynomial,
    scaled,
)

HALF_OF_BOTH: Polynomial = {(1, 0): 0.5, (1, 1): 0.5}  # x / 2 + x * f(x) / 2
CUBE = 0.044715


@recognises(graph.ErfOp)
def gelu(op: graph.UnaryOp, rewriter: Rewriter) -> bool:
    """x * (erf(x / sqrt(2)) + 1) * 0.5 -> gelu(x)"""
    x, factor = scaled(op.operands[0])
    if not near(factor, math.sqrt(0.5)):
        return False
    return _replace_gelu(x, op.results[0], "none", rewriter)


@recognises(graph.TanhOp)
def gelu_by_tanh(op: graph.UnaryOp, rewriter: Rewriter) -> bool:
    """0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) -> gelu(x) {approximate = "tanh"}"""
    slope = math.sqrt(2 / math.pi)
    for x in _unknowns_of(op.operands[0]):
        if is_polynomial(op.operands[0], [x], {(1,): slope, (3,): slope * CUBE}):
            return _replace_gelu(x, op.results[0], "tanh", rewriter)
    return False


def _replace_gelu(x: Value, function: Value, approximate: str, rewriter: Rewriter) -> bool:
    last = result_of_polynomial(function, [x, function], HALF_OF_BOTH)
    if last is None or last.type is not x.type or last.defining_op is None:
        return False
    rewriter.set_before(last.defining_op)
    take_over(rewriter, last, rewriter.insert(GeluOp(x, approximate=approximate)))
    return True


def _unknowns_of(value: Value, depth: int = 5) -> list[Value]:
    """What a tree of sums and products may be a polynomial of: what its products read."""
    op = value.defining_op
    if depth == 0 or not isinstance(op, (graph.AddOp, graph.MulOp, graph.PowOp)):
        return []
    found = [operand for operand in op.operands if number(operand) is None]
    deeper = [unknown for operand in found for unknown in _unknowns_of(operand, depth - 1)]
    return list(dict.fromkeys([*found, *deeper]))


@recognises(graph.SigmoidOp)
def silu(op: graph.UnaryOp, rewriter: Rewriter) -> bool:
    """x * sigmoid(x) -> silu(x)"""
    x, product = op.operands[0], only_user(op.results[0])
    if not isinstance(product, graph.MulOp) or set(product.operands) != {x, op.results[0]}:
        return False
    rewriter.set_before(product)
    take_over(rewriter, product.result, rewriter.insert(SiluOp(x)))
    return True


@recognises(graph.DivOp)
def sigmoid(op: graph.BinaryOp, rewriter: Rewriter) -> bool:
    """1 / (1 + exp(-x)) -> sigmoid(x), x / (1 + exp(-x)) -> silu(x)"""
    total = made_by(op.rhs, graph.AddOp)
    power = next((v.defining_op for v in (total.operands if total else ()) if made_by(v, graph.ExpOp)), None)
    if total is None or power is None or polynomial(op.rhs, [power.results[0]]) != {(0,): 1.0, (1,): 1.0}:
        return False
    negated = made_by(power.operands[0], graph.NegOp)
    if negated is None or op.result.type is not negated.operands[0].type:
        return False
    x = negated.operands[0]
    if number(op.lhs) == 1.0:
        take_over(rewriter, op.result, rewriter.insert(graph.SigmoidOp(x)))
    elif op.lhs is x:
        take_over(rewriter, op.result, rewriter.insert(SiluOp(x)))
    else:
        return False
    return True
