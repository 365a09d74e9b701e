"""Reading through indices: gather along an axis, by element, by index tuples; one-hot encoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import (
    Array,
    Content,
    GraphOp,
    constant_array,
    content,
    content_array,
    content_of,
    is_content_type,
    shape_of,
    tensor_type,
)
from stepwell.dialects.graph.demands import demand_at_most
from stepwell.dialects.graph.movement import agree, check_axis
from stepwell.dialects.graph.shape import check_list, show_shape
from stepwell.dialects.graph.symbols import DataDependentOp, fresh_dim
from stepwell.errors import IRError, RuntimeError, UnknownError
from stepwell.ir.attrkinds import INT
from stepwell.ir.constraints import INT_TENSOR, NUMERIC_TENSOR, TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.opdef import attr, operand, result
from stepwell.ir.types import Type, numpy_dtype


def checked_indices(indices: Array, size: int, axis: int) -> Array:
    """Indices counted from the front. Raises RuntimeError for one outside [-size, size)."""
    wide = np.asarray(indices).astype(np.int64)
    wrapped = np.where(wide < 0, wide + size, wide)
    bad = (wrapped < 0) | (wrapped >= size)
    if bad.any():
        raise RuntimeError(out_of_range(axis, size), int(wide[bad].flat[0]))
    return wrapped


def out_of_range(axis: int, size: Dim) -> str:
    """What is wrong with an index outside [-size, size)."""
    return f"index out of range for axis {axis} of size {size}"


def check_constant_indices(indices: Value, size: Dim, axis: int) -> None:
    """Raise IRError where indices known at compile time are out of range of a known size."""
    found = content(indices)
    if found is None or not isinstance(size, int):
        return
    for index in found:
        if isinstance(index, int) and not -size <= index < size:
            raise IRError(f"index {index} is out of range for axis {axis} of size {size}")


def known_integers(value: Value) -> list[int] | None:
    """The elements of an integer tensor of any rank, in row-major order, where all are known."""
    array = constant_array(value)
    if array is not None:
        return [int(v) for v in array.reshape(-1)]
    found = content(value)
    if found is None:
        return None
    known = [dim for dim in found if isinstance(dim, int)]
    return known if len(known) == len(found) else None


def scalar_dim(value: Value) -> Dim | None:
    """The size that a tensor of one element holds, where it is known; a constant may be of any number type."""
    found = content(value)
    if found is not None:
        return found[0] if len(found) == 1 else None
    array = constant_array(value)
    return int(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def check_one_element(value: Value, what: str) -> None:
    """Raise IRError unless the tensor has one element."""
    if any(dim != 1 for dim in shape_of(value)):
        raise IRError(f"{what} must be one number, is {value.type}")


class GatherOp(GraphOp):
    """The entries of `x` along `axis` that `indices` names; the shape of `indices` takes the axis' place. A negative
    index counts from the back; one out of range is an error. ONNX: Gather, Compress.

    ```mlir
    %x = "test.value"() : () -> tensor<5x3xf32>
    %i = "test.value"() : () -> tensor<2x?xsi64, #graph.shape<["n"]>>
    %r = graph.gather %x, %i {axis = 1 : i64} : (tensor<5x3xf32>, tensor<2x?xsi64, #graph.shape<["n"]>>) -> tensor<5x2x?xf32, #graph.shape<["n"]>>
    ```
    """  # noqa: E501

    name = "graph.gather"
    x: Value = operand(TENSOR)
    indices: Value = operand(INT_TENSOR)
    axis: int = attr(INT)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape = shape_of(self.x)
        check_axis(self.axis, len(shape))
        check_constant_indices(self.indices, shape[self.axis], self.axis)
        known = known_integers(self.indices) or ()
        for index in sorted({min(known), max(known)}) if known else ():
            least = index + 1 if index >= 0 else -index
            demand_at_most(least, shape[self.axis], f"entries along axis {self.axis} for the index {index}")
        picked = (*shape[: self.axis], *shape_of(self.indices), *shape[self.axis + 1 :])
        return [tensor_type(self.x).with_shape(picked)]

    def infer_content(self) -> Content | None:
        found, indices = content_array(self.x), known_integers(self.indices)
        if found is None or indices is None or not is_content_type(self.result.type):
            return None
        size = found.shape[self.axis]
        if not all(-size <= index < size for index in indices):
            return None
        places = np.array(indices, np.int64).reshape(tensor_type(self.indices).static_shape)
        return content_of(np.take(found, places, self.axis))

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, indices = args
        return np.take(x, checked_indices(indices, x.shape[self.axis], self.axis), self.axis)


class GatherElementsOp(GraphOp):
    """`r[i, j] = x[indices[i, j], j]` for axis 0, alike for others; the result has the shape of `indices`.
    A negative index counts from the back; one out of range is an error. ONNX: GatherElements.

    ```mlir
    %x = "test.value"() : () -> tensor<3x4xf32>
    %i = "test.value"() : () -> tensor<2x4xsi64>
    %r = graph.gather_elements %x, %i {axis = 0 : i64} : (tensor<3x4xf32>, tensor<2x4xsi64>) -> tensor<2x4xf32>
    ```
    """

    name = "graph.gather_elements"
    x: Value = operand(TENSOR)
    indices: Value = operand(INT_TENSOR)
    axis: int = attr(INT)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape, picked = shape_of(self.x), shape_of(self.indices)
        check_axis(self.axis, len(shape))
        check_element_indices(shape, picked, self.axis)
        return [tensor_type(self.x).with_shape(picked)]

    def infer_content(self) -> Content | None:
        found, indices = content(self.x), known_integers(self.indices)
        if found is None or indices is None or len(shape_of(self.x)) != 1 or not is_content_type(self.result.type):
            return None
        in_range = all(-len(found) <= index < len(found) for index in indices)
        return tuple(found[index] for index in indices) if in_range else None

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, indices = args
        return x[element_indices(indices, x.shape[self.axis], self.axis)]


def check_element_indices(shape: Sequence[Dim], indices: Sequence[Dim], axis: int) -> None:
    """Raise IRError where the shape of per-element indices does not fit into the data's off the axis."""
    if len(shape) != len(indices):
        raise IRError(f"data of rank {len(shape)} and indices of rank {len(indices)}")
    for other, (dim, size) in enumerate(zip(shape, indices, strict=True)):
        if other == axis:
            continue
        if isinstance(dim, int) and isinstance(size, int) and size > dim:
            raise IRError(f"indices of shape {show_shape(indices)} reach beyond data of shape {show_shape(shape)}")
        demand_at_most(size, dim, f"indices and data along axis {other}")


