"""Powers whose exponent is a small number.

pow(x, 0.5) stays: it is not sqrt(x) at -0.0 and at -inf. The lowering of `graph.pow` knows roots."""

from __future__ import annotations

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.elementwise import BinaryOp, splat_value
from stepwell.ir.rewrite import Rewriter, constant_value
from stepwell.lowering.graph.simplify import simplifies_each


@simplifies_each(graph.PowOp)
def multiply_out_power(op: BinaryOp, rewriter: Rewriter) -> bool:
    """pow(x, 1) -> x, pow(x, 2) -> x * x: a correctly rounded square is what C's pow gives"""
    exponent = splat_value(constant_value(op.rhs))
    if exponent not in (1, 2) or op.lhs.type is not op.result.type:
        return False
    if exponent == 1:
        rewriter.replace(op, op.lhs)
    else:
        rewriter.replace_with(op, graph.MulOp(op.lhs, op.lhs))
    return True
