"""What counts as a different result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stepwell.check import difference
from stepwell.check.compare import Arithmetic, distance

ONES = np.ones(4, np.float32)


@pytest.mark.parametrize(
    ("change", "accumulation", "message"),
    [
        (lambda a: a, 1, None),
        (lambda a: a * np.float32(1 + 1e-6), 1, None),
        (lambda a: a * np.float32(1 + 1e-4), 1, "largest error"),
        (lambda a: a * np.float32(1 + 1e-4), 10_000, None),
        (lambda a: np.where(np.arange(4) == 1, np.float32(np.nan), a), 1, "NaN"),
        (lambda a: np.where(np.arange(4) == 1, np.float32(np.inf), a), 1, "NaN or inf"),
        (lambda a: a[:3], 1, r"float32\[4\] became float32\[3\]"),
        (lambda a: a.astype(np.float64), 1, r"became float64\[4\]"),
    ],
)
def test_differences(change: Callable[..., np.ndarray], accumulation: int, message: str | None) -> None:  # type: ignore[type-arg]
    found = difference(ONES, change(ONES), Arithmetic(accumulation))
    assert found is None if message is None else found is not None and message.replace("\\", "") in found


def test_integers_are_compared_exactly_whatever_their_sign() -> None:
    a = np.array([200, 1], np.uint8)
    assert difference(a, a.view(np.int8), Arithmetic(1)) is None
    assert difference(a, a + np.uint8(1), Arithmetic(1000)) == "2 of 2 elements differ"


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [
        (np.array([-128, 127], np.int8), np.array([127, -128], np.int8), [255, 255]),
        (np.array(-(2**63)), np.array(2**63 - 1), 2.0**64),
        (np.array([1, 2], np.uint8), np.array([-1, 2], np.int8), [254, 0]),
        (np.array([True, False]), np.array([False, False]), [1, 0]),
        (np.array(["stop", "!"], object), np.array(["stop", "?"], object), [0, 1]),
        (np.array([1.5], np.float16), np.array([-0.5], np.float16), [2]),
    ],
)
def test_distances(a: np.ndarray, b: np.ndarray, apart: object) -> None:  # type: ignore[type-arg]
    np.testing.assert_array_equal(distance(a, b), apart)


def test_special_values_at_the_same_places_agree() -> None:
    a = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    assert difference(a, a.copy(), Arithmetic(1)) is None
    assert difference(a[:3], a[:3].copy(), Arithmetic(1)) is None
    assert difference(a, np.array([np.nan, -np.inf, -np.inf, 1], np.float32), Arithmetic(1)) is not None


@pytest.mark.parametrize(("before", "after"), [(0.0, np.nan), (np.inf, 2.0), (np.nan, 0.0), (0.0, 0.5)])
def test_products_may_leave_their_type_on_the_way(before: float, after: float) -> None:
    """1e-30 * 1e30 * 1e30 is 1e30, but infinite where the last two come first; times 0 that is NaN."""
    a, b = np.array([before, 1], np.float32), np.array([after, 1], np.float32)
    assert difference(a, b, Arithmetic(3, multiplies=True)) is None
    assert difference(a, a + np.float32([0, 0.5]), Arithmetic(3, multiplies=True)) is not None
    assert difference(a, b, Arithmetic(3)) is not None