def element_indices(indices: Array, size: int, axis: int) -> tuple[Array, ...]:
    """The full index tuple of per-element indices along an axis."""
    grid: list[Array] = list(np.indices(indices.shape, sparse=True))
    grid[axis] = checked_indices(indices, size, axis)
    return tuple(grid)


class GatherNDOp(GraphOp):
    """The innermost dim of `indices` holds index tuples into the leading dims of `x`, behind `batch_dims` dims that
    both share. Negative indices count from the back; one out of range is an error. ONNX: GatherND.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3x4xf32>
    %i = "test.value"() : () -> tensor<2x5x1xsi64>
    %r = graph.gather_nd %x, %i {batch_dims = 1 : i64} : (tensor<2x3x4xf32>, tensor<2x5x1xsi64>) -> tensor<2x5x4xf32>
    ```
    """

    name = "graph.gather_nd"
    x: Value = operand(TENSOR)
    indices: Value = operand(INT_TENSOR)
    batch_dims: int = attr(INT, default=0)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape, indices, batch = shape_of(self.x), shape_of(self.indices), self.batch_dims
        depth = tuple_length(shape, indices, batch)
        leading = [agree(shape[axis], indices[axis], f"batch dim {axis}") for axis in range(batch)]
        return [tensor_type(self.x).with_shape((*leading, *indices[batch:-1], *shape[batch + depth :]))]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, indices = args
        return x[nd_indices(indices, x.shape, self.batch_dims)]


