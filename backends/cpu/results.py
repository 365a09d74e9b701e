"""Memory of results: what callers have dropped is used again.

The pages of new memory are made, and filled with zeros, when they are first written: for a model that answers with
megabytes, such as the keys and values of all positions, that takes longer than its work. A result's memory comes back
when no array shows any part of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.memory import Bytes, aligned_empty

Array = np.ndarray[Any, Any]

LEAST = 1 << 16
"""Bytes from which on memory is kept; the allocator has smaller pieces at hand."""
PARTS = 8
"""Sizes between two powers of two that count as different."""


class ResultMemory:
    """Gives memory for arrays. Keeps what is dropped, up to the bytes of one call's results."""

    def __init__(self) -> None:
        self._free: dict[int, list[Bytes]] = {}
        self._most = 0

    def arrays(self, kinds: Sequence[tuple[Sequence[int], np.dtype[Any]]], total: int) -> list[Array]:
        """Arrays of some shapes and element types, of `total` bytes, whose elements are arbitrary."""
        if total < LEAST:
            return [np.empty(shape, dtype) for shape, dtype in kinds]
        self._most = total + total // PARTS + LEAST
        return [self._array(shape, dtype) for shape, dtype in kinds]

    def _array(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        size = math.prod(shape) * dtype.itemsize
        if size < LEAST:
            return np.empty(shape, dtype)
        room = rounded(size)
        try:
            memory = self._free[room].pop()
        except (KeyError, IndexError):
            memory = aligned_empty((room,), np.dtype(np.uint8))
        return np.asarray(_Lease(self, memory))[:size].view(dtype).reshape(shape)

    def take_back(self, memory: Bytes) -> None:
        """Keep memory that is not used any more, where one call's results could need it; where that would be too much,
        what was kept before goes."""
        if len(memory) > self._most:
            return
        kept = sum(room * len(pieces) for room, pieces in list(self._free.items()))
        if kept + len(memory) > self._most:
            self._free = {}
        self._free.setdefault(len(memory), []).append(memory)


class _Lease:
    """Owns the memory of one array and of all views of it. NumPy keeps it as their base."""

    __slots__ = ("__array_interface__", "_giver", "_memory")

    def __init__(self, giver: ResultMemory, memory: Bytes) -> None:
        self._giver, self._memory = giver, memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        self._giver.take_back(self._memory)


def rounded(size: int) -> int:
    """Up to an eighth more, so that results that grow by a row from call to call find the memory of earlier ones."""
    step = max(1, (1 << (size.bit_length() - 1)) // PARTS)
    return -(-size // step) * step
