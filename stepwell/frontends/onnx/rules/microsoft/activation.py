"""Activations, some with a bias added first."""

from __future__ import annotations

from stepwell.dialects.graph.activation import GeluOp
from stepwell.dialects.graph.elementwise import MulOp, SigmoidOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.contraction import scaled
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, added
from stepwell.ir.core import Value


@rule("Gelu", "BiasGelu", domain=DOMAIN)
def gelu(node: Node) -> Value:
    """gelu(x + bias), by the error function."""
    return node.insert(GeluOp(added(node, node.input(0), node.optional(1)))).result


@rule("FastGelu", domain=DOMAIN)
def fast_gelu(node: Node) -> Value:
    """gelu(x + bias), by the hyperbolic tangent."""
    return node.insert(GeluOp(added(node, node.input(0), node.optional(1)), approximate="tanh")).result


@rule("QuickGelu", domain=DOMAIN)
def quick_gelu(node: Node) -> Value:
    """x * sigmoid(alpha * x)"""
    x = node.input(0)
    return node.insert(MulOp(x, node.insert(SigmoidOp(scaled(node, x, node.float("alpha", 1.702)))).result)).result
