"""Fused matrix products."""

from __future__ import annotations

from stepwell.dialects.graph.activation import GeluOp
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.contraction import as_matrices, gemm, scaled, transpose, without_unit_axes
from stepwell.frontends.onnx.rules.microsoft.activation import fused_by_name
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, rounded_like, summed
from stepwell.ir.core import Value


def product(node: Node, lhs: Value, rhs: Value) -> Value:
    """lhs x rhs as MatMul has it: of matrices, stacks of them, and vectors."""
    lhs, rhs, row, column = as_matrices(node, lhs, rhs)
    return without_unit_axes(node, node.insert(MatmulOp(lhs, rhs)).result, row, column)


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
    return scaled(node, product(node, *sides), node.float("alpha", 1.0))


@rule("TransposeMatMul", domain=DOMAIN)
def transpose_matmul(node: Node) -> Value:
    """FusedMatMul under its old name."""
    return fused_matmul(node)


@rule("FusedMatMulActivation", domain=DOMAIN)
def fused_matmul_activation(node: Node) -> Value:
    """act(alpha * A' x B')"""
    return fused_by_name(node, fused_matmul(node))


@rule("FusedGemm", domain=DOMAIN)
def fused_gemm(node: Node) -> Value:
    """act(alpha * A' x B' + beta * C)"""
    return fused_by_name(node, gemm(node))


@rule("GemmFastGelu", domain=DOMAIN)
def gemm_fast_gelu(node: Node) -> Value:
    """gelu(X x W + bias), by the hyperbolic tangent."""
    total = summed(node, product(node, node.input(0), node.input(1)), node.optional(2))
    return rounded_like(node, node.insert(GeluOp(total, approximate="tanh")).result, node.input(0))
