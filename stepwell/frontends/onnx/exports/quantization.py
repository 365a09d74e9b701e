"""Quantisation."""

from __future__ import annotations

from typing import Any

from stepwell.dialects.graph import quantization as graph
from stepwell.dialects.graph.base import shape_of
from stepwell.frontends.onnx.exports.composing import Item, cast, finish, integers, number_of
from stepwell.frontends.onnx.registry import Unsupported
from stepwell.frontends.onnx.writer import Writer, element_of, exports
from stepwell.ir.types import F32, F64, UI8, FloatType, Type, bit_width


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
    """graph.dequantize %x, %scale, %zero -> DequantizeLinear(x, scale, zero); (x - zero) * scale where x or the zero
    point are floats that it does not take"""
    element = element_of(op.x)
    if op.has_float_zero or (isinstance(element, FloatType) and element.width > 8):
        _by_arithmetic(op, writer)
        return
    output = None if op.element is element_of(op.scale) else number_of(op.element)
    operands = [op.x, op.scale, op.zero]
    writer.node("DequantizeLinear", operands, op.results, output_dtype=output, **_granularity(op))


def _by_arithmetic(op: graph.DequantizeOp, writer: Writer) -> None:
    """graph.dequantize %x, %scale, %zero -> Mul(Sub(Cast(x), spread(zero)), spread(scale))"""
    working = F64 if op.element is F64 else F32
    x = cast(writer, op.x, working)
    if op.zero is not None:
        x = writer.make("Sub", [x, _spread(op, writer, cast(writer, op.zero, working))])
    made = writer.make("Mul", [x, _spread(op, writer, cast(writer, op.scale, working))])
    finish(writer, made, working, op.results[0])


def _spread(op: graph.ScaledOp, writer: Writer, values: Item) -> Item:
    """A scale or zero point so that it broadcasts over x: blocks are gathered as often as they are long."""
    if op.axis is None:
        return values
    shape = shape_of(op.x)
    size = shape[op.axis]
    if op.block_size is None:
        sizes = [size if axis == op.axis else 1 for axis in range(len(shape))]
        return writer.make("Reshape", [values, writer.shape(sizes)])
    if not isinstance(size, int):
        raise Unsupported(f"blocks of floats along an axis of size {size} need a known size")
    return writer.make("Gather", [values, integers(writer, [n // op.block_size for n in range(size)])], axis=op.axis)


@exports(graph.DynamicQuantizeOp)
def dynamic_quantize(op: graph.DynamicQuantizeOp, writer: Writer) -> None:
    """graph.dynamic_quantize %x -> DynamicQuantizeLinear(x)"""
    writer.node("DynamicQuantizeLinear", [op.x], op.results)
