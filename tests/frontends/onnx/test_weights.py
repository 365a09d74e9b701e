"""TensorProto -> array, for every element type and every place the bytes can be in; and what is refused."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stepwell.errors import ModelError
from stepwell.frontends.onnx.element_types import ELEMENT_TYPES, element_name
from stepwell.frontends.onnx.importer import import_model
from stepwell.frontends.onnx.model import load_model
from stepwell.frontends.onnx.weights import Weights, pack, unpack
from stepwell.ir.attributes import DenseResourceAttr
from stepwell.ir.types import bit_width, numpy_dtype
from tests.frontends.onnx.models import model, tensor
from tests.frontends.onnx.rule_harness import run_model

NUMERIC = [number for number in ELEMENT_TYPES if number != TensorProto.STRING]


def sample(number: int, count: int = 7) -> Any:
    values = np.random.default_rng(number).integers(0, 2, count) * 2 - 1
    if element_name(number).startswith(("u", "bool", "float8e8m0")):
        values = abs(values)
    return values.astype(numpy_dtype(ELEMENT_TYPES[number]))


def same_bits(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("number", NUMERIC, ids=element_name)
@pytest.mark.parametrize("raw", [True, False])
def test_every_element_type(number: int, raw: bool) -> None:
    values = sample(number)
    reference = helper.make_tensor("w", number, values.shape, values.tolist() if not raw else values)
    if raw:
        reference = numpy_helper.from_array(values, "w")
    assert reference.HasField("raw_data") == raw
    found = Weights().array(reference)
    assert np.array_equal(found.astype(np.complex128), numpy_helper.to_array(reference).astype(np.complex128))
    assert found.dtype == values.dtype and not found.flags.writeable


@pytest.mark.parametrize("width", [2, 4, 6])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 1 << 12])
def test_unpack_inverts_pack(width: int, count: int) -> None:
    values = np.random.default_rng(count).integers(0, 1 << width, count).astype(np.uint8)
    packed = pack(values, width)
    assert packed.size == -(-count * width // 8)
    assert np.array_equal(unpack(packed, width, count), values)


def test_strings() -> None:
    found = Weights().array(tensor("s", TensorProto.STRING, [2, 1], string_data=[b"a", "ü".encode()]))
    assert found.tolist() == [["a"], ["ü"]]


def test_sparse() -> None:
    values = helper.make_tensor("w", 1, [2], [5.0, 7.0])
    linear = helper.make_sparse_tensor(values, helper.make_tensor("i", 7, [2], [1, 4]), [2, 3])
    rows = helper.make_sparse_tensor(values, helper.make_tensor("i", 7, [2, 2], [0, 1, 1, 1]), [2, 3])
    for sparse in (linear, rows):
        assert Weights().sparse_array(sparse).tolist() == [[0, 5, 0], [0, 7, 0]]
    made = model("g (float[2, 3] x) => (y) { y = Add(x, w) }")
    made.graph.sparse_initializer.append(linear)
    assert run_model(made, [np.ones((2, 3), np.float32)])[0].tolist() == [[1, 6, 1], [1, 8, 1]]


@pytest.mark.parametrize(
    ("indices", "dims", "expected"),
    [
        ([1, 9], [2, 3], "indices out of range"),
        ([-1, 2], [2, 3], "indices out of range"),
        ([4, 1], [2, 3], "not in ascending order"),
        ([1, 1], [2, 3], "not in ascending order"),
        ([1, 2], [1 << 20, 1 << 20], "expand to more than 2 GiB"),
        ([1, 2], [-2, 3], "hold a negative one"),
        ([1], [2, 3], "has indices of shape [1]"),
    ],
)
def test_bad_sparse(indices: list[int], dims: list[int], expected: str) -> None:
    values = helper.make_tensor("w", 1, [2], [5.0, 7.0])
    sparse = onnx.SparseTensorProto(
        values=values, indices=helper.make_tensor("i", 7, [len(indices)], indices), dims=dims
    )
    with pytest.raises(ModelError) as caught:
        Weights().sparse_array(sparse)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (tensor("w", 1, [2], raw_data=b"1234"), "its header says 2 elements, which need 8 bytes, and there are 4"),
        (tensor("w", 1, [2], float_data=[1.0]), "so float_data should have 2 and has 1"),
        (tensor("w", 1, [1], int32_data=[1]), "so float_data should have 1 and has 0"),
        (tensor("w", 1, [1 << 40, 1 << 40], raw_data=b"1234"), "which need"),
        (tensor("w", 1, [-1], raw_data=b""), "hold a negative one"),
        (tensor("w", 1, [1] * 80, raw_data=b"1234"), "it has 80 dimensions"),
        (tensor("w", 1, [1 << 62, 1 << 62, 0], raw_data=b""), "are too large"),
        (tensor("w", 0, [1], raw_data=b"1234"), "undefined is not an element type"),
        (tensor("w", 999, [1], raw_data=b"1234"), "element type number 999 is not"),
        (tensor("w", 22, [3], raw_data=b"1"), "its header says 3 elements, which need 2 bytes, and there are 1"),
        (tensor("w", 8, [3], string_data=[b"1"]), "its header says 3 strings, and there are 1"),
        (tensor("w", 1, [0], segment=onnx.TensorProto.Segment(begin=0, end=1)), "stored in segments"),
    ],
)
def test_headers_are_not_believed(proto: Any, expected: str) -> None:
    with pytest.raises(ModelError) as caught:
        Weights().array(proto)
    assert expected in str(caught.value)
    made = model("g (float[2] x) => (y) { y = Relu(x) }")
    made.graph.initializer.append(proto)
    with pytest.raises(ModelError) as caught:
        import_model(made)
    assert expected in str(caught.value) and "initializer" in str(caught.value) and "at w" in str(caught.value)


# External data


def external_model(folder: Path, entries: dict[str, str], data: bytes | None = None, name: str = "w.bin") -> Path:
    made = model("g (float[2, 3] x) => (y) { y = Add(x, w) }")
    proto = made.graph.initializer.add(name="w", data_type=1, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        proto.external_data.add(key=key, value=value)
    folder.mkdir(exist_ok=True)
    if data is not None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    onnx.save(made, folder / "m.onnx")
    return folder / "m.onnx"


DATA = np.arange(6, dtype=np.float32).tobytes()
X = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("entries", "data"),
    [
        ({"location": "w.bin"}, DATA),
        ({"location": "w.bin"}, DATA + b"more"),
        ({"location": "./w.bin", "offset": "0", "length": "24"}, DATA),
        ({"location": "w.bin", "offset": "7", "length": "24"}, b"1234567" + DATA),
        ({"location": "w.bin", "offset": "4", "checksum": "unused"}, b"1234" + DATA),
    ],
)
def test_external_data(tmp_path: Path, entries: dict[str, str], data: bytes) -> None:
    path = external_model(tmp_path, entries, data)
    assert run_model(path, [X])[0].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("entries", "data", "expected"),
    [
        ({"location": "w.bin"}, None, "cannot be read: No such file or directory"),
        ({"location": "w.bin"}, DATA[:-1], "it lies at bytes 0 to 24 of 'w.bin', which has only 23"),
        ({"location": "w.bin"}, b"", "which has only 0"),
        ({"location": "w.bin", "offset": "8"}, DATA, "it lies at bytes 8 to 32"),
        ({"location": "w.bin", "offset": "9" * 19}, DATA, "which has only 24"),
        ({"location": "w.bin", "offset": "9" * 40}, DATA, "not a number of bytes"),
        ({"location": "w.bin", "offset": "-4"}, DATA, "the offset of its external data is '-4', not a number of bytes"),
        ({"location": "w.bin", "length": "1e3"}, DATA, "the length of its external data is '1e3'"),
        ({"location": "w.bin", "length": "20"}, DATA, "its header needs 24 bytes and its entry in 'w.bin' has 20"),
        ({}, DATA, "must be named by a path relative"),
        ({"location": ""}, DATA, "must be named by a path relative"),
        ({"location": "/etc/passwd"}, DATA, "must be named by a path relative"),
        ({"location": "C:\\w.bin"}, DATA, "must be named by a path relative"),
        ({"location": "w\0.bin"}, DATA, "must be named by a path relative"),
        ({"location": "../secret"}, DATA, "climbs out of the model's folder"),
        ({"location": "sub/../../secret"}, DATA, "climbs out of the model's folder"),
        ({"location": "..\\secret"}, DATA, "climbs out of the model's folder"),
        ({"location": "."}, DATA, "must be named by a path relative"),
        ({"location": "out"}, DATA, "is a link out of the model's folder"),
        ({"location": "outside/secret"}, DATA, "is a link out of the model's folder"),
        ({"location": "folder"}, DATA, "cannot be read: Is a directory"),
        ({"location": "pipe"}, DATA, "is not a regular file"),
    ],
)
def test_bad_external_data(tmp_path: Path, entries: dict[str, str], data: bytes | None, expected: str) -> None:
    (tmp_path / "secret").write_bytes(DATA)
    folder = tmp_path / "model"
    path = external_model(folder, entries, data)
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "outside").symlink_to(tmp_path)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    with pytest.raises(ModelError) as caught:
        import_model(path)
    assert expected in str(caught.value)


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    path = external_model(tmp_path / "model", {"location": "w.bin"}, DATA, "real.bin")
    (tmp_path / "model" / "w.bin").symlink_to("real.bin")
    (tmp_path / "alias").symlink_to(tmp_path / "model")
    assert run_model(path, [X])[0][1, 2] == 5
    assert run_model(tmp_path / "alias" / "m.onnx", [X])[0][1, 2] == 5


def test_bytes_need_a_folder(tmp_path: Path) -> None:
    path = external_model(tmp_path, {"location": "w.bin"}, DATA)
    with pytest.raises(ModelError, match="pass the model's path, or folder="):
        import_model(path.read_bytes())
    import_model(path.read_bytes(), folder=tmp_path)
    with path.open("rb") as file:
        import_model(file)


def is_mapped(array: Any) -> bool:
    while isinstance(array, (np.ndarray, memoryview)):
        array = array.obj if isinstance(array, memoryview) else array.base
    return isinstance(array, mmap.mmap)


def constant_arrays(module: Any) -> list[Any]:
    blobs = [op.properties.get("value") for op in module.walk()]
    return [blob.numpy() for blob in blobs if isinstance(blob, DenseResourceAttr)]


def test_large_weights_stay_in_the_mapped_files(tmp_path: Path) -> None:
    weights = (np.arange(5000) % 100).astype(np.uint8)  # elements of one byte are aligned wherever they are
    made = model("g (uint8[5000] x) => (y) { a = Add(x, w)  y = Add(a, v) }")
    made.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    made.graph.initializer.append(numpy_helper.from_array(weights[::-1].copy(), "v"))
    onnx.save(made, tmp_path / "inside.onnx")
    onnx.save(made, tmp_path / "outside.onnx", save_as_external_data=True, location="outside.data", size_threshold=0)
    for name in ("inside.onnx", "outside.onnx"):
        loaded = load_model(tmp_path / name)
        assert loaded.proto.ByteSize() < 1000
        module = import_model(loaded)
        arrays = constant_arrays(module)
        assert [a[0] for a in arrays] == [0, 99] and all(map(is_mapped, arrays))
        assert run_model(tmp_path / name, [np.zeros(5000, np.uint8)])[0][17] == 99


def test_a_model_with_weights_beyond_4_gib(tmp_path: Path) -> None:
    """Sparse on disk, so that it takes no space: only addresses count."""
    size = (1 << 32) + 4096
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(size)
        file.seek(size - 24)
        file.write(DATA)
    path = external_model(tmp_path, {"location": "w.bin", "offset": str(size - 24), "length": "24"})
    assert run_model(path, [X])[0][1, 2] == 5


def test_bit_widths_cover_what_is_packed() -> None:
    widths = {bit_width(ELEMENT_TYPES[number]) for number in NUMERIC if number != TensorProto.BOOL}
    assert {width for width in widths if width < 8} <= {2, 4, 6}
