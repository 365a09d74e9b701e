"""Tensors that the caller keeps from call to call, in memory with room for more rows than there are.

The larger tensor, with all rows that there is room for, is a value like any other; which of its rows mean something is
for those to know who read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.tensor_base import DimsAttr, concrete, tensor_type
from stepwell.errors import IRError
from stepwell.ir.attrkinds import INT, attr_of
from stepwell.ir.constraints import TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import proven_different
from stepwell.ir.opdef import PURE, Op, attr, operand, result
from stepwell.ir.types import TensorType, Type


def with_rows(type_: TensorType, axis: int, rows: Any) -> TensorType:
    """The type with another size along an axis. Raises IRError where there is no such axis."""
    if not 0 <= axis < type_.rank:
        raise IRError(f"axis {axis} of {type_}")
    return type_.with_shape([*type_.shape[:axis], rows, *type_.shape[axis + 1 :]])


class RoomOp(Op):
    """An argument that the caller keeps, with all `capacity` rows along `axis` that its memory has. Those behind the
    argument's own mean nothing (zeros in the interpreter).

    ```mlir
    %past = "test.value"() : () -> tensor<2x?xf32, #graph.shape<["past"]>>
    %r = tensor.room %past {axis = 1 : i64, capacity = 64 : i64} : (tensor<2x?xf32, #graph.shape<["past"]>>) -> tensor<2x64xf32>
    ```
    """  # noqa: E501

    name = "tensor.room"
    traits = frozenset({PURE})
    x: Value = operand(TENSOR)
    axis: int = attr(INT)
    capacity: int = attr(INT)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        return [with_rows(tensor_type(self.x), self.axis, self.capacity)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        (x,) = args
        missing = self.capacity - x.shape[self.axis]
        if missing < 0:
            raise IRError(f"{x.shape[self.axis]} rows where there is room for {self.capacity}")
        return np.pad(x, [(0, missing if axis == self.axis else 0) for axis in range(x.ndim)])


class AppendOp(Op):
    """The rows of `new` in the place of those of `room` from `at` on, along `axis`. The result lies where `room` lies;
    who reads rows of `room` before `at` may do so before and after.

    ```mlir
    %room = "test.value"() : () -> tensor<2x64xf32>
    %new = "test.value"() : () -> tensor<2x1xf32>
    %r = tensor.append %room, %new {at = #tensor.dims<["past"]>, axis = 1 : i64} : (tensor<2x64xf32>, tensor<2x1xf32>) -> tensor<2x64xf32>
    ```
    """  # noqa: E501

    name = "tensor.append"
    traits = frozenset({PURE})
    room: Value = operand(TENSOR)
    new: Value = operand(TENSOR)
    axis: int = attr(INT)
    at: DimsAttr = attr(attr_of(DimsAttr))
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        room, new = tensor_type(self.room), tensor_type(self.new)
        if new.rank != room.rank or new.element is not room.element or len(self.at.dims) != 1:
            raise IRError(f"{new} does not go into {room}")
        rest = zip(with_rows(room, self.axis, 0).shape, with_rows(new, self.axis, 0).shape, strict=True)
        if any(proven_different(a, b) for a, b in rest):
            raise IRError(f"{new} does not go into {room} along axis {self.axis}")
        return [room]

    def interpret(self, frame: Any, *args: Any) -> Any:
        room, new = args
        start = concrete(self.at.dims[0], frame)
        if start + new.shape[self.axis] > room.shape[self.axis]:
            raise IRError(f"{new.shape[self.axis]} rows from row {start} on, where there are {room.shape[self.axis]}")
        made = room.copy()
        made[(slice(None),) * self.axis + (slice(start, start + new.shape[self.axis]),)] = new
        return made


class RowsOp(Op):
    """The first `count` rows along `axis`.

    ```mlir
    %room = "test.value"() : () -> tensor<2x64xf32>
    %r = tensor.rows %room {axis = 1 : i64, count = #tensor.dims<["past + 1"]>} : (tensor<2x64xf32>) -> tensor<2x?xf32, #graph.shape<["past + 1"]>>
    ```
    """  # noqa: E501

    name = "tensor.rows"
    traits = frozenset({PURE})
    room: Value = operand(TENSOR)
    axis: int = attr(INT)
    count: DimsAttr = attr(attr_of(DimsAttr))
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        if len(self.count.dims) != 1:
            raise IRError(f"one count, not {len(self.count.dims)}")
        return [with_rows(tensor_type(self.room), self.axis, self.count.dims[0])]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return args[0][(slice(None),) * self.axis + (slice(0, concrete(self.count.dims[0], frame)),)]
