"""Inputs that do not fit each other, nor the model: each must end in an error before memory is touched outside."""

from __future__ import annotations

import math
import re
from random import Random
from typing import Any

import numpy as np

SIZES = (0, 1, 1, 2, 3, 4, 5, 7, 8, 16, 17, 33)
NUMBERS = (-100, -2, -1, 0, 1, 2, 5, 33)  # in place of indices and sizes
MOST_ELEMENTS = 1 << 18
OUTSIDE = re.compile(r"\b(?:buffer|vector|kernel)\.\w+: ")  # how the sanitizer's complaints begin


def misfit(value: Any, random: Random) -> Any:
    """A value of the same type: of other sizes, some of its integers being others."""
    if isinstance(value, (list, tuple)):
        return [misfit(item, random) for item in value if random.random() < 0.9]
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    array = np.asarray(value)
    shape = [random.choice(SIZES) if random.random() < 0.3 else size for size in array.shape]
    if math.prod(shape) <= MOST_ELEMENTS:
        array = np.resize(array, shape)
    if array.dtype.kind == "i" and random.random() < 0.5:
        array = array.copy()
        for place in range(array.size):
            if random.random() < 0.3:
                array.reshape(-1)[place] = random.choice(NUMBERS)
    return array


def leaves_memory(error: Exception) -> bool:
    """Whether the sanitizer is who complains: nothing else saw that an access is outside."""
    return OUTSIDE.search(str(error)) is not None
