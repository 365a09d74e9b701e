"""Floats narrower than 32 bits: they are carried as their bits, and arithmetic widens to float and rounds back.

Conversions use the processor's instructions for f16 where it has them and integer arithmetic elsewhere, so that no
run-time library is needed. All round to nearest, ties to even, and keep NaN.
"""

from __future__ import annotations

from stepwell.errors import TargetError
from stepwell.ir.types import FloatType, Type, element_of

from . import tiny
from .function import FunctionEmitter
from .types import lane_count, vector_of


def is_narrow(type_: Type) -> bool:
    """Whether the elements are carried as bits."""
    element = element_of(type_)
    return isinstance(element, FloatType) and element.width < 32


def compute_type(type_: Type) -> str:
    """The LLVM type in which floats of a type are computed: float or double, or a vector of them."""
    element = element_of(type_)
    wide = isinstance(element, FloatType) and element.width == 64
    return vector_of("double" if wide else "float", lane_count(type_))


class Bits:
    """Integer arithmetic on i32 lanes, written as it is read."""

    def __init__(self, e: FunctionEmitter, lanes: int | None) -> None:
        self.e = e
        self.lanes = lanes
        self.i16, self.i32 = vector_of("i16", lanes), vector_of("i32", lanes)
        self.i1, self.float = vector_of("i1", lanes), vector_of("float", lanes)

    def number(self, value: int) -> str:
        """The constant in all lanes."""
        signed = value - (1 << 32) if value >> 31 else value
        return f"splat (i32 {signed})" if self.lanes else str(signed)

    def do(self, name: str, a: str, b: str | int) -> str:
        """`name` is an LLVM binary instruction or `icmp ...`."""
        return self.e.emit(f"{name} {self.i32} {a}, {self.number(b) if isinstance(b, int) else b}")

    def pick(self, condition: str, a: str | int, b: str | int) -> str:
        """Lane by lane, a where the condition holds, else b."""
        one, other = (self.number(x) if isinstance(x, int) else x for x in (a, b))
        return self.e.emit(f"select {self.i1} {condition}, {self.i32} {one}, {self.i32} {other}")

    def cast(self, name: str, text: str, source: str, target: str) -> str:
        """A conversion instruction."""
        return self.e.emit(f"{name} {source} {text} to {target}")


def widened(e: FunctionEmitter, text: str, type_: Type) -> str:
    """Bits of a narrow float as float; other floats as they are."""
    if not is_narrow(type_):
        return text
    element, lanes = element_of(type_), lane_count(type_)
    bits = Bits(e, lanes)
    if element.format == "bf16":  # type: ignore[attr-defined]
        wide = bits.cast("zext", text, bits.i16, bits.i32)
        return bits.cast("bitcast", bits.do("shl", wide, 16), bits.i32, bits.float)
    if element.format == "f16":  # type: ignore[attr-defined]
        return _half_to_float(e, text, bits)
    if element.format == "f8E8M0FNU":  # type: ignore[attr-defined]
        return tiny.power_of_two_to_float(bits, text)
    if element.format in tiny.FORMATS:  # type: ignore[attr-defined]
        return tiny.to_float(bits, text, tiny.FORMATS[element.format])  # type: ignore[attr-defined]
    raise TargetError(f"there is no arithmetic on {element} on a CPU yet")


def narrowed(e: FunctionEmitter, text: str, type_: Type) -> str:
    """A float rounded to a narrow type's bits; for other types as it is."""
    if not is_narrow(type_):
        return text
    element, lanes = element_of(type_), lane_count(type_)
    bits = Bits(e, lanes)
    if element.format == "bf16":  # type: ignore[attr-defined]
        return _float_to_brain(e, text, bits)
    if element.format == "f16":  # type: ignore[attr-defined]
        return _float_to_half(e, text, bits)
    if element.format in tiny.FORMATS:  # type: ignore[attr-defined]
        return tiny.from_float(bits, text, tiny.FORMATS[element.format])  # type: ignore[attr-defined]
    raise TargetError(f"there is no arithmetic on {element} on a CPU yet")


