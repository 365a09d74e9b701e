"""What counts as a difference between two engines' outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.compare import difference

NAN, INF = np.nan, np.inf


def f32(*values: float) -> list[Any]:
    return [np.array(values, np.float32)]


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ([], []),
        (f32(), f32()),
        (f32(1.0, NAN, INF, -INF), f32(1.0, NAN, INF, -INF)),
        (f32(1000.0, 0.0), f32(1000.9, 0.00009)),
        ([np.array([True, False])], [np.array([True, False])]),
        ([np.array([2**40, 7])], [np.array([2**40, 7])]),
        ([np.array(["a", "b"], object)], [np.array(["a", "b"], object)]),
    ],
)
def test_same(expected: list[Any], actual: list[Any]) -> None:
    assert difference(expected, actual) is None


@pytest.mark.parametrize(
    ("expected", "actual", "words"),
    [
        (f32(1.0), [], "0 outputs instead of 1"),
        (f32(1.0), f32(1.0, 2.0), "output 0: float32[2] instead of float32[1]"),
        (f32(1.0), [np.array([1.0])], "output 0: float64[1] instead of float32[1]"),
        (f32(NAN, 1.0), f32(1.0, 1.0), "output 0: NaN in 1 of 2 places that do not match"),
        (f32(INF, INF, 1.0), f32(-INF, 2.0, 1.0), "output 0: Inf in 2 of 3 places that do not match"),
        (f32(1.0), f32(INF), "output 0: Inf in 1 of 1 places that do not match"),
        (f32(1.0, 2.0, 3.0), f32(1.0, 2.0, 3.5), "output 0: 1 of 3 values, by 0.5 at most"),
        (f32(0.0), f32(0.0002), "output 0: 1 of 1 values, by 0.0002 at most"),
        (f32(1.0) + f32(1.0), f32(1.0) + f32(2.0), "output 1: 1 of 1 values, by 1 at most"),
        ([np.array([True, False])], [np.array([True, True])], "output 0: 1 of 2 values"),
    ],
)
def test_different(expected: list[Any], actual: list[Any], words: str) -> None:
    assert difference(expected, actual) == words
