"""Linear algebra."""

from __future__ import annotations

from stepwell.dialects.graph.linear_algebra import DetOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.ir.core import Value


@rule("Det", since=11)
def det(node: Node) -> Value:
    """Of the matrices in the last two dims."""
    return node.insert(DetOp(node.input(0))).result
