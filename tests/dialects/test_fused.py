"""The fused multiply-add against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from stepwell.dialects.fused import fused_multiply_add

INF, NAN, TINY = np.inf, np.nan, 5e-324


def exact(a: float, b: float, c: float) -> float:
    total = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        return float(total)
    except OverflowError:
        return INF if total > 0 else -INF


def assert_exact(a: Any, b: Any, c: Any) -> None:
    finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    a, b, c = a[finite], b[finite], c[finite]
    wanted = [exact(*map(float, row)) for row in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(fused_multiply_add(a, b, c), wanted)


def test_random_bits_round_once() -> None:
    a, b, c = np.random.default_rng(1).integers(0, 1 << 64, (3, 2000), dtype=np.uint64).view(np.float64)
    assert_exact(a, b, c)


def test_cancellation_keeps_the_product_s_error() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 2000))
    assert_exact(a, b, -(a * b) * (1 + rng.integers(-3, 3, 2000) * 2.0**-52))


@pytest.mark.parametrize(
    ("operands", "expected"),
    [
        ((0.0, 1.0, -0.0), 0.0), ((-0.0, 1.0, -0.0), -0.0), ((1.0, 1.0, -1.0), 0.0), ((2.0, 3.0, 0.0), 6.0),
        ((1e308, 10.0, -INF), -INF), ((1e308, 10.0, 1e308), INF), ((1e308, 10.0, -1e308), INF),
        ((0.0, INF, 1.0), NAN), ((INF, 1.0, -INF), NAN), ((NAN, 1.0, 1.0), NAN), ((INF, -1.0, 5.0), -INF),
        ((TINY, TINY, 0.0), 0.0), ((TINY, TINY, TINY), TINY), ((TINY, 1.0, TINY), 2 * TINY),
    ],
)  # fmt: skip
def test_special_operands(operands: tuple[float, ...], expected: float) -> None:
    made = fused_multiply_add(*map(np.float64, operands))
    np.testing.assert_array_equal(made, expected)
    if not np.isnan(expected):
        assert np.signbit(made) == np.signbit(expected)


def test_narrow_operands_keep_the_whole_product() -> None:
    a = np.float32(1 + 2.0**-23)
    assert np.float32(fused_multiply_add(a, a, np.float32(-1 - 2.0**-22))) == np.float32(2.0**-46)
