"""log, log2, log10, log1p, pow.

x = 2**e m with m in [sqrt(1/2), sqrt(2)); with f = m - 1 and s = f / (2 + f), log m = log((1 + s) / (1 - s)) is
f - (f**2/2 - s (f**2/2 + z q(z))), z = s**2, which keeps f exact (the scheme of fdlibm, Sun Microsystems 1993).
"""

from __future__ import annotations

import math
from typing import Generic

import attrs

from stepwell.lowering.loop.math.builder import (
    I,
    M,
    MathBuilder,
    V,
    at_most,
    constants,
    fast_two_sum,
    flip_sign,
    horner,
    sign_bit,
    two_product,
    two_sum,
)
from stepwell.lowering.loop.math.exponential import exp2_sum


def decompose(b: MathBuilder[V, I, M], x: V) -> tuple[V, V]:
    """e and m with x = 2**e m, m in [sqrt(1/2), sqrt(2)), for positive finite x, denormals included."""
    k = constants(b)
    p = k.fraction_bits
    lowest = _bits(b.width, math.sqrt(0.5))
    small = b.cmp("olt", x, b.const(k.min_normal))
    x = b.select(small, b.mul(x, b.const(2.0**p)), x)
    shifted = b.iadd(b.to_bits(x), b.iconst((k.bias << p) - lowest))
    m = b.from_bits(b.iadd(b.iand(shifted, b.iconst((1 << p) - 1)), b.iconst(lowest)))
    # The biased exponent becomes a float by standing in the low bits of `magic`.
    e = b.from_bits(b.ior(b.lshr(shifted, p), b.iconst(k.magic_bits)))
    offset = k.magic + k.bias
    return b.sub(e, b.select(small, b.const(offset + p), b.const(offset))), m


def _bits(width: int, value: float) -> int:
    """The bit pattern of a value in [0.5, 1), fraction truncated to the format."""
    if width == 64:
        return (1022 << 52) | int((value * 2 - 1) * 2**52)
    return (126 << 23) | int((value * 2 - 1) * 2**23)


@attrs.frozen
class _Parts(Generic[V]):
    """log x = e ln 2 + f - (half_square - correction)."""

    e: V
    f: V
    half_square: V
    correction: V


def _log_parts(b: MathBuilder[V, I, M], x: V) -> _Parts[V]:
    e, m = decompose(b, x)
    f = b.sub(m, b.const(1.0))
    s = b.div(f, b.add(f, b.const(2.0)))
    z = b.mul(s, s)
    half_square = b.mul(b.mul(f, f), b.const(0.5))
    tail = b.fma(z, horner(b, z, constants(b).log), half_square)
    return _Parts(e, f, half_square, b.mul(s, tail))


def _log_domain(b: MathBuilder[V, I, M], x: V, y: V) -> V:
    """y, but what IEEE 754 asks for where x is 0 (-inf), negative or NaN (NaN) or inf (inf)."""
    zero = b.const(0.0)
    beyond = b.select(b.cmp("oeq", x, zero), b.const(-math.inf), b.const(math.nan))
    y = b.select(b.cmp("ogt", x, zero), y, beyond)
    return b.select(b.cmp("oeq", x, b.const(math.inf)), x, y)


def _log_sum(b: MathBuilder[V, I, M], x: V, low: V | None, twos: V | None = None) -> V:
    """log((x + low) 2**twos) for |low| below an ulp of x, twos a small integer; x = -low = 0 not told apart."""
    k = constants(b)
    parts = _log_parts(b, x)
    e = parts.e if twos is None else b.add(parts.e, twos)
    rest = b.fma(e, b.const(k.ln2[1]), parts.correction)
    if low is not None:
        rest = b.add(rest, b.div(low, x))
    rest = b.sub(b.sub(parts.half_square, rest), parts.f)
    return _log_domain(b, x, b.sub(b.mul(e, b.const(k.ln2[0])), rest))


def log(b: MathBuilder[V, I, M], x: V) -> V:
    """The natural logarithm."""
    return _log_sum(b, x, None)


def _log_scaled(b: MathBuilder[V, I, M], x: V, factor: tuple[float, ...], per_two: tuple[float, ...]) -> V:
    """log(x) * factor + 0, where e * per_two stands for e ln 2 * factor; both are split high and low.

    The leading part of log m is cut to half of the significand, so that its product with factor[0] is exact.
    """
    k = constants(b)
    parts = _log_parts(b, x)
    half = (k.fraction_bits + 1) // 2
    leading = b.sub(parts.f, parts.half_square)
    leading = b.from_bits(b.iand(b.to_bits(leading), b.iconst(-(1 << half))))
    trailing = b.add(b.sub(b.sub(parts.f, leading), parts.half_square), parts.correction)
    low = b.mul(b.add(trailing, leading), b.const(factor[1]))
    low = b.fma(trailing, b.const(factor[0]), low)
    if per_two[1]:
        low = b.fma(parts.e, b.const(per_two[1]), low)
    high = b.mul(leading, b.const(factor[0]))
    total, error = two_sum(b, b.mul(parts.e, b.const(per_two[0])), high)
    return _log_domain(b, x, b.add(total, b.add(error, low)))


def log2(b: MathBuilder[V, I, M], x: V) -> V:
    """The logarithm to base 2; exact for powers of two."""
    return _log_scaled(b, x, constants(b).log2_e, (1.0, 0.0))


