"""sin, cos, tan: |x| = n pi/2 + r with |r| <= pi/4 (a little more by rounding), r to double length.

Moderate angles subtract n pi/2 in parts (Cody and Waite 1980). Huge ones, taken only in lanes that need it, multiply
by the bits of 2/pi that matter (Payne and Hanek 1983), so that the result is as good at the largest finite number.
"""

from __future__ import annotations

from stepwell.lowering.loop.math.builder import (
    I,
    M,
    MathBuilder,
    V,
    constants,
    fast_two_sum,
    flip_sign,
    horner,
    sign_bit,
    two_product,
    two_sum,
)

_PRODUCT_CHUNKS = 5


def _moderate_limit(b: MathBuilder[V, I, M]) -> float:
    """The largest |x| that `_reduce_moderate` takes; without FMA n must fit beside the short parts of pi/2."""
    if b.has_fma:
        return 2.0**17 if b.width == 32 else 2.0**30
    return 2.0**9 if b.width == 32 else 2.0**20


def _reduce_moderate(b: MathBuilder[V, I, M], a: V) -> tuple[V, V, V]:
    """n + magic, r, r_low for 0 <= a <= `_moderate_limit`.

    Every product but the last is exact, and so is the first difference; later ones cancel little or are exact.
    """
    k = constants(b)
    magic = b.const(k.magic)
    shifted = b.fma(a, b.const(k.two_over_pi[0]), magic)
    n = b.sub(shifted, magic)
    if b.has_fma:
        first, second, third = (b.const(part) for part in k.pi_2)
        step = b.mul(n, second)
        r, low = two_sum(b, b.fma(n, b.neg(first), a), b.neg(step))
        low = b.sub(low, b.fma(n, second, b.neg(step)))
        low = b.sub(low, b.mul(n, third))
    else:
        *exact, last = k.pi_2_short
        r, low = b.sub(a, b.mul(n, b.const(exact[0]))), b.mul(n, b.const(-last))
        for part in exact[1:]:
            r, error = two_sum(b, r, b.mul(n, b.const(-part)))
            low = b.add(low, error)
    r, low = two_sum(b, r, low)
    return shifted, r, low


def _window(b: MathBuilder[V, I, M], a: V) -> tuple[V, list[V]]:
    """a times a power of two, and the chunks of 2/pi (scaled likewise) whose products with it matter modulo 4.

    A chunk has `size` bits. a >= 2**(size w + size + 1) makes the products with chunks before w multiples of 4.
    """
    k = constants(b)
    size = k.fraction_bits + 1
    last = len(k.two_over_pi) - _PRODUCT_CHUNKS
    scale = b.const(1.0)
    chunks = [b.const(c * 2.0 ** (-size * i)) for i, c in enumerate(k.two_over_pi[:_PRODUCT_CHUNKS])]
    for w in range(1, last + 1):
        reached = b.cmp("oge", a, b.const(2.0 ** (size * w + size + 1)))
        scale = b.select(reached, b.const(2.0 ** (-size * w)), scale)
        for i in range(_PRODUCT_CHUNKS):
            chunks[i] = b.select(reached, b.const(k.two_over_pi[w + i] * 2.0 ** (-size * i)), chunks[i])
    return b.mul(a, scale), chunks


def _reduce_huge(b: MathBuilder[V, I, M], a: V) -> tuple[V, V, V]:
    """n modulo 4 + magic, r, r_low for any finite a above `_moderate_limit`; NaN for infinity.

    The exact products of the chunks are added from the largest to the smallest, and after each the nearest integer
    goes over to n, so that the fraction keeps its relative accuracy when leading bits cancel.
    """
    k = constants(b)
    scaled, chunks = _window(b, a)
    quarter, four = b.const(0.25), b.const(-4.0)
    n = fraction = low = b.const(0.0)
    for chunk in chunks:
        for piece in two_product(b, scaled, chunk):
            piece = b.fma(b.roundeven(b.mul(piece, quarter)), four, piece)
            total, error = two_sum(b, fraction, piece)
            whole = b.roundeven(total)
            fraction, low, n = b.sub(total, whole), b.add(low, error), b.add(n, whole)
    fraction, low = two_sum(b, fraction, low)
    r, r_low = two_product(b, fraction, b.const(k.pi_2[0]))
    r_low = b.fma(fraction, b.const(k.pi_2[1]), r_low)
    r_low = b.fma(low, b.const(k.pi_2[0]), r_low)
    r, r_low = fast_two_sum(b, r, r_low)
    return b.add(n, b.const(k.magic)), r, r_low


def _reduce(b: MathBuilder[V, I, M], a: V) -> tuple[I, V, V]:
    """An integer whose low two bits are n modulo 4, and r and r_low."""
    moderate = _reduce_moderate(b, a)
    huge = b.cmp("ogt", a, b.const(_moderate_limit(b)))
    shifted, r, low = b.rare(huge, moderate, lambda: _reduce_huge(b, a))
    return b.to_bits(shifted), r, low


def _kernels(b: MathBuilder[V, I, M], r: V, low: V) -> tuple[V, V]:
    """sin(r + low) and cos(r + low)."""
    k = constants(b)
    z = b.mul(r, r)
    half = b.mul(z, b.const(0.5))
    sine = b.add(r, b.fma(b.mul(r, z), horner(b, z, k.sin), low))
    leading, error = fast_two_sum(b, b.const(1.0), b.neg(half))
    rest = b.fma(b.mul(z, z), horner(b, z, k.cos), b.sub(error, b.mul(r, low)))
    return sine, b.add(leading, rest)


def sin(b: MathBuilder[V, I, M], x: V) -> V:
    """The sine of x radians, NaN at infinity."""
    n, r, low = _reduce(b, b.abs(x))
    sine, cosine = _kernels(b, r, low)
    one = b.iconst(1)
    y = b.select(b.icmp("eq", b.iand(n, one), one), cosine, sine)
    sign = b.ixor(b.shl(b.lshr(n, 1), b.width - 1), sign_bit(b, x))
    return flip_sign(b, y, sign)


def cos(b: MathBuilder[V, I, M], x: V) -> V:
    """The cosine of x radians, NaN at infinity."""
    n, r, low = _reduce(b, b.abs(x))
    sine, cosine = _kernels(b, r, low)
    one = b.iconst(1)
    y = b.select(b.icmp("eq", b.iand(n, one), one), sine, cosine)
    return flip_sign(b, y, b.shl(b.lshr(b.iadd(n, one), 1), b.width - 1))


def tan(b: MathBuilder[V, I, M], x: V) -> V:
    """The tangent of x radians, as the quotient of sine and cosine; NaN at infinity."""
    n, r, low = _reduce(b, b.abs(x))
    sine, cosine = _kernels(b, r, low)
    one = b.iconst(1)
    odd = b.icmp("eq", b.iand(n, one), one)
    y = b.div(b.select(odd, cosine, sine), b.select(odd, sine, cosine))
    return flip_sign(b, y, b.ixor(b.shl(n, b.width - 1), sign_bit(b, x)))
