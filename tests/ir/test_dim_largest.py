"""The largest of many sums: exact while these are few, and never too small."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import pytest

from stepwell.ir.dim_largest import MOST, Maxima, largest
from stepwell.ir.dims import Dim, as_dim, dim_max, evaluate, parse_dim, symbol

n, m = symbol("n"), symbol("m")
POINT = {"n": 10, "m": 3}


def maxima_of(sizes: Sequence[Dim], most: int = MOST, point: Mapping[str, int] = POINT) -> Maxima:
    return Maxima(sizes, lambda size: [evaluate(size, point)], most)


def largest_by_sums(sizes: Sequence[Dim], most: int = MOST, point: Mapping[str, int] = POINT) -> Dim:
    maxima = maxima_of(sizes, most, point)
    return maxima.dim(maxima.largest([maxima.plus(maxima.zero, size) for size in sizes]))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], "0"),
        ([3, 7, 5], "7"),
        ([4, n, 2 * n], "max(4, 2*n)"),
        ([n, m, n], "max(m, n)"),
        ([n, 2 * n + 1], "2*n + 1"),
        ([n // 2, n // 16], "n//2"),
        ([n * m - m, n], "max(n, n*m - m)"),
        ([dim_max(0, n - 3), n], "n"),
    ],
)
def test_exact(sizes: list[Dim], expected: str) -> None:
    assert largest(sizes) == parse_dim(expected)
    assert largest_by_sums(sizes) == parse_dim(expected)


def test_sizes_are_added() -> None:
    maxima = maxima_of([n, 2 * m, 3])
    either = maxima.largest([maxima.plus(maxima.zero, n), maxima.plus(maxima.zero, 2 * m)])
    assert maxima.dim(maxima.plus(either, as_dim(3))) == dim_max(n, 2 * m) + 3
    assert maxima.dim(maxima.plus(maxima.plus(either, n), n)) == dim_max(3 * n, 2 * n + 2 * m)


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ({"n": 100, "m": 1}, "max(4*n + m, 2*n + 9*m)"),
        ({"n": 1, "m": 100}, "max(4*n + 3*m, 9*m)"),
    ],
)
def test_those_are_joined_that_matter_least(point: dict[str, int], expected: str) -> None:
    sizes = [4 * n + m, 2 * n + 3 * m, 9 * m]
    found = largest_by_sums(sizes, 2, point)
    assert found == parse_dim(expected)
    assert evaluate(found, point) == max(evaluate(size, point) for size in sizes)
    for a, b in product((0, 1, 5, 100), repeat=2):
        assert evaluate(found, {"n": a, "m": b}) >= max(evaluate(size, {"n": a, "m": b}) for size in sizes)


def test_one_sum_has_the_largest_factor_of_each_term() -> None:
    assert largest_by_sums([3 * n + 5, 4 * m + n, as_dim(9)], 1) == 3 * n + 4 * m + 9


@pytest.mark.parametrize("method", [largest, largest_by_sums])
def test_more_sums_than_could_nest(method: Callable[[Sequence[Dim]], Dim]) -> None:
    sizes: list[Dim] = [((n + k) // (k + 2)) * 64 + 64 * ((m + 3 * k) // (k + 3)) for k in range(150)]
    found = method(sizes)
    for values in ({"n": 0, "m": 0}, {"n": 1000, "m": 3}, {"n": 17, "m": 4000}):
        assert evaluate(found, values) >= max(int(evaluate(size, values)) for size in sizes)
