"""Symbolic dimensions: `Dim` is an int or a `DimExpr`, an integer expression over symbols such as `batch` or `8*h8`.

    n = symbol("n")
    (2*n + 4) // 2          # n + 2
    parse_dim("floor((h - 3)/2) + 1")
    proven_le(n // 2, n)    # True: holds for every n >= 0

Symbols are non-negative integers. Expressions simplify as they are built, and equal polynomials are one object, so `==`
compares structure; `proven_equal` also knows that `n % 4` is `n - 4*(n // 4)`. Proofs are sound only: True means proven
for all symbol values in range, False means not proven. This module is the public face; the ring is in `dim_poly`, the
nodes in `dim_nodes`, the reader in `dim_text`.
"""

from __future__ import annotations

from stepwell.ir.dim_nodes import Ranges, ceildiv, dim_max, dim_min, divide_exact, floordiv, interval, mod
from stepwell.ir.dim_poly import (
    ONE,
    Dim,
    DimExpr,
    as_dim,
    evaluate,
    fold,
    free_symbols,
    make_symbol_expr,
    substitute,
    terms_of,
)
from stepwell.ir.dim_text import parse_dim

__all__ = [
    "Dim",
    "DimExpr",
    "Ranges",
    "as_dim",
    "bounds",
    "ceildiv",
    "dim_max",
    "dim_min",
    "divide_exact",
    "evaluate",
    "expand_mod",
    "floordiv",
    "fold",
    "free_symbols",
    "is_multiple_of",
    "mod",
    "parse_dim",
    "proven_different",
    "proven_equal",
    "proven_le",
    "proven_lt",
    "proven_non_negative",
    "proven_positive",
    "solve_for",
    "substitute",
    "symbol",
]


def symbol(name: str) -> DimExpr:
    """The dimension symbol `name` (any non-empty text); the same object for the same name. Raises IRError if empty."""
    return make_symbol_expr(name)


def bounds(dim: Dim, ranges: Ranges | None = None) -> tuple[int | None, int | None]:
    """Inclusive (low, high) of `dim`, None for unbounded; sound, not always tight.

    `ranges` gives inclusive (low, high | None) by symbol name; a symbol without a range may be any integer from 0.
    """
    if not ranges:
        low, high = interval(dim)
    else:
        low, high = interval(dim, ranges)
        # Products compare best over symbols that start at 0: n*m - n is (n)*(m' + 1) - n = n*m' >= 0 for m >= 1.
        shifts: dict[str, Dim] = {name: symbol(name) + ranges[name][0] for name in free_symbols(dim) if name in ranges}
        if shifts and isinstance(dim, DimExpr) and dim.terms[0][0].degree > 1:
            moved = {name: (0, None if last is None else last - first) for name, (first, last) in ranges.items()}
            shifted_low, shifted_high = interval(substitute(dim, shifts), moved)
            low, high = max(low, shifted_low), min(high, shifted_high)
    return (low if isinstance(low, int) else None), (high if isinstance(high, int) else None)


def proven_non_negative(dim: Dim, ranges: Ranges | None = None) -> bool:
    """True when `dim >= 0` is proven."""
    low, _ = bounds(dim, ranges)
    return low is not None and low >= 0


def proven_positive(dim: Dim, ranges: Ranges | None = None) -> bool:
    """True when `dim >= 1` is proven."""
    return proven_non_negative(dim - 1, ranges)


def proven_le(a: Dim, b: Dim, ranges: Ranges | None = None) -> bool:
    """True when `a <= b` is proven."""
    return a is b or proven_non_negative(b - a, ranges)


def proven_lt(a: Dim, b: Dim, ranges: Ranges | None = None) -> bool:
    """True when `a < b` is proven."""
    return proven_non_negative(b - a - 1, ranges)


def proven_equal(a: Dim, b: Dim, ranges: Ranges | None = None) -> bool:
    """True when `a == b` is proven."""
    if a == b:
        return True
    difference = expand_mod(a) - expand_mod(b)
    return difference == 0 or bounds(difference, ranges) == (0, 0)


def proven_different(a: Dim, b: Dim, ranges: Ranges | None = None) -> bool:
    """True when `a != b` is proven."""
    return proven_lt(a, b, ranges) or proven_lt(b, a, ranges)


def is_multiple_of(dim: Dim, k: Dim) -> bool:
    """True when `dim` is proven to be an integer multiple of `k` (for k = 0: to be 0)."""
    if k == 0 or dim == 0:
        return dim == 0
    return mod(as_dim(dim), as_dim(k)) == 0


def expand_mod(dim: Dim) -> Dim:
    """`dim` with every `a % b` written as `a - b*(a // b)`, the form in which equal sums of quotients cancel."""

    def add(a: Dim, b: Dim) -> Dim:
        return a + b

    def mul(a: Dim, b: Dim) -> Dim:
        return a * b

    def remainder(a: Dim, b: Dim) -> Dim:
        return a - b * floordiv(a, b)

    return fold(dim, as_dim, symbol, add, mul, floordiv, remainder, dim_max, dim_min)


def solve_for(dim: Dim, name: str, value: Dim) -> Dim | None:
    """The value of the symbol `name` at which `dim` equals the measured `value`, for `dim == c*name + rest`.

    `8*h8` measured as `m` gives `m // 8`; the caller checks at run time that substituting it gives `value` again (None
    when that is already known to fail). None as well where `name` does not occur, or occurs in another way: with a
    symbolic factor, in a power, inside a division or maximum.
    """
    factor = 0
    rest: Dim = dim
    for monomial, coefficient in terms_of(dim):
        if monomial is not ONE and monomial.degree == 1 and monomial.factors[0][0].name == name:
            factor = coefficient
            rest = dim - factor * symbol(name)
    if not factor or name in free_symbols(rest):
        return None
    numerator = value - rest
    if isinstance(numerator, int) and numerator % factor:
        return None
    return floordiv(numerator, factor)
