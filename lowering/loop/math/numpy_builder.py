"""The builder that computes: recipes run on NumPy arrays, as the oracle of every other builder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from stepwell.dialects.isa import scaled

Array = npt.NDArray[Any]

_COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "oeq": np.equal, "ogt": np.greater, "oge": np.greater_equal, "olt": np.less, "ole": np.less_equal,
    "une": np.not_equal,
    "one": lambda a, b: (a < b) | (a > b),
    "ord": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "uno": lambda a, b: np.isnan(a) | np.isnan(b),
    "ueq": lambda a, b: ~((a < b) | (a > b)),
    "ugt": lambda a, b: ~(a <= b), "uge": lambda a, b: ~(a < b),
    "ult": lambda a, b: ~(a >= b), "ule": lambda a, b: ~(a > b),
}  # fmt: skip
_COMPARE_INT: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal, "ne": np.not_equal, "ult": np.less, "ule": np.less_equal, "ugt": np.greater, "uge": np.greater_equal
}  # fmt: skip


class NumpyMath:
    """`MathBuilder` on arrays of float32 or float64; `operations` counts what was asked for.

    Run it under `numpy.errstate(all="ignore")`: recipes compute lanes that a later select throws away.
    """

    def __init__(self, width: int, has_fma: bool = True, has_tables: bool = False) -> None:
        self.width = width
        self.has_fma = has_fma
        self.has_tables = has_tables
        self.float_type = np.dtype(f"f{width // 8}")
        self.int_type = np.dtype(f"u{width // 8}")
        self.operations: Counter[str] = Counter()

    def _count(self, name: str) -> None:
        self.operations[name] += 1

    def const(self, value: float) -> Array:
        return np.asarray(value, self.float_type)

    def iconst(self, value: int) -> Array:
        return np.asarray(value % (1 << self.width), self.int_type)

    def add(self, a: Array, b: Array) -> Array:
        self._count("add")
        return np.asarray(a + b)

    def sub(self, a: Array, b: Array) -> Array:
        self._count("sub")
        return np.asarray(a - b)

    def mul(self, a: Array, b: Array) -> Array:
        self._count("mul")
        return np.asarray(a * b)

    def div(self, a: Array, b: Array) -> Array:
        self._count("div")
        return np.asarray(a / b)

    def fma(self, a: Array, b: Array, c: Array) -> Array:
        """a * b + c; rounded once (but for rare double rounding) where the builder has FMA."""
        self._count("fma")
        if not self.has_fma:
            return np.asarray(a * b + c)
        if self.width == 32:
            return np.asarray(a.astype(np.float64) * b + c).astype(np.float32)
        return _fma64(a, b, c)

    def neg(self, a: Array) -> Array:
        self._count("neg")
        return np.asarray(-a)

    def abs(self, a: Array) -> Array:
        self._count("abs")
        return np.asarray(np.abs(a))

    def sqrt(self, a: Array) -> Array:
        self._count("sqrt")
        return np.asarray(np.sqrt(a))

    def copysign(self, magnitude: Array, sign: Array) -> Array:
        self._count("copysign")
        return np.asarray(np.copysign(magnitude, sign))

    def floor(self, a: Array) -> Array:
        self._count("floor")
        return np.asarray(np.floor(a))

    def roundeven(self, a: Array) -> Array:
        self._count("roundeven")
        return np.asarray(np.rint(a))

    def lookup(self, table: tuple[float, ...], index: Array) -> Array:
        self._count("lookup")
        return np.asarray(np.asarray(table, self.float_type)[index & self.int_type.type(len(table) - 1)])

    def scale(self, a: Array, n: Array) -> Array:
        self._count("scale")
        return np.asarray(scaled(a, n))

    def cmp(self, predicate: str, a: Array, b: Array) -> Array:
        self._count("cmp")
        return np.asarray(_COMPARE[predicate](a, b))

    def select(self, mask: Array, a: Array, b: Array) -> Array:
        self._count("select")
        return np.where(mask, a, b)

    def mask_and(self, a: Array, b: Array) -> Array:
        self._count("mask_and")
        return a & b

    def mask_or(self, a: Array, b: Array) -> Array:
        self._count("mask_or")
        return a | b

    def to_bits(self, a: Array) -> Array:
        return a.view(self.int_type)

    def from_bits(self, a: Array) -> Array:
        return a.view(self.float_type)

    def iadd(self, a: Array, b: Array) -> Array:
        self._count("iadd")
        return np.asarray(a + b)

    def isub(self, a: Array, b: Array) -> Array:
        self._count("isub")
        return np.asarray(a - b)

    def iand(self, a: Array, b: Array) -> Array:
        self._count("iand")
        return np.asarray(a & b)

    def ior(self, a: Array, b: Array) -> Array:
        self._count("ior")
        return np.asarray(a | b)

    def ixor(self, a: Array, b: Array) -> Array:
        self._count("ixor")
        return np.asarray(a ^ b)

    def shl(self, a: Array, amount: int) -> Array:
        self._count("shl")
        return np.asarray(a << self.int_type.type(amount))

    def lshr(self, a: Array, amount: int) -> Array:
        self._count("lshr")
        return np.asarray(a >> self.int_type.type(amount))

    def icmp(self, predicate: str, a: Array, b: Array) -> Array:
        self._count("icmp")
        return np.asarray(_COMPARE_INT[predicate](a, b))

    def rare(
        self, mask: Array, values: tuple[Array, ...], otherwise: Callable[[], tuple[Array, ...]]
    ) -> tuple[Array, ...]:
        """Takes the branch for all lanes when one needs it; the branch is counted once, as "rare"."""
        self._count("rare")
        if not np.any(mask):
            return values
        counted = self.operations.copy()
        others = otherwise()
        self.operations = counted
        return tuple(np.where(mask, other, value) for value, other in zip(values, others, strict=True))


def _fma64(a: Array, b: Array, c: Array) -> Array:
    """a * b + c in float64 through an exact product (Dekker) and an exact sum (Knuth) before the last rounding.

    The product is exact unless its error underflows or |a| or |b| exceeds 2**996; then the two roundings show.
    """
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves64(a), _halves64(b)
    error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    total = product + c
    part = total - product
    rest = (product - (total - part)) + (c - part) + error
    return np.asarray(np.where(np.isfinite(rest), total + rest, total))


def _halves64(a: Array) -> tuple[Array, Array]:
    big = a * 134217729.0
    high = big - (big - a)
    return high, a - high
