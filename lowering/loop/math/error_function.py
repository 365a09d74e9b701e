"""erf."""

from __future__ import annotations

from stepwell.lowering.loop.math.builder import I, M, MathBuilder, V, at_most, constants, horner, two_product
from stepwell.lowering.loop.math.exponential import power


def erf(b: MathBuilder[V, I, M], x: V) -> V:
    """The error function, never above 1 in magnitude.

    In f32 one rational function of a = |x|, (a + a z p(z)) / q(z) with z = a**2, cut at the saturation. Its rounding
    errors are those of two sums of six positive terms; 1 - 2**(a p(a)) has a third of them and takes 1.4 times as long.
    In f64 a polynomial below 1 and 1 - erfc(a) above it."""
    k = constants(b)
    a, one = b.abs(x), b.const(1.0)
    if b.width == 32:
        # The fit ends at 3.9, where erf rounds to 1 from below; at 4.125 it is above 1 by more than it can err.
        a = at_most(b, a, 4.125)
        z = b.mul(a, a)
        top = b.fma(b.mul(a, z), horner(b, z, k.erf_numerator), a)
        y = at_most(b, b.div(top, horner(b, z, k.erf_denominator)), 1.0)
    else:
        near = b.fma(a, horner(b, b.mul(a, a), k.erf), a)
        y = b.select(b.cmp("olt", a, one), near, b.sub(one, _complement(b, a)))
    return b.copysign(y, x)


def _complement(b: MathBuilder[V, I, M], a: V) -> V:
    """erfc(a) for a >= 1, as e**(-a**2) q((a - 3) / (a + 3)) / (1 + 2 a), with a**2 to double length."""
    a = at_most(b, a, 6.0)
    three = b.const(3.0)
    t = b.div(b.sub(a, three), b.add(a, three))
    scaled = b.div(horner(b, t, constants(b).erfcx), b.fma(a, b.const(2.0), b.const(1.0)))
    square, error = two_product(b, a, a)
    return power(b, b.neg(square), b.neg(error), factor=scaled)
