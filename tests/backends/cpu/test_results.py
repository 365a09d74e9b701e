"""Memory of results, used again when it was dropped."""

from __future__ import annotations

import gc
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import stepwell
from stepwell.backends.cpu.results import LEAST, ResultMemory, rounded
from stepwell.dialects.graph.elementwise import NegOp
from tests.lowering.to_tensor.descent import M, N, graph_module, tensor

F32 = np.dtype(np.float32)


def made(memory: ResultMemory, *counts: int, dtype: np.dtype[Any] = F32) -> list[Any]:
    return memory.arrays([((count,), dtype) for count in counts], sum(counts) * dtype.itemsize)


def place(array: Any) -> int:
    return int(array.ctypes.data)


def test_what_was_dropped_is_used_again() -> None:
    memory = ResultMemory()
    (first,) = made(memory, LEAST)
    where = place(first)
    del first
    (second,) = made(memory, LEAST)
    assert place(second) == where
    (third,) = made(memory, LEAST)
    assert place(third) != where


def test_a_view_keeps_the_memory() -> None:
    memory = ResultMemory()
    (first,) = made(memory, LEAST)
    where, part = place(first), first.reshape(2, -1)[1, ::2]
    part[...] = 7
    del first
    (second,) = made(memory, LEAST)
    second[...] = 0
    assert place(second) != where
    assert (part == 7).all()
    del part
    (third,) = made(memory, LEAST)
    assert place(third) == where


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.complex128, ml_dtypes.bfloat16, np.bool_])
def test_arrays_of_any_element_type(dtype: Any) -> None:
    (array,) = ResultMemory().arrays([((3, LEAST), np.dtype(dtype))], 3 * LEAST * np.dtype(dtype).itemsize)
    assert (array.shape, array.dtype) == ((3, LEAST), dtype)
    assert array.flags.c_contiguous and array.flags.writeable
    assert place(array) % 64 == 0


def test_sizes_that_grow_find_the_memory_of_smaller_ones() -> None:
    memory, places = ResultMemory(), set()
    for rows in range(1000, 1010):
        (array,) = made(memory, rows * 1024)
        places.add(place(array))
        del array
    assert len(places) <= 2


def test_what_is_kept_is_bounded() -> None:
    memory = ResultMemory()
    for count in (1 << 20, 1 << 19, 1 << 18):
        arrays = made(memory, count, count, count)
        del arrays
    kept = sum(size * len(pieces) for size, pieces in memory._free.items())
    assert kept <= 3 * rounded(4 << 18) + LEAST


def test_what_is_larger_than_a_calls_results_is_not_kept() -> None:
    memory = ResultMemory()
    (large,) = made(memory, 1 << 22)
    (small,) = made(memory, LEAST)
    del large, small
    assert [size for size, pieces in memory._free.items() if pieces] == [rounded(4 * LEAST)]


@pytest.mark.parametrize("size", [1, 63, LEAST, LEAST + 1, (1 << 24) - 1, 5 << 30])
def test_rounding(size: int) -> None:
    assert size <= rounded(size) <= size * 9 / 8 + 1
    assert rounded(rounded(size)) == rounded(size)


def test_results_of_calls_do_not_share_memory_while_they_live() -> None:
    model = stepwell.compile(graph_module([tensor(N, M)], lambda x: NegOp(x)), threads=1)
    x = np.ones((300, 400), np.float32)
    kept = [model(x * n) for n in range(4)]
    for n, array in enumerate(kept):
        assert (array == -n).all()
    row = model(x * 9)[5]
    gc.collect()
    model(x)
    assert (row == -9).all()
