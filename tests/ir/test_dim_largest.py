"""The largest of many sizes: exact while it is short, and never too small."""

from __future__ import annotations

import pytest

from stepwell.ir.dim_largest import largest
from stepwell.ir.dims import Dim, dim_max, evaluate, parse_dim, symbol

n, m = symbol("n"), symbol("m")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], "0"),
        ([3, 7, 5], "7"),
        ([4, n, 2 * n], "max(4, 2*n)"),
        ([n, m, n], "max(m, n)"),
        ([n, 2 * n + 1], "2*n + 1"),
    ],
)
def test_exact(sizes: list[Dim], expected: str) -> None:
    assert largest(sizes) == parse_dim(expected)


def test_a_text_too_long_becomes_a_sum() -> None:
    sizes = [3 * n + 5, 4 * m + n, 9]
    assert largest(sizes, longest=100) == dim_max(dim_max(9, 3 * n + 5), 4 * m + n)
    assert largest(sizes, longest=5) == 3 * n + 4 * m + 9


def test_more_sizes_than_could_nest() -> None:
    """Each maximum drops what its sizes share, so that they do not flatten into one."""
    sizes: list[Dim] = [((n + k) // (k + 2)) * 64 + 64 * ((m + 3 * k) // (k + 3)) for k in range(150)]
    found = largest(sizes)
    for values in ({"n": 0, "m": 0}, {"n": 1000, "m": 3}, {"n": 17, "m": 4000}):
        assert evaluate(found, values) >= max(int(evaluate(size, values)) for size in sizes)
