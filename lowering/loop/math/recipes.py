"""The table of elementary functions: how each is computed, and the error bound that tests and documentation read here.

Errors are in units in the last place of the exact result (the spacing of denormals below the normal range), over the
whole range of finite arguments. The f32 bounds of functions of one argument, with FMA, are those of all 2**32
arguments (`python -m tests.math.exhaustive`), the others of dense samples (tests/math, tests/lowering/loop), rounded
up. NaN gives NaN, infinities and signed zeros give what IEEE 754 and C's Annex F ask for, and denormal arguments and
results are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from stepwell.errors import IRError
from stepwell.lowering.loop.math import (
    error_function,
    exponential,
    hyperbolic,
    inverse_trigonometric,
    logarithm,
    roots,
    trigonometric,
)
from stepwell.lowering.loop.math.numpy_builder import NumpyMath

Recipe = Callable[..., Any]
"""Takes a `MathBuilder` and its operands, returns the result's value."""

NARROW_BOUND = 0.51  # ulp of f16 and bf16, computed in f32 and rounded


@attrs.frozen
class ElementaryFunction:
    """A recipe, and its largest error in ulp: `f32` and `f64` where `fma` rounds once, and where it is a
    multiplication and an addition (targets without it, strict precision)."""

    recipe: Recipe
    f32: tuple[float, float]
    f64: tuple[float, float]
    method: str
    operands: int = 1

    def bound(self, width: int, has_fma: bool = True) -> float:
        """Ulp for a float of that many bits. Raises IRError for other widths than 16, 32 and 64."""
        if width == 16:
            return NARROW_BOUND
        if width not in (32, 64):
            raise IRError(f"no elementary function has a bound for f{width}")
        return (self.f32 if width == 32 else self.f64)[0 if has_fma else 1]


_TABLE: list[tuple[str, Recipe, tuple[float, float], tuple[float, float], str]] = [
    ("exp", exponential.exp, (1.7, 2.6), (1.7, 2.6),
     "2**(2 j) e**r with x = 2 j ln 2 + r; polynomial of degree 7, 13; AVX-512: of degree 3, 7, times a root of two "
     "out of a register (Tang 1989)"),
    ("exp2", exponential.exp2, (1.3, 1.7), (1.3, 1.7),
     "2**(2 j) 2**r with x = 2 j + r; polynomial of degree 7, 13; AVX-512: as exp"),
    ("expm1", exponential.expm1, (1.5, 1.6), (2.0, 2.1), "2**n (e**r - 1) + (2**n - 1); polynomial of degree 7, 12"),
    ("log", logarithm.log, (0.9, 1.0), (1.0, 1.0),
     "e ln 2 + log m, log((1 + s) / (1 - s)) with s = f / (2 + f) (the scheme of fdlibm, Sun Microsystems 1993)"),
    ("log2", logarithm.log2, (0.9, 1.0), (0.9, 1.0), "as log, the leading part times log2 e without rounding"),
    ("log10", logarithm.log10, (0.8, 0.8), (0.8, 0.9), "as log, the leading part times log10 e without rounding"),
    ("log1p", logarithm.log1p, (0.9, 1.0), (1.0, 1.0), "as log, with the rounding error of 1 + x (Knuth)"),
    ("powf", logarithm.pow, (1.5, 1.8), (2.2, 2.3),
     "2**(y log2 x), the logarithm in double-length arithmetic (Dekker 1971)"),
    ("sin", trigonometric.sin, (0.9, 1.0), (1.0, 1.0),
     "n pi/2 subtracted in parts (Cody and Waite 1980); beyond 2**17 (2**30 in f64) by the bits of 2/pi "
     "(Payne and Hanek 1983)"),
    ("cos", trigonometric.cos, (0.9, 1.0), (1.0, 1.0), "as sin"),
    ("tan", trigonometric.tan, (2.5, 2.6), (2.5, 2.5), "as sin, the quotient of sine and cosine"),
    ("asin", inverse_trigonometric.asin, (2.1, 2.2), (2.2, 2.2),
     "pi/2 - 2 asin(sqrt((1 - |x|) / 2)) above 1/2; odd polynomial"),
    ("acos", inverse_trigonometric.acos, (1.2, 1.3), (1.2, 1.2), "as asin"),
    ("atan", inverse_trigonometric.atan, (1.9, 2.0), (2.0, 2.0),
     "brought to |t| <= tan(pi/8) by a quotient; odd polynomial"),
    ("atan2", inverse_trigonometric.atan2, (2.4, 2.4), (2.4, 2.4), "as atan, of the smaller through the larger"),
    ("sinh", hyperbolic.sinh, (2.5, 4.0), (2.6, 4.0), "e**x/2 - 1/(2 e**x); odd polynomial below 1"),
    ("cosh", hyperbolic.cosh, (1.7, 3.2), (2.1, 3.2), "e**x/2 + 1/(2 e**x)"),
    ("tanh", hyperbolic.tanh, (2.5, 2.6), (2.7, 2.7), "w / (w + 2) with w = e**(2 |x|) - 1"),
    ("asinh", hyperbolic.asinh, (1.8, 1.9), (1.9, 2.0), "log(1 + |x| + x**2 / (1 + sqrt(1 + x**2)))"),
    ("acosh", hyperbolic.acosh, (2.1, 2.2), (2.2, 2.2), "log(1 + t + sqrt(2 t + t**2)) with t = x - 1"),
    ("atanh", hyperbolic.atanh, (2.1, 2.2), (2.1, 2.2), "log(1 + 2 |x| / (1 - |x|)) / 2"),
    ("erf", error_function.erf, (5.8, 7.1), (1.4, 1.4),
     "f32: one rational function of degree 11; f64: odd polynomial below 1, e**(-x**2) q((x - 3) / (x + 3)) above"),
    ("cbrt", roots.cbrt, (1.1, 1.1), (1.0, 1.0), "2**q t**(1/3), polynomial of degree 4, then Halley's iteration"),
    ("rsqrt", roots.rsqrt, (1.5, 1.5), (1.5, 1.5), "1 / sqrt(x), both rounded correctly"),
]  # fmt: skip

FUNCTIONS: dict[str, ElementaryFunction] = {
    name: ElementaryFunction(recipe, f32, f64, method, 2 if name in ("powf", "atan2") else 1)
    for name, recipe, f32, f64, method in _TABLE
}
"""By the names of the `math` dialect."""


def count_operations(name: str, width: int, has_fma: bool = True, has_tables: bool = False) -> Counter[str]:
    """How many operations the recipe asks for, by the builder's method (constants and bit casts are free).

    A "rare" is the test that guards the reduction of huge angles, whose own operations are not counted.
    """
    b = NumpyMath(width, has_fma, has_tables)
    function = FUNCTIONS[name]
    with np.errstate(all="ignore"):
        function.recipe(b, *[b.const(0.5)] * function.operands)
    return b.operations
