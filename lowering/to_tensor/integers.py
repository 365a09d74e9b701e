"""Integer arithmetic with the meaning of graph ops, guarded against what machines leave undefined.

Where a graph op calls an operand an error (a zero divisor, zero to a negative power), the body requires that there is
none; the result is then 0 and nothing traps until the run ends. Guards against operands that are known at compile time
are not written."""

from __future__ import annotations

from stepwell.dialects import arith
from stepwell.dialects.graph.elementwise import ZERO_TO_NEGATIVE
from stepwell.ir.core import Value
from stepwell.ir.types import I1, bit_width
from stepwell.lowering.to_tensor.scalars import Scalars


def _require_divisor(s: Scalars, a: Value, b: Value) -> None:
    """End the run where a is divided by zero; the error tells a."""
    if s.known(b) in (None, 0) and b not in s.nonzero:
        s.require(s.compare("ne", b, s.constant(0, b.type)), a, arith.ZERO_DIVISOR)


def divide(s: Scalars, unsigned: bool, a: Value, b: Value) -> Value:
    """a / b towards zero; the smallest integer by -1 wraps."""
    if s.known(b) not in (None, 0, -1):
        return s.emit((arith.DivUIOp if unsigned else arith.DivSIOp)(a, b))
    _require_divisor(s, a, b)
    zero, one = s.constant(0, a.type), s.constant(1, a.type)
    is_zero = s.compare("eq", b, zero)
    if unsigned:
        quotient = s.emit(arith.DivUIOp(a, s.select(is_zero, one, b)))
    else:
        negates = s.compare("eq", b, s.constant(-1, a.type))
        quotient = s.emit(arith.DivSIOp(a, s.select(s.either(is_zero, negates), one, b)))
        quotient = s.select(negates, s.sub(zero, a), quotient)
    return s.select(is_zero, zero, quotient)


def remainder(s: Scalars, unsigned: bool, a: Value, b: Value) -> Value:
    """a - trunc(a / b) * b, with the dividend's sign."""
    if s.known(b) not in (None, 0, -1):
        return s.emit((arith.RemUIOp if unsigned else arith.RemSIOp)(a, b))
    _require_divisor(s, a, b)
    one = s.constant(1, a.type)
    idle = s.compare("eq", b, s.constant(0, a.type))
    if unsigned:
        return s.emit(arith.RemUIOp(a, s.select(idle, one, b)))
    idle = s.either(idle, s.compare("eq", b, s.constant(-1, a.type)))
    return s.emit(arith.RemSIOp(a, s.select(idle, one, b)))


def modulo(s: Scalars, unsigned: bool, a: Value, b: Value) -> Value:
    """a - floor(a / b) * b, with the divisor's sign."""
    rest = remainder(s, unsigned, a, b)
    if unsigned:
        return rest
    zero = s.constant(0, a.type)
    differ = s.compare("lt", s.emit(arith.XOrIOp(rest, b)), zero)
    return s.select(s.both(differ, s.compare("ne", rest, zero)), s.add(rest, b), rest)


def power(s: Scalars, unsigned: bool, base: Value, exponent: Value) -> Value:
    """base ** exponent modulo 2^width by repeated squaring; a negative exponent gives the reciprocal, cut."""
    known = s.known(exponent)
    if known is not None and known >= 0:
        return _known_power(s, base, int(known))
    zero, one = s.constant(0, base.type), s.constant(1, base.type)
    width = bit_width(base.type)
    made, square = one, base
    for bit in range(width if unsigned else width - 1):
        mask = s.constant(1 << bit if bit < width - 1 else -(1 << bit), base.type)
        is_set = s.compare("ne", s.both(exponent, mask), zero)
        made = s.select(is_set, s.mul(made, square), made)
        square = s.mul(square, square)
    if unsigned:
        return made
    undefined = s.both(s.compare("lt", exponent, zero), s.compare("eq", base, zero))
    s.require(s.compare("eq", undefined, s.constant(0, I1)), exponent, ZERO_TO_NEGATIVE)
    minus_one = s.constant(-1, base.type)
    sign = s.select(s.compare("ne", s.both(exponent, one), zero), minus_one, one)
    unit = s.select(s.compare("eq", base, minus_one), sign, zero)
    unit = s.select(s.compare("eq", base, one), one, unit)
    return s.select(s.compare("lt", exponent, zero), unit, made)


def _known_power(s: Scalars, base: Value, exponent: int) -> Value:
    made: Value | None = None
    square = base
    while exponent:
        if exponent & 1:
            made = square if made is None else s.mul(made, square)
        exponent >>= 1
        if exponent:
            square = s.mul(square, square)
    return s.constant(1, base.type) if made is None else made


def shift_left(s: Scalars, unsigned: bool, x: Value, amount: Value) -> Value:
    """x << amount, 0 for an amount that is negative or not below the width."""
    fits, inside = _amount(s, x, amount, 0)
    return s.select(fits, s.emit(arith.ShLIOp(x, inside)), s.constant(0, x.type))


def shift_right(s: Scalars, unsigned: bool, x: Value, amount: Value) -> Value:
    """x >> amount; for an amount that is negative or not below the width, -1 of a negative x, else 0."""
    fits, inside = _amount(s, x, amount, bit_width(x.type) - 1)
    if not unsigned:
        return s.emit(arith.ShRSIOp(x, inside))
    return s.select(fits, s.emit(arith.ShRUIOp(x, inside)), s.constant(0, x.type))


def _amount(s: Scalars, x: Value, amount: Value, otherwise: int) -> tuple[Value, Value]:
    fits = s.compare("lt", amount, s.constant(bit_width(x.type), x.type), unsigned=True)
    return fits, s.select(fits, amount, s.constant(otherwise, x.type))
