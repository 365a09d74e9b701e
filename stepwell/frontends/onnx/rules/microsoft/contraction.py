"""Fused matrix products."""

from __future__ import annotations

from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.contraction import as_matrices, scaled, transpose, without_unit_axes
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN
from stepwell.ir.core import Value


@rule("FusedMatMul", domain=DOMAIN)
def fused_matmul(node: Node) -> Value:
    """alpha * A' x B'; transBatchA and transBatchB move the first axis to the place before the last."""
    sides = []
    for index, which in enumerate("AB"):
        value = node.input(index)
        order = list(range(len(shape_of(value))))
        if len(order) > 1 and node.int(f"transBatch{which}", 0):
            order = [*order[1:-1], 0, order[-1]]
        if len(order) > 1 and node.int(f"trans{which}", 0):
            order[-2:] = order[-1], order[-2]
        sides.append(transpose(node, value, order))
    lhs, rhs, row, column = as_matrices(node, *sides)
    product = without_unit_axes(node, node.insert(MatmulOp(lhs, rhs)).result, row, column)
    return scaled(node, product, node.float("alpha", 1.0))
