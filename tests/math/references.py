"""What elementary functions are to give, in more bits than they have, and how far a result is from that."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

Array = np.ndarray[Any, Any]


def _erf(x: Array) -> Array:
    """erf in f64: its series where |x| is small, 1 where it is large, and between them the C library's."""
    found = np.where(np.abs(x) > 6, np.sign(x), x * (2 / math.sqrt(math.pi)) * (1 - x * x / 3))
    between = (np.abs(x) <= 6) & (np.abs(x) >= 2.0**-13)
    found[between] = [math.erf(value) for value in x[between]]
    return found


def _erf_chunk(x: Array) -> Array:
    """`_erf`, each magnitude computed once."""
    magnitudes, places = np.unique(np.abs(x), return_inverse=True)
    return np.copysign(_erf(magnitudes)[places.reshape(x.shape)], x)


IN_F64: dict[str, Callable[..., Array]] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "erf": _erf_chunk, "cbrt": np.cbrt, "rsqrt": lambda x: 1 / np.sqrt(x), "powf": np.power,
    "atan2": np.arctan2,
}  # fmt: skip

EXACT: dict[str, Callable[..., Any]] = {
    "exp": mpmath.exp, "exp2": lambda x: mpmath.mpf(2) ** x, "expm1": mpmath.expm1, "log": mpmath.log,
    "log2": lambda x: mpmath.log(x, 2), "log10": mpmath.log10, "log1p": mpmath.log1p, "sin": mpmath.sin,
    "cos": mpmath.cos, "tan": mpmath.tan, "asin": mpmath.asin, "acos": mpmath.acos, "atan": mpmath.atan,
    "sinh": mpmath.sinh, "cosh": mpmath.cosh, "tanh": mpmath.tanh, "asinh": mpmath.asinh, "acosh": mpmath.acosh,
    "atanh": mpmath.atanh, "erf": mpmath.erf, "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "rsqrt": lambda x: 1 / mpmath.sqrt(x), "powf": mpmath.power, "atan2": mpmath.atan2,
}  # fmt: skip
DIGITS = 50


def ulp_errors(found: Array, exact: Array, fraction_bits: int, least: int, greatest: int) -> Array:
    """|found - exact| in units in the last place of the exact value, both in f64, for a format with so many stored bits
    and exponents from `least` to `greatest`; inf where one is NaN and the other is not.

    Infinity counts as the power of two behind the largest number."""
    limit = math.ldexp(1.0, greatest + 1)
    a, b = np.clip(found, -limit, limit), np.clip(exact, -limit, limit)
    exponents = (np.ascontiguousarray(b).view(np.int64) >> 52) & 0x7FF
    steps = (np.clip(exponents, least + 1023, greatest + 1023) - fraction_bits) << 52
    errors = np.abs(a - b) / steps.view(np.float64)
    lost = np.isnan(errors)
    if lost.any():
        errors[lost] = np.where(np.isnan(found[lost]) & np.isnan(exact[lost]), 0.0, np.inf)
    return errors


def ulp_error_of(name: str, found: float, *operands: float) -> float:
    """The error of one f64 result in ulp, against mpmath."""
    with mpmath.workdps(DIGITS):
        exact = EXACT[name](*(mpmath.mpf(value) for value in operands))
        if isinstance(exact, mpmath.mpc) or mpmath.isnan(exact):
            return 0.0 if math.isnan(found) else math.inf
        if math.isnan(found):
            return math.inf
        limit = mpmath.ldexp(1, 1024)
        near = mpmath.mpf(found) if math.isfinite(found) else math.copysign(1, found) * limit
        exact = max(-limit, min(limit, exact))
        exponent = min(1023, max(-1022, int(mpmath.floor(mpmath.log(abs(exact), 2))) if exact else -1022))
        return float(abs(near - exact) / mpmath.ldexp(1, exponent - 52))
