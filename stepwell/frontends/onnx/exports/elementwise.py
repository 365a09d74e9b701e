"""Elementwise ops that are one ONNX operator of the same operands."""

from __future__ import annotations

from stepwell.dialects.graph import elementwise as graph
from stepwell.frontends.onnx.exporter import Writer, exports
from stepwell.ir.core import Operation

OPERATORS: dict[type[Operation], str] = {
    graph.AddOp: "Add", graph.SubOp: "Sub", graph.MulOp: "Mul", graph.DivOp: "Div", graph.MaxOp: "Max",
    graph.MinOp: "Min", graph.NegOp: "Neg", graph.AbsOp: "Abs", graph.ExpOp: "Exp", graph.LogOp: "Log",
    graph.SqrtOp: "Sqrt", graph.TanhOp: "Tanh", graph.ErfOp: "Erf", graph.SigmoidOp: "Sigmoid", graph.ReluOp: "Relu",
}  # fmt: skip


@exports(*OPERATORS)
def elementwise(op: Operation, writer: Writer) -> None:
    """graph.add %a, %b -> Add(a, b)"""
    writer.node(OPERATORS[type(op)], op.operands, op.results)
