"""Activations that are ops of their own."""

from __future__ import annotations

from stepwell.dialects.graph import activation as graph
from stepwell.dialects.graph.elementwise import UnaryOp
from stepwell.frontends.onnx.writer import Writer, exports


@exports(graph.SiluOp)
def silu(op: UnaryOp, writer: Writer) -> None:
    """graph.silu %x -> Swish(x)"""
    writer.node("Swish", [op.x], op.results)


@exports(graph.SoftplusOp)
def softplus(op: UnaryOp, writer: Writer) -> None:
    """graph.softplus %x -> Softplus(x)"""
    writer.node("Softplus", [op.x], op.results)


@exports(graph.GeluOp)
def gelu(op: graph.GeluOp, writer: Writer) -> None:
    """graph.gelu %x {approximate} -> Gelu(x) {approximate}"""
    writer.node("Gelu", [op.x], op.results, approximate=op.approximate)
