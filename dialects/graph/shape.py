"""Ops on the shape alone: reshape, expand, and the sizes of a tensor as integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import (
    Array,
    Content,
    GraphOp,
    broadcast_shapes,
    constant_array,
    content,
    content_array,
    content_of,
    is_content_type,
    shape_of,
    tensor_type,
)
from stepwell.dialects.graph.demands import demand_equal
from stepwell.dialects.graph.symbols import ShapedByTypeOp, fresh_dim, run_time_shape
from stepwell.errors import IRError, UnknownError
from stepwell.ir.attributes import Attribute, ElementsAttr, elements
from stepwell.ir.attrkinds import BOOL, INT
from stepwell.ir.constraints import INDEX_LIST, TENSOR, tensor_with
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, divide_exact, proven_different
from stepwell.ir.opdef import attr, operand, optional_operand, result
from stepwell.ir.types import SI64, TensorType, Type

SHAPE_RESULT = tensor_with("a tensor of si64", lambda element: element is SI64)
EXPAND_FOLD_LIMIT = 64  # elements; a larger broadcast is cheaper as a broadcast than as a constant


def product(dims: Sequence[Dim]) -> Dim:
    """The number of elements of a shape."""
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


def show_shape(shape: Sequence[Dim]) -> str:
    """`[2, n]`, for messages."""
    return f"[{', '.join(map(str, shape))}]"


def list_size(value: Value, what: str) -> Dim:
    """The length of a rank-1 tensor. Raises IRError where it is none."""
    shape = shape_of(value)
    if len(shape) != 1:
        raise IRError(f"{what} must be a list, is {value.type}")
    return shape[0]


def check_list(value: Value, length: Dim, what: str) -> None:
    """Raise IRError where a value is no list, or proven to have another length."""
    size = list_size(value, what)
    if proven_different(size, length):
        raise IRError(f"{what} must have {length} elements, is {value.type}")
    demand_equal(size, length, f"the number of {what}")


def list_length(value: Value, what: str) -> int:
    """The length of a rank-1 tensor, which decides a rank. Raises IRError where there is none, UnknownError where it is
    symbolic."""
    length = list_size(value, what)
    if not isinstance(length, int):
        reason = f"the rank of the result is the length of {what}, which is {length}: ranks must be known"
        raise UnknownError(reason, sizes=[length])
    return length


def reshape_dims(shape: Sequence[Dim], target: Sequence[Dim], allow_zero: bool = False) -> tuple[Dim, ...]:
    """The shape that `target` stands for on an input of `shape`: -1 (once) is what is left over, 0 copies the
    input's dim at its place unless `allow_zero`. Raises IRError where the sizes cannot agree.

    The left-over is the exact quotient of the polynomials where there is one; copied dims cancel first, so that a
    batch of 0 works."""
    copied = set() if allow_zero else {index for index, dim in enumerate(target) if dim == 0}
    if any(index >= len(shape) for index in copied):
        raise IRError(f"target {show_shape(target)} copies a dim that the input {show_shape(shape)} does not have")
    unknown = [index for index, dim in enumerate(target) if dim == -1]
    if len(unknown) > 1:
        raise IRError(f"target {show_shape(target)} has -1 more than once")
    if any(isinstance(dim, int) and dim < -1 for dim in target):
        raise IRError(f"target {show_shape(target)} has a negative size other than -1")
    dims = [shape[index] if index in copied else dim for index, dim in enumerate(target)]
    if unknown:
        total = product([dim for index, dim in enumerate(shape) if index not in copied])
        known = product([dim for index, dim in enumerate(dims) if index not in copied and dim != -1])
        dims[unknown[0]] = _left_over(total, known, shape, target)
    check_same_size(shape, dims)
    return tuple(dims)


def _left_over(total: Dim, known: Dim, shape: Sequence[Dim], target: Sequence[Dim]) -> Dim:
    words = f"{show_shape(shape)} cannot be reshaped to {show_shape(target)}"
    if known == 0:
        raise IRError(f"{words}: with a size of 0, -1 could be anything")
    exact = divide_exact(total, known)
    if exact is not None:
        return exact
    if isinstance(total, int) and isinstance(known, int):
        raise IRError(f"{words}: {total} elements are not a multiple of {known}")
    return total // known


def check_same_size(shape: Sequence[Dim], dims: Sequence[Dim]) -> None:
    """Raise IRError where the two shapes are proven to have different numbers of elements."""
    before, after = product(shape), product(dims)
    if proven_different(before, after):
        raise IRError(f"{show_shape(shape)} has {before} elements and {show_shape(dims)} has {after}")
    demand_equal(before, after, f"the numbers of elements of {show_shape(shape)} and {show_shape(dims)}")


class ReshapeOp(ShapedByTypeOp):
    """The same elements in row-major order under another shape: the result type's.

    `shape` is present only where the sizes depend on data. Its elements are sizes; one -1 stands for what is left over,
    and 0 copies the input's size at its place unless `allow_zero`. ONNX: Reshape, Flatten, Squeeze, Unsqueeze.

    ```mlir
    %x = "test.value"() : () -> tensor<2x?x12xf32, #graph.shape<["n"]>>
    %r = graph.reshape %x : (tensor<2x?x12xf32, #graph.shape<["n"]>>) -> tensor<2x?x3x4xf32, #graph.shape<["n"]>>
    ```
    """

    name = "graph.reshape"
    decided_by = ("shape",)
    x: Value = operand(TENSOR)
    shape: Value | None = optional_operand(INDEX_LIST)
    allow_zero: bool = attr(BOOL, default=False)
    result: Value = result(TENSOR)

    @staticmethod
    def to(x: Value, dims: Sequence[Dim]) -> ReshapeOp:
        """A reshape to known sizes."""
        check_same_size(shape_of(x), dims)
        return ReshapeOp(x, result_types=[tensor_type(x).with_shape(dims)])

    def infer_types(self) -> Sequence[Type]:
        if self.shape is None:
            return self.known_types()
        target = content(self.shape)
        if target is not None:
            dims = reshape_dims(shape_of(self.x), target, self.allow_zero)
        else:
            rank = list_length(self.shape, "the target shape")
            dims = tuple(fresh_dim(self, "reshape", index) for index in range(rank))
        return [tensor_type(self.x).with_shape(dims)]

    def verify_op(self) -> None:
        check_same_size(shape_of(self.x), shape_of(self.result))

    def infer_content(self) -> Content | None:
        return content(self.x)

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        if self.x.type is self.result.type:
            return [self.x]
        return super().fold(constants)

    def compute(self, frame: Any, *args: Any) -> Any:
        x = np.asarray(args[0])
        if len(args) == 1:
            dims = run_time_shape(self, frame, args, self.result.type)
        else:
            sizes = reshape_dims(x.shape, [int(size) for size in args[1]], self.allow_zero)
            dims = tuple(int(size) for size in sizes)  # type: ignore[arg-type]
        if x.size != int(np.prod(dims)):
            raise IRError(f"{show_shape(x.shape)} cannot be reshaped to {show_shape(dims)}")
        return x.reshape(dims)


class ExpandOp(ShapedByTypeOp):
    """NumPy's broadcast of the operand to the result type's shape.

    `shape` is present only where the sizes depend on data; the result then has the broadcast of both shapes.
    ONNX: Expand, ConstantOfShape.

    ```mlir
    %x = "test.value"() : () -> tensor<3x1xf32>
    %r = graph.expand %x : (tensor<3x1xf32>) -> tensor<2x3x?xf32, #graph.shape<["n"]>>
    ```
    """

    name = "graph.expand"
    decided_by = ("shape",)
    x: Value = operand(TENSOR)
    shape: Value | None = optional_operand(INDEX_LIST)
    result: Value = result(TENSOR)

    @staticmethod
    def to(x: Value, dims: Sequence[Dim]) -> ExpandOp:
        """A broadcast to known sizes."""
        return ExpandOp(x, result_types=[tensor_type(x).with_shape(broadcast_shapes(shape_of(x), dims))])

    def infer_types(self) -> Sequence[Type]:
        if self.shape is None:
            return self.known_types()
        target = content(self.shape)
        if target is None:
            target = self._fresh_target(list_length(self.shape, "the target shape"))
        return [tensor_type(self.x).with_shape(broadcast_shapes(shape_of(self.x), target))]

    def _fresh_target(self, length: int) -> Content:
        """Sizes under a dim that is known not to be 1 are that dim; the others are new."""
        known = (1,) * (length - tensor_type(self.x).rank) + shape_of(self.x)[-length:] if length else ()
        made = 0
        target: list[Dim] = []
        for dim in known:
            if isinstance(dim, int) and dim != 1:
                target.append(dim)
            else:
                target.append(fresh_dim(self, "expand", made))
                made += 1
        return tuple(target)

    def verify_op(self) -> None:
        if tensor_type(self.result).rank < tensor_type(self.x).rank:
            raise IRError(f"{self.x.type} cannot be expanded to {self.result.type}")
        broadcast_shapes(shape_of(self.x), shape_of(self.result))

    def infer_content(self) -> Content | None:
        found = content_array(self.x)
        if found is None or not is_content_type(self.result.type):
            return None
        return content_of(np.broadcast_to(found, tensor_type(self.result).static_shape))

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        if self.x.type is self.result.type:
            return [self.x]
        type_ = tensor_type(self.result)
        small = type_.is_static and int(np.prod(type_.static_shape)) <= EXPAND_FOLD_LIMIT
        return super().fold(constants) if small else None

    def compute(self, frame: Any, *args: Any) -> Any:
        x = np.asarray(args[0])
        if len(args) == 1:
            return np.broadcast_to(x, run_time_shape(self, frame, args, self.result.type))
        return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(size) for size in args[1])))


def content_attribute(op: GraphOp) -> ElementsAttr | None:
    """The result of an integer op as elements, where its content is all integers."""
    found = op.infer_content()
    if found is None or not all(isinstance(dim, int) for dim in found):
        return None
    type_ = tensor_type(op.results[0])
    return elements(np.array(found, np.int64).reshape(type_.static_shape), type_)


class ShapeOp(GraphOp):
    """The sizes `start` to `end` (exclusive) of the operand's dims, as si64. ONNX: Shape.

    ```mlir
    %x = "test.value"() : () -> tensor<2x?xf32, #graph.shape<["n"]>>
    %r = graph.shape %x {end = 2 : i64, start = 0 : i64} : (tensor<2x?xf32, #graph.shape<["n"]>>) -> tensor<2xsi64>
    ```
    """

    name = "graph.shape"
    x: Value = operand(TENSOR)
    start: int = attr(INT)
    end: int = attr(INT)
    result: Value = result(SHAPE_RESULT)

    def infer_types(self) -> Sequence[Type]:
        rank = tensor_type(self.x).rank
        if not 0 <= self.start <= self.end <= rank:
            raise IRError(f"dims {self.start} to {self.end} are not among those of rank {rank}")
        return [TensorType((self.end - self.start,), SI64)]

    def infer_content(self) -> Content | None:
        return shape_of(self.x)[self.start : self.end]

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        found = content_attribute(self)
        return None if found is None else [found]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.array(np.shape(args[0])[self.start : self.end], np.int64)


class SizeOp(GraphOp):
    """The number of elements, as an si64 scalar. ONNX: Size.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %r = graph.size %x : (tensor<2x3xf32>) -> tensor<si64>
    ```
    """

    name = "graph.size"
    x: Value = operand(TENSOR)
    result: Value = result(SHAPE_RESULT)

    def infer_types(self) -> Sequence[Type]:
        return [TensorType((), SI64)]

    def infer_content(self) -> Content | None:
        return (product(shape_of(self.x)),)

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        found = content_attribute(self)
        return None if found is None else [found]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.array(np.size(args[0]), np.int64)


def known_scalar(value: Value | None) -> Array | None:
    """The array of one element that a constant, or a broadcast of it, holds everywhere."""
    op = value.defining_op if value is not None else None
    if isinstance(op, ExpandOp):
        return known_scalar(op.x)
    array = constant_array(value)
    return array.reshape(-1)[0] if array is not None and array.size == 1 else None
