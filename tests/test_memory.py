"""Memory for weights: aligned, with pages of its own where it is large, and never mistaken for a mapped file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stepwell import memory


@pytest.mark.parametrize("count", [0, 1, 1000, memory.LARGE // 4, memory.HUGE // 4 + 3])
def test_copies_are_aligned_and_stay_as_they_are(count: int) -> None:
    source = np.arange(2 * count, dtype=np.float32).reshape(count, 2).T
    made = memory.aligned_copy(source)
    assert made.ctypes.data % memory.ALIGNMENT == 0 or not count  # NumPy tells no address of what is empty
    assert made.flags.c_contiguous and made.flags.writeable
    assert not memory.is_mapped(made)
    memory.forget(made)  # lets go of pages of files alone
    np.testing.assert_array_equal(made, source)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_parts_of_mapped_files_are_copied(
    axes: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "PART", 1 << 14)
    numbers = np.arange(33 * 40 * 50, dtype=np.float32)
    path = tmp_path / "weights.bin"
    path.write_bytes(b"header" * 2 + numbers.tobytes())
    with path.open("rb") as file:
        mapped = memory.map_file(file.fileno(), path.stat().st_size)
    source = mapped[12:].view(np.float32).reshape(33, 40, 50).transpose(axes)
    assert memory.is_mapped(source)
    made = memory.aligned_copy(source)
    assert not memory.is_mapped(made)
    np.testing.assert_array_equal(made, numbers.reshape(33, 40, 50).transpose(axes))
    np.testing.assert_array_equal(source, made)  # what was given back is read again


def test_new_memory_of_any_shape() -> None:
    made = memory.aligned_empty([3, 0, 2], np.dtype(np.float64))
    assert made.shape == (3, 0, 2) and made.dtype == np.float64
