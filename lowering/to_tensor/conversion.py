"""Conversion between element types -> `tensor.generic` with a scalar body, guarded where a number is out of range."""

from __future__ import annotations

from stepwell.dialects import arith
from stepwell.dialects.graph.conversion import BitcastOp, CastOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.types import (
    F32,
    F64,
    I1,
    I32,
    I64,
    INDEX,
    FloatType,
    IntegerType,
    TensorType,
    Type,
    bit_width,
    is_unsigned,
)
from stepwell.lowering.to_tensor.logic import require_number
from stepwell.lowering.to_tensor.rules import lowers, map_generic, signless
from stepwell.lowering.to_tensor.scalars import Scalars, largest_finite


@lowers(CastOp)
def cast(op: CastOp, c: Conversion) -> Value:
    """graph.cast %x {to = si32}  ->  tensor.generic %x { guards; arith.fptosi }"""
    source, target = tensor_type(op.x).element, op.to
    require_number(source)
    require_number(target)
    result = signless(op.result.type)
    assert isinstance(result, TensorType)
    if signless(source) is result.element:
        return c.new(op.x)
    return map_generic(c, [c.new(op.x)], result, lambda s, x: converted(s, x, source, op))


def converted(s: Scalars, x: Value, source: Type, op: CastOp) -> Value:
    """A (widened) scalar of graph type `source` in the type that a cast asks for."""
    target = op.to
    if isinstance(x.type, FloatType):
        if isinstance(target, FloatType):
            return _rounded(s, x, target, op)
        return s.compare("ne", x, s.constant(0.0, x.type)) if target is I1 else to_integer(s, x, target)
    if isinstance(target, FloatType):
        return _rounded(s, integer_to_float(s, x, source, F64 if target is F64 else F32), target, op)
    if target is I1:
        return s.compare("ne", x, s.constant(0, x.type))
    return _between_integers(s, x, source, target)


def _between_integers(s: Scalars, x: Value, source: Type, target: Type) -> Value:
    if x.type is INDEX:
        x, source = s.emit(arith.IndexCastOp(x, result_types=[I64])), I64
    if target is INDEX:
        return s.emit((arith.IndexCastUIOp if is_unsigned(source) else arith.IndexCastOp)(x, result_types=[INDEX]))
    wanted = signless(target)
    assert isinstance(wanted, IntegerType)
    return s.resized(x, wanted, is_unsigned(source))


def integer_to_float(s: Scalars, x: Value, source: Type, type_: Type) -> Value:
    """An integer of graph type `source` rounded to a float type."""
    if x.type is INDEX:
        return s.index_to_float(x, type_)
    return s.emit((arith.UIToFPOp if is_unsigned(source) else arith.SIToFPOp)(x, result_types=[type_]))


def _rounded(s: Scalars, x: Value, target: FloatType, op: CastOp) -> Value:
    if target.format == "f8E8M0FNU":
        return _to_power_of_two(s, x, target, op.saturate, op.round_mode)
    if target.width == 8 and op.saturate:
        x = s.bounded(x, largest_finite(target))
    return s.narrowed(x, target)


def to_integer(s: Scalars, x: Value, target: Type) -> Value:
    """A float cut to an integer: saturating at 32 bits (64 for ui32 and 64 bits), NaN 0, then the low bits."""
    unsigned, bits = is_unsigned(target), 64 if target is INDEX else bit_width(target)
    if bits < 32 or (bits == 32 and not unsigned):
        made = _saturated(s, x, I32)
    else:
        made = _saturated(s, x, I64)
        if bits == 64 and unsigned:
            made = _upper_half(s, x, made)
    return _between_integers(s, made, made.type, target)


def _saturated(s: Scalars, x: Value, type_: IntegerType) -> Value:
    """The signed integer; the bounds 2^(w-1) are exact in every float type of 32 bits or more."""
    bound = 1 << (type_.width - 1)
    low, high = s.constant(-float(bound), x.type), s.constant(float(bound), x.type)
    above, below = s.compare("ge", x, high), s.compare("lt", x, low)
    inside = s.both(s.compare("ge", x, low), s.compare("lt", x, high))
    made = s.emit(arith.FPToSIOp(s.select(inside, x, s.constant(0.0, x.type)), result_types=[type_]))
    made = s.select(above, s.constant(bound - 1, type_), made)
    return s.select(below, s.constant(-bound, type_), made)


def _upper_half(s: Scalars, x: Value, lower: Value) -> Value:
    """The integers from 2^63 on, as unsigned ones."""
    half, whole = s.constant(2.0**63, x.type), s.constant(2.0**64, x.type)
    above = s.compare("ge", x, half)
    fits = s.both(above, s.compare("lt", x, whole))
    upper = s.emit(arith.FPToUIOp(s.select(fits, x, half), result_types=[I64]))
    upper = s.select(s.compare("ge", x, whole), s.constant(-1, I64), upper)
    return s.select(above, upper, lower)


def _to_power_of_two(s: Scalars, x: Value, target: FloatType, saturate: bool, round_mode: str) -> Value:
    """The biased exponent as a byte (OCP Microscaling Formats v1.0, section 5.4.1), from the bits of the f64.

    The f64's own bias is 1023, the byte's 127; an exponent field of 0 (zeros, denormals) lies below the byte's range,
    one of 2047 (infinities) above it."""
    wide = s.narrowed(x, F64)
    pattern = s.emit(arith.BitcastOp(wide, result_types=[I64]))
    mantissa = s.both(pattern, s.constant((1 << 52) - 1, I64))
    field = s.both(s.emit(arith.ShRUIOp(pattern, s.constant(52, I64))), s.constant(2047, I64))
    biased = s.add(field, s.constant(127 - 1023, I64))
    if round_mode != "down":
        least = s.constant(1 if round_mode == "up" else 1 << 51, I64)
        biased = s.add(biased, s.emit(arith.ExtUIOp(s.compare("ge", mantissa, least), result_types=[I64])))
    zero, last = s.constant(0, I64), s.constant(254, I64)
    invalid = s.either(s.is_nan(wide), s.compare("lt", wide, s.constant(0.0, F64)))
    if not saturate:
        invalid = s.either(invalid, s.either(s.compare("lt", biased, zero), s.compare("gt", biased, last)))
    made = s.select(invalid, s.constant(255, I64), s.minimum(s.maximum(biased, zero), last))
    byte = s.emit(arith.TruncIOp(made, result_types=[IntegerType(8)]))
    return s.emit(arith.BitcastOp(byte, result_types=[target]))


@lowers(BitcastOp)
def bitcast(op: BitcastOp, c: Conversion) -> Value:
    """graph.bitcast %x {to = si32}  ->  tensor.generic %x { arith.bitcast }"""
    require_number(tensor_type(op.x).element)
    require_number(op.to)
    result = signless(op.result.type)
    assert isinstance(result, TensorType)
    if signless(tensor_type(op.x).element) is result.element:
        return c.new(op.x)

    def body(s: Scalars, x: Value) -> Value:
        if x.type is I1:  # kept as a byte
            x = s.resized(x, IntegerType(8), unsigned=True)
        if result.element is I1:
            return s.compare("ne", x, s.constant(0, x.type))
        if x.type is result.element:
            return x
        return s.emit(arith.BitcastOp(x, result_types=[result.element]))

    return map_generic(c, [c.new(op.x)], result, body, widen=False)
