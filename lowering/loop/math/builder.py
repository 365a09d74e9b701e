"""What the recipes of the elementary functions are written against: arithmetic on one float format, scalar or vector.

A recipe is a function of a builder and values. The loop landing gives it a builder that makes `arith`, `math` and
`vector` ops, the tests one that computes with NumPy. No method may be replaced by an approximation, reassociated
or contracted: the recipes use the rounding errors of single operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from stepwell.errors import IRError
from stepwell.lowering.loop.math.coefficients import F32, F64
from stepwell.lowering.loop.math.constants import Constants

V = TypeVar("V")
I = TypeVar("I")  # noqa: E741
M = TypeVar("M")

_TABLES = {32: F32, 64: F64}


class MathBuilder(Protocol[V, I, M]):
    """Operations on values V of one float format, integers I of the same width (signless), and masks M.

    Compare predicates are those of `arith.cmpf` and `arith.cmpi`. No recipe converts between floats and integers;
    only `pow` uses `floor`, and only the reduction of huge angles uses `roundeven`.
    """

    @property
    def width(self) -> int:
        """Bits of the format: 32 or 64."""

    @property
    def has_fma(self) -> bool:
        """Whether `fma` rounds once. If not, it is a multiplication and an addition."""

    @property
    def has_tables(self) -> bool:
        """Whether `lookup` and `scale` may be used: one instruction each."""

    def const(self, value: float) -> V: ...
    def iconst(self, value: int) -> I: ...

    def add(self, a: V, b: V) -> V: ...
    def sub(self, a: V, b: V) -> V: ...
    def mul(self, a: V, b: V) -> V: ...
    def div(self, a: V, b: V) -> V: ...
    def fma(self, a: V, b: V, c: V) -> V: ...
    def neg(self, a: V) -> V: ...
    def abs(self, a: V) -> V: ...
    def sqrt(self, a: V) -> V: ...
    def copysign(self, magnitude: V, sign: V) -> V: ...
    def floor(self, a: V) -> V: ...
    def roundeven(self, a: V) -> V: ...

    def lookup(self, table: tuple[float, ...], index: I) -> V:
        """The constant at the place that the low bits of `index` name; 2**n constants fill a register of 64 bytes."""

    def scale(self, a: V, n: V) -> V:
        """a * 2**floor(n), rounded once; n is finite or NaN."""

    def cmp(self, predicate: str, a: V, b: V) -> M: ...
    def select(self, mask: M, a: V, b: V) -> V: ...
    def mask_and(self, a: M, b: M) -> M: ...
    def mask_or(self, a: M, b: M) -> M: ...

    def to_bits(self, a: V) -> I: ...
    def from_bits(self, a: I) -> V: ...
    def iadd(self, a: I, b: I) -> I: ...
    def isub(self, a: I, b: I) -> I: ...
    def iand(self, a: I, b: I) -> I: ...
    def ior(self, a: I, b: I) -> I: ...
    def ixor(self, a: I, b: I) -> I: ...
    def shl(self, a: I, amount: int) -> I: ...
    def lshr(self, a: I, amount: int) -> I: ...
    def icmp(self, predicate: str, a: I, b: I) -> M: ...

    def rare(self, mask: M, values: tuple[V, ...], otherwise: Callable[[], tuple[V, ...]]) -> tuple[V, ...]:
        """`otherwise()` in the lanes of `mask`, `values` in the others.

        A builder with branches skips `otherwise` when no lane needs it; one without calls it and selects.
        """


def constants(b: MathBuilder[V, I, M]) -> Constants:
    """The table of the builder's format. Raises `IRError` for a width without recipes."""
    if b.width not in _TABLES:
        raise IRError(f"elementary functions are written for f32 and f64, not f{b.width}: compute them in f32")
    return _TABLES[b.width]


def horner(b: MathBuilder[V, I, M], x: V, coefficients: tuple[float, ...]) -> V:
    """The polynomial with the given coefficients, low order first: one `fma` per degree."""
    value = b.const(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = b.fma(value, x, b.const(coefficient))
    return value


def at_least(b: MathBuilder[V, I, M], x: V, low: float) -> V:
    """max(x, low), NaN where x is NaN."""
    bound = b.const(low)
    return b.select(b.cmp("olt", x, bound), bound, x)


def at_most(b: MathBuilder[V, I, M], x: V, high: float) -> V:
    """min(x, high), NaN where x is NaN."""
    bound = b.const(high)
    return b.select(b.cmp("ogt", x, bound), bound, x)


def two_sum(b: MathBuilder[V, I, M], x: V, y: V) -> tuple[V, V]:
    """x + y rounded, and its rounding error (Knuth, TAOCP volume 2, 4.2.2)."""
    total = b.add(x, y)
    part = b.sub(total, x)
    return total, b.add(b.sub(x, b.sub(total, part)), b.sub(y, part))


def fast_two_sum(b: MathBuilder[V, I, M], x: V, y: V) -> tuple[V, V]:
    """x + y rounded, and its rounding error, for |x| >= |y| or x = 0 (Dekker 1971)."""
    total = b.add(x, y)
    return total, b.sub(y, b.sub(total, x))


def two_product(b: MathBuilder[V, I, M], x: V, y: V) -> tuple[V, V]:
    """x * y rounded, and its rounding error; without a fused operation by Dekker's splitting (1971)."""
    product = b.mul(x, y)
    if b.has_fma:
        return product, b.fma(x, y, b.neg(product))
    (x_high, x_low), (y_high, y_low) = _halves(b, x), _halves(b, y)
    error = b.sub(product, b.mul(x_high, y_high))
    error = b.sub(b.sub(error, b.mul(x_low, y_high)), b.mul(x_high, y_low))
    return product, b.sub(b.mul(x_low, y_low), error)


def _halves(b: MathBuilder[V, I, M], x: V) -> tuple[V, V]:
    """x as a sum of two numbers with half of its significant bits each (Veltkamp 1968)."""
    factor = b.const(float(2 ** ((constants(b).fraction_bits + 2) // 2) + 1))
    big = b.mul(x, factor)
    high = b.sub(big, b.sub(big, x))
    return high, b.sub(x, high)


def sign_bit(b: MathBuilder[V, I, M], x: V) -> I:
    """The sign bit of x, alone."""
    return b.iand(b.to_bits(x), b.iconst(1 << (b.width - 1)))


def flip_sign(b: MathBuilder[V, I, M], x: V, sign: I) -> V:
    """x, negated where the (otherwise zero) `sign` has its sign bit."""
    return b.from_bits(b.ixor(b.to_bits(x), sign))
