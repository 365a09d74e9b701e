"""Conversion between element types: Cast, CastLike, BitCast."""

from __future__ import annotations

from stepwell.dialects.graph.base import tensor_type
from stepwell.dialects.graph.conversion import BitcastOp, CastOp
from stepwell.frontends.onnx.registry import Node, calls_host, rule
from stepwell.frontends.onnx.rules.composing import HELD_AS_NUMBERS, cast
from stepwell.ir.core import Value
from stepwell.ir.types import (
    F16,
    F32,
    F64,
    I1,
    SI8,
    SI16,
    SI32,
    SI64,
    UI8,
    UI16,
    UI32,
    UI64,
    FloatType,
    StringType,
    Type,
)

NAMED_TYPES: dict[str, Type] = {
    "FLOAT": F32, "FLOAT16": F16, "DOUBLE": F64, "BOOL": I1, "STRING": StringType(),
    "INT8": SI8, "INT16": SI16, "INT32": SI32, "INT64": SI64,
    "UINT8": UI8, "UINT16": UI16, "UINT32": UI32, "UINT64": UI64,
}  # fmt: skip
STRINGS = "between strings and numbers"


@rule("Cast")
@calls_host("string_cast", HELD_AS_NUMBERS, STRINGS)
def cast_to_name(node: Node) -> Value:
    """Cast {to = "FLOAT"}: the target type by its name"""
    name = node.string("to").upper()
    if name not in NAMED_TYPES:
        raise node.unsupported(f"no element type is called {name!r}")
    return cast(node, node.input(0), NAMED_TYPES[name])


@rule("Cast", since=6)
@calls_host("string_cast", HELD_AS_NUMBERS, STRINGS)
def cast_to_number(node: Node) -> Value:
    return _converted(node, node.element_type("to"))


@rule("CastLike")
@calls_host("string_cast", HELD_AS_NUMBERS, STRINGS)
def cast_like(node: Node) -> Value:
    """CastLike(x, y) -> cast(x) to the type of y"""
    return _converted(node, tensor_type(node.input(1)).element)


def _converted(node: Node, to: Type) -> Value:
    """The options are kept for the 8-bit formats that they speak of, so that equal casts stay equal ops."""
    x = node.input(0)
    if not (isinstance(to, FloatType) and to.width == 8):
        return cast(node, x, to)
    if tensor_type(x).element is to:
        return x
    round_mode = node.string("round_mode", "up") if to.format == "f8E8M0FNU" else "up"
    saturate = bool(node.int("saturate", 1))
    return node.insert(CastOp(x, to=to, saturate=saturate, round_mode=round_mode)).result


@rule("BitCast")
def bit_cast(node: Node) -> Value:
    return node.insert(BitcastOp(node.input(0), to=node.element_type("to"))).result
