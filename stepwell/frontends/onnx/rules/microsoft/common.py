"""What the rules of the domain share: its name, and sums of optional operands."""

from __future__ import annotations

from stepwell.dialects.graph.elementwise import AddOp
from stepwell.frontends.onnx.registry import Node
from stepwell.ir.core import Value

DOMAIN = "com.microsoft"


def added(node: Node, first: Value, *others: Value | None) -> Value:
    """The sum of what is present."""
    for other in others:
        if other is not None:
            first = node.insert(AddOp(first, other)).result
    return first
