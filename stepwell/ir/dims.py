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

from functools import lru_cache, reduce
from math import gcd

from stepwell.ir.dim_nodes import (
    Ranges,
    ceildiv,
    common_factor,
    dim_max,
    dim_min,
    divide_exact,
    floordiv,
    interval,
    mod,
)
from stepwell.ir.dim_poly import (
    ONE,
    Dim,
    DimExpr,
    as_dim,
    evaluate,
    fold,
    free_symbols,
    from_atom,
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
    "dim_broadcast",
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
    "unflagged",
]


def symbol(name: str) -> DimExpr:
    """The dimension symbol `name` (any non-empty text); the same object for the same name. Raises IRError if empty."""
    return make_symbol_expr(name)


@lru_cache(maxsize=1 << 14)
def dim_broadcast(a: Dim, b: Dim) -> Dim:
    """n, m  ->  max(n, m) * min(n, m, 1): what two sizes broadcast to that are equal, or one of them 1.

    That is the larger one, but 0 where 1 meets 0; sizes that are never 0 have their plain maximum. What is broadcast
    once more grows by nothing but new sizes. One that is at most 1 is a factor: n, s -> n * s."""
    flags = [flag for flag in (a, b) if bounds(flag)[1] == 1]
    for whole, part in ((a, b), (b, a)):
        other = divide_exact(whole, part)
        if other is not None and (part in flags or bounds(other)[1] == 1):
            return whole
    if flags:
        return a * b
    (largest_a, any_a), (largest_b, any_b) = _broadcast_parts(a), _broadcast_parts(b)
    return dim_max(largest_a, largest_b) * dim_min(any_a, any_b)


def _broadcast_parts(dim: Dim) -> tuple[Dim, Dim]:
    """(size, 1 where there is none of size 0 among those that made it, else 0), of which a size is the product."""
    if isinstance(dim, int):
        return dim, min(dim, 1)
    flags = [atom for atom, _ in reduce(common_factor, [m for m, _ in terms_of(dim)]).factors
             if atom.kind == "min" and 1 in atom.args]  # fmt: skip
    found: Dim = 1
    for atom in flags:
        rest = divide_exact(dim, from_atom(atom))
        if rest is not None:
            dim, found = rest, dim_min(found, from_atom(atom))
    scale = gcd(*(coefficient for _, coefficient in terms_of(dim)))
    return dim, dim_min(found, divide_exact(dim, scale) if scale > 1 else dim)


def unflagged(dim: Dim) -> Dim:
    """The same size without the factors min(1, n) that say nothing, beside an n: 4*n*min(1, m, n) is 4*n*min(1, m).

    The ring keeps them, so that what was multiplied can be divided by them again."""
    made: Dim = 0
    for monomial, coefficient in terms_of(dim):
        beside = {atom for atom, _ in monomial.factors if atom.kind == "symbol"}
        term: Dim = coefficient
        for atom, power in monomial.factors:
            factor: Dim = from_atom(atom)
            if atom.kind == "min" and 1 in atom.args:
                kept = [arg for arg in atom.args if not (isinstance(arg, DimExpr) and arg.as_atom() in beside)]
                factor = reduce(dim_min, kept)
            for _ in range(power):
                term = term * factor
        made = made + term
    return made


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