def tuple_length(shape: Sequence[Dim], indices: Sequence[Dim], batch: int) -> int:
    """The length of the index tuples. Raises IRError where they do not fit the data's rank."""
    if not shape or not indices:
        raise IRError("index tuples need data and indices of rank 1 or more")
    depth = indices[-1]
    if not isinstance(depth, int):
        raise UnknownError(f"the length {depth} of the index tuples decides a rank: it must be known", sizes=[depth])
    if not 0 <= batch < min(len(shape), len(indices)):
        raise IRError(f"batch_dims {batch} is too large for ranks {len(shape)} and {len(indices)}")
    if depth < 1:
        raise IRError("index tuples of length 0")
    if batch + depth > len(shape):
        raise IRError(f"index tuples of length {depth} behind {batch} batch dims exceed rank {len(shape)}")
    return depth


def nd_indices(indices: Array, shape: Sequence[int], batch: int) -> tuple[Array, ...]:
    """The full index tuple of index tuples behind shared batch dims."""
    leading = np.indices(indices.shape[:-1], sparse=True)[:batch] if batch else ()
    parts = [
        checked_indices(indices[..., position], shape[batch + position], batch + position)
        for position in range(indices.shape[-1])
    ]
    return (*leading, *parts)


class OneHotOp(DataDependentOp):
    """`values[1]` where the position along the new dim `axis`, of size `depth`, is the index; `values[0]` elsewhere and
    for indices outside [-depth, depth). ONNX: OneHot.

    ```mlir
    %i = "test.value"() : () -> tensor<3xsi64>
    %d = graph.constant dense<5> : tensor<si64>
    %v = graph.constant dense<[0.0, 1.0]> : tensor<2xf32>
    %r = graph.one_hot %i, %d, %v {axis = 1 : i64} : (tensor<3xsi64>, tensor<si64>, tensor<2xf32>) -> tensor<3x5xf32>
    ```
    """

    name = "graph.one_hot"
    decided_by = ("depth",)
    indices: Value = operand(NUMERIC_TENSOR)
    depth: Value = operand(NUMERIC_TENSOR)
    values: Value = operand(TENSOR)
    axis: int = attr(INT)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape = shape_of(self.indices)
        check_axis(self.axis, len(shape) + 1)
        check_one_element(self.depth, "depth")
        check_list(self.values, 2, "values")
        depth = scalar_dim(self.depth)
        if depth is None:
            depth = fresh_dim(self, "one_hot")
        elif isinstance(depth, int) and depth < 0:
            raise IRError(f"depth {depth} is negative")
        return [tensor_type(self.values).with_shape((*shape[: self.axis], depth, *shape[self.axis :]))]

    def infer_content(self) -> Content | None:
        values, places, size = content(self.values), known_integers(self.indices), scalar_dim(self.depth)
        if values is None or places is None or not isinstance(size, int) or not is_content_type(self.result.type):
            return None
        array = np.array(places, numpy_dtype(tensor_type(self.indices))).reshape(tensor_type(self.indices).static_shape)
        return content_of(self._chosen(array, size, np.array(values, object)))

    def compute(self, frame: Any, *args: Any) -> Any:
        indices, depth, values = args
        size = int(np.asarray(depth).reshape(-1)[0])
        places = np.asarray(indices)
        return self._chosen(places if places.dtype.kind == "u" else places.astype(np.int64), size, values)

    def _chosen(self, indices: Array, size: int, values: Array) -> Array:
        wrapped = np.expand_dims(np.where(indices < 0, indices + size, indices), self.axis)
        places = np.arange(size).reshape([-1 if axis == self.axis else 1 for axis in range(indices.ndim + 1)])
        return np.asarray(np.take(values, (wrapped == places).astype(np.int64)))
