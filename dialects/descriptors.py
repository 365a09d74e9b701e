"""What a program writes for its caller of memory that it asked for itself: words that say where it is and how large."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

SEGMENT_WORDS = 2
"""Words of the heap's table for each segment: its address, its capacity in bytes."""


def read_descriptor(words: Any, dtype: np.dtype[Any]) -> Any:
    """The array that a descriptor (address, dims) tells of, in memory of its own."""
    address, *shape = (int(word) for word in words)
    array = np.empty(shape, dtype)
    if array.nbytes:
        ctypes.memmove(array.ctypes.data, address, math.prod(shape) * dtype.itemsize)
    return array
