"""The largest of many sizes, or of many sums of sizes, as one expression that stays short."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from stepwell.errors import IRError
from stepwell.ir.dim_nodes import extreme
from stepwell.ir.dim_poly import Dim, from_coefficients, terms_of
from stepwell.ir.dims import proven_non_negative

Sum: TypeAlias = tuple[int, ...]
"""Coefficients, of each term one."""

Maximum: TypeAlias = tuple[Sum, ...]
"""The largest of some sums, none of which is as large as another in every term."""

MOST = 16  # sums of a maximum; nine were the most that a model needed


class Maxima:
    """Maxima of sums of the given `sizes`, which are never negative, each of at most so many sums.

    More than that become fewer that are no smaller: two are joined, term by term, and those two are taken whose join
    exceeds the maximum the least `at` the places that matter; `at` tells a size's values there.

        max(4*n + m, 2*n + 3*m, k)  ->  max(4*n + 3*m, k)    where n is much larger than m, or k than both"""

    def __init__(self, sizes: Iterable[Dim], at: Callable[[Dim], Sequence[int]], most: int = MOST) -> None:
        self._most = most
        self._sums: dict[Dim, dict[Dim, int]] = {}
        for size in sizes:
            if size not in self._sums:
                self._sums[size] = _non_negative_terms(size)
        self._terms = list(dict.fromkeys(term for sum_ in self._sums.values() for term in sum_))
        self._values = list(zip(*(at(term) for term in self._terms), strict=True))
        self.zero: Maximum = ((0,) * len(self._terms),)

    def plus(self, maximum: Maximum, size: Dim) -> Maximum:
        """A maximum with one of the sizes added to it."""
        sum_ = self._sums[size]
        added = [sum_.get(term, 0) for term in self._terms]
        return tuple(tuple(a + b for a, b in zip(one, added, strict=True)) for one in maximum)

    def largest(self, maxima: Iterable[Maximum]) -> Maximum:
        """The largest of some maxima, and of 0, or a little more."""
        found = self.zero
        for maximum in maxima:
            found = self._fewer(_undominated(found + maximum), self._most)
        return found

    def dim(self, maximum: Maximum) -> Dim:
        """A maximum as an expression, of fewer sums where one of all would be larger than expressions may be. Raises
        IRError where that of one sum is."""
        try:
            return extreme("max", [self._dim(one) for one in maximum])
        except IRError:
            if len(maximum) == 1:
                raise
            return self.dim(self._fewer(maximum, len(maximum) // 2))

    def _dim(self, one: Sum) -> Dim:
        total: Dim = 0
        for term, factor in zip(self._terms, one, strict=True):
            total = total + term * factor
        return total

    def _fewer(self, sums: Maximum, most: int) -> Maximum:
        """Joins two sums after another, as long as there are more than so many."""
        heights: dict[tuple[Sum, Sum], Sequence[int]] = {}
        while len(sums) > most:
            at = {one: self._at(one) for one in sums}
            tops = [max(1, *column) for column in zip(*at.values(), strict=True)]
            pairs = list(itertools.combinations(sums, 2))
            for pair in pairs:
                if pair not in heights:
                    heights[pair] = self._at(_joined(*pair))
            one, other = min(pairs, key=lambda pair: _excess(heights[pair], at[pair[0]], at[pair[1]], tops))
            sums = _undominated((*(left for left in sums if left not in (one, other)), _joined(one, other)))
        return sums

    def _at(self, one: Sum) -> Sequence[int]:
        return [sum(a * b for a, b in zip(one, values, strict=True)) for values in self._values]


def _excess(join: Sequence[int], one: Sequence[int], other: Sequence[int], tops: Sequence[int]) -> tuple[float, float]:
    """How far a join of two sums exceeds the maximum, where it does so the most, and how far it exceeds the two."""
    beyond = max(map(operator.truediv, join, tops), default=0.0)
    return max(1.0, beyond), sum(high / max(1, a, b) for high, a, b in zip(join, one, other, strict=True))


def largest(sizes: Sequence[Dim]) -> Dim:
    """The maximum of sizes, none of which is negative, and of 0; where no expression can be so large, a sum that is no
    smaller.

        largest([4, n, 2 * n])     # max(4, 2*n)"""
    try:
        return extreme("max", [0, *dict.fromkeys(sizes)])
    except IRError:
        maxima = Maxima(sizes, lambda size: (), most=1)
        return maxima.dim(maxima.largest(maxima.plus(maxima.zero, size) for size in sizes))


def _non_negative_terms(size: Dim) -> dict[Dim, int]:
    """A size as a sum of multiples of terms that are never negative: its monomials, or itself."""
    terms = {from_coefficients({monomial: 1}): factor for monomial, factor in terms_of(size)}
    return terms if all(map(proven_non_negative, terms)) else {size: 1}


def _undominated(sums: Maximum) -> Maximum:
    """Sums without those that another one is as large as in every term."""
    kept: list[Sum] = []
    for one in sorted(set(sums), reverse=True):
        if not any(all(a >= b for a, b in zip(other, one, strict=True)) for other in kept):
            kept.append(one)
    return tuple(kept)


def _joined(one: Sum, other: Sum) -> Sum:
    return tuple(map(max, one, other))
