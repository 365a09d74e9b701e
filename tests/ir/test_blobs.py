"""Arrays outside the IR: those that are there, and those that are made when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepwell.errors import IRError
from stepwell.ir.attributes import DenseAttr, DenseResourceAttr, elements, lazy_elements
from stepwell.ir.blobs import Blob, LazyBlob
from stepwell.ir.types import F32, I64, TensorType
from stepwell.memory import map_file

Array = np.ndarray[Any, Any]
WEIGHTS = np.arange(48, dtype=np.float32).reshape(8, 6)


def counted(made: list[int]) -> LazyBlob:
    def make() -> Array:
        made.append(1)
        return WEIGHTS * 2

    return LazyBlob("w", WEIGHTS.shape, make)


def test_a_lazy_array_is_made_at_every_read() -> None:
    made: list[int] = []
    blob = counted(made)
    assert blob.size == 48 and not made
    for _ in range(2):
        np.testing.assert_array_equal(blob.array, WEIGHTS * 2)
    assert len(made) == 2
    assert blob.digest == Blob("other", WEIGHTS * 2).digest == blob.digest and len(made) == 3


def test_a_filled_one_is_as_any_other() -> None:
    made: list[int] = []
    blob, array = counted(made), WEIGHTS * 2
    blob.fill(array)
    assert blob.array is array and blob.view is array and not made


def test_a_view_may_lie_in_another_order() -> None:
    source = elements(WEIGHTS, name="w")
    turned = lazy_elements(np.transpose, [source], TensorType((6, 8), F32), "t")
    assert np.shares_memory(turned.view(), WEIGHTS)
    assert turned.numpy().flags.c_contiguous and not np.shares_memory(turned.numpy(), WEIGHTS)
    np.testing.assert_array_equal(turned.view(), WEIGHTS.T)
    np.testing.assert_array_equal(turned.numpy(), WEIGHTS.T)


def test_few_elements_are_written_out() -> None:
    found = lazy_elements(lambda w: w[0] + 1, [elements(WEIGHTS)], TensorType((6,), F32))
    assert isinstance(found, DenseAttr) and found.numpy().tolist() == [1, 2, 3, 4, 5, 6]


def test_one_may_be_made_of_another() -> None:
    doubled = lazy_elements(lambda w: w * np.float32(2), [elements(WEIGHTS)], TensorType((8, 6), F32))
    turned = lazy_elements(np.transpose, [doubled], TensorType((6, 8), F32))
    np.testing.assert_array_equal(turned.numpy(), WEIGHTS.T * 2)


def test_mapped_sources_are_read_and_stay_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(WEIGHTS.tobytes() * 1000)
    with path.open("rb") as file:
        mapped = map_file(file.fileno(), path.stat().st_size).view(np.float32).reshape(8000, 6)
    type_ = TensorType((6, 8000), F32)
    turned = lazy_elements(np.transpose, [DenseResourceAttr(Blob("w", mapped), TensorType((8000, 6), F32))], type_)
    for found in (turned.numpy(), turned.view(), turned.numpy()):
        np.testing.assert_array_equal(found, np.tile(WEIGHTS, (1000, 1)).T)


def test_another_shape_than_was_said() -> None:
    with pytest.raises(IRError, match=r"resource 'w' was made as \[8, 6\], not \[6, 8\]"):
        LazyBlob("w", (6, 8), lambda: WEIGHTS).array  # noqa: B018
    with pytest.raises(IRError, match=r"resource 'w' has 48 elements, not those of tensor<7x7xf32>"):
        DenseResourceAttr(LazyBlob("w", (8, 6), lambda: WEIGHTS), TensorType((7, 7), F32)).view()


def test_a_type_without_signs_reads_a_blob_of_unsigned_numbers() -> None:
    """Below the graph a constant has the type i64 and the blob that it had above: computing with it stays in i64."""
    blob = Blob("n", np.array([1, 2**63], np.uint64))
    attribute = DenseResourceAttr(blob, TensorType((2,), I64))
    for array in (attribute.numpy(), attribute.view()):
        assert array.dtype == np.int64 and array.tolist() == [1, -(2**63)]
        assert np.shares_memory(array, blob.array)
