"""Inverses, and distances of rows."""

from __future__ import annotations

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.dialects.graph.linear_algebra import InverseOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import Arithmetic, binary, scalar, unary
from stepwell.frontends.onnx.rules.contraction import transpose
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN
from stepwell.ir.core import Value


@rule("Inverse", domain=DOMAIN)
def inverse(node: Node) -> Value:
    """Of the matrices in the last two dims."""
    return node.insert(InverseOp(node.input(0))).result


@rule("CDist", domain=DOMAIN)
def distances(node: Node) -> Value:
    """[m, k]: the distance of every row of A [m, n] from every row of B [k, n], squared or not."""
    a, b, c = node.input(0), node.input(1), Arithmetic(node)
    metric = node.string("metric", "sqeuclidean")
    if metric not in ("sqeuclidean", "euclidean"):
        raise node.unsupported(f"the metric {metric!r} is not supported, 'sqeuclidean' and 'euclidean' are")

    def squares(x: Value) -> Value:
        return node.insert(ReduceOp(c.mul(x, x), kind="sum", axes=[1])).result

    total = c.add(squares(a), transpose(node, squares(b), (1, 0)))
    inner = node.insert(MatmulOp(a, transpose(node, b, (1, 0)))).result
    squared = binary(node, graph.MaxOp, c.sub(total, c.mul(inner, 2)), scalar(node, 0, inner))
    return squared if metric == "sqeuclidean" else unary(node, graph.SqrtOp, squared)
