"""asin, acos, atan, atan2."""

from __future__ import annotations

import math

from stepwell.lowering.loop.math.builder import I, M, MathBuilder, V, constants, flip_sign, horner, sign_bit


def _asin_kernel(b: MathBuilder[V, I, M], x: V) -> tuple[M, V, V]:
    """Whether |x| <= 1/2; t = |x| there and sqrt((1 - |x|) / 2) elsewhere; and asin(t) - t."""
    a = b.abs(x)
    near_zero = b.cmp("ole", a, b.const(0.5))
    z = b.select(near_zero, b.mul(a, a), b.fma(a, b.const(-0.5), b.const(0.5)))
    t = b.select(near_zero, a, b.sqrt(z))
    return near_zero, t, b.mul(b.mul(t, z), horner(b, z, constants(b).asin))


def asin(b: MathBuilder[V, I, M], x: V) -> V:
    """The arc sine in [-pi/2, pi/2]: pi/2 - 2 asin(sqrt((1 - |x|) / 2)) above 1/2; NaN outside [-1, 1]."""
    near_zero, t, rest = _asin_kernel(b, x)
    high, low, _ = constants(b).pi_2
    far = b.sub(b.sub(b.const(high), b.add(t, t)), b.sub(b.add(rest, rest), b.const(low)))
    return b.copysign(b.select(near_zero, b.add(t, rest), far), x)


def acos(b: MathBuilder[V, I, M], x: V) -> V:
    """The arc cosine in [0, pi]; NaN outside [-1, 1]."""
    near_zero, t, rest = _asin_kernel(b, x)
    high, low, _ = constants(b).pi_2
    sign = sign_bit(b, x)
    signed, signed_rest = flip_sign(b, t, sign), flip_sign(b, rest, sign)
    middle = b.sub(b.const(high), b.sub(signed, b.sub(b.const(low), signed_rest)))
    half = b.add(t, rest)
    whole = b.add(half, half)
    left = b.sub(b.const(2 * high), b.sub(whole, b.const(2 * low)))
    far = b.select(b.cmp("olt", x, b.const(0.0)), left, whole)
    return b.select(near_zero, middle, far)


def _atan_ratio(b: MathBuilder[V, I, M], top: V, bottom: V) -> tuple[V, V]:
    """atan(top / bottom) as an unevaluated sum, high and low, for top >= 0 and bottom > 0 of moderate size.

    The argument is brought to |t| <= tan(pi/8) by atan(u) = pi/4 + atan((u - 1) / (u + 1)) = pi/2 + atan(-1 / u).
    """
    k = constants(b)
    high, low, _ = k.pi_2
    middle = b.cmp("ogt", top, b.mul(bottom, b.const(math.sqrt(2) - 1)))
    large = b.cmp("ogt", top, b.mul(bottom, b.const(math.sqrt(2) + 1)))
    zero = b.const(0.0)
    numerator = b.select(large, b.neg(bottom), b.select(middle, b.sub(top, bottom), top))
    denominator = b.select(large, top, b.select(middle, b.add(top, bottom), bottom))
    t = b.div(numerator, denominator)
    z = b.mul(t, t)
    base = b.select(large, b.const(high), b.select(middle, b.const(high / 2), zero))
    rest = b.select(large, b.const(low), b.select(middle, b.const(low / 2), zero))
    tail = b.fma(b.mul(t, z), horner(b, z, k.atan), rest)
    return base, b.add(t, tail)


def atan(b: MathBuilder[V, I, M], x: V) -> V:
    """The arc tangent in [-pi/2, pi/2]."""
    base, rest = _atan_ratio(b, b.abs(x), b.const(1.0))
    return b.copysign(b.add(base, rest), x)


def atan2(b: MathBuilder[V, I, M], y: V, x: V) -> V:
    """The angle in [-pi, pi] of the point (x, y), with the signs of zeros and the infinities of IEEE 754."""
    high, low, _ = constants(b).pi_2
    a, c = b.abs(y), b.abs(x)
    steep = b.cmp("ogt", a, c)
    small, large = b.select(steep, c, a), b.select(steep, a, c)
    ratio = b.div(small, large)
    same = b.mask_and(b.cmp("oeq", a, c), b.mask_or(b.cmp("oeq", a, b.const(0.0)), b.cmp("oeq", a, b.const(math.inf))))
    ratio = b.select(same, b.select(b.cmp("oeq", a, b.const(0.0)), a, b.const(1.0)), ratio)
    base, rest = _atan_ratio(b, ratio, b.const(1.0))
    angle = b.add(base, rest)
    angle = b.select(steep, b.sub(b.const(high), b.sub(angle, b.const(low))), angle)
    negative = b.icmp("ne", sign_bit(b, x), b.iconst(0))
    angle = b.select(negative, b.sub(b.const(2 * high), b.sub(angle, b.const(2 * low))), angle)
    return b.copysign(b.select(b.cmp("uno", x, y), b.const(math.nan), angle), y)