def rounded_to_odd(e: FunctionEmitter, text: str, lanes: int | None) -> str:
    """A double as the float below it in size, with the last bit set where that is inexact: rounding that once more to
    a narrower type gives the same as rounding the double at once (Boldo, Melquiond, "Emulation of FMA and correctly
    rounded sums: proved algorithms using rounding to odd", 2008)."""
    bits, double = Bits(e, lanes), vector_of("double", lanes)
    nearest = bits.cast("fptrunc", text, double, bits.float)
    back = bits.cast("fpext", nearest, bits.float, double)
    name = f"llvm.fabs.{'f64' if lanes is None else f'v{lanes}f64'}"
    sizes = [e.intrinsic(name, double, (double, x)) for x in (back, text)]
    above = bits.cast("zext", e.emit(f"fcmp ogt {double} {sizes[0]}, {sizes[1]}"), bits.i1, bits.i32)
    inexact = bits.cast("zext", e.emit(f"fcmp one {double} {back}, {text}"), bits.i1, bits.i32)
    raw = bits.do("sub", bits.cast("bitcast", nearest, bits.float, bits.i32), above)
    return bits.cast("bitcast", bits.do("or", raw, inexact), bits.i32, bits.float)


def _has_half(e: FunctionEmitter) -> bool:
    return e.target.arch == "aarch64" or "f16c" in e.target.enabled_features


def _float_to_brain(e: FunctionEmitter, text: str, bits: Bits) -> str:
    raw = bits.cast("bitcast", text, bits.float, bits.i32)
    last = bits.do("and", bits.do("lshr", raw, 16), 1)
    rounded = bits.do("lshr", bits.do("add", bits.do("add", raw, 0x7FFF), last), 16)
    quiet = bits.do("or", bits.do("lshr", raw, 16), 0x40)
    nan = e.emit(f"fcmp uno {bits.float} {text}, {text}")
    return bits.cast("trunc", bits.pick(nan, quiet, rounded), bits.i32, bits.i16)


def _half_to_float(e: FunctionEmitter, text: str, bits: Bits) -> str:
    half = vector_of("half", bits.lanes)
    if _has_half(e):
        return bits.cast("fpext", bits.cast("bitcast", text, bits.i16, half), half, bits.float)
    wide = bits.cast("zext", text, bits.i16, bits.i32)
    sign = bits.do("shl", bits.do("and", wide, 0x8000), 16)
    size = bits.do("shl", bits.do("and", wide, 0x7FFF), 13)
    # Times 2^112 moves the exponent to float's bias, and makes half's denormals normal.
    scale = "0x46F0000000000000"
    factor = f"splat (float {scale})" if bits.lanes else scale
    scaled = e.emit(f"fmul {bits.float} {bits.cast('bitcast', size, bits.i32, bits.float)}, {factor}")
    finite = bits.cast("bitcast", scaled, bits.float, bits.i32)
    special = bits.do("icmp uge", size, 0x7C00 << 13)
    made = bits.pick(special, bits.do("or", size, 0x7F800000), finite)
    return bits.cast("bitcast", bits.do("or", made, sign), bits.i32, bits.float)


def _float_to_half(e: FunctionEmitter, text: str, bits: Bits) -> str:
    half = vector_of("half", bits.lanes)
    if _has_half(e):
        return bits.cast("bitcast", bits.cast("fptrunc", text, bits.float, half), half, bits.i16)
    raw = bits.cast("bitcast", text, bits.float, bits.i32)
    size = bits.do("and", raw, 0x7FFFFFFF)
    sign = bits.do("and", bits.do("lshr", raw, 16), 0x8000)
    # Normal: half an ulp less one, and one more where the last bit is odd; the exponent's bias changes by 112.
    odd = bits.do("and", bits.do("lshr", size, 13), 1)
    shifted = bits.do("add", bits.do("sub", size, (112 << 23) - 0xFFF), odd)
    normal = bits.do("lshr", shifted, 13)
    # Denormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits.
    half_one = "0x3FE0000000000000"
    magic = f"splat (float {half_one})" if bits.lanes else half_one
    summed = e.emit(f"fadd {bits.float} {bits.cast('bitcast', size, bits.i32, bits.float)}, {magic}")
    denormal = bits.do("sub", bits.cast("bitcast", summed, bits.float, bits.i32), 0x3F000000)
    special = bits.pick(bits.do("icmp ugt", size, 0x7F800000), 0x7E00, 0x7C00)
    finite = bits.pick(bits.do("icmp ult", size, 113 << 23), denormal, normal)
    made = bits.pick(bits.do("icmp uge", size, 0x47800000), special, finite)
    return bits.cast("trunc", bits.do("or", made, sign), bits.i32, bits.i16)
