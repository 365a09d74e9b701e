"""How the oracle computes: in which NumPy element type sums are accumulated, and how results are rounded once."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array


def accumulation_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The element type in which values of `dtype` are summed: f32 for narrower floats, else the type itself."""
    narrow = dtype.kind in "fV" and dtype.itemsize < 4
    return np.dtype(np.float32) if narrow else dtype


def widened(array: Any) -> Array:
    """The array in the type in which its values are summed."""
    given: Array = np.asarray(array)
    return given.astype(accumulation_dtype(given.dtype), copy=False)


def rounded(array: Any, dtype: np.dtype[Any]) -> Array:
    """The array in its result type, rounded once; integers wrap."""
    with np.errstate(all="ignore"):
        return np.asarray(array).astype(dtype, copy=False)
