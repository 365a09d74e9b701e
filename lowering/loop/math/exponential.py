"""exp, exp2, expm1, and what hyperbolic functions share with them.

The argument is cut as x = 2 j ln 2 + r with |r| <= ln 2, so that 2**j is a normal number wherever e**x is not 0 or
infinite, and e**x = e**r * 2**j * 2**j rounds a denormal result once.

A target that holds a table in a register has 2**(j / n) there for the n places of an octave: x = (i + j / n) ln 2 + r
with |r| <= ln 2 / (2 n), and e**x = 2**i * 2**(j / n) * e**r with a short polynomial (P. T. P. Tang, "Table-driven
implementation of the exponential function in IEEE floating-point arithmetic", ACM TOMS 15, 1989).
"""

from __future__ import annotations

from stepwell.lowering.loop.math.builder import I, M, MathBuilder, V, at_least, at_most, constants, horner


def power_of_two(b: MathBuilder[V, I, M], x: V, factor: float, offset: int = 0) -> tuple[V, V]:
    """n = x * factor rounded to an integer, and 2**(n + offset), for n + offset in the range of normal numbers."""
    k = constants(b)
    magic = b.const(k.magic + k.bias + offset)
    shifted = b.fma(x, b.const(factor), magic)
    # The shift leaves the low bits of `shifted`, the integer n + bias + offset, in the exponent's place.
    return b.sub(shifted, magic), b.from_bits(b.shl(b.to_bits(shifted), k.fraction_bits))


def exp_limits(b: MathBuilder[V, I, M]) -> tuple[float, float]:
    """Arguments at and beyond which e**x is 0 and infinity."""
    return (-104.0, 89.0) if b.width == 32 else (-745.5, 710.0)


def power(b: MathBuilder[V, I, M], x: V, low: V | None = None, offset: int = 0, factor: V | None = None) -> V:
    """e**(x + low) * 2**offset * factor, for x within `exp_limits`, |low| far below 1, and a factor that
    leaves e**r a normal number."""
    k = constants(b)
    if b.has_tables:
        n, root = parts_of_octave(b, b.fma(x, b.const(k.log2_e[0] + k.log2_e[1]), b.const(part_magic(b))))
        r = b.fma(n, b.const(-k.ln2[1]), b.fma(n, b.const(-k.ln2[0]), x))
        return _by_parts(b, n, root, r, low, k.exp_part, offset, factor)
    n, scale = power_of_two(b, x, 0.5 * k.log2_e[0] + 0.5 * k.log2_e[1])
    r = b.fma(n, b.const(-2 * k.ln2[0]), x)
    r = b.fma(n, b.const(-2 * k.ln2[1]), r)
    if low is not None:
        r = b.add(r, low)
    p = horner(b, r, (1.0, 1.0, *k.exp))
    first = b.mul(p, scale) if factor is None else b.mul(b.mul(p, factor), scale)
    return b.mul(first, b.mul(scale, b.const(2.0**offset)) if offset else scale)


def part_magic(b: MathBuilder[V, I, M]) -> float:
    """Added to a number it rounds that to a multiple of 1 / n, n being the length of the table of roots of two; the low
    bits are then the place of the root."""
    return constants(b).magic / len(constants(b).roots_of_two)


def parts_of_octave(b: MathBuilder[V, I, M], shifted: V) -> tuple[V, V]:
    """n, and 2**(n - floor(n)), of n + `part_magic`."""
    return b.sub(shifted, b.const(part_magic(b))), b.lookup(constants(b).roots_of_two, b.to_bits(shifted))


def _by_parts(
    b: MathBuilder[V, I, M], n: V, root: V, r: V, low: V | None, part: tuple[float, ...], offset: int, factor: V | None
) -> V:
    """2**floor(n + offset) * root * (1 + (r + low) q(r + low)) * factor, q being the polynomial `part`."""
    if low is not None:
        r = b.add(r, low)
    p = b.fma(b.mul(root, r), horner(b, r, part), root)
    if factor is not None:
        p = b.mul(p, factor)
    return b.scale(p, b.add(n, b.const(float(offset))) if offset else n)


def exp(b: MathBuilder[V, I, M], x: V) -> V:
    """e**x."""
    low, high = exp_limits(b)
    return power(b, at_most(b, at_least(b, x, low), high))


def exp_of_negative(b: MathBuilder[V, I, M], x: V, low: V | None = None) -> V:
    """e**(x + low) for x <= 0 (x may be NaN or -inf): `exp` without the upper limit."""
    return power(b, at_least(b, x, exp_limits(b)[0]), low)


def exp2(b: MathBuilder[V, I, M], x: V) -> V:
    """2**x."""
    low, high = (-151.0, 129.0) if b.width == 32 else (-1076.0, 1025.0)
    return exp2_sum(b, at_most(b, at_least(b, x, low), high), None)


def exp2_sum(b: MathBuilder[V, I, M], x: V, low: V | None) -> V:
    """2**(x + low) for x in the limits of `exp2` and |low| far below 1."""
    k = constants(b)
    if b.has_tables:
        n, root = parts_of_octave(b, b.add(x, b.const(part_magic(b))))
        return _by_parts(b, n, root, b.sub(x, n), low, k.exp2_part, 0, None)
    n, scale = power_of_two(b, x, 0.5)
    r = b.fma(n, b.const(-2.0), x)
    if low is not None:
        r = b.add(r, low)
    p = horner(b, r, (1.0, *k.exp2))
    return b.mul(b.mul(p, scale), scale)


def expm1_scaled(b: MathBuilder[V, I, M], x: V, offset: int) -> V:
    """(e**x - 1) * 2**offset, for x and offset such that 2**offset e**x neither overflows nor is negligible."""
    k = constants(b)
    n, scale = power_of_two(b, x, k.log2_e[0] + k.log2_e[1], offset)
    r = b.fma(n, b.const(-k.ln2[0]), x)
    r = b.fma(n, b.const(-k.ln2[1]), r)
    p = b.fma(b.mul(r, r), horner(b, r, k.expm1), r)
    return b.fma(scale, p, b.sub(scale, b.const(2.0**offset)))


def expm1(b: MathBuilder[V, I, M], x: V) -> V:
    """e**x - 1, without cancellation near 0."""
    low, high = (-18.0, 89.0) if b.width == 32 else (-38.0, 710.0)
    # Half of the result first: 2**n itself may overflow where e**x - 1 does not.
    half = expm1_scaled(b, at_most(b, at_least(b, x, low), high), -1)
    tiny = b.cmp("olt", b.abs(x), b.const(2.0 ** -(constants(b).fraction_bits + 2)))
    return b.select(tiny, x, b.add(half, half))
