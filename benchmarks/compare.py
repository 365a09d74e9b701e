"""Whether two engines computed the same: element types and shapes, then NaN, then Inf, then a tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

RTOL, ATOL = 1e-3, 1e-4


def _one_difference(expected: npt.NDArray[Any], actual: npt.NDArray[Any], rtol: float, atol: float) -> str | None:
    if expected.dtype != actual.dtype or expected.shape != actual.shape:
        return f"{actual.dtype}{list(actual.shape)} instead of {expected.dtype}{list(expected.shape)}"
    if not np.issubdtype(expected.dtype, np.number):
        wrong = int(np.count_nonzero(expected != actual))
        return f"{wrong} of {expected.size} values" if wrong else None
    wide = np.complex128 if np.issubdtype(expected.dtype, np.complexfloating) else np.float64
    left, right = expected.astype(wide), actual.astype(wide)
    if wrong := int(np.count_nonzero(np.isnan(left) != np.isnan(right))):
        return f"NaN in {wrong} of {left.size} places that do not match"
    infinite = np.isinf(left) | np.isinf(right)
    if wrong := int(np.count_nonzero(left[infinite] != right[infinite])):
        return f"Inf in {wrong} of {left.size} places that do not match"
    finite = np.isfinite(left)
    error = np.abs(left[finite] - right[finite])
    wrong = int(np.count_nonzero(error > atol + rtol * np.abs(left[finite])))
    return f"{wrong} of {left.size} values, by {error.max():.2g} at most" if wrong else None


def difference(
    expected: Sequence[npt.NDArray[Any]],
    actual: Sequence[npt.NDArray[Any]],
    rtol: float = RTOL,
    atol: float = ATOL,
) -> str | None:
    """What sets `actual` apart from `expected`, in words, or None.

    Two finite values are the same when `|a - e| <= atol + rtol * |e|`; NaN and Inf must stand in the same places,
    Inf with the same sign. Values that are not numbers must be equal.
    """
    if len(expected) != len(actual):
        return f"{len(actual)} outputs instead of {len(expected)}"
    for index, (left, right) in enumerate(zip(expected, actual, strict=True)):
        if found := _one_difference(np.asarray(left), np.asarray(right), rtol, atol):
            return f"output {index}: {found}"
    return None
