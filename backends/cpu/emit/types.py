"""IR types and constants as LLVM text.

In registers: i1 to i64 as they are, index as i64, f32 and f64 as float and double. Narrower floats are carried as their
bits (i16, i8), so that no target needs support for them; their arithmetic goes through float. In memory: the same, but
integers below 8 bits take one byte each, as NumPy and ml_dtypes hold them.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from stepwell.errors import TargetError
from stepwell.ir.attributes import Attribute, ElementsAttr, FloatAttr, IntegerAttr
from stepwell.ir.types import (
    DYNAMIC,
    FloatType,
    IndexType,
    IntegerType,
    MemRefType,
    StridedLayout,
    Type,
    VectorType,
    bit_width,
    element_of,
    numpy_dtype,
)


def scalar_type(type_: Type) -> str:
    """The register type of one element. Raises TargetError where there is none."""
    if isinstance(type_, IntegerType):
        return f"i{type_.width}"
    if isinstance(type_, IndexType):
        return "i64"
    if isinstance(type_, FloatType):
        if type_.width in (32, 64):
            return "float" if type_.width == 32 else "double"
        return f"i{max(8, type_.width)}"
    raise TargetError(f"{type_} has no register on a CPU")


def lane_count(type_: Type) -> int | None:
    """The number of lanes of a vector type, None for a scalar one. Raises TargetError for vectors of rank 0."""
    if not isinstance(type_, VectorType):
        return None
    if not type_.shape:
        raise TargetError(f"{type_} is no vector of one dim or more")
    return int(np.prod(type_.shape))


def vector_of(element: str, lanes: int | None) -> str:
    """`<4 x float>`, or the element where `lanes` is None."""
    return element if lanes is None else f"<{lanes} x {element}>"


def register_type(type_: Type) -> str:
    """The LLVM type of a scalar or vector value."""
    return vector_of(scalar_type(element_of(type_)), lane_count(type_))


def memory_type(element: Type) -> str:
    """The LLVM type of one element in memory."""
    if isinstance(element, IntegerType) and element.width not in (8, 16, 32, 64):
        if element.width > 8:
            raise TargetError(f"{element} has no form in memory")
        return "i8"
    return scalar_type(element)


def element_bytes(element: Type) -> int:
    """The size of one element in memory."""
    return max(1, bit_width(element) // 8)


def parameter_types(type_: Type) -> list[str]:
    """The LLVM types of what stands for an IR value: a memref is a pointer, its open sizes, then its open layout."""
    if not isinstance(type_, MemRefType):
        return [register_type(type_)]
    return ["ptr"] + ["i64"] * (type_.shape.count(DYNAMIC) + len(dynamic_layout(type_)))


def dynamic_layout(type_: MemRefType) -> list[int]:
    """What a strided layout leaves open: axes of its strides, and -1 for its offset."""
    layout = type_.layout
    if layout is None:
        return []
    if not isinstance(layout, StridedLayout):
        raise TargetError(f"{type_}: only dense and strided layouts can be compiled")
    axes = [axis for axis, stride in enumerate(layout.strides) if stride == DYNAMIC]
    return axes + ([-1] if layout.offset == DYNAMIC else [])


def integer_literal(value: int, width: int) -> str:
    """A constant of iWIDTH, wrapped into its signed range."""
    if width == 1:
        return "true" if value & 1 else "false"
    value &= (1 << width) - 1
    return str(value - (1 << width) if value >> (width - 1) else value)


def float_literal(value: float, width: int) -> str:
    """A constant of float or double: LLVM writes both as the bits of a double."""
    if width == 32:
        value = _widened(np.float32(value))
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def _widened(value: np.float32) -> float:
    """The double of equal value; a NaN keeps its sign and payload, which a conversion might change."""
    if not np.isnan(value):
        return float(value)
    bits = int(value.view(np.uint32))
    wide = (bits >> 31) << 63 | 0x7FF << 52 | (bits & 0x7FFFFF) << 29
    return float(np.uint64(wide).view(np.float64))


def element_literal(value: Any, element: Type) -> str:
    """A NumPy scalar as a constant of an element type."""
    if isinstance(element, FloatType):
        if element.width in (32, 64):
            return float_literal(value, element.width)
        bits = np.asarray(value, numpy_dtype(element)).view(f"u{element_bytes(element)}")
        return integer_literal(int(bits), max(8, element.width))
    return integer_literal(int(value), bit_width(element))


def constant_literal(attribute: Attribute, type_: Type) -> str:
    """The text of a constant of a scalar or vector type."""
    element = element_of(type_)
    if isinstance(attribute, IntegerAttr):
        return integer_literal(attribute.value, bit_width(element))
    if isinstance(attribute, FloatAttr):
        return element_literal(attribute.value, element)
    if not isinstance(attribute, ElementsAttr):
        raise TargetError(f"a constant cannot be {attribute}")
    return lanes_literal(element, [element_literal(value, element) for value in attribute.numpy().reshape(-1)])


def lanes_literal(element: Type, lanes: list[str]) -> str:
    """A vector constant from the texts of its lanes."""
    scalar = scalar_type(element)
    if all(lane == lanes[0] for lane in lanes):
        return f"splat ({scalar} {lanes[0]})"
    return f"<{', '.join(f'{scalar} {lane}' for lane in lanes)}>"
