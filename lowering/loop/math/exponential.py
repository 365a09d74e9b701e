"""exp, exp2, expm1, and what hyperbolic functions share with them.

The argument is cut as x = 2 j ln 2 + r with |r| <= ln 2, so that 2**j is a normal number wherever e**x is not 0 or
infinite, and e**x = e**r * 2**j * 2**j rounds a denormal result once.
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


def exp_factors(b: MathBuilder[V, I, M], x: V, low: V | None = None) -> tuple[V, V]:
    """p, s with e**(x + low) = p * s * s, for x within `exp_limits` and |low| far below 1."""
    k = constants(b)
    n, scale = power_of_two(b, x, 0.5 * k.log2_e[0] + 0.5 * k.log2_e[1])
    r = b.fma(n, b.const(-2 * k.ln2[0]), x)
    r = b.fma(n, b.const(-2 * k.ln2[1]), r)
    if low is not None:
        r = b.add(r, low)
    return horner(b, r, (1.0, 1.0, *k.exp)), scale


def exp(b: MathBuilder[V, I, M], x: V) -> V:
    """e**x."""
    low, high = exp_limits(b)
    p, scale = exp_factors(b, at_most(b, at_least(b, x, low), high))
    return b.mul(b.mul(p, scale), scale)


def exp_of_negative(b: MathBuilder[V, I, M], x: V, low: V | None = None) -> V:
    """e**(x + low) for x <= 0 (x may be NaN or -inf): `exp` without the upper limit."""
    p, scale = exp_factors(b, at_least(b, x, exp_limits(b)[0]), low)
    return b.mul(b.mul(p, scale), scale)


def exp2(b: MathBuilder[V, I, M], x: V) -> V:
    """2**x."""
    low, high = (-151.0, 129.0) if b.width == 32 else (-1076.0, 1025.0)
    return exp2_sum(b, at_most(b, at_least(b, x, low), high), None)


def exp2_sum(b: MathBuilder[V, I, M], x: V, low: V | None) -> V:
    """2**(x + low) for x in the limits of `exp2` and |low| far below 1."""
    n, scale = power_of_two(b, x, 0.5)
    r = b.fma(n, b.const(-2.0), x)
    if low is not None:
        r = b.add(r, low)
    p = horner(b, r, (1.0, *constants(b).exp2))
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
