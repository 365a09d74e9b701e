"""Writing through indices: scatter by element and by index tuples, and the update of a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, Content, GraphOp, content, same_element, shape_of, tensor_type
from stepwell.dialects.graph.demands import demand_at_most
from stepwell.dialects.graph.indexing import (
    check_element_indices,
    element_indices,
    known_integers,
    nd_indices,
    tuple_length,
)
from stepwell.dialects.graph.movement import agree, check_axis
from stepwell.dialects.graph.shape import list_size
from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attrkinds import BOOL, INT, enum
from stepwell.ir.constraints import INDEX_LIST, INT_TENSOR, TENSOR
from stepwell.ir.core import Value
from stepwell.ir.opdef import attr, operand, optional_operand, result
from stepwell.ir.types import Type, is_float, is_integer

REDUCTIONS = {"none": None, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _check_reduction(reduction: str, x: Value) -> None:
    if reduction != "none" and not (is_float(x.type) or is_integer(x.type)):
        raise IRError(f"cannot scatter {tensor_type(x).element} elements with reduction {reduction}")


def scatter_into(x: Array, index: tuple[Any, ...], updates: Array, reduction: str) -> Array:
    """A copy of `x` with updates written or combined at the indexed places, in row-major order of the updates.

    Floats narrower than f32 are combined in f32 and rounded once."""
    combine = REDUCTIONS[reduction]
    if combine is None:
        out = x.copy()
        out[index] = updates
        return out
    narrow = x.dtype.kind in "fV" and x.dtype.itemsize < 4
    out = x.astype(np.float32) if narrow else x.copy()
    with np.errstate(all="ignore"):
        combine.at(out, index, updates.astype(out.dtype))
    return out.astype(x.dtype)


def _scattered_content(x: Value, indices: Value, updates: Value, reduction: str) -> Content | None:
    found, places, new = content(x), known_integers(indices), content(updates)
    if len(shape_of(x)) != 1 or reduction != "none" or found is None or places is None or new is None:
        return None
    if len(places) != len(new):
        return None
    out = list(found)
    for place, dim in zip(places, new, strict=True):
        if not -len(out) <= place < len(out):
            return None
        out[place] = dim
    return tuple(out)


class ScatterElementsOp(GraphOp):
    """`x` with `r[indices[i, j], j] = updates[i, j]` for axis 0, alike for others; with a reduction the update is
    combined with what is there. Of several updates without reduction to one place the last holds. A negative index
    counts from the back; one out of range is an error. ONNX: ScatterElements, Scatter, MaxUnpool.

    ```mlir
    %x = "test.value"() : () -> tensor<3x4xf32>
    %i = "test.value"() : () -> tensor<2x4xsi64>
    %u = "test.value"() : () -> tensor<2x4xf32>
    %r = graph.scatter_elements %x, %i, %u {axis = 0 : i64, reduction = "add"} : (tensor<3x4xf32>, tensor<2x4xsi64>, tensor<2x4xf32>) -> tensor<3x4xf32>
    ```
    """  # noqa: E501

    name = "graph.scatter_elements"
    x: Value = operand(TENSOR)
    indices: Value = operand(INT_TENSOR)
    updates: Value = operand(TENSOR)
    axis: int = attr(INT)
    reduction: str = attr(enum(*REDUCTIONS), default="none")
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape, places = shape_of(self.x), shape_of(self.indices)
        check_axis(self.axis, len(shape))
        check_element_indices(shape, places, self.axis)
        same_element(self.x, self.updates)
        _check_reduction(self.reduction, self.x)
        if len(shape_of(self.updates)) != len(places):
            raise IRError(f"updates {self.updates.type} and indices {self.indices.type} differ in rank")
        for dim, other in zip(places, shape_of(self.updates), strict=True):
            agree(dim, other, "indices and updates")
        return [self.x.type]

    def infer_content(self) -> Content | None:
        return _scattered_content(self.x, self.indices, self.updates, self.reduction)

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, indices, updates = args
        return scatter_into(x, element_indices(indices, x.shape[self.axis], self.axis), updates, self.reduction)


class ScatterNDOp(GraphOp):
    """`x` with `r[indices[i, j]] = updates[i, j]`, where the innermost dim of `indices` holds index tuples into the
    leading dims of `x`; with a reduction the update is combined with what is there. Of several updates without
    reduction to one place the last holds. An index out of range is an error. ONNX: ScatterND.

    ```mlir
    %x = "test.value"() : () -> tensor<3x4xf32>
    %i = "test.value"() : () -> tensor<2x1xsi64>
    %u = "test.value"() : () -> tensor<2x4xf32>
    %r = graph.scatter_nd %x, %i, %u {reduction = "max"} : (tensor<3x4xf32>, tensor<2x1xsi64>, tensor<2x4xf32>) -> tensor<3x4xf32>
    ```
    """  # noqa: E501

    name = "graph.scatter_nd"
    x: Value = operand(TENSOR)
    indices: Value = operand(INT_TENSOR)
    updates: Value = operand(TENSOR)
    reduction: str = attr(enum(*REDUCTIONS), default="none")
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape, indices, updates = shape_of(self.x), shape_of(self.indices), shape_of(self.updates)
        depth = tuple_length(shape, indices, 0)
        same_element(self.x, self.updates)
        _check_reduction(self.reduction, self.x)
        expected = (*indices[:-1], *shape[depth:])
        if len(updates) != len(expected):
            raise IRError(f"updates must have rank {len(expected)}, is {self.updates.type}")
        for axis, (dim, other) in enumerate(zip(expected, updates, strict=True)):
            agree(dim, other, f"axis {axis} of the updates")
        return [self.x.type]

    def infer_content(self) -> Content | None:
        return _scattered_content(self.x, self.indices, self.updates, self.reduction)

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, indices, updates = args
        return scatter_into(x, nd_indices(indices, x.shape, 0), updates, self.reduction)


class TensorScatterOp(GraphOp):
    """A cache with `update` written along `axis`, in batch entry b (on axis 0) from position `write_indices[b]` on
    (absent: 0). `circular` positions wrap around; else one beyond the end is an error. ONNX: TensorScatter.

    ```mlir
    %c = "test.value"() : () -> tensor<2x4x8x16xf32>
    %u = "test.value"() : () -> tensor<2x4x1x16xf32>
    %i = "test.value"() : () -> tensor<2xsi64>
    %r = graph.tensor_scatter %c, %u, %i {axis = 2 : i64, circular = false} : (tensor<2x4x8x16xf32>, tensor<2x4x1x16xf32>, tensor<2xsi64>) -> tensor<2x4x8x16xf32>
    ```
    """  # noqa: E501

    name = "graph.tensor_scatter"
    cache: Value = operand(TENSOR)
    update: Value = operand(TENSOR)
    write_indices: Value | None = optional_operand(INDEX_LIST)
    axis: int = attr(INT)
    circular: bool = attr(BOOL, default=False)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        cache, update = shape_of(self.cache), shape_of(self.update)
        check_axis(self.axis, len(cache))
        if self.axis == 0:
            raise IRError("axis 0 is the batch: a cache is written along another axis")
        same_element(self.cache, self.update)
        if len(cache) != len(update):
            raise IRError(f"cache {self.cache.type} and update {self.update.type} differ in rank")
        for axis, (dim, other) in enumerate(zip(cache, update, strict=True)):
            if axis != self.axis:
                agree(dim, other, f"axis {axis} of cache and update")
            elif not self.circular:
                demand_at_most(other, dim, "the update and its cache")
        if self.write_indices is not None:
            agree(cache[0], list_size(self.write_indices, "write_indices"), "batch and write indices")
        return [self.cache.type]

    def interpret(self, frame: Any, *args: Any) -> Any:
        cache, update, *rest = args
        size, steps = cache.shape[self.axis], update.shape[self.axis]
        first = np.asarray(rest[0], np.int64) if rest else np.zeros(cache.shape[0], np.int64)
        places = first[:, None] + np.arange(steps)
        if self.circular:
            places = places % max(size, 1)
        elif places.size and (bad := (first < 0) | (first + steps > size)).any():
            raise RuntimeError(f"a write position leaves axis {self.axis} of size {size}", int(first[bad][0]))
        out = np.moveaxis(cache, self.axis, 1).copy()
        out[np.arange(cache.shape[0])[:, None], places] = np.moveaxis(update, self.axis, 1)
        return np.moveaxis(out, 1, self.axis)
