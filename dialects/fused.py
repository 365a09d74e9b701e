"""a * b + c with one rounding, in NumPy: the meaning of `math.fma` and `vector.fma`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_FAR = 400  # a shift by more bits leaves of the smaller addend only its sign, or nothing


def fused_multiply_add(a: Any, b: Any, c: Any) -> Array:
    """a * b + c on arrays of one float type; f64 holds the result for narrower ones.

    Below f64 the product is exact in f64, so that only the sum is rounded before the caller rounds to its type. In f64
    the result is correctly rounded, but for a second rounding of denormal ones."""
    a, b, c = np.asarray(a), np.asarray(b), np.asarray(c)
    with np.errstate(all="ignore"):
        if a.dtype != np.float64:
            return np.asarray(a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64))
        return _fused64(a, b, c)


def _fused64(a: Array, b: Array, c: Array) -> Array:
    """By an exact product, an exact sum and a rounding to odd (Boldo and Melquiond, "Emulation of FMA", 2008)."""
    (x, i), (y, j), (z, k) = np.frexp(a), np.frexp(b), np.frexp(c)
    power = i + j
    shift = np.clip(k - power, -_FAR, _FAR)
    high, low = _two_product(x, y)
    upper, lower = _two_sum(np.ldexp(z, shift), low)
    top, rest = _two_sum(high, upper)
    exact = np.ldexp(top + _sum_to_odd(rest, lower), power)
    far = k - power > _FAR  # the product is less than any digit of c
    plain = (x == 0) | (y == 0) | (z == 0) | ~(np.isfinite(a) & np.isfinite(b) & np.isfinite(c))
    return np.asarray(np.where(plain, _plain(a, b, c, high, power), np.where(far, c, exact)))


def _plain(a: Array, b: Array, c: Array, product: Array, power: Array) -> Array:
    """The result where an operand is zero or not finite; a finite product must not overflow beside an infinite c."""
    finite = np.isfinite(a) & np.isfinite(b) & (a != 0) & (b != 0)
    scaled = np.where(np.isfinite(c), np.ldexp(product, power), product)
    return np.asarray(np.where(finite, scaled, a * b) + c)


def _two_sum(x: Array, y: Array) -> tuple[Array, Array]:
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _two_product(x: Array, y: Array) -> tuple[Array, Array]:
    product = x * y
    (x_high, x_low), (y_high, y_low) = _halves(x), _halves(y)
    return product, x_low * y_low - (((product - x_high * y_high) - x_low * y_high) - x_high * y_low)


def _halves(x: Array) -> tuple[Array, Array]:
    big = x * 134217729.0
    high = big - (big - x)
    return high, x - high


def _sum_to_odd(x: Array, y: Array) -> Array:
    """x + y rounded to the neighbour with an odd last digit where it is not exact."""
    total, error = _two_sum(x, y)
    even = (np.asarray(total, np.float64).view(np.int64) & 1) == 0
    towards = np.where(error > 0, np.inf, -np.inf)
    return np.where((error != 0) & even, np.nextafter(total, towards), total)
