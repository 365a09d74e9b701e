"""Reductions over axes, index of an extreme element, and cumulative sums and products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import (
    Array,
    Content,
    GraphOp,
    content,
    normalize_axes,
    normalize_axis,
    shape_of,
    tensor_type,
)
from stepwell.dialects.graph.shape import list_size
from stepwell.dialects.graph.symbols import DataDependentOp, fresh_dim
from stepwell.dialects.graph.windows import static_sizes
from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attrkinds import BOOL, INT, INTS, enum
from stepwell.ir.constraints import INDEX_LIST, INT_TENSOR, NUMERIC_TENSOR, REAL_OR_BOOL_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, dim_max, dim_min
from stepwell.ir.opdef import attr, operand, optional_operand, result
from stepwell.ir.types import I1, SI64, FloatType, TensorType, Type, numpy_dtype

NO_MEAN = "the mean of no integers is not defined"


def no_extreme(axis: int, kind: str) -> str:
    """What is wrong with an axis of size 0."""
    return f"axis {axis} of size 0 has no {kind}imum"


def accumulating(x: Array) -> Array:
    """The elements in the type in which their sums are kept: f32 for narrower floats, else their own."""
    narrow = x.dtype.kind in "fV" and x.dtype.itemsize < 4
    return x.astype(np.float32) if narrow else x


def lowest(dtype: np.dtype[Any]) -> Any:
    """What no element is below: -inf, or an integer type's minimum."""
    if dtype.kind == "b":
        return np.False_
    return dtype.type(-np.inf) if dtype.kind == "f" else np.iinfo(dtype).min


def highest(dtype: np.dtype[Any]) -> Any:
    """What no element is above: inf, or an integer type's maximum."""
    if dtype.kind == "b":
        return np.True_
    return dtype.type(np.inf) if dtype.kind == "f" else np.iinfo(dtype).max


def _sum(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.sum(x, axis=axes, keepdims=True, dtype=x.dtype))


def _prod(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.prod(x, axis=axes, keepdims=True, dtype=x.dtype))


def _max(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.max(x, axis=axes, keepdims=True, initial=lowest(x.dtype)))


