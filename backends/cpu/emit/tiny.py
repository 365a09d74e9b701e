"""Floats of 8 bits and less, to float and back, by integer arithmetic on i32 lanes.

Formats and their ranges: OCP 8-bit Floating Point (OFP8) v1.0 and Microscaling Formats v1.0; the FNUZ formats: Noune et
al., "8-bit Numerical Formats for Deep Neural Networks", 2022. Rounding is to nearest, ties to even; out of range comes
what the format has: infinity, else NaN, else the largest number.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import attrs

from .types import vector_of

if TYPE_CHECKING:
    from .narrow import Bits


@attrs.frozen
class Format:
    """`mantissa` bits under an exponent of `bias`; `largest` is the code of the largest finite number. `infinity` and
    `nan` are codes without a sign; FNUZ formats (`one_zero`) have one zero, and -0 is their NaN."""

    width: int
    mantissa: int
    bias: int
    largest: int
    infinity: int | None
    nan: int | None
    one_zero: bool = False

    @property
    def sign(self) -> int:
        """The sign's bit."""
        return 1 << (self.width - 1)

    @property
    def overflow(self) -> int:
        """The code for what is out of range."""
        if self.infinity is not None:
            return self.infinity
        return self.largest if self.nan is None else self.nan


FORMATS = {
    "f8E4M3FN": Format(8, 3, 7, 0x7E, None, 0x7F),
    "f8E4M3FNUZ": Format(8, 3, 8, 0x7F, None, 0x80, one_zero=True),
    "f8E5M2": Format(8, 2, 15, 0x7B, 0x7C, 0x7E),
    "f8E5M2FNUZ": Format(8, 2, 16, 0x7F, None, 0x80, one_zero=True),
    "f4E2M1FN": Format(4, 1, 1, 0x7, None, None),
}


def to_float(bits: Bits, text: str, format_: Format) -> str:
    """The code's exponent and mantissa are float's but for the bias: a product with a power of two sets it right, and
    makes denormals normal."""
    code = bits.cast("zext", text, vector_of("i8", bits.lanes), bits.i32)
    size = bits.do("and", code, format_.sign - 1)
    raw = bits.do("shl", size, 23 - format_.mantissa)
    scaled = bits.e.emit(
        f"fmul {bits.float} {bits.cast('bitcast', raw, bits.i32, bits.float)}, {_power(bits, 127 - format_.bias)}"
    )
    made = bits.cast("bitcast", scaled, bits.float, bits.i32)
    if format_.infinity is not None:
        made = bits.pick(bits.do("icmp uge", size, format_.infinity), bits.do("or", raw, 0x7F800000), made)
    elif format_.nan is not None and not format_.one_zero:
        made = bits.pick(bits.do("icmp eq", size, format_.nan), 0x7FC00000, made)
    sign = bits.do("shl", bits.do("and", code, format_.sign), 32 - format_.width)
    made = bits.do("or", made, sign)
    if format_.one_zero:
        made = bits.pick(bits.do("icmp eq", code, format_.sign), 0x7FC00000, made)
    return bits.cast("bitcast", made, bits.i32, bits.float)


def power_of_two_to_float(bits: Bits, text: str) -> str:
    """f8E8M0FNU: the code is float's exponent field; 0 is the denormal 2^-127, 255 is NaN."""
    code = bits.cast("zext", text, vector_of("i8", bits.lanes), bits.i32)
    made = bits.pick(bits.do("icmp eq", code, 0), 1 << 22, bits.do("shl", code, 23))
    made = bits.pick(bits.do("icmp eq", code, 255), 0x7FC00000, made)
    return bits.cast("bitcast", made, bits.i32, bits.float)


def from_float(bits: Bits, text: str, format_: Format) -> str:
    """Rounds at the place of the last bit; denormals by an addition whose sum has its last bit there."""
    raw = bits.cast("bitcast", text, bits.float, bits.i32)
    size = bits.do("and", raw, 0x7FFFFFFF)
    sign = bits.do("and", bits.do("lshr", raw, 32 - format_.width), format_.sign)
    shift, bias = 23 - format_.mantissa, 127 - format_.bias
    odd = bits.do("and", bits.do("lshr", size, shift), 1)
    moved = bits.do("add", bits.do("sub", size, (bias << 23) - (1 << (shift - 1)) + 1), odd)
    normal = bits.do("lshr", moved, shift)
    exponent = 24 - format_.bias - format_.mantissa  # of the number whose last bit is the least denormal
    summed = bits.e.emit(
        f"fadd {bits.float} {bits.cast('bitcast', size, bits.i32, bits.float)}, {_power(bits, exponent)}"
    )
    denormal = bits.do("sub", bits.cast("bitcast", summed, bits.float, bits.i32), (127 + exponent) << 23)
    finite = bits.pick(bits.do("icmp ult", size, (bias + 1) << 23), denormal, normal)
    signed = bits.do("or", finite, sign)
    if format_.one_zero:
        signed = bits.pick(bits.do("icmp eq", finite, 0), 0, signed)
    beyond = bits.do("or", sign, format_.overflow)
    made = bits.pick(bits.do("icmp ugt", finite, format_.largest), beyond, signed)
    # Without a NaN there is a zero, with the sign that ml_dtypes gives it.
    nan = bits.do("xor", sign, format_.sign) if format_.nan is None else bits.do("or", sign, format_.nan)
    made = bits.pick(bits.do("icmp ugt", size, 0x7F800000), nan, made)
    return bits.cast("trunc", made, bits.i32, vector_of("i8", bits.lanes))


def _power(bits: Bits, exponent: int) -> str:
    """2^exponent in all lanes."""
    pattern = f"0x{struct.unpack('>Q', struct.pack('>d', 2.0**exponent))[0]:016X}"
    return f"splat (float {pattern})" if bits.lanes else pattern
