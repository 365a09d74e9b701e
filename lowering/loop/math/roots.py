"""cbrt, rsqrt."""

from __future__ import annotations

import math

from stepwell.lowering.loop.math.builder import I, M, MathBuilder, V, constants, horner
from stepwell.lowering.loop.math.exponential import power_of_two
from stepwell.lowering.loop.math.logarithm import decompose


def rsqrt(b: MathBuilder[V, I, M], x: V) -> V:
    """1 / sqrt(x)."""
    return b.div(b.const(1.0), b.sqrt(x))


def cbrt(b: MathBuilder[V, I, M], x: V) -> V:
    """The cube root: x = 2**(3 q) t with t between sqrt(1/8) and sqrt(8), the root of t by Halley's iteration."""
    a, two = b.abs(x), b.const(2.0)
    e, m = decompose(b, a)
    q, scale = power_of_two(b, e, 1 / 3)
    t = b.mul(m, power_of_two(b, b.fma(q, b.const(-3.0), e), 1.0)[1])
    y = horner(b, t, constants(b).cbrt)
    for _ in range(1 if b.width == 32 else 2):
        cube = b.mul(b.mul(y, y), y)
        y = b.fma(y, b.div(b.sub(t, cube), b.fma(cube, two, t)), y)
    finite = b.mask_and(b.cmp("ogt", a, b.const(0.0)), b.cmp("olt", a, b.const(math.inf)))
    return b.select(finite, b.copysign(b.mul(y, scale), x), x)
