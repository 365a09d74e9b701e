"""The heap of a call, from Python's side: the table of segments, and results that lie in them."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np

from stepwell.dialects.descriptors import SEGMENT_WORDS

from . import native

Array = np.ndarray[Any, Any]


class Heap:
    """Makes tables of segments."""

    @staticmethod
    def of(segments: int) -> Array:
        """An int64 array [segments, 2] of (address, capacity): empty at first, grown by calls, and freed with the
        array."""
        table = np.zeros((segments, SEGMENT_WORDS), np.int64)
        keeper = np.frombuffer(table, np.int64).reshape(table.shape)
        release = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(native.code().address("sw_release"))
        weakref.finalize(keeper, _free, release, table)
        return keeper


def _free(release: Any, table: Array) -> None:
    release(table.ctypes.data, len(table))
