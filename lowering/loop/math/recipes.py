"""The table of recipes by name, with the error bounds that the tests hold them to, and their operation counts.

Errors are in units in the last place of the exact result (the spacing of denormals below the normal range), over the
whole range of finite arguments; they are the largest seen on dense samples, rounded up. NaN gives NaN, infinities and
signed zeros give what IEEE 754 and C's Annex F ask for, and denormal arguments and results are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from stepwell.lowering.loop.math import (
    error_function,
    exponential,
    hyperbolic,
    inverse_trigonometric,
    logarithm,
    trigonometric,
)
from stepwell.lowering.loop.math.numpy_builder import NumpyMath

Recipe = Callable[..., Any]
"""Takes a `MathBuilder` and its operands, returns the result's value."""

RECIPES: dict[str, Recipe] = {
    "acos": inverse_trigonometric.acos,
    "acosh": hyperbolic.acosh,
    "asin": inverse_trigonometric.asin,
    "asinh": hyperbolic.asinh,
    "atan": inverse_trigonometric.atan,
    "atan2": inverse_trigonometric.atan2,
    "atanh": hyperbolic.atanh,
    "cos": trigonometric.cos,
    "cosh": hyperbolic.cosh,
    "erf": error_function.erf,
    "erfc": error_function.erfc,
    "exp": exponential.exp,
    "exp2": exponential.exp2,
    "expm1": exponential.expm1,
    "log": logarithm.log,
    "log10": logarithm.log10,
    "log1p": logarithm.log1p,
    "log2": logarithm.log2,
    "pow": logarithm.pow,
    "sigmoid": exponential.sigmoid,
    "sin": trigonometric.sin,
    "sinh": hyperbolic.sinh,
    "softplus": logarithm.softplus,
    "tan": trigonometric.tan,
    "tanh": hyperbolic.tanh,
}
"""By name; those that the `math` dialect has bear its names, but for `math.powf`, which is "pow"."""

BOUNDS: dict[str, float] = {
    "acos.f32": 1.3, "acos.f64": 1.2,
    "acosh.f32": 2.2, "acosh.f64": 2.2,
    "asin.f32": 2.2, "asin.f64": 2.2,
    "asinh.f32": 1.9, "asinh.f64": 1.9,
    "atan.f32": 2.0, "atan.f64": 2.0,
    "atan2.f32": 2.4, "atan2.f64": 2.4,
    "atanh.f32": 2.2, "atanh.f64": 2.1,
    "cos.f32": 1.0, "cos.f64": 1.0,
    "cosh.f32": 1.8, "cosh.f64": 2.1,
    "erf.f32": 6.0, "erf.f64": 1.4,
    "erfc.f32": 5.3, "erfc.f64": 4.7,
    "exp.f32": 1.8, "exp.f64": 1.7,
    "exp2.f32": 1.3, "exp2.f64": 1.3,
    "expm1.f32": 1.6, "expm1.f64": 2.0,
    "log.f32": 0.9, "log.f64": 1.0,
    "log10.f32": 0.8, "log10.f64": 0.8,
    "log1p.f32": 1.0, "log1p.f64": 1.0,
    "log2.f32": 0.9, "log2.f64": 0.9,
    "pow.f32": 1.5, "pow.f64": 2.2,
    "sigmoid.f32": 3.5, "sigmoid.f64": 3.4,
    "sin.f32": 1.0, "sin.f64": 1.0,
    "sinh.f32": 2.6, "sinh.f64": 2.6,
    "softplus.f32": 2.8, "softplus.f64": 2.8,
    "tan.f32": 2.6, "tan.f64": 2.5,
    "tanh.f32": 2.6, "tanh.f64": 2.7,
}  # fmt: skip
"""Largest error in ulp, by "name.f32" and "name.f64", where the builder has FMA."""

BOUNDS_WITHOUT_FMA: dict[str, float] = BOUNDS | {
    "asinh.f64": 2.0, "atanh.f64": 2.2, "cosh.f32": 2.6, "cosh.f64": 2.5,
    "erf.f32": 7.1, "erfc.f64": 4.8, "exp.f32": 2.1, "exp.f64": 2.0,
    "exp2.f32": 1.7, "exp2.f64": 1.7, "expm1.f64": 2.1, "log.f32": 1.0,
    "log10.f64": 0.9, "log2.f32": 1.0, "log2.f64": 1.0, "pow.f32": 1.8,
    "pow.f64": 2.3, "sigmoid.f32": 4.5, "sigmoid.f64": 4.1, "sinh.f32": 3.5,
    "sinh.f64": 3.6, "softplus.f32": 3.5, "softplus.f64": 3.7,
}  # fmt: skip
"""The same where `fma` is a multiplication and an addition."""


def count_operations(name: str, width: int, has_fma: bool = True) -> Counter[str]:
    """How many operations the recipe asks for, by the builder's method (constants and bit casts are free).

    A "rare" is the test that guards the reduction of huge angles, whose own operations are not counted.
    """
    b = NumpyMath(width, has_fma)
    operands = (b.const(0.5), b.const(0.5)) if name in ("pow", "atan2") else (b.const(0.5),)
    with np.errstate(all="ignore"):
        RECIPES[name](b, *operands)
    return b.operations
