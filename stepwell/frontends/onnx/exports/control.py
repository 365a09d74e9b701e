"""Control flow: regions become graphs."""

from __future__ import annotations

from typing import Any

from stepwell.dialects.graph import control as graph
from stepwell.frontends.onnx.writer import Writer, exports


@exports(graph.IfOp)
def if_(op: graph.IfOp, writer: Writer) -> None:
    """graph.if %c -> If(c) {then_branch, else_branch}"""
    branches: dict[str, Any] = {
        "then_branch": writer.graph(op.then.block, "then"),
        "else_branch": writer.graph(op.otherwise.block, "else"),
    }
    writer.node("If", [op.condition], op.results, **branches)


@exports(graph.LoopOp)
def loop(op: graph.LoopOp, writer: Writer) -> None:
    """graph.loop %count, %condition, %initial -> Loop(count, condition, initial) {body}"""
    body = writer.graph(op.body.block, "body")
    writer.node("Loop", [op.count, op.condition, *op.initial], op.results, body=body)


@exports(graph.ScanOp)
def scan(op: graph.ScanOp, writer: Writer) -> None:
    """graph.scan %initial, %inputs -> Scan(initial, inputs) {body}"""
    body = writer.graph(op.body.block, "body")
    writer.node(
        "Scan", [*op.initial, *op.inputs], op.results, body=body, num_scan_inputs=len(op.inputs),
        scan_input_axes=list(op.input_axes), scan_input_directions=list(op.input_reversed),
        scan_output_axes=list(op.output_axes) or None, scan_output_directions=list(op.output_reversed) or None,
    )  # fmt: skip
