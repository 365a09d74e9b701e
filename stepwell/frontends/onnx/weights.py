"""Tensors of a model as arrays: every element type, packed or not, inside the model or in files beside it.

Bytes are not copied where the format allows it: raw data is viewed where it lies, in the mapped model file or in a
mapped external file, aligned to its elements or not. A header is believed only as far as there are bytes for it: sizes
are checked before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from stepwell.errors import ModelError
from stepwell.frontends.onnx.element_types import element_name, element_type, text
from stepwell.frontends.onnx.files import ExternalFiles
from stepwell.ir.types import ComplexType, StringType, Type, bit_width, numpy_dtype

Array = np.ndarray[Any, Any]

MAX_RANK = 64
MAX_SPARSE_BYTES = 1 << 31  # what all sparse tensors of a model may expand to
_CHUNK = 1 << 20  # packed bytes that are unpacked at a time; a multiple of 3, below, keeps 6-bit elements whole


class Weights:
    """Where a model's tensors are: `files` has its external files, `embedded` the raw data of the main graph's
    initializers that was left in the mapped model file, by index of the initializer."""

    def __init__(
        self, files: ExternalFiles | None = None, embedded: Mapping[int, memoryview] | None = None
    ) -> None:
        self.files = files or ExternalFiles()
        self.embedded = embedded or {}
        self._sparse_bytes = 0

    def array(self, tensor: Any, index: int | None = None) -> Array:
        """A TensorProto's elements, read-only; `index` is its place among the main graph's initializers.

        Raises ModelError where header and data do not fit together or the data cannot be reached."""
        shape, element = _header(tensor)
        count = math.prod(shape)
        if tensor.data_location == TensorProto.EXTERNAL:
            needed = _packed_size(element, count)
            array = _from_bytes(self._external(tensor, needed), element, count)
        elif index is not None and index in self.embedded:
            array = _from_bytes(np.frombuffer(self.embedded[index], np.uint8), element, count)
        elif isinstance(element, StringType):
            array = _strings(tensor, count)
        elif tensor.HasField("raw_data"):
            array = _from_bytes(np.frombuffer(tensor.raw_data, np.uint8), element, count)
        else:
            array = _from_field(tensor, element, count)
        array = _shaped(array, shape)
        array.flags.writeable = False
        return array

    def sparse_array(self, sparse: Any) -> Array:
        """A SparseTensorProto's elements as a dense array. Raises ModelError like `array`, and for indices that are out
        of range or out of order (onnx.proto, SparseTensorProto)."""
        values = self.array(sparse.values)
        indices = self.array(sparse.indices)
        shape = _check_dims(sparse.dims)
        if values.ndim != 1 or indices.dtype != np.int64 or not shape:
            raise ModelError("a sparse tensor needs values of rank 1, int64 indices and dims")
        self._sparse_bytes += math.prod(shape) * values.itemsize
        if self._sparse_bytes > MAX_SPARSE_BYTES:
            raise ModelError(f"the sparse tensors expand to more than {MAX_SPARSE_BYTES >> 30} GiB; store them densely")
        places = _linear_indices(indices, shape, values.shape[0])
        dense = np.zeros(math.prod(shape), object if values.dtype == object else values.dtype)
        if values.dtype == object:
            dense[:] = ""
        dense[places] = values
        dense.flags.writeable = False
        return _shaped(dense, shape)

    def _external(self, tensor: Any, needed: int) -> Array:
        entries = {text(entry.key): text(entry.value) for entry in tensor.external_data}
        location = entries.get("location", "")
        content = self.files.file(location)
        offset = _number(entries, "offset", 0)
        length = _number(entries, "length", needed)
        if length != needed:
            raise ModelError(f"its header needs {needed} bytes and its entry in {location!r} has {length}")
        if offset > content.size or length > content.size - offset:
            raise ModelError(
                f"it lies at bytes {offset} to {offset + length} of {location!r}, which has only {content.size}; "
                "the file is cut short or belongs to another model"
            )
        return content[offset : offset + length]


# External data


def _number(entries: Mapping[str, str], key: str, default: int) -> int:
    given = entries.get(key)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 20):
        raise ModelError(f"the {key} of its external data is {given[:40]!r}, not a number of bytes")
    return int(given)


# Headers


def _header(tensor: Any) -> tuple[tuple[int, ...], Type]:
    if tensor.HasField("segment"):
        raise ModelError("it is stored in segments, which nothing writes any more; save the model again")
    return _check_dims(tensor.dims), element_type(tensor.data_type)


def _check_dims(dims: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(int(dim) for dim in dims)
    if len(shape) > MAX_RANK:
        raise ModelError(f"it has {len(shape)} dimensions; at most {MAX_RANK} are possible")
    if any(dim < 0 for dim in shape):
        raise ModelError(f"its dims {list(shape)} hold a negative one")
    return shape


def _shaped(array: Array, shape: Sequence[int]) -> Array:
    try:
        return array.reshape(shape)
    except ValueError:  # dims beyond NumPy's address space beside a dim of 0
        raise ModelError(f"its dims {list(shape)} are too large") from None


def _linear_indices(indices: Array, shape: Sequence[int], count: int) -> Array:
    """Positions in the dense tensor, row-major, from linear indices or from rows of coordinates."""
    if indices.shape == (count,):
        linear = indices
        in_range = count == 0 or bool(indices.min() >= 0 and indices.max() < math.prod(shape))
    elif indices.shape == (count, len(shape)):
        in_range = count == 0 or bool(np.all(indices >= 0) and np.all(indices < np.array(shape)))
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        linear = indices @ np.array(strides, np.int64) if in_range else indices[:, 0]
    else:
        raise ModelError(f"a sparse tensor of {count} values has indices of shape {list(indices.shape)}")
    if not in_range:
        raise ModelError(f"a sparse tensor of dims {list(shape)} has indices out of range")
    if np.any(linear[1:] <= linear[:-1]):
        raise ModelError("the indices of a sparse tensor are not in ascending order")
    return linear


# Elements


def _packed_size(element: Type, count: int) -> int:
    if isinstance(element, StringType):
        raise ModelError("strings cannot lie in an external file")
    if element_is_packed(element):
        return (count * bit_width(element) + 7) // 8
    return count * numpy_dtype(element).itemsize


def element_is_packed(element: Type) -> bool:
    """Whether ONNX packs several elements of this type into a byte."""
    return not isinstance(element, (ComplexType, StringType)) and bit_width(element) in (2, 4, 6)


def _from_bytes(data: Array, element: Type, count: int) -> Array:
    """Elements from little-endian bytes, viewed in place where they are whole bytes."""
    needed = _packed_size(element, count)
    if data.size != needed:
        raise ModelError(f"its header says {count} elements, which need {needed} bytes, and there are {data.size}")
    dtype = numpy_dtype(element)
    if element_is_packed(element):
        return unpack(data, bit_width(element), count).view(dtype)
    if dtype == np.bool_:
        return data.view(np.bool_) if not np.any(data > 1) else data != 0
    # What is not aligned is viewed as well: NumPy reads it, and copies of all weights would take their size once more.
    return data.view(dtype) if dtype.isbuiltin == 1 else np.require(data.view(dtype), requirements="A")


def unpack(data: Array, width: int, count: int) -> Array:
    """`count` elements of `width` bits, packed from the least significant bit of the first byte on, one to a byte."""
    out = np.empty(count, np.uint8)
    step = _CHUNK // 3 * 3
    for start in range(0, data.size, step):
        bits = np.unpackbits(data[start : start + step], bitorder="little")
        first = start * 8 // width
        size = min(bits.size // width, count - first)
        rows = bits[: size * width].reshape(size, width)
        out[first : first + size] = np.packbits(rows, axis=1, bitorder="little")[:, 0]
    return out


def pack(values: Array, width: int) -> Array:
    """The inverse of `unpack`: the low `width` bits of each byte, padded with zero bits to a whole byte."""
    step = _CHUNK // 3 * 8
    parts = []
    for start in range(0, values.size, step):
        bits = np.unpackbits(values[start : start + step, None], axis=1, bitorder="little")[:, :width]
        parts.append(np.packbits(bits.reshape(-1), bitorder="little"))
    return np.concatenate(parts) if parts else np.empty(0, np.uint8)


def _strings(tensor: Any, count: int) -> Array:
    if len(tensor.string_data) != count:
        raise ModelError(f"its header says {count} strings, and there are {len(tensor.string_data)}")
    array = np.empty(count, object)
    try:
        array[:] = [item if isinstance(item, str) else bytes(item).decode() for item in tensor.string_data]
    except UnicodeDecodeError as error:
        raise ModelError(f"a string that is not UTF-8: {error}") from None
    return array


# Which typed field holds which elements, and how its entries become bytes of the elements (onnx.proto, TensorProto).
_FIELDS: dict[str, tuple[tuple[str, ...], type]] = {
    "float_data": (("FLOAT", "COMPLEX64"), np.float32),
    "double_data": (("DOUBLE", "COMPLEX128"), np.float64),
    "int64_data": (("INT64",), np.int64),
    "uint64_data": (("UINT32", "UINT64"), np.uint64),
}


def _field_of(tensor: Any) -> tuple[str, type]:
    name = element_name(tensor.data_type).upper()
    for field, (names, dtype) in _FIELDS.items():
        if name in names:
            return field, dtype
    return "int32_data", np.int32


def _from_field(tensor: Any, element: Type, count: int) -> Array:
    field, dtype = _field_of(tensor)
    entries = getattr(tensor, field)
    width = bit_width(element)
    per_entry = 8 // width if width in (2, 4) else 1
    expected = 2 * count if isinstance(element, ComplexType) else -(-count // per_entry)
    if len(entries) != expected:
        raise ModelError(f"its header says {count} elements, so {field} should have {expected} and has {len(entries)}")
    array: Array = np.array(entries, dtype)
    target = numpy_dtype(element)
    if target == np.bool_:
        return np.not_equal(array, 0)
    if isinstance(element, ComplexType):
        return _viewed(array, target)
    if per_entry > 1:
        return unpack(array.astype(np.uint8), width, count).view(target)
    if array.dtype == target:
        return array
    bits = array.astype(f"u{target.itemsize}")
    if width < 8:
        bits &= (1 << width) - 1
    return _viewed(bits, target)


def _viewed(array: Array, dtype: np.dtype[Any]) -> Array:
    return array.view(dtype)
