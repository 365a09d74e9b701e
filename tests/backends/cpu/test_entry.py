from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from stepwell.backends.cpu import jit
from stepwell.backends.cpu.entry import ALIGNMENT, Argument, NativeEntry, aligned_bytes, new_scratch
from stepwell.backends.cpu.team import Team

VECTOR = Argument(np.int64, ("n",))
Array = np.ndarray[Any, Any]


def memory() -> tuple[Array, Array]:
    return aligned_bytes(4096), new_scratch(64)


def test_copy(programs: jit.Code) -> None:
    entry = NativeEntry(programs, "copy", [VECTOR], [VECTOR])
    for size in (0, 1, 100):
        x, y = np.arange(size), np.zeros(size, np.int64)
        assert entry.call(x, y, *memory()) is None
        assert y.tolist() == x.tolist()


def test_slots_hold_dimensions_stride_and_scratch_of_each_thread(programs: jit.Code) -> None:
    Team.get(threads=4)
    inputs = [Argument(np.float32, ("a", "b")), Argument(np.float32, ("b",))]
    entry = NativeEntry(programs, "slots", inputs, [Argument(np.int64, (8,))])
    out = np.zeros(8, np.int64)
    assert (
        entry.call(np.zeros((2, 3), np.float32), np.zeros(3, np.float32), out, aligned_bytes(0), new_scratch(100))
        is None
    )
    assert out.tolist() == [2, 3, 3, 128, 1, 2, 3, 4]


def test_constants_stay_alive_and_reach_the_program(programs: jit.Code) -> None:
    constants = [np.array([5]), np.array([10, 20, 30])]
    entry = NativeEntry(programs, "sum_const", [], [Argument(np.int64, (1,))], constants)
    del constants
    gc.collect()
    out = np.zeros(1, np.int64)
    assert entry.call(out, *memory()) is None
    assert out.tolist() == [35]


def unaligned(count: int) -> Array:
    return np.zeros(8 * count + 1, np.uint8)[1:].view(np.int64)


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([1, 2, 3], "it is a list, not a numpy.ndarray"),
        (None, "it is a NoneType"),
        (np.int64(3), "it is a int64"),
        (np.zeros(3, np.int64).view(type("Sub", (np.ndarray,), {})), "it is a Sub"),
        (np.zeros(3, np.float64), "its element type is float64, not int64"),
        (np.zeros(3, np.uint64), "its element type is uint64, not int64"),
        (np.zeros(3, np.dtype(np.int64).newbyteorder()), "its bytes are swapped"),
        (np.zeros((3, 1), np.int64), "it has 2 dimensions, not 1"),
        (np.zeros((), np.int64), "it has 0 dimensions, not 1"),
        (np.zeros(6, np.int64)[::2], "it is not C-contiguous"),
        (np.zeros(3, np.int64)[::-1], "it is not C-contiguous"),
        (unaligned(3), "its data is not aligned to 8 bytes"),
    ],
)
def test_an_input_that_does_not_fit_is_named_by_its_index(programs: jit.Code, value: Any, why: str) -> None:
    entry = NativeEntry(programs, "copy", [VECTOR], [VECTOR])
    out = np.full(3, 7)
    assert entry.call(value, out, *memory()) == 0
    assert out.tolist() == [7, 7, 7]
    assert (VECTOR.mismatch(value) or "").startswith(why)


@pytest.mark.parametrize(
    ("shape", "fits"), [((2, 3, 4), True), ((2, 3, 9), True), ((2, 5, 4), False), ((9, 3, 4), False), ((2, 3), False)]
)
def test_static_and_free_dimensions(programs: jit.Code, shape: tuple[int, ...], fits: bool) -> None:
    argument = Argument(np.float32, (2, 3, None))
    entry = NativeEntry(programs, "fails", [argument], [])
    value = np.zeros(shape, np.float32)
    assert entry.call(value, *memory()) == ((9, -1, 0) if fits else 0)
    assert (argument.mismatch(value) is None) == fits


def test_dimensions_with_one_name_must_agree(programs: jit.Code) -> None:
    inputs = [Argument(np.float32, ("a", "b")), Argument(np.float32, ("b",))]
    entry = NativeEntry(programs, "slots", inputs, [Argument(np.int64, (8,))])
    out = np.zeros(8, np.int64)
    x = np.zeros((2, 3), np.float32)
    assert entry.call(x, np.zeros(4, np.float32), out, *memory()) == 1
    square = NativeEntry(programs, "fails", [Argument(np.float32, ("a", "a"))], [])
    assert square.call(x, *memory()) == 0
    assert square.call(np.zeros((3, 3), np.float32), *memory()) == (9, -1, 0)