def _min(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.min(x, axis=axes, keepdims=True, initial=highest(x.dtype)))


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    count = math.prod(x.shape[axis] for axis in axes)
    if x.dtype.kind == "f":
        return np.asarray(_sum(x, axes) / x.dtype.type(count))
    total = _sum(x, axes)
    if count == 0 and total.size:
        raise RuntimeError(NO_MEAN, 0)
    return np.asarray(np.sign(total) * (np.abs(total) // x.dtype.type(max(count, 1))))


def _log_sum_exp(x: Array, axes: tuple[int, ...]) -> Array:
    peak = _max(x, axes)
    peak = np.where(np.isfinite(peak), peak, 0)
    return np.asarray(np.log(_sum(np.exp(x - peak), axes)) + peak)


KINDS: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "sum": _sum, "prod": _prod, "max": _max, "min": _min, "mean": _mean, "log_sum_exp": _log_sum_exp,
}  # fmt: skip
_ON_DIMS: dict[str, Callable[[Sequence[Dim]], Dim]] = {
    "sum": lambda dims: sum(dims[1:], dims[0]) if dims else 0,
    "prod": lambda dims: math.prod(dims),
    "max": lambda dims: _folded(dim_max, dims),
    "min": lambda dims: _folded(dim_min, dims),
}


def _folded(compute: Callable[[Dim, Dim], Dim], dims: Sequence[Dim]) -> Dim:
    found = dims[0]
    for dim in dims[1:]:
        found = compute(found, dim)
    return found


def reduced_shape(shape: Sequence[Dim], axes: Sequence[int], keepdims: bool) -> tuple[Dim, ...]:
    """The shape left by a reduction: reduced dims become 1, or go."""
    return tuple(
        1 if axis in axes else dim for axis, dim in enumerate(shape) if keepdims or axis not in axes
    )  # fmt: skip


def require_axes(axes: Sequence[int], rank: int) -> None:
    """Raises IRError unless axes are counted from the front, ascending and without repeats."""
    if normalize_axes(axes, rank) != tuple(axes):
        raise IRError(f"axes {list(axes)} must be ascending and counted from the front")


AXIS_TWICE = "an axis is given twice"


def axis_out_of_range(rank: int) -> str:
    """What is wrong with an axis outside [-rank, rank)."""
    return f"axis out of range for rank {rank}"


def checked_axes(axes: Any, rank: int) -> tuple[int, ...]:
    """Axes that the run tells, counted from the front and sorted. Raises RuntimeError for one out of range or given
    twice."""
    found: list[int] = []
    for axis in map(int, axes):
        if not -rank <= axis < rank:
            raise RuntimeError(axis_out_of_range(rank), axis)
        found.append(axis % rank)
    for axis in range(rank):
        if found.count(axis) > 1:
            raise RuntimeError(AXIS_TWICE, axis)
    return tuple(sorted(found))


class ReduceOp(DataDependentOp):
    """Elements combined over `axes` (ascending, from the front; none of them: nothing is combined), or over those that
    the operand `where` names (in any order, negative ones from the back; none of them: all, or with `none_if_empty`
    nothing is combined).

    `kind` is one of sum, prod, max, min, mean and log_sum_exp, ln(sum(e^x)) without overflow. Sums of floats narrower
    than f32 are kept in f32 and rounded once; integers wrap, an integer mean is cut towards zero. Max and min of a set
    with NaN are NaN, and on i1 they are "any" and "all". An empty set gives 0, 1, the type's lowest or highest value
    (an infinity for floats), NaN for a mean of floats, an error for one of integers, -inf for log_sum_exp. Reduced dims
    become 1 with `keepdims`, else they go; then `where` has a known length. The further Reduce operators of ONNX are
    compositions: L1 is a sum of magnitudes, L2 the root of a sum of squares.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3x4xf32>
    %r = graph.reduce %x {kind = "mean", axes = array<i64: 1, 2>, keepdims = false}
      : (tensor<2x3x4xf32>) -> tensor<2xf32>
    %a = "test.value"() : () -> tensor<1xsi64>
    %k = graph.reduce %x, %a {kind = "sum", new_dims = ["a", "b", "c"]}
      : (tensor<2x3x4xf32>, tensor<1xsi64>) -> tensor<?x?x?xf32, #graph.shape<["a", "b", "c"]>>
    ```
    """

    name = "graph.reduce"
    x: Value = operand(REAL_OR_BOOL_TENSOR)
    where: Value | None = optional_operand(INDEX_LIST)
    kind: str = attr(enum(*KINDS))
    axes: tuple[int, ...] = attr(INTS, default=())
    keepdims: bool = attr(BOOL, default=True)
    none_if_empty: bool = attr(BOOL, default=False)
    result: Value = result(REAL_OR_BOOL_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        type_ = tensor_type(self.x)
        require_axes(self.axes, type_.rank)
        if type_.element is I1 and self.kind not in ("max", "min"):
            raise IRError(f"a {self.kind} of i1 is not defined; max and min are")
        if self.kind == "log_sum_exp" and not isinstance(type_.element, FloatType):
            raise IRError(f"log_sum_exp takes floats, not {type_.element}")
        axes = self.known_axes()
        if axes is not None:
            return [TensorType(reduced_shape(type_.shape, axes, self.keepdims), type_.element)]
        return [TensorType(tuple(self._born_shape(type_.shape)), type_.element)]

    def known_axes(self) -> tuple[int, ...] | None:
        """The axes, where the sizes of the result do not depend on data: as many as there are dims are all of them, in
        any order, and a dim of size 1 is left as it is by both."""
        if self.where is None:
            return tuple(self.axes)
        if self.axes:
            raise IRError("the axes are an attribute or an operand, one of the two")
        if self.new_dims:
            return None
        shape, count = shape_of(self.x), list_size(self.where, "axes")
        every = tuple(range(len(shape)))
        if isinstance(count, int) and count > len(shape):
            raise IRError(f"{count} axes of a tensor of rank {len(shape)}")
        if count == 0:
            return () if self.none_if_empty else every
        if count == len(shape) or (self.keepdims and all(dim == 1 for dim in shape)):
            return every
        given = content(self.where)
        known = [axis for axis in given or () if isinstance(axis, int)]
        return normalize_axes(known, len(shape)) if given is not None and len(known) == len(given) else None

    def _born_shape(self, shape: Sequence[Dim]) -> list[Dim]:
        assert self.where is not None
        if self.keepdims:
            long = [axis for axis, dim in enumerate(shape) if dim != 1]
            return [fresh_dim(self, "reduce", long.index(axis)) if axis in long else 1 for axis in range(len(shape))]
        count = list_size(self.where, "axes")
        if not isinstance(count, int):
            raise IRError(f"the number of axes, which the rank of the result depends on, is {count}")
        return [fresh_dim(self, "reduce", place) for place in range(len(shape) - count)]

    def compute(self, frame: Any, *args: Any) -> Any:
        x = np.asarray(args[0])
        axes = self.known_axes()
        if axes is None:
            axes = checked_axes(args[1], x.ndim)
            if not np.size(args[1]) and not self.none_if_empty:
                axes = tuple(range(x.ndim))
        with np.errstate(all="ignore"):
            made = KINDS[self.kind](accumulating(x), axes)
        return made.astype(x.dtype, copy=False).reshape(reduced_shape(x.shape, axes, self.keepdims))

    def infer_content(self) -> Content | None:
        found, axes = content(self.x), self.known_axes()
        compute = _ON_DIMS.get(self.kind)
        if found is None or not axes:
            return found if axes is not None else None
        if len(axes) != tensor_type(self.x).rank:
            return None
        return (compute(found),) if compute is not None and (found or self.kind in ("sum", "prod")) else None


class ArgReduceOp(GraphOp):
    """The index of the largest (`kind` max) or smallest (min) element along an axis, as si64.

    Of equal elements the first counts, with `last` the last. NaN counts as the extreme element. An axis of size 0 is an
    error. Stands for ArgMax and ArgMin.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %r = graph.arg_reduce %x {kind = "max", axis = 1} : (tensor<2x3xf32>) -> tensor<2x1xsi64>
    ```
    """

    name = "graph.arg_reduce"
    x: Value = operand(NUMERIC_TENSOR)
    kind: str = attr(enum("max", "min"))
    axis: int = attr(INT)
    keepdims: bool = attr(BOOL, default=True)
    last: bool = attr(BOOL, default=False)
    result: Value = result(INT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape = shape_of(self.x)
        _require_axis(self.axis, len(shape))
        if shape[self.axis] == 0:
            raise IRError(no_extreme(self.axis, self.kind))
        return [TensorType(reduced_shape(shape, [self.axis], self.keepdims), SI64)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = accumulating(np.asarray(args[0]))
        if x.shape[self.axis] == 0:
            places = np.zeros(static_sizes(reduced_shape(x.shape, [self.axis], self.keepdims)), np.int64)
            if places.size:
                raise RuntimeError(no_extreme(self.axis, self.kind), 0)
            return places
        seen = np.flip(x, self.axis) if self.last else x
        search = np.argmax if self.kind == "max" else np.argmin
        index = np.asarray(search(seen, axis=self.axis, keepdims=self.keepdims), np.int64)
        return x.shape[self.axis] - 1 - index if self.last else index


def _require_axis(axis: int, rank: int) -> None:
    if normalize_axis(axis, rank) != axis or rank == 0:
        raise IRError(f"axis {axis} must be counted from the front, below rank {rank}")


class CumulativeOp(DataDependentOp):
    """Running sums or products along an axis; sums of floats narrower than f32 are kept in f32.

    The axis is the attribute, or where that is absent the operand `where` (one integer, which may count from the back).
    `exclusive` leaves out the element itself: the first result is 0 or 1. `reverse` runs from the end. Stands for
    CumSum and CumProd.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %r = graph.cumulative %x {kind = "sum", axis = 1, exclusive = true} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    ```
    """

    name = "graph.cumulative"
    x: Value = operand(NUMERIC_TENSOR)
    where: Value | None = optional_operand(INT_TENSOR)
    kind: str = attr(enum("sum", "prod"))
    axis: int | None = attr(INT, default=None)
    exclusive: bool = attr(BOOL, default=False)
    reverse: bool = attr(BOOL, default=False)
    result: Value = result(NUMERIC_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        if (self.axis is None) != (self.where is not None):
            raise IRError("the axis is an attribute or an operand, one of the two")
        if self.axis is not None:
            _require_axis(self.axis, len(shape_of(self.x)))
        else:  # the elements before the axis, along it, and behind it
            for place in range(3):
                fresh_dim(self, "cumulative", place)
        return [self.x.type]

    def compute(self, frame: Any, *args: Any) -> Any:
        x = accumulating(np.asarray(args[0]))
        axis = self.axis if self.axis is not None else checked_axes(np.reshape(args[1], -1), x.ndim)[0]
        x = np.flip(x, axis) if self.reverse else x
        if self.exclusive and x.shape[axis]:
            first = np.full_like(x.take([0], axis), self.kind == "prod")
            x = np.concatenate([first, x.take(range(x.shape[axis] - 1), axis)], axis)
        run = np.cumsum if self.kind == "sum" else np.cumprod
        with np.errstate(all="ignore"):
            made = run(x, axis=axis, dtype=x.dtype)
        made = np.flip(made, axis) if self.reverse else made
        return np.ascontiguousarray(made).astype(numpy_dtype(self.results[0].type), copy=False)
