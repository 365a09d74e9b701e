"""Element types, shapes and small arrays for drawn graphs.

Floats are multiples of a quarter, so that sums and products of a few are exact in every type: what differs then,
differs for another reason than rounding."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from onnx import TensorProto, helper

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

FLOATS = ("float", "double", "float16", "bfloat16")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
ELEMENTS = (*FLOATS, *SIGNED, *UNSIGNED, "bool")
WEIGHTS = {"float": 12, "int64": 3, "float16": 3, "double": 3, "bfloat16": 2, "int32": 2, "bool": 2}

DIMS = (1, 1, 2, 2, 3, 3, 4, 5, 7, 8, 16, 17, 33)
MOST = 4096  # elements of a value

NUMBERS = {name: getattr(TensorProto, name.upper()) for name in ELEMENTS}
DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(helper.tensor_dtype_to_np_dtype(number)) for name, number in NUMBERS.items()
}
ELEMENT_OF = {dtype: name for name, dtype in DTYPES.items()}


def is_float(array: Array) -> bool:
    """Whether an array holds floats, bf16 among them."""
    return ELEMENT_OF.get(array.dtype) in FLOATS


def draw_element(random: Random, allowed: Sequence[str]) -> str:
    """One of the element types, common ones more often."""
    return random.choices(allowed, [WEIGHTS.get(name, 1) for name in allowed])[0]


def draw_shape(random: Random, ranks: Sequence[int], most: int = MOST // 4) -> Shape:
    """A shape of one of the ranks; seldom with a dim of 0."""
    rank = random.choice(list(ranks))
    shape: list[int] = []
    for _ in range(rank):
        room = most // max(1, int(np.prod(shape)))
        shape.append(random.choice([dim for dim in DIMS if dim <= max(room, 1)]))
    if shape and random.random() < 0.03:
        shape[random.randrange(rank)] = 0
    return tuple(shape)


def broadcastable(random: Random, shape: Sequence[int]) -> Shape:
    """A shape that broadcasts to another: some dims are 1, leading ones may be missing."""
    dims = [1 if random.random() < 0.25 else dim for dim in shape]
    return tuple(dims[random.randrange(len(dims) + 1) :] if random.random() < 0.3 else dims)


# What an array is for -> the least and the largest of its elements.
RANGES: dict[str, tuple[float, float]] = {
    "scale": (0.25, 2), "above one": (1, 4), "positive": (0.25, 4), "recurrent": (-0.25, 0.25), "unit": (-1, 1),
    "weight": (-1, 1), "any": (-4, 4),
}  # fmt: skip


def kind_of(array: Array) -> str:
    """A purpose that a drawn array of floats may have been drawn for: the first whose range it keeps."""
    wide = array.astype(np.float64)
    fitting = (kind for kind, (low, high) in RANGES.items() if np.all((low <= wide) & (wide <= high)))
    return next(fitting, "any")


def draw_array(random: Random, element: str, shape: Sequence[int], kind: str = "any") -> Array:
    """An array for a purpose (of RANGES). Seldom, arrays for any purpose have NaN, infinities, -0 or the extremes of
    their type."""
    numbers = np.random.default_rng(random.getrandbits(64))
    dtype = DTYPES[element]
    if element == "bool":
        return np.asarray(numbers.integers(0, 2, shape)).astype(bool)
    low, high = RANGES[kind]
    if element in FLOATS:
        found = np.asarray(numbers.integers(round(low * 4), round(high * 4) + 1, shape) / 4).astype(dtype)
        extremes: list[Any] = [np.nan, np.inf, -np.inf, -0.0]
    else:
        least = 0 if element in UNSIGNED else -9
        found = np.asarray(numbers.integers(1 if low > 0 else least, 10, shape)).astype(dtype)
        extremes = [np.iinfo(dtype).min, np.iinfo(dtype).max]
    if kind == "any" and found.size and random.random() < 0.06:
        flat = found.reshape(-1)
        for _ in range(random.randint(1, 3)):
            flat[random.randrange(flat.size)] = dtype.type(random.choice(extremes))
    return found


def integers(values: Any, element: str = "int64") -> Array:
    """An array of integers: axes, sizes, starts."""
    return np.array(values, DTYPES[element])
