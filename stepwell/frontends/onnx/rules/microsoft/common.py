"""What the rules of the domain share: its name, and sums of optional operands."""

from __future__ import annotations

from stepwell.dialects.graph.base import tensor_type
from stepwell.dialects.graph.elementwise import AddOp
from stepwell.frontends.onnx.registry import Node
from stepwell.frontends.onnx.rules.composing import cast, widened
from stepwell.ir.core import Value

DOMAIN = "com.microsoft"


def added(node: Node, first: Value, *others: Value | None) -> Value:
    """The sum of what is present."""
    for other in others:
        if other is not None:
            first = node.insert(AddOp(first, other)).result
    return first


def summed(node: Node, first: Value, *others: Value | None) -> Value:
    """The sum of what is present, in f32 where the floats are narrower: to be rounded once, as one kernel would."""
    wide = [None if other is None else widened(node, other) for other in others]
    return added(node, widened(node, first), *wide)


def rounded_like(node: Node, x: Value, like: Value) -> Value:
    """x in the element type of another value."""
    return cast(node, x, tensor_type(like).element)