def log10(b: MathBuilder[V, I, M], x: V) -> V:
    """The logarithm to base 10."""
    k = constants(b)
    return _log_scaled(b, x, k.log10_e, k.log10_2)


def log1p(b: MathBuilder[V, I, M], x: V) -> V:
    """log(1 + x), without cancellation near 0."""
    u, low = two_sum(b, b.const(1.0), x)
    # The sum's error is NaN at infinity, where `_log_domain` has the last word.
    y = _log_sum(b, u, low)
    tiny = b.cmp("olt", b.abs(x), b.const(2.0 ** -(constants(b).fraction_bits + 2)))
    return b.select(tiny, x, y)


def log_of_doubled(b: MathBuilder[V, I, M], one_plus: V, large: V, is_large: M) -> V:
    """log(1 + one_plus), but log(2 large) in the lanes of `is_large`, where 2 large may overflow."""
    zero = b.const(0.0)
    u, low = two_sum(b, b.const(1.0), one_plus)
    u, low = b.select(is_large, large, u), b.select(is_large, zero, low)
    y = _log_sum(b, u, low, b.select(is_large, b.const(1.0), zero))
    tiny = b.cmp("olt", b.abs(one_plus), b.const(2.0 ** -(constants(b).fraction_bits + 2)))
    return b.select(tiny, one_plus, y)


def _log2_double(b: MathBuilder[V, I, M], x: V) -> tuple[V, V]:
    """log2 of a positive finite x as an unevaluated sum, to about 1.4 times the significant bits of the format.

    atanh(s) = s (1 + v), v = z/3 + z**2 q(z), with s, z, v and the product in double-length arithmetic but for the
    last term, which is below 2**-12 of the first.
    """
    k = constants(b)
    e, m = decompose(b, x)
    f = b.sub(m, b.const(1.0))
    d, d_low = fast_two_sum(b, b.const(1.0), m)
    s = b.div(f, d)
    p, p_low = two_product(b, s, d)
    rest = b.sub(b.sub(b.sub(f, p), p_low), b.mul(s, d_low))
    s_low = b.div(rest, d)

    z, z_low = two_product(b, s, s)
    z_low = b.fma(b.add(s, s), s_low, z_low)
    v, v_low = two_product(b, z, b.const(k.third[0]))
    v_low = b.fma(z, b.const(k.third[1]), v_low)
    v_low = b.fma(z_low, b.const(k.third[0]), v_low)
    v_low = b.fma(b.mul(z, z), horner(b, z, k.pow), v_low)

    a, a_low = two_product(b, s, b.const(k.two_over_ln2[0]))
    a_low = b.fma(s, b.const(k.two_over_ln2[1]), a_low)
    a_low = b.fma(s_low, b.const(k.two_over_ln2[0]), a_low)
    c, c_low = two_product(b, a, v)
    c_low = b.fma(a, v_low, c_low)
    c_low = b.fma(a_low, v, c_low)

    total, low = two_sum(b, e, a)
    total, low2 = two_sum(b, total, c)
    return fast_two_sum(b, total, b.add(b.add(low, low2), b.add(a_low, c_low)))


def pow(b: MathBuilder[V, I, M], x: V, y: V) -> V:
    """x**y with the special cases of IEEE 754-2019 section 9.2.1 (and of C and NumPy).

    1 where x is 1 or y is 0, even for NaN; NaN for negative finite x and y not an integer; the sign of x for odd y.
    """
    zero, one, infinity = b.const(0.0), b.const(1.0), b.const(math.inf)
    magnitude = b.abs(x)
    # Beyond this y, any x but 1 overflows or underflows; the products below stay finite.
    bound = 2.0**34 if b.width == 32 else 2.0**70
    y_near = at_most(b, b.select(b.cmp("olt", y, b.const(-bound)), b.const(-bound), y), bound)
    high, low = _log2_double(b, magnitude)
    product, product_low = two_product(b, y_near, high)
    product_low = b.fma(y_near, low, product_low)
    limit_low, limit_high = (-151.0, 129.0) if b.width == 32 else (-1076.0, 1025.0)
    too_low, too_high = b.cmp("olt", product, b.const(limit_low)), b.cmp("ogt", product, b.const(limit_high))
    product = b.select(too_low, b.const(limit_low), b.select(too_high, b.const(limit_high), product))
    product_low = b.select(b.mask_or(too_low, too_high), zero, product_low)
    result = exp2_sum(b, product, product_low)

    falling = b.cmp("olt", y, zero)
    result = b.select(b.cmp("oeq", magnitude, zero), b.select(falling, infinity, zero), result)
    result = b.select(b.cmp("oeq", magnitude, infinity), b.select(falling, zero, infinity), result)

    half = b.mul(y, b.const(0.5))
    is_integer = b.cmp("oeq", b.floor(y), y)
    is_odd = b.mask_and(is_integer, b.cmp("une", b.floor(half), half))
    result = b.select(is_odd, flip_sign(b, result, sign_bit(b, x)), result)
    nan = b.const(math.nan)
    root_of_negative = b.mask_and(b.cmp("olt", x, zero), b.cmp("one", b.floor(y), y))
    finite = b.cmp("olt", magnitude, infinity)
    result = b.select(b.mask_and(root_of_negative, finite), nan, result)
    result = b.select(b.cmp("uno", x, y), nan, result)
    return b.select(b.mask_or(b.cmp("oeq", x, one), b.cmp("oeq", y, zero)), one, result)
