"""Places that index tensors name, and what is known of integer tensors before the model runs, so that guards which
never strike are not written."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.graph.base import constant_array, content, tensor_type
from stepwell.dialects.graph.indexing import out_of_range
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import IntegerType, bit_width, is_unsigned
from stepwell.lowering.to_tensor.places import Places


def bounds(value: Value) -> tuple[int, int] | None:
    """The least and the largest element that an integer tensor can hold: its constant's, or its type's.

    None for index tensors and for constants without elements."""
    array = constant_array(value)
    if array is not None and array.dtype.kind in "iub":
        return (int(array.min()), int(array.max())) if array.size else None
    known = content(value)
    if known and all(isinstance(item, int) for item in known):
        numbers = [int(item) for item in known if isinstance(item, int)]
        return min(numbers), max(numbers)
    if not isinstance(tensor_type(value).element, IntegerType):
        return None
    width = bit_width(value.type)
    return (0, (1 << width) - 1) if is_unsigned(value.type) else (-(1 << (width - 1)), (1 << (width - 1)) - 1)


def checked_place(p: Places, indices: Value, index: Value, axis: int, size: Dim) -> Value:
    """The place along an axis of this size that one element of the tensor `indices` names: negative ones count from the
    back, one out of range ends the run and is moved inside until then, where there is an inside. What is read there
    needs no guard of its own."""
    place, limit = p.index_of(index, is_unsigned(indices.type)), p.size(size)
    found = bounds(indices)
    wrapped = place if found is not None and found[0] >= 0 else p.wrapped(place, limit)
    if not always_inside(indices, size):
        p.require(p.compare("lt", wrapped, limit, unsigned=True), place, out_of_range(axis, size))
    return p.between(wrapped, p.whole(0), p.sub(limit, p.whole(1)))


def always_inside(indices: Value, size: Dim) -> bool:
    """Whether all elements are in [-size, size) for certain."""
    found = bounds(indices)
    return found is not None and isinstance(size, int) and -size <= found[0] and found[1] < size


def never_zero(value: Value) -> bool:
    """Whether an integer tensor is a constant without a zero."""
    array = constant_array(value)
    return array is not None and array.dtype.kind in "iu" and bool(np.all(array))
