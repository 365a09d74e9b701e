"""Builtin types: integers, floats, tensors, memrefs, vectors, functions; and their NumPy element types."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from stepwell.errors import IRError
from stepwell.ir.affine import AffineMap
from stepwell.ir.dims import Dim
from stepwell.ir.interned import Interned, interned

if TYPE_CHECKING:
    from stepwell.ir.attributes import Attribute


class Type(Interned):
    """What a value is. Types are uniqued: compare them with `is` or `==` alike.

    A dialect's type sets `mnemonic` (`quant.uniform`) and is printed as `!quant.uniform<...>` from its fields."""

    __slots__ = ()
    mnemonic: ClassVar[str] = ""

    def __str__(self) -> str:
        from stepwell.ir.printer import type_text

        return type_text(self)

    __repr__ = __str__

    def may_stand_for(self, inferred: Type) -> bool:
        """Whether this type may be written where another one is inferred: one that says less of the same values."""
        return self is inferred


class StoredType(Type):
    """Base of a dialect's element types whose values are kept as those of another type: quantised numbers in bytes.

    Tensors have such elements, vectors and buffers have those of the `storage`."""

    __slots__ = ()

    @property
    def storage(self) -> Type:
        """The type that holds the bits."""
        raise NotImplementedError

    @property
    def held(self) -> Type:
        """The type whose NumPy element type holds the values on the host: the storage, with its sign."""
        return self.storage

    def check_shape(self, shape: Sequence[Dim]) -> None:
        """Raise IRError where a tensor of this shape cannot have such elements."""


class Signedness(StrEnum):
    """How an integer's bits are read; signless where the operation says it."""

    SIGNLESS = "i"
    SIGNED = "si"
    UNSIGNED = "ui"


@interned
class IntegerType(Type):
    """`i32`, `si8`, `ui4`: an integer of 1 to 64 bits."""

    width: int
    signedness: Signedness = Signedness.SIGNLESS

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.width <= 64:
            raise IRError(f"integer types have 1 to 64 bits, not {self.width}")


@interned
class IndexType(Type):
    """`index`: sizes and positions; 64 bits on every target."""


# Floating-point formats: name -> (bits, NumPy or ml_dtypes name, spelled by upstream MLIR 19 as a builtin).
FLOAT_FORMATS: dict[str, tuple[int, str, bool]] = {
    "f16": (16, "float16", True),
    "bf16": (16, "bfloat16", True),
    "f32": (32, "float32", True),
    "f64": (64, "float64", True),
    "f8E4M3FN": (8, "float8_e4m3fn", True),
    "f8E4M3FNUZ": (8, "float8_e4m3fnuz", True),
    "f8E5M2": (8, "float8_e5m2", True),
    "f8E5M2FNUZ": (8, "float8_e5m2fnuz", True),
    "f8E8M0FNU": (8, "float8_e8m0fnu", False),
    "f6E2M3FN": (6, "float6_e2m3fn", False),
    "f6E3M2FN": (6, "float6_e3m2fn", False),
    "f4E2M1FN": (4, "float4_e2m1fn", False),
}


@interned
class FloatType(Type):
    """A floating-point format of `FLOAT_FORMATS`. Those that upstream lacks print as `!tensor.NAME`."""

    format: str

    def __attrs_post_init__(self) -> None:
        if self.format not in FLOAT_FORMATS:
            raise IRError(f"unknown floating-point format {self.format!r}")

    @property
    def width(self) -> int:
        """Bits."""
        return FLOAT_FORMATS[self.format][0]

    @property
    def is_builtin(self) -> bool:
        """Whether upstream MLIR 19 spells it without a dialect prefix."""
        return FLOAT_FORMATS[self.format][2]


@interned
class ComplexType(Type):
    """`complex<f32>`: a pair of floats."""

    element: Type

    def __attrs_post_init__(self) -> None:
        if self.element not in (F32, F64):
            raise IRError(f"complex numbers have parts of type f32 or f64, not {self.element}")


@interned
class NoneType(Type):
    """`none`: the type of an absent optional value."""


@interned
class StringType(Type):
    """`!graph.string`: UTF-8 text of any length; lives on the host."""

    mnemonic: ClassVar[str] = "graph.string"


