"""Builtin attributes: uniqued compile-time data attached to operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from stepwell.errors import IRError
from stepwell.ir.affine import AffineMap
from stepwell.ir.blobs import Array, Blob, LazyBlob
from stepwell.ir.interned import Interned, interned
from stepwell.ir.types import (
    F32,
    F64,
    I1,
    I32,
    I64,
    FloatType,
    IndexType,
    IntegerType,
    Signedness,
    StoredType,
    TensorType,
    Type,
    VectorType,
    numpy_dtype,
    tensor_of,
)
from stepwell.memory import forget


class Attribute(Interned):
    """Compile-time data. Attributes are uniqued: compare them with `is` or `==` alike.

    A dialect's attribute sets `mnemonic` (`tensor.halo`) and prints as `#tensor.halo<field = ...>` by its fields."""

    __slots__ = ()
    mnemonic: ClassVar[str] = ""

    def __str__(self) -> str:
        from stepwell.ir.printer import attribute_text

        return attribute_text(self)

    __repr__ = __str__


@interned
class UnitAttr(Attribute):
    """`unit`: present or absent."""


@interned
class IntegerAttr(Attribute):
    """`3 : i64`; of type i1, `true` or `false`."""

    value: int = attrs.field(converter=int)
    type: Type = I64

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.type, (IntegerType, IndexType)):
            raise IRError(f"{self.value} is an integer, which {self.type} is not")
        low, high = integer_range(self.type)
        if not low <= self.value <= high:
            raise IRError(f"{self.value} does not fit in {self.type}")
        if self.type is I1 and self.value < 0:
            object.__setattr__(self, "value", 1)


def integer_range(type_: IntegerType | IndexType) -> tuple[int, int]:
    """Smallest and largest value; a signless type takes what fits in its bits read either way."""
    if isinstance(type_, IndexType):
        return -(1 << 63), (1 << 63) - 1
    low = 0 if type_.signedness is Signedness.UNSIGNED else -(1 << (type_.width - 1))
    high = (1 << (type_.width - (type_.signedness is Signedness.SIGNED))) - 1
    return low, high


def bool_attr(value: bool) -> IntegerAttr:
    """`true` or `false`."""
    return IntegerAttr(int(value), I1)


@interned
class FloatAttr(Attribute):
    """`0.5 : f32`, rounded to its type. Every bit counts: -0.0 and NaN payloads are told apart."""

    value: float = attrs.field(converter=float)
    type: Type = F32

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.type, FloatType):
            raise IRError(f"{self.value} is a float, which {self.type} is not")
        if self.type is not F64:
            with np.errstate(all="ignore"):
                object.__setattr__(self, "value", float(numpy_dtype(self.type).type(self.value)))


@interned
class StringAttr(Attribute):
    """`"text"`."""

    value: str


@interned
class TypeAttr(Attribute):
    """A type as an attribute."""

    type: Type


@interned
class SymbolRefAttr(Attribute):
    """`@name`: the operation of that name in the nearest symbol table."""

    name: str


@interned
class ArrayAttr(Attribute):
    """`[a, b]`."""

    values: tuple[Attribute, ...]

    def __iter__(self) -> Iterator[Attribute]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)


@interned
class DictAttr(Attribute):
    """`{key = value}`, sorted by key."""

    items: tuple[tuple[str, Attribute], ...]

    @staticmethod
    def of(mapping: Mapping[str, Attribute]) -> DictAttr:
        """The dictionary attribute of a mapping."""
        return DictAttr(tuple(sorted(mapping.items())))


@interned
class DenseArrayAttr(Attribute):
    """`array<i64: 1, 2>`: a list of scalars of one type."""

    type: Type
    values: tuple[Any, ...]

    def __attrs_post_init__(self) -> None:
        """Check and convert each value as the scalar attribute of the type does."""
        scalar: Any = FloatAttr if isinstance(self.type, FloatType) else IntegerAttr
        plain = self.type in (I32, I64) and all(type(v) is int and -(1 << 31) <= v < 1 << 31 for v in self.values)
        if not plain:
            object.__setattr__(self, "values", tuple(scalar(value, self.type).value for value in self.values))


@interned
class AffineMapAttr(Attribute):
    """`affine_map<(d0) -> (d0)>`."""

    map: AffineMap


class ElementsAttr(Attribute):
    """The elements of a constant tensor, wherever they are kept."""

    __slots__ = ()

    @property
    def tensor_type(self) -> TensorType:
        """The tensor's type."""
        raise NotImplementedError

    def numpy(self) -> Array:
        """The elements as a read-only array of the tensor's shape."""
        raise NotImplementedError

    def view(self) -> Array:
        """As `numpy`, but the elements may lie in another order than row after row: a transpose copies nothing."""
        return self.numpy()


