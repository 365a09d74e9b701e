"""Quantisation."""

from __future__ import annotations

from typing import Any

from stepwell.dialects.graph import quantization as graph
from stepwell.frontends.onnx.exports.composing import number_of
from stepwell.frontends.onnx.writer import Writer, element_of, exports
from stepwell.ir.types import F32, UI8, FloatType, Type, bit_width


def _granularity(op: graph.ScaledOp) -> dict[str, Any]:
    return {"axis": op.axis, "block_size": op.block_size}


@exports(graph.QuantizeOp)
def quantize(op: graph.QuantizeOp, writer: Writer) -> None:
    """graph.quantize %x, %scale, %zero -> QuantizeLinear(x, scale, zero), with what it would not take by itself: the
    result's type without a zero point, the type of the division"""
    precision = None if op.division_type is _default_division(op) else number_of(op.division_type)
    output = number_of(op.element) if op.zero is None and op.element is not UI8 else None
    writer.node(
        "QuantizeLinear", [op.x, op.scale, op.zero], op.results, output_dtype=output, precision=precision,
        saturate=None if op.saturate else 0, **_granularity(op),
    )  # fmt: skip


def _default_division(op: graph.QuantizeOp) -> Type:
    """In which type QuantizeLinear divides: the scale's, the data's where the scale's has no mantissa, else f32."""
    for value in (op.scale, op.x):
        element = element_of(value)
        if isinstance(element, FloatType) and bit_width(element) >= 16:
            return element
    return F32


@exports(graph.DequantizeOp)
def dequantize(op: graph.DequantizeOp, writer: Writer) -> None:
    """graph.dequantize %x, %scale, %zero -> DequantizeLinear(x, scale, zero)"""
    output = None if op.element is element_of(op.scale) else number_of(op.element)
    operands = [op.x, op.scale, op.zero]
    writer.node("DequantizeLinear", operands, op.results, output_dtype=output, **_granularity(op))


@exports(graph.DynamicQuantizeOp)
def dynamic_quantize(op: graph.DynamicQuantizeOp, writer: Writer) -> None:
    """graph.dynamic_quantize %x -> DynamicQuantizeLinear(x)"""
    writer.node("DynamicQuantizeLinear", [op.x], op.results)
