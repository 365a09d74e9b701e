"""Between element types and the floats that resampling computes in."""

from __future__ import annotations

from stepwell.dialects import arith, math
from stepwell.ir.core import Value
from stepwell.ir.types import I1, I64, FloatType, Type, bit_width
from stepwell.lowering.to_tensor.places import Places


def as_float(p: Places, value: Value, type_: FloatType, unsigned: bool) -> Value:
    """An element as a float of a type."""
    if isinstance(value.type, FloatType):
        return p.narrowed(value, type_)
    convert = arith.UIToFPOp if unsigned or value.type is I1 else arith.SIToFPOp
    return p.emit(convert(value, result_types=[type_]))


def from_float(p: Places, value: Value, type_: Type, unsigned: bool, *, round_: bool = True) -> Value:
    """A computed float as an element: floats rounded, truths whether it is not 0, integers rounded half to even (or to
    zero) and saturated."""
    if isinstance(type_, FloatType):
        return p.narrowed(value, type_)
    if type_ is I1:
        return p.compare("ne", value, p.constant(0.0, value.type))
    width = bit_width(type_)
    low = 0.0 if unsigned else -float(1 << (width - 1))
    whole = p.unary(math.RoundEvenOp, value) if round_ else value
    whole = p.select(p.compare("eq", whole, whole), whole, p.constant(0.0, whole.type))
    digits = 53 if bit_width(whole.type) == 64 else 24
    bits = width if unsigned else width - 1
    high = float((1 << bits) - 1) if bits <= digits else float((1 << bits) - (1 << (bits - digits)))
    held = p.minimum(p.maximum(whole, p.constant(low, whole.type)), p.constant(high, whole.type))
    convert = arith.FPToUIOp if unsigned and width == 64 else arith.FPToSIOp
    made = p.emit(convert(held, result_types=[I64]))
    return made if width == 64 else p.emit(arith.TruncIOp(made, result_types=[type_]))