@pytest.mark.parametrize(
    ("out", "arena", "scratch", "index"),
    [
        (read_only(np.zeros(3, np.int64)), aligned_bytes(64), new_scratch(64), 1),
        (np.zeros(4, np.int64), aligned_bytes(64), new_scratch(64), 1),
        (np.zeros(3, np.int64), read_only(aligned_bytes(64)), new_scratch(64), 2),
        (np.zeros(3, np.int64), aligned_bytes(64)[8:], new_scratch(64), 2),
        (np.zeros(3, np.int64), aligned_bytes(64).view(np.int8), new_scratch(64), 2),
        (np.zeros(3, np.int64), 0, new_scratch(64), 2),
        (np.zeros(3, np.int64), aligned_bytes(64), aligned_bytes(64), 3),
        (np.zeros(3, np.int64), aligned_bytes(64), None, 3),
    ],
)
def test_outputs_arena_and_scratch_are_checked(
    programs: jit.Code, out: Any, arena: Any, scratch: Any, index: int
) -> None:
    entry = NativeEntry(programs, "copy", [VECTOR], [VECTOR])
    assert entry.call(np.zeros(3, np.int64), out, arena, scratch) == index


def test_read_only_inputs_are_fine(programs: jit.Code) -> None:
    entry = NativeEntry(programs, "copy", [VECTOR], [VECTOR])
    out = np.zeros(2, np.int64)
    assert entry.call(read_only(np.array([1, 2])), out, *memory()) is None
    assert out.tolist() == [1, 2]


def test_scratch_for_too_few_threads_is_refused(programs: jit.Code) -> None:
    entry = NativeEntry(programs, "copy", [VECTOR], [VECTOR])
    x, out = np.array([1, 2]), np.zeros(2, np.int64)
    Team.get(threads=2)
    small = new_scratch(64)
    Team.get(threads=3)
    assert entry.call(x, out, aligned_bytes(0), small) == 3
    assert entry.call(x, out, aligned_bytes(0), new_scratch(64)) is None
    assert (
        NativeEntry(programs, "copy", [VECTOR], [VECTOR], parallel=False).call(x, out, aligned_bytes(0), small[:1])
        is None
    )


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_a_wrong_number_of_arguments(programs: jit.Code, count: int) -> None:
    entry = NativeEntry(programs, "copy", [VECTOR], [VECTOR])
    with pytest.raises(TypeError, match="wrong number of arguments"):
        entry.call(*[np.zeros(3, np.int64)] * count)


@pytest.mark.parametrize(
    "dtype",
    [
        np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float16,
        np.float32, np.float64, np.complex64, np.complex128,
        ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.int4, ml_dtypes.uint4,
    ],
)  # fmt: skip
def test_every_element_type_is_told_from_the_others(programs: jit.Code, dtype: Any) -> None:
    entry = NativeEntry(programs, "fails", [Argument(dtype, (None,))], [])
    assert entry.call(np.zeros(4, dtype), *memory()) == (9, -1, 0)
    other = np.int16 if np.dtype(dtype) != np.int16 else ml_dtypes.bfloat16
    assert entry.call(np.zeros(4, other), *memory()) == 0


def test_reports_reach_the_caller_and_stop_the_program(programs: jit.Code) -> None:
    entry = NativeEntry(programs, "check", [VECTOR], [VECTOR])
    for threads in (1, 2, 3):
        Team.get(threads=threads)
        out = np.zeros(100, np.int64)
        bad = np.ones(100, np.int64)
        bad[63] = -1
        assert entry.call(bad, out, *memory()) == (7, 42, 63)
        assert not out.any()
        assert entry.call(np.ones(100, np.int64), out, *memory()) is None
        assert out.all()


def test_one_of_several_reports_wins_whole(programs: jit.Code) -> None:
    entry = NativeEntry(programs, "check", [VECTOR], [VECTOR])
    Team.get(threads=3)
    answer = entry.call(np.full(1000, -5), np.zeros(1000, np.int64), *memory())
    assert isinstance(answer, tuple)
    assert answer[:2] == (7, 42)
    assert 0 <= answer[2] < 1000


def test_references_are_balanced(programs: jit.Code) -> None:
    entry = NativeEntry(programs, "copy", [VECTOR], [VECTOR])
    x, out, (arena, scratch) = np.arange(3), np.zeros(3, np.int64), memory()
    before = [sys.getrefcount(value) for value in (x, out, arena, scratch)]
    none = sys.getrefcount(None)
    for _ in range(2000):
        entry.call(x, out, arena, scratch)
        entry.call(x, None, arena, scratch)
    assert [sys.getrefcount(value) for value in (x, out, arena, scratch)] == before
    assert abs(sys.getrefcount(None) - none) < 500


def test_the_function_alone_keeps_the_code_alive(programs: jit.Code) -> None:
    constant = np.array([5, 6, 7])
    alive = weakref.ref(constant)
    entry = NativeEntry(programs, "sum_const", [], [Argument(np.int64, (1,))], [constant, constant])
    function = entry.call
    del entry, constant
    gc.collect()
    out = np.zeros(1, np.int64)
    assert function(out, *memory()) is None
    assert out.tolist() == [12]
    del function
    gc.collect()
    assert alive() is None


def test_aligned_memory() -> None:
    for size in (0, 1, 64, 1000):
        made = aligned_bytes(size)
        assert made.size >= max(size, 1)
        assert made.ctypes.data % ALIGNMENT == 0
    assert new_scratch(65).shape == (Team.get().size, 128)
