"""Conversion between element types."""

from __future__ import annotations

from stepwell.dialects.graph import conversion as graph
from stepwell.frontends.onnx.exports.composing import number_of
from stepwell.frontends.onnx.writer import Writer, exports
from stepwell.ir.types import FloatType


@exports(graph.CastOp)
def cast(op: graph.CastOp, writer: Writer) -> None:
    """graph.cast %x {to} -> Cast(x) {to}, with the options of the 8-bit formats"""
    byte = isinstance(op.to, FloatType) and op.to.width == 8
    power = isinstance(op.to, FloatType) and op.to.format == "f8E8M0FNU"
    writer.node(
        "Cast", [op.x], op.results, to=number_of(op.to), saturate=int(op.saturate) if byte else None,
        round_mode=op.round_mode if power else None,
    )  # fmt: skip


@exports(graph.BitcastOp)
def bitcast(op: graph.BitcastOp, writer: Writer) -> None:
    """graph.bitcast %x {to} -> BitCast(x) {to}"""
    writer.node("BitCast", [op.x], op.results, to=number_of(op.to))
