"""Whether two arrays hold the same result: within a tolerance for floats, exactly for integers and bools but for what
roundings on the way to them make of each.

The tolerance comes from the element type and the longest accumulation; the places of NaN and infinities must agree."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np

from stepwell.errors import PassError
from stepwell.ports import Array

ROUNDINGS = 32  # one after the other on the way to an element


class ResultChanged(PassError):
    """A pass changed what the program computes."""


def tolerance(dtype: np.dtype[Any], accumulation: int) -> float:
    """The relative error allowed, of the largest value; 0 for what must be exact.

    Sums of n terms in another order differ by about sqrt(n) roundings; ROUNDINGS leaves room for a chain of ops."""
    return ROUNDINGS * step_of(dtype) * (1 + math.sqrt(accumulation)) if dtype.kind in "fcV" else 0.0


def step_of(dtype: np.dtype[Any]) -> float:
    """The distance from 1 to the next float of a type."""
    try:
        return float(np.finfo(dtype).eps)
    except ValueError:
        import ml_dtypes

        return float(ml_dtypes.finfo(dtype).eps)


@attrs.frozen
class Arithmetic:
    """What is computed on the way to a result, as far as it rounds: how many terms the longest reduction adds up, and
    whether any multiplies its terms.

    On the way to a product numbers may become too large or too small for the type, another number of them in another
    order: whether it is 0, infinite or NaN says nothing then. `step`: the distance from 1 to the next float of the
    coarsest type in which a kernel computes, which may be coarser than those of all its arguments."""

    terms: int = 1
    multiplies: bool = False
    step: float = 0.0

    def __or__(self, other: Arithmetic) -> Arithmetic:
        """Of a result to which both ways lead."""
        both = self.multiplies or other.multiplies
        return Arithmetic(max(self.terms, other.terms), both, max(self.step, other.step))


def difference(a: Array, b: Array, arithmetic: Arithmetic, slack: Array | None = None) -> str | None:
    """How two arrays differ beyond the tolerance; None where they agree. `slack` is what roundings of the inputs make
    of each element. Of products, elements are compared where both are finite and both 0 or not."""
    if a.shape != b.shape or numpy_kind(a) != numpy_kind(b):
        return f"{a.dtype}{list(a.shape)} became {b.dtype}{list(b.shape)}"
    allowed = tolerance(a.dtype, arithmetic.terms)
    if allowed == 0:
        apart = distance(a, b)
        wrong = apart > (0.0 if slack is None else slack)
        return f"{int(wrong.sum())} of {a.size} elements differ" if wrong.any() else None
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    x, y = a.astype(wide), b.astype(wide)
    compared = np.isfinite(x) & np.isfinite(y)
    if arithmetic.multiplies:
        compared &= (x == 0) == (y == 0)
    elif not np.array_equal(x[~compared], y[~compared], equal_nan=True):
        return "NaN or infinities are at other places"
    if not compared.any():
        return None
    error = float(np.max(np.abs(x[compared] - y[compared]) - (0.0 if slack is None else slack[compared])))
    limit = allowed * max(float(np.max(np.abs(x[compared]))), float(np.finfo(np.float32).tiny))
    return f"largest error {error:.3g}, allowed are {limit:.3g}" if error > limit else None


def distance(a: Array, b: Array) -> Array:
    """How far apart the elements of two arrays are, in f64: of integers the number between them; of what is no number 0
    or 1."""
    if a.dtype.kind in "iu":
        b = b.view(a.dtype)
        with np.errstate(over="ignore"):
            between = np.where(a > b, a - b, b - a)  # the bits of a number without sign, however large
        return between.view(f"u{a.dtype.itemsize}").astype(np.float64)
    if a.dtype.kind in "fV":
        return np.abs(b.astype(np.float64) - a.astype(np.float64))
    return np.asarray(a != b, np.float64)


def numpy_kind(array: Array) -> tuple[str, int]:
    """What must agree of element types: signs are lost on the way down, sizes are not."""
    return ("i" if array.dtype.kind in "iu" else array.dtype.kind, array.dtype.itemsize)