def _check_plain(type_: TensorType | VectorType) -> None:
    """Raise IRError for a constant of a type that only conversions make."""
    if isinstance(type_.element, StoredType):
        raise IRError(f"constants hold storage types only: {type_.element.storage}, not {type_.element}")


@interned
class DenseAttr(ElementsAttr):
    """`dense<[1, 2]> : tensor<2xi64>`, or of a vector type: elements written out in the text; for small constants."""

    type: TensorType | VectorType
    data: bytes

    def __attrs_post_init__(self) -> None:
        _check_plain(self.type)
        expected = math.prod(self.tensor_type.static_shape) * numpy_dtype(self.type).itemsize
        if len(self.data) != expected:
            raise IRError(f"{len(self.data)} bytes of data for {self.type}, which has {expected}")

    @property
    def tensor_type(self) -> TensorType:
        return self.type if isinstance(self.type, TensorType) else TensorType(self.type.shape, self.type.element)

    def numpy(self) -> Array:
        return np.frombuffer(self.data, numpy_dtype(self.type)).reshape(self.tensor_type.static_shape)


@interned
class DenseResourceAttr(ElementsAttr):
    """`dense_resource<name> : tensor<...>`: elements kept in a blob outside the text."""

    blob: Blob
    type: TensorType

    def __attrs_post_init__(self) -> None:
        _check_plain(self.type)

    @property
    def tensor_type(self) -> TensorType:
        return self.type

    def numpy(self) -> Array:
        """The blob's array. Raises IRError where the blob's contents are not known."""
        self._check_size()
        return self._typed(self.blob.array)

    def view(self) -> Array:
        self._check_size()
        return self._typed(self.blob.view)

    def _typed(self, array: Array) -> Array:
        """In the type's shape and elements: below the graph, where integers have no sign, those of a blob may have."""
        dtype = numpy_dtype(self.type)
        typed = array if array.dtype == dtype else array.view(dtype)
        return typed.reshape(self.type.static_shape)

    def _check_size(self) -> None:
        if self.blob.size != math.prod(self.type.static_shape):
            raise IRError(f"resource {self.blob.name!r} has {self.blob.size} elements, not those of {self.type}")


@interned
class StringElementsAttr(ElementsAttr):
    """`dense<["a", "b"]> : tensor<2x!graph.string>`."""

    type: TensorType
    values: tuple[str, ...]

    @property
    def tensor_type(self) -> TensorType:
        return self.type

    def numpy(self) -> Array:
        return np.array(self.values, dtype=object).reshape(self.type.static_shape)


INLINE_ELEMENTS = 32  # a constant of more elements is kept in a blob


def elements(array: Array, type_: TensorType | None = None, name: str = "c") -> ElementsAttr:
    """The elements attribute of an array: written out when small, else in a blob called `name`.

    `type_` overrides the type derived from the array (signless integers, say); its NumPy element type must agree."""
    type_ = type_ or tensor_of(array)
    if array.dtype == object:
        return StringElementsAttr(type_, tuple(str(value) for value in array.reshape(-1)))
    if numpy_dtype(type_) != array.dtype or type_.static_shape != array.shape:
        raise IRError(f"an array of {array.dtype}{list(array.shape)} cannot be a constant of type {type_}")
    if array.size <= INLINE_ELEMENTS:
        return DenseAttr(type_, np.ascontiguousarray(array).tobytes())
    return DenseResourceAttr(Blob(name, array), type_)


def lazy_elements(
    make: Callable[..., Array], sources: Sequence[ElementsAttr], type_: TensorType, name: str = "c"
) -> ElementsAttr:
    """The elements that `make` gives of the arrays of others, as a constant of a type: made when they are read, but for
    few. Pages of mapped files that `make` read are given back. `make` must not fail, and give the same each time."""

    def made() -> Array:
        arrays = [source.view() for source in sources]
        array = make(*arrays)
        for source in arrays:
            if not np.may_share_memory(array, source):  # what does is given back by whoever reads it
                forget(source)
        return array

    if math.prod(type_.static_shape) <= INLINE_ELEMENTS:
        return elements(made(), type_, name)
    return DenseResourceAttr(LazyBlob(name, type_.static_shape, made), type_)


@interned
class OpaqueAttr(Attribute):
    """An attribute of a dialect that is not loaded, kept as its text."""

    text: str
