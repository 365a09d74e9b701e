"""Modules in files with their constants beside them, and files that must be refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stepwell.dialects.graph.base import ConstantOp
from stepwell.errors import ParseError
from stepwell.ir.attributes import DenseResourceAttr, elements
from stepwell.ir.blobs import Blob
from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.resources import (
    ALIGNMENT,
    WeightsFile,
    WeightsFolder,
    module_of_text,
    module_text,
    read_module,
    unique_blob_names,
)

ARRAYS = [np.arange(100, dtype=np.float32), np.arange(100, 200, dtype=np.int8), np.arange(100, dtype=np.float32)]


def constants() -> Operation:
    module = parse_module("builtin.module { }")
    for array in ARRAYS:
        module.regions[0].block.append(ConstantOp(value=elements(array, None, "w")))
    return module


def test_blobs_are_dense() -> None:
    """What folding a transpose gives is a view; what reads a constant's memory reads row after row."""
    turned = Blob("w", np.arange(6, dtype=np.float32).reshape(2, 3).T)
    assert turned.array.flags.c_contiguous and turned.array.tolist() == [[0, 3], [1, 4], [2, 5]]
    whole = np.arange(6, dtype=np.float32)
    assert Blob("w", whole).array is whole and Blob("w", np.array(2.0)).array.shape == ()


def written(folder: Path) -> Path:
    path = folder / "m.mlir"
    path.write_text(module_text(constants(), WeightsFile(folder / "weights.bin")))
    return path


def test_constants_come_back_from_the_mapped_file(tmp_path: Path) -> None:
    module = read_module(written(tmp_path))
    found = [op.value for op in module.walk_of(ConstantOp)]
    for attribute, array in zip(found, ARRAYS, strict=True):
        np.testing.assert_array_equal(attribute.numpy(), array)
    arrays = [a.blob.array for a in found if isinstance(a, DenseResourceAttr)]
    assert len(arrays) == len(ARRAYS) and not any(a.flags.owndata or a.flags.writeable for a in arrays)


def test_equal_contents_are_written_once(tmp_path: Path) -> None:
    text = written(tmp_path).read_text()
    assert (tmp_path / "weights.bin").stat().st_size == -(-400 // ALIGNMENT) * ALIGNMENT + 100
    assert text.count('"weights.bin:0:400:') == 2


def test_two_modules_share_a_weights_file(tmp_path: Path) -> None:
    weights = WeightsFile(tmp_path / "weights.bin")
    first, second = module_text(constants(), weights), module_text(constants(), weights)
    assert first == second
    np.testing.assert_array_equal(
        next(module_of_text(second, "second", WeightsFolder(tmp_path)).walk_of(ConstantOp)).value.numpy(), ARRAYS[0]
    )


def test_blobs_get_names_of_their_own() -> None:
    module = constants()
    unique_blob_names(module)
    names = [op.value.blob.name for op in module.walk_of(ConstantOp) if isinstance(op.value, DenseResourceAttr)]
    assert names == ["w", "w_1", "w_2"]
    assert Blob("w", ARRAYS[0]).digest == Blob("other", ARRAYS[2]).digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weights.bin:0", "../weights.bin:0", "lies in the folder"),
        ("weights.bin:0", "/etc/passwd:0", "lies in the folder"),
        ("weights.bin:0", "missing.bin:0", "No such file"),
        ("weights.bin:0:400", "weights.bin:-4:400", "the file has"),
        ("weights.bin:0:400", "weights.bin:4000:400", "the file has"),
        ("weights.bin:0:400", "weights.bin:0:396", "396 bytes for"),
        ("weights.bin:0:400", "weights.bin:4:400", "have the hash"),
        ("weights.bin:0:400", "weights.bin:x:400", "resource 'w'"),
        ("weights.bin:0:400", "weights.bin", "resource 'w'"),
        ("w: ", "v: ", "does not say where"),
    ],
)
def test_bad_places_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ParseError, match=message):
        read_module(path)


def test_changed_bytes_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = bytearray((tmp_path / "weights.bin").read_bytes())
    data[17] ^= 1
    (tmp_path / "weights.bin").write_bytes(data)
    with pytest.raises(ParseError, match="was changed or is another model's"):
        read_module(path)


def test_a_bare_text_has_no_folder() -> None:
    text = 'builtin.module { %c = graph.constant dense_resource<w> : tensor<64xf32> } {-# external_resources: { stepwell: { w: "weights.bin:0:256:00" } } #-}'  # noqa: E501
    with pytest.raises(ParseError, match="no folder"):
        module_of_text(text)