@interned
class TensorType(Type):
    """`tensor<4x?xf32, #graph.shape<["seq"]>>`: a value of known rank, whose dims are integers or symbolic expressions.

    `layout` says how its elements lie in memory (None: row-major, dense)."""

    shape: tuple[Dim, ...]
    element: Type
    layout: Attribute | None = None

    def __attrs_post_init__(self) -> None:
        if any(isinstance(dim, int) and dim < 0 for dim in self.shape):
            raise IRError(f"a tensor has a dim of size {min(d for d in self.shape if isinstance(d, int))}")
        _check_element("tensor", self.element)
        if isinstance(self.element, StoredType):
            self.element.check_shape(self.shape)

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        """Whether every dim is an integer."""
        return all(isinstance(dim, int) for dim in self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as integers. Raises IRError where a dim is symbolic."""
        if not self.is_static:
            raise IRError(f"{self} has symbolic dims")
        return tuple(dim for dim in self.shape if isinstance(dim, int))

    @property
    def num_elements(self) -> Dim:
        """The product of the dims."""
        total: Dim = 1
        for dim in self.shape:
            total = total * dim
        return total

    def with_shape(self, shape: Sequence[Dim]) -> TensorType:
        """The same elements in another shape."""
        return TensorType(tuple(shape), self.element, self.layout)

    def with_element(self, element: Type) -> TensorType:
        """The same shape with other elements."""
        return TensorType(self.shape, element, self.layout)

    def with_layout(self, layout: Attribute | None) -> TensorType:
        """The same tensor laid out otherwise."""
        return TensorType(self.shape, self.element, layout)


def _check_element(what: str, element: Type) -> None:
    if isinstance(element, (TensorType, MemRefType, FunctionType, NoneType, StridedLayout)):
        raise IRError(f"a {what} does not hold elements of type {element}")
    if what == "memref" and isinstance(element, StoredType):
        raise IRError(f"a memref holds storage types only: {element.storage}, not {element}")


DYNAMIC = -1  # a memref's dim that is known at run time only


@interned
class MemRefType(Type):
    """`memref<4x?xf32, strided<[?, 1], offset: ?>>`: a typed view of memory. `layout` None is row-major and dense."""

    shape: tuple[int, ...]
    element: Type
    layout: AffineMap | StridedLayout | None = None
    space: Attribute | None = None

    def __attrs_post_init__(self) -> None:
        if any(dim < DYNAMIC for dim in self.shape):
            raise IRError(f"a memref has a dim of size {min(self.shape)}")
        if isinstance(self.layout, AffineMap) and self.layout.num_dims != self.rank:
            raise IRError(f"the layout {self.layout} does not take {self.rank} dims")
        if isinstance(self.layout, StridedLayout) and len(self.layout.strides) != self.rank:
            raise IRError(f"{len(self.layout.strides)} strides for {self.rank} dims")
        _check_element("memref", self.element)

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        """Whether every dim is known."""
        return DYNAMIC not in self.shape


@interned
class StridedLayout(Type):
    """`strided<[64, 1], offset: ?>`: strides and offset in elements, DYNAMIC where known at run time only."""

    strides: tuple[int, ...]
    offset: int = 0


@interned
class VectorType(Type):
    """`vector<16xf32>`: a register's worth of scalars."""

    shape: tuple[int, ...]
    element: Type

    def __attrs_post_init__(self) -> None:
        if any(dim < 1 for dim in self.shape):
            raise IRError("vector dims are positive integers")
        if not isinstance(self.element, (IntegerType, IndexType, FloatType)):
            raise IRError(f"a vector holds integers or floats, not {self.element}")


@interned
class FunctionType(Type):
    """`(inputs) -> results`."""

    inputs: tuple[Type, ...]
    results: tuple[Type, ...]


@interned
class OpaqueType(Type):
    """A type of a dialect that is not loaded, kept as its text."""

    text: str

    def _key(self) -> Hashable:
        return self.text


INDEX = IndexType()
NONE = NoneType()
I1, I8, I16, I32, I64 = (IntegerType(width) for width in (1, 8, 16, 32, 64))
SI8, SI16, SI32, SI64 = (IntegerType(width, Signedness.SIGNED) for width in (8, 16, 32, 64))
UI8, UI16, UI32, UI64 = (IntegerType(width, Signedness.UNSIGNED) for width in (8, 16, 32, 64))
F16, BF16, F32, F64 = (FloatType(name) for name in ("f16", "bf16", "f32", "f64"))


def element_of(type_: Type) -> Type:
    """The element type of a tensor, memref or vector; a scalar type is its own."""
    if isinstance(type_, (TensorType, MemRefType, VectorType)):
        return type_.element
    return type_


def is_float(type_: Type) -> bool:
    """Whether the type, or its element type, is a float."""
    return isinstance(element_of(type_), FloatType)


def is_integer(type_: Type) -> bool:
    """Whether the type, or its element type, is an integer or index (bool included)."""
    return isinstance(element_of(type_), (IntegerType, IndexType))


def is_unsigned(type_: Type) -> bool:
    """Whether the element type is an unsigned integer or a bool."""
    element = element_of(type_)
    return isinstance(element, IntegerType) and (element.signedness is Signedness.UNSIGNED or element.width == 1)


def bit_width(type_: Type) -> int:
    """Bits of one element. Raises IRError for types without a size."""
    element = element_of(type_)
    if isinstance(element, (IntegerType, FloatType)):
        return int(element.width)
    if isinstance(element, IndexType):
        return 64
    if isinstance(element, ComplexType):
        return 2 * bit_width(element.element)
    if isinstance(element, StoredType):
        return bit_width(element.storage)
    raise IRError(f"{element} has no size in bits")


@functools.cache
def numpy_dtype(type_: Type) -> np.dtype[Any]:
    """The NumPy (or ml_dtypes) element type in which the type's values are held on the host.

    Signless integers are held as signed ones, strings as objects. Raises IRError where there is none."""
    element = element_of(type_)
    if isinstance(element, IntegerType):
        return _integer_dtype(element)
    if isinstance(element, IndexType):
        return np.dtype(np.int64)
    if isinstance(element, FloatType):
        name = FLOAT_FORMATS[element.format][1]
        if name in ("float16", "float32", "float64"):
            return np.dtype(name)
        import ml_dtypes

        return _dtype_of(ml_dtypes, name)
    if isinstance(element, ComplexType):
        return np.dtype(np.complex64 if element.element is F32 else np.complex128)
    if isinstance(element, StringType):
        return np.dtype(object)
    if isinstance(element, StoredType):
        return numpy_dtype(element.held)
    raise IRError(f"{element} has no NumPy element type")


def _integer_dtype(element: IntegerType) -> np.dtype[Any]:
    if element.width == 1:
        return np.dtype(np.bool_)
    unsigned = "u" if element.signedness is Signedness.UNSIGNED else ""
    if element.width in (8, 16, 32, 64):
        return np.dtype(f"{unsigned}int{element.width}")
    if element.width in (2, 4):
        import ml_dtypes

        return _dtype_of(ml_dtypes, f"{unsigned}int{element.width}")
    raise IRError(f"{element} has no NumPy element type")


def _dtype_of(module: Any, name: str) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(getattr(module, name))
    return dtype


@functools.cache
def type_of_dtype(dtype: np.dtype[Any]) -> Type:
    """The graph-level element type (signed or unsigned integers) of a NumPy element type. Raises IRError if none."""
    if dtype.kind == "b":
        return I1
    if dtype.kind in "iu":
        return IntegerType(8 * dtype.itemsize, Signedness.UNSIGNED if dtype.kind == "u" else Signedness.SIGNED)
    if dtype.kind == "c" and dtype.itemsize in (8, 16):
        return ComplexType(F32 if dtype.itemsize == 8 else F64)
    if dtype.kind in "OSUT":
        return StringType()
    for name, (_, numpy_name, _) in FLOAT_FORMATS.items():
        if dtype.name == numpy_name:
            return FloatType(name)
    if dtype.name in ("int4", "uint4", "int2", "uint2"):
        return IntegerType(int(dtype.name[-1]), Signedness.UNSIGNED if dtype.name[0] == "u" else Signedness.SIGNED)
    raise IRError(f"NumPy element type {dtype} has no counterpart in the IR")


def tensor_of(array: np.ndarray[Any, Any]) -> TensorType:
    """The static tensor type of an array."""
    return TensorType(tuple(int(size) for size in array.shape), type_of_dtype(array.dtype))
