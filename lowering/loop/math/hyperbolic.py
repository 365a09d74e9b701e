"""sinh, cosh, tanh and their inverses."""

from __future__ import annotations

import math

from stepwell.lowering.loop.math.builder import (
    I,
    M,
    MathBuilder,
    V,
    at_most,
    constants,
    horner,
)
from stepwell.lowering.loop.math.exponential import expm1_scaled, power
from stepwell.lowering.loop.math.logarithm import log1p, log_of_doubled


def odd_polynomial(b: MathBuilder[V, I, M], t: V, z: V, coefficients: tuple[float, ...]) -> V:
    """t + t z q(z), with z = t**2 given."""
    return b.fma(b.mul(t, z), horner(b, z, coefficients), t)


def tanh(b: MathBuilder[V, I, M], x: V) -> V:
    """The hyperbolic tangent, as w / (w + 2) with w = e**(2 |x|) - 1: never above 1 in magnitude."""
    a = b.abs(x)
    w = expm1_scaled(b, at_most(b, b.add(a, a), 20.0 if b.width == 32 else 40.0), 0)
    return b.copysign(b.div(w, b.add(w, b.const(2.0))), x)


def _half_power(b: MathBuilder[V, I, M], a: V) -> V:
    """e**a / 2 for a >= 0, finite wherever sinh and cosh are."""
    return power(b, at_most(b, a, 90.0 if b.width == 32 else 712.0), offset=-1)


def sinh(b: MathBuilder[V, I, M], x: V) -> V:
    """The hyperbolic sine."""
    a = b.abs(x)
    half = _half_power(b, a)
    far = b.sub(half, b.div(b.const(0.25), half))
    near_zero = odd_polynomial(b, a, b.mul(a, a), constants(b).sinh)
    return b.copysign(b.select(b.cmp("olt", a, b.const(1.0)), near_zero, far), x)


def cosh(b: MathBuilder[V, I, M], x: V) -> V:
    """The hyperbolic cosine."""
    half = _half_power(b, b.abs(x))
    return b.add(half, b.div(b.const(0.25), half))


def _large(b: MathBuilder[V, I, M]) -> V:
    """Where x**2 + 1 and x**2 - 1 round to x**2, with much to spare before x**2 overflows."""
    return b.const(2.0**14 if b.width == 32 else 2.0**28)


def asinh(b: MathBuilder[V, I, M], x: V) -> V:
    """The inverse hyperbolic sine, as log(1 + |x| + x**2 / (1 + sqrt(1 + x**2)))."""
    a, one = b.abs(x), b.const(1.0)
    square = b.mul(a, a)
    inner = b.add(a, b.div(square, b.add(one, b.sqrt(b.add(square, one)))))
    return b.copysign(log_of_doubled(b, inner, a, b.cmp("ogt", a, _large(b))), x)


def acosh(b: MathBuilder[V, I, M], x: V) -> V:
    """The inverse hyperbolic cosine, as log(1 + t + sqrt(2 t + t**2)), t = x - 1; NaN below 1."""
    t = b.sub(x, b.const(1.0))
    inner = b.add(t, b.sqrt(b.fma(t, t, b.add(t, t))))
    y = log_of_doubled(b, inner, x, b.cmp("ogt", x, _large(b)))
    return b.select(b.cmp("olt", x, b.const(1.0)), b.const(math.nan), y)


def atanh(b: MathBuilder[V, I, M], x: V) -> V:
    """The inverse hyperbolic tangent, as log(1 + 2 |x| / (1 - |x|)) / 2; infinite at 1, NaN beyond."""
    a = b.abs(x)
    y = log1p(b, b.div(b.add(a, a), b.sub(b.const(1.0), a)))
    return b.copysign(b.mul(y, b.const(0.5)), x)
