"""Arrays outside the IR: weights that are mapped or in memory, and what is computed from them when it is read.

    Blob("w", array)                        # has its array
    LazyBlob("w_scaled", (64, 32), make)    # makes it at every read, of others that are kept anyway
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stepwell.errors import IRError
from stepwell.memory import forget

Array = np.ndarray[Any, Any]


class Blob:
    """A named array that lives outside the IR text: a model's weights, memory-mapped or in memory; row-major and dense.

    `digest` is the BLAKE2b hash (16 bytes, hex) of its bytes in row-major order, computed once on demand."""

    __slots__ = ("_array", "_digest", "name")

    def __init__(self, name: str, array: Array) -> None:
        self.name = name
        self._array: Array | None = np.asanyarray(array, order="C")
        self._digest: str | None = None

    @property
    def array(self) -> Array:
        """The elements, for reading."""
        assert self._array is not None
        return self._array

    def fill(self, array: Array) -> None:
        """Give it an array, which it keeps."""
        self._array = np.asanyarray(array, order="C")

    @property
    def view(self) -> Array:
        """The elements where they lie, perhaps not row after row."""
        return self.array

    @property
    def size(self) -> int:
        """How many elements there are."""
        return self.array.size

    @property
    def digest(self) -> str:
        """The content hash."""
        if self._digest is None:
            data = self.array.reshape(-1)
            if data.dtype == object:
                raise IRError(f"resource {self.name!r} holds objects, which have no bytes")
            self._digest = hashlib.blake2b(data.view(np.uint8).data, digest_size=16).hexdigest()
        return self._digest


class LazyBlob(Blob):
    """An array that is made whenever it is read, and kept by its readers alone.

    What stands in the IR between the weights that came in and those that machine code reads is read once, where the
    latter are made; until then it would be one more copy of the model. `make` gives the array, always the same one; it
    must not fail. Filled with an array, it is as any other."""

    __slots__ = ("_make", "_shape")

    def __init__(self, name: str, shape: tuple[int, ...], make: Callable[[], Array]) -> None:
        self.name = name
        self._array = None
        self._digest = None
        self._shape = shape
        self._make = make

    @property
    def array(self) -> Array:
        made = self.view
        dense = np.asanyarray(made, order="C")
        if dense is not made:
            forget(made)
        return dense

    @property
    def view(self) -> Array:
        if self._array is not None:
            return self._array
        made = self._make()
        if made.shape != self._shape:
            raise IRError(f"resource {self.name!r} was made as {list(made.shape)}, not {list(self._shape)}")
        return made

    @property
    def size(self) -> int:
        return math.prod(self._shape)
