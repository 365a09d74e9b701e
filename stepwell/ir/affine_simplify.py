"""Simplifies affine expressions by what is known of their dims and symbols: ranges and divisibility."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from stepwell.ir.affine_expr import (
    FLOORDIV,
    AffineExpr,
    Ranges,
    Sum,
    accumulate,
    atom_bounds,
    atom_multiple,
    floordiv,
    from_terms,
    mod,
)


class _Known(NamedTuple):
    dims: Ranges
    symbols: Ranges
    dim_multiples: Sequence[int]
    symbol_multiples: Sequence[int]


def simplify_expr(
    expr: AffineExpr,
    dims: Ranges = (),
    symbols: Ranges = (),
    dim_multiples: Sequence[int] = (),
    symbol_multiples: Sequence[int] = (),
) -> AffineExpr:
    """An expression with the same values wherever dims and symbols lie in their ranges and are such multiples.

    (16*d0 + d1) floordiv 16 -> d0 for d1 in [0, 15]; d0 mod 16 -> 0 for a d0 that is a multiple of 16; a dim with a
    range of one value becomes that value.
    """
    return _simplify(expr, _Known(dims, symbols, dim_multiples, symbol_multiples))


def _simplify(expr: AffineExpr, known: _Known) -> AffineExpr:
    terms: Sum = {}
    constant = expr.constant
    for atom, coefficient in expr.terms:
        if atom.is_leaf:
            low, high = atom_bounds(atom, known.dims, known.symbols)
            if low is None or low != high:
                accumulate(terms, ((atom, 1),), coefficient)
            else:
                constant += coefficient * low
            continue
        operand = _simplify(atom.operand, known)
        divide = _known_floordiv if atom.kind == FLOORDIV else _known_mod
        value = divide(operand, atom.divisor, known)
        constant += coefficient * value.constant
        accumulate(terms, value.terms, coefficient)
    return from_terms(terms, constant)


def _known_floordiv(expr: AffineExpr, k: int, known: _Known) -> AffineExpr:
    whole, rest = _split_multiples(expr, k, known)
    if whole.terms:
        return floordiv(whole, k) + _known_floordiv(rest, k, known)
    coarse = _drop_fine_part(expr, k, known)
    return floordiv(expr if coarse is None else coarse, k)


def _known_mod(expr: AffineExpr, k: int, known: _Known) -> AffineExpr:
    _, rest = _split_multiples(expr, k, known)
    coarse = _drop_fine_part(rest, k, known)
    return mod(rest, k) if coarse is None else mod(coarse, k) + (rest - coarse)


def _split_multiples(expr: AffineExpr, g: int, known: _Known) -> tuple[AffineExpr, AffineExpr]:
    """(the terms known to be multiples of `g`, the rest with the constant)."""
    multiples: Sum = {}
    rest: Sum = {}
    for atom, coefficient in expr.terms:
        exact = coefficient * atom_multiple(atom, known.dim_multiples, known.symbol_multiples) % g == 0
        (multiples if exact else rest)[atom] = coefficient
    return from_terms(multiples, 0), from_terms(rest, expr.constant)


def _drop_fine_part(expr: AffineExpr, k: int, known: _Known) -> AffineExpr | None:
    """`c` with `expr == c + fine`, where c is a multiple of a divisor g of k and 0 <= fine < g; None if not found.

    Then `expr // k == c // k` and `expr % k == c % k + fine`.
    """
    steps = {
        math.gcd(c * atom_multiple(atom, known.dim_multiples, known.symbol_multiples), k) for atom, c in expr.terms
    }
    for g in sorted(steps | {k}, reverse=True):
        coarse, fine = _split_multiples(expr, g, known)
        low, high = fine.bounds(known.dims, known.symbols)
        if low is not None and high is not None and low // g == high // g:
            result = coarse + low // g * g
            if result is not expr:
                return result
    return None
