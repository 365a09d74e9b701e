"""How the body of a map gets each of its operands: at an affine place, as a constant, or stretched at run time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.arith import ConstantOp as ScalarConstant
from stepwell.dialects.arith import attribute_of
from stepwell.dialects.tensor import ConstantOp, ReadOp, ReshapeOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.attributes import Attribute
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, proven_equal
from stepwell.ir.types import INDEX, FloatType, IntegerType
from stepwell.lowering.to_tensor.scalars import Scalars

SPLAT_LIMIT = 64  # elements that are compared to find out whether a constant is one number


@attrs.frozen(eq=False)
class Mapped:
    """An input that is read at the place its map gives."""

    value: Value
    map: AffineMap

    def element(self, s: Scalars, elements: Iterator[Value], tensors: Iterator[Value]) -> Value:
        """The body's argument."""
        return next(elements)


@attrs.frozen(eq=False)
class Splat:
    """A constant whose elements are one number."""

    number: Attribute

    def element(self, s: Scalars, elements: Iterator[Value], tensors: Iterator[Value]) -> Value:
        """A constant in the body."""
        return s.emit(ScalarConstant(value=self.number))


@attrs.frozen(eq=False)
class Stretched:
    """A source with dims of which only run time tells whether they are 1, and so broadcast, or equal to the space's."""

    value: Value
    space: Sequence[Dim]

    def element(self, s: Scalars, elements: Iterator[Value], tensors: Iterator[Value]) -> Value:
        """%x[%i * (size == 1 ? 0 : 1), ...]"""
        type_, zero, one = tensor_type(self.value), s.constant(0, INDEX), s.constant(1, INDEX)
        places = []
        for axis, size in enumerate(type_.shape, start=len(self.space) - type_.rank):
            place = zero if size == 1 else s.index(axis)
            if not is_aligned(size, self.space[axis]):
                stride = s.select(s.compare("eq", s.size(size), one), zero, one)
                place = s.mul(place, stride)
            places.append(place)
        return s.emit(ReadOp(next(tensors), places, s.constant(0, type_.element)))


def is_aligned(size: Dim, target: Dim) -> bool:
    """Whether it is known how a dim broadcasts to another one: it is 1, or a number, or equal to it."""
    return isinstance(size, int) or proven_equal(size, target)


Operand = Mapped | Splat | Stretched


def operand_of(value: Value, map_: AffineMap | None, space: Sequence[Dim]) -> Operand:
    """How a map over `space` reads a tensor; without a map it broadcasts."""
    number = splat_of(value)
    if number is not None:
        return Splat(number)
    if map_ is None:
        shape = tensor_type(value).shape
        places: list[AffineExpr] = []
        for axis, size in enumerate(shape, start=len(space) - len(shape)):
            if not is_aligned(size, space[axis]):
                return Stretched(value, space)
            places.append(const(0) if size == 1 and space[axis] != 1 else dim(axis))
        map_ = AffineMap(len(space), 0, places)
    return Mapped(*without_unit_dims(value, map_))


def known_below(value: Value | None) -> np.ndarray[Any, Any] | None:
    """The array that stands for a constant at the tensor landing."""
    op = value.defining_op if value is not None else None
    return op.value.numpy() if isinstance(op, ConstantOp) else None


def splat_of(value: Value) -> Attribute | None:
    """The number that all elements of a small constant are, bit for bit."""
    op = value.defining_op
    if not isinstance(op, ConstantOp):
        return None
    type_ = op.value.tensor_type
    count = int(np.prod(type_.static_shape))
    if not isinstance(type_.element, (FloatType, IntegerType)) or not 1 <= count <= SPLAT_LIMIT:
        return None
    array = op.value.numpy().reshape(-1)
    if any(item.tobytes() != array[0].tobytes() for item in array[1:]):
        return None
    return attribute_of(array[0], type_.element)


def without_unit_dims(value: Value, map_: AffineMap) -> tuple[Value, AffineMap]:
    """A tensor that a reshape only gave or took dims of size 1 is read where the reshape reads it.

    reshape %x : tensor<4xf32> -> tensor<4x1xf32>, read at (d0, 0)  ->  %x read at (d0)"""
    while isinstance(value.defining_op, ReshapeOp):
        source = value.defining_op.x
        outer = [n for n, size in enumerate(tensor_type(value).shape) if size != 1]
        shape = tensor_type(source).shape
        if [tensor_type(value).shape[n] for n in outer] != [size for size in shape if size != 1]:
            break
        places = iter(map_.results[n] for n in outer)
        map_ = AffineMap(map_.num_dims, 0, [const(0) if size == 1 else next(places) for size in shape])
        value = source
    return value, map_
