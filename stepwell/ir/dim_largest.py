"""The largest of many sizes, as one expression that stays short."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.errors import IRError
from stepwell.ir.dim_nodes import extreme
from stepwell.ir.dim_poly import ONE, Dim, Monomial, from_coefficients, terms_of
from stepwell.ir.dims import proven_non_negative


def largest(sizes: Sequence[Dim], longest: int | None = None) -> Dim:
    """The maximum of sizes, none of which is negative, and of 0; where no expression can be so large, or its text would
    have more than `longest` characters, a sum that is no smaller.

        largest([4, n, 2 * n])     # max(4, 2*n)"""
    known = [size for size in sizes if isinstance(size, int)]
    open_ = dict.fromkeys(size for size in sizes if not isinstance(size, int))
    least = max(known, default=0)
    try:
        exact = extreme("max", [least, *open_])
        if longest is None or len(str(exact)) <= longest:
            return exact
    except IRError:  # no expression can be so large
        pass
    factors: dict[Monomial, int] = {ONE: least}
    others: Dim = 0
    for size in open_:
        terms = terms_of(size)
        if all(proven_non_negative(from_coefficients({monomial: 1})) for monomial, _ in terms):
            factors.update({monomial: max(factors.get(monomial, 0), factor) for monomial, factor in terms})
        else:
            others = others + size
    return from_coefficients(factors) + others
