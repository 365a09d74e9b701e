"""What export functions share: casts around an operator that knows fewer types, lists of integers, scalars, windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import shape_of
from stepwell.frontends.onnx.element_types import ELEMENT_NUMBERS
from stepwell.frontends.onnx.operators import element_text
from stepwell.frontends.onnx.writer import Writer, element_of
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import F32, SI32, SI64, FloatType, IntegerType, Signedness, Type, numpy_dtype

Item = Value | str


def number_of(element: Type) -> int:
    """The number that an attribute gives to an element type. Raises Unsupported for one that ONNX lacks."""
    element_text(element)
    return ELEMENT_NUMBERS[element]


def cast(writer: Writer, x: Item, element: Type) -> Item:
    """x in another element type; x itself where it is known to have that type."""
    if isinstance(x, Value) and element_of(x) is element:
        return x
    return writer.make("Cast", [x], to=number_of(element))


def finish(writer: Writer, made: str, computed: Type, result: Value) -> None:
    """The last step: what was computed in one element type, as the result in its own."""
    if computed is element_of(result):
        writer.node("Identity", [made], [result])
    else:
        writer.node("Cast", [made], [result], to=number_of(element_of(result)))


def through(writer: Writer, op: Operation, element: Type, emit: Callable[[Sequence[Item]], str]) -> None:
    """op(x, y) -> cast(emit(cast(x), cast(y))) in another element type; without casts where x has that type."""
    made = emit([cast(writer, operand, element) for operand in op.operands])
    finish(writer, made, element, op.results[0])


def wide_integer(element: Type) -> Type:
    """An integer type that has the same low bits and that all operators know: si32, or si64 for ui32."""
    if isinstance(element, IntegerType) and element.width < 32:
        return SI32
    return SI64 if isinstance(element, IntegerType) and element.width == 32 else element


def wide(element: Type) -> Type:
    """The float type in which floats are computed: f32 for narrower ones."""
    return F32 if isinstance(element, FloatType) and element.width < 32 else element


def is_float(value: Value) -> bool:
    """Whether a value holds floats."""
    return isinstance(element_of(value), FloatType)


def is_unsigned(value: Value) -> bool:
    """Whether a value holds unsigned integers."""
    element = element_of(value)
    return isinstance(element, IntegerType) and element.signedness is Signedness.UNSIGNED


def integers(writer: Writer, values: Sequence[int], hint: str = "list") -> str:
    """A constant list of int64."""
    return writer.constant(np.array(values, np.int64), hint)


def scalar(writer: Writer, number: Any, element: Type) -> str:
    """A constant of rank 0."""
    return writer.constant(np.array(number).astype(numpy_dtype(element)), "scalar")


def as_int64(writer: Writer, x: Value) -> Item:
    """A list or scalar of integers in int64."""
    return cast(writer, x, SI64)


def as_index(writer: Writer, x: Value) -> Item:
    """Indices in int64, where they are neither that nor int32."""
    return x if element_of(x) in (SI32, SI64) else cast(writer, x, SI64)


def as_scalar(writer: Writer, x: Value | None) -> Item | None:
    """A tensor of one element as one of rank 0."""
    return x if x is None or not shape_of(x) else writer.make("Reshape", [x, integers(writer, [])])


def as_list(writer: Writer, x: Value | None) -> Item | None:
    """A tensor of one element as one of rank 1."""
    return x if x is None or len(shape_of(x)) == 1 else writer.make("Reshape", [x, integers(writer, [1])])


def reshaped(writer: Writer, x: Item, dims: Sequence[Dim]) -> str:
    """x under another shape, of sizes that may be symbolic."""
    return writer.make("Reshape", [x, writer.shape(dims)], allowzero=int(0 in dims) or None)


def window_attributes(op: Any, kernel: Sequence[Dim] | None = None) -> dict[str, Any]:
    """strides, dilations, pads or auto_pad, and kernel_shape where it is known."""
    kernel = op.kernel if kernel is None else kernel
    padding = {"same_upper": "SAME_UPPER", "same_lower": "SAME_LOWER"}.get(op.padding)
    static = all(isinstance(size, int) for size in kernel)
    return {
        "kernel_shape": list(kernel) if static else None, "strides": list(op.strides), "dilations": list(op.dilations),
        "pads": None if padding else list(op.pads), "auto_pad": padding,
    }  # fmt: skip
