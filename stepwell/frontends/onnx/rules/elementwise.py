"""Elementwise operators: arithmetic, functions, activations."""

from __future__ import annotations

from collections.abc import Callable

from stepwell.dialects.graph import elementwise as graph
from stepwell.frontends.onnx.registry import RULES, Node, rule
from stepwell.ir.core import Value

# Operators that are one graph op of the same operands from the given version on.
UNARY = {
    "Neg": (graph.NegOp, 6), "Abs": (graph.AbsOp, 6), "Exp": (graph.ExpOp, 6), "Log": (graph.LogOp, 6),
    "Sqrt": (graph.SqrtOp, 6), "Tanh": (graph.TanhOp, 6), "Erf": (graph.ErfOp, 9), "Sigmoid": (graph.SigmoidOp, 6),
    "Relu": (graph.ReluOp, 6),
}  # fmt: skip
BINARY = {"Add": graph.AddOp, "Sub": graph.SubOp, "Mul": graph.MulOp, "Div": graph.DivOp}


def _one_to_one(cls: type[graph.ElementwiseOp]) -> Callable[[Node], Value]:
    def convert(node: Node) -> Value:
        return node.insert(cls(*node.inputs())).results[0]

    return convert


for _name, (_cls, _since) in UNARY.items():
    RULES.add("", _name, _since, _one_to_one(_cls))
for _name, _binary in BINARY.items():
    RULES.add("", _name, 7, _one_to_one(_binary))


@rule("Max", "Min", since=8)
def extremum(node: Node) -> Value:
    """Max(a, b, c) -> max(max(a, b), c)"""
    cls = graph.MaxOp if node.op_type == "Max" else graph.MinOp
    first, *rest = node.inputs()
    for other in rest:
        first = node.insert(cls(first, other)).result
    return first
