"""Data movement along axes: transpose, concat, split, slice, pad, tile, reversal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import (
    Array,
    Content,
    GraphOp,
    blank,
    content,
    content_array,
    content_of,
    is_content_type,
    same_element,
    shape_of,
    tensor_type,
)
from stepwell.dialects.graph.demands import demand_equal
from stepwell.dialects.graph.shape import check_list, list_length, list_size, show_shape
from stepwell.dialects.graph.slicing import slice_bounds
from stepwell.dialects.graph.symbols import DataDependentOp, ShapedByTypeOp, fresh_dim, run_time_shape
from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attributes import Attribute, DenseResourceAttr, lazy_elements
from stepwell.ir.attrkinds import INT, INTS, enum
from stepwell.ir.constraints import INDEX_LIST, TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, proven_different
from stepwell.ir.opdef import attr, operand, operands, optional_operand, result, results
from stepwell.ir.types import Type, numpy_dtype


def check_axis(axis: int, rank: int) -> None:
    """Raise IRError unless 0 <= axis < rank."""
    if not 0 <= axis < rank:
        raise IRError(f"axis {axis} is not in 0 to {rank - 1}")


def agree(a: Dim, b: Dim, what: str) -> Dim:
    """The size that two dims share; the plainer of the two. Raises IRError where they are proven to differ."""
    if a == b:
        return a
    if proven_different(a, b):
        raise IRError(f"{what}: sizes {a} and {b} differ")
    demand_equal(a, b, what)
    return b if isinstance(b, int) and not isinstance(a, int) else a


class TransposeOp(GraphOp):
    """Dim i of the result is dim `permutation[i]` of the operand. ONNX: Transpose.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3x4xf32>
    %r = graph.transpose %x {permutation = array<i64: 2, 0, 1>} : (tensor<2x3x4xf32>) -> tensor<4x2x3xf32>
    ```
    """

    name = "graph.transpose"
    x: Value = operand(TENSOR)
    permutation: tuple[int, ...] = attr(INTS)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape = shape_of(self.x)
        if sorted(self.permutation) != list(range(len(shape))):
            raise IRError(f"{list(self.permutation)} is not a permutation of the axes of rank {len(shape)}")
        return [tensor_type(self.x).with_shape([shape[axis] for axis in self.permutation])]

    def infer_content(self) -> Content | None:
        found = content_array(self.x)
        return None if found is None else content_of(np.transpose(found, self.permutation))

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        if list(self.permutation) == sorted(self.permutation):
            return [self.x]
        (x,) = constants
        if not isinstance(x, DenseResourceAttr):
            return super().fold(constants)
        axes, name = self.permutation, self.result.name or "folded"
        return [lazy_elements(lambda array: np.transpose(array, axes), [x], tensor_type(self.result), name)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.transpose(args[0], self.permutation)


class ConcatOp(GraphOp):
    """The operands one after the other along `axis`. ONNX: Concat.

    ```mlir
    %a = "test.value"() : () -> tensor<2x3xf32>
    %b = "test.value"() : () -> tensor<2x?xf32, #graph.shape<["n"]>>
    %r = graph.concat %a, %b {axis = 1 : i64} : (tensor<2x3xf32>, tensor<2x?xf32, #graph.shape<["n"]>>) -> tensor<2x?xf32, #graph.shape<["n + 3"]>>
    ```
    """  # noqa: E501

    name = "graph.concat"
    xs: tuple[Value, ...] = operands(TENSOR)
    axis: int = attr(INT)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        if not self.xs:
            raise IRError("there is nothing to concatenate")
        first, *rest = self.xs
        same_element(*self.xs)
        shape = list(shape_of(first))
        check_axis(self.axis, len(shape))
        for other in map(shape_of, rest):
            if len(other) != len(shape):
                raise IRError(f"shapes {show_shape(shape_of(first))} and {show_shape(other)} differ in rank")
            for axis, dim in enumerate(other):
                if axis == self.axis:
                    shape[axis] = shape[axis] + dim
                else:
                    shape[axis] = agree(shape[axis], dim, f"axis {axis} of concatenated tensors")
        return [tensor_type(first).with_shape(shape)]

    def infer_content(self) -> Content | None:
        parts = [content_array(x) for x in self.xs]
        known = [part for part in parts if part is not None]
        return content_of(np.concatenate(known, self.axis)) if len(known) == len(parts) else None

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        return [self.xs[0]] if len(self.xs) == 1 else super().fold(constants)

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.concatenate([np.asarray(a) for a in args], self.axis)


def not_a_part(axis: int) -> str:
    """What is wrong with a size outside [0, size of the axis]."""
    return f"no part of axis {axis} can have this size"


def not_the_whole(axis: int) -> str:
    """What is wrong with sizes that do not add up."""
    return f"the sizes of the parts of axis {axis} do not add up to its own"


class SplitOp(ShapedByTypeOp):
    """Consecutive parts of the operand along `axis`; their sizes are the result types'.

    `sizes` is present only where they depend on data. ONNX: Split.

    ```mlir
    %x = "test.value"() : () -> tensor<2x5xf32>
    %a, %b = graph.split %x {axis = 1 : i64} : (tensor<2x5xf32>) -> (tensor<2x3xf32>, tensor<2x2xf32>)
    ```
    """

    name = "graph.split"
    decided_by = ("sizes",)
    x: Value = operand(TENSOR)
    sizes: Value | None = optional_operand(INDEX_LIST)
    axis: int = attr(INT)
    parts: tuple[Value, ...] = results(TENSOR)

    @staticmethod
    def into(x: Value, sizes: Sequence[Dim], axis: int) -> SplitOp:
        """A split into parts of known sizes. Raises IRError where they are proven not to add up."""
        check_axis(axis, tensor_type(x).rank)
        return SplitOp(x, axis=axis, result_types=part_types(x, sizes, axis))

    def infer_types(self) -> Sequence[Type]:
        check_axis(self.axis, tensor_type(self.x).rank)
        if self.sizes is None:
            return self.known_types()
        sizes = content(self.sizes)
        if sizes is None:
            count = list_length(self.sizes, "the list of sizes")
            sizes = tuple(fresh_dim(self, "split", index) for index in range(count))
        return part_types(self.x, sizes, self.axis)

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        is_whole = len(self.parts) == 1 and self.parts[0].type == self.x.type  # else its size is asked for, or read
        return [self.x] if is_whole else super().fold(constants)

    def verify_op(self) -> None:
        part_types(self.x, [shape_of(part)[self.axis] for part in self.parts], self.axis)

    def compute(self, frame: Any, *args: Any) -> Any:
        whole = args[0].shape[self.axis]
        if len(args) == 2:
            sizes = [int(size) for size in args[1]]
            for size in sizes:
                if not 0 <= size <= whole:
                    raise RuntimeError(not_a_part(self.axis), size)
            if sum(sizes) != whole:
                raise RuntimeError(not_the_whole(self.axis), sum(sizes))
        else:
            sizes = [run_time_shape(self, frame, args, part.type)[self.axis] for part in self.parts]
        if sum(sizes) != whole or min(sizes, default=0) < 0:
            raise IRError(f"axis {self.axis} of size {whole} cannot be split into {sizes}")
        return tuple(np.split(args[0], np.cumsum(sizes)[:-1], self.axis))


def part_types(x: Value, sizes: Sequence[Dim], axis: int) -> list[Type]:
    """The types of the parts of a tensor along an axis. Raises IRError where their sizes are proven not to add up."""
    shape = shape_of(x)
    total: Dim = 0
    for size in sizes:
        if isinstance(size, int) and size < 0:
            raise IRError(f"a part of size {size}")
        total = total + size
    if proven_different(total, shape[axis]):
        raise IRError(f"axis {axis} of size {shape[axis]} cannot be split into {show_shape(sizes)}")
    demand_equal(total, shape[axis], f"the parts of axis {axis}")
    return [tensor_type(x).with_shape([*shape[:axis], size, *shape[axis + 1 :]]) for size in sizes]


class SliceOp(DataDependentOp):
    """Along each of `axes` (ascending), the elements from `starts` to `ends` (exclusive) by `steps` (absent: 1).

    As in ONNX, a negative start or end counts from the back; then a start is clamped to [0, size] ([0, size - 1] for a
    negative step) and an end to [0, size] ([-1, size - 1]). ONNX: Slice, and Split of shape tensors.

    ```mlir
    %x = "test.value"() : () -> tensor<2x?xf32, #graph.shape<["n"]>>
    %s = graph.constant dense<[0]> : tensor<1xsi64>
    %e = graph.constant dense<[-1]> : tensor<1xsi64>
    %r = graph.slice %x, %s, %e {axes = array<i64: 0>} : (tensor<2x?xf32, #graph.shape<["n"]>>, tensor<1xsi64>, tensor<1xsi64>) -> tensor<1x?xf32, #graph.shape<["n"]>>
    ```
    """  # noqa: E501

    name = "graph.slice"
    decided_by = ("starts", "ends", "steps")
    x: Value = operand(TENSOR)
    starts: Value = operand(INDEX_LIST)
    ends: Value = operand(INDEX_LIST)
    steps: Value | None = optional_operand(INDEX_LIST)
    axes: tuple[int, ...] = attr(INTS)
    result: Value = result(TENSOR)

    def bounds(self) -> list[tuple[Dim, Dim, int] | None]:
        """(first position, number of elements, step) along each of `axes`; None where they depend on data."""
        shape, count = shape_of(self.x), len(self.axes)
        starts, ends = content(self.starts), content(self.ends)
        steps: Content | None = (1,) * count if self.steps is None else content(self.steps)
        if starts is None or ends is None or steps is None:
            return [None] * count
        found: list[tuple[Dim, Dim, int] | None] = []
        for axis, start, end, step in zip(self.axes, starts, ends, steps, strict=True):
            found.append((*slice_bounds(shape[axis], start, end, step), step) if isinstance(step, int) else None)
        return found

    def infer_types(self) -> Sequence[Type]:
        shape = list(shape_of(self.x))
        if list(self.axes) != sorted(set(self.axes)) or any(not 0 <= axis < len(shape) for axis in self.axes):
            raise IRError(f"axes {list(self.axes)} must be ascending and among those of rank {len(shape)}")
        for name in ("starts", "ends", "steps"):
            value = getattr(self, name)
            if value is not None:
                check_list(value, len(self.axes), name)
        made = 0
        for axis, bounds in zip(self.axes, self.bounds(), strict=True):
            if bounds is None:
                shape[axis] = fresh_dim(self, "slice", made)
                made += 1
            else:
                shape[axis] = bounds[1]
        return [tensor_type(self.x).with_shape(shape)]

    def infer_content(self) -> Content | None:
        found = content_array(self.x)
        if found is None:
            return None
        for axis, bounds in zip(self.axes, self.bounds(), strict=True):
            start, size, step = bounds or (None, None, 1)
            if not isinstance(start, int) or not isinstance(size, int):
                return None
            found = np.take(found, np.arange(size) * step + start, axis)
        return content_of(found)

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        shape = shape_of(self.x)
        whole = [(0, shape[axis], 1) for axis in self.axes]
        return [self.x] if self.bounds() == whole else super().fold(constants)

    def compute(self, frame: Any, *args: Any) -> Any:
        x, starts, ends, *rest = args
        steps = rest[0] if rest else np.ones(len(self.axes), np.int64)
        for axis, *triple in zip(self.axes, starts, ends, steps, strict=True):
            start, end, step = map(int, triple)
            first, size = slice_bounds(x.shape[axis], start, end, step)
            x = np.take(x, np.arange(int(size)) * step + int(first), axis)  # type: ignore[arg-type]
        return x


PAD_MODES = ("constant", "edge", "reflect", "wrap")


class PadOp(DataDependentOp):
    """Elements added before and after each axis (`pads`: all the numbers before, then all those after), or taken away
    where a number is negative, which happens first.

    `constant` adds `value` (absent: zero), `edge` the outermost element, `reflect` a mirror image without the outermost
    element, `wrap` the elements of the other side. ONNX: Pad, CenterCropPad.

    ```mlir
    %x = "test.value"() : () -> tensor<2x?xf32, #graph.shape<["n"]>>
    %p = graph.constant dense<[0, 1, 0, 2]> : tensor<4xsi64>
    %r = graph.pad %x, %p {mode = "edge"} : (tensor<2x?xf32, #graph.shape<["n"]>>, tensor<4xsi64>) -> tensor<2x?xf32, #graph.shape<["n + 3"]>>
    ```
    """  # noqa: E501

    name = "graph.pad"
    decided_by = ("pads",)
    x: Value = operand(TENSOR)
    pads: Value = operand(INDEX_LIST)
    value: Value | None = optional_operand(TENSOR)
    mode: str = attr(enum(*PAD_MODES), default="constant")
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape = shape_of(self.x)
        rank = len(shape)
        check_list(self.pads, 2 * rank, "pads")
        if self.value is not None:
            same_element(self.x, self.value)
            if any(dim != 1 for dim in shape_of(self.value)):
                raise IRError(f"the padding value must be a scalar, is {self.value.type}")
        pads = content(self.pads)
        if pads is None:
            return [tensor_type(self.x).with_shape([fresh_dim(self, "pad", axis) for axis in range(rank)])]
        padded = [dim + pads[axis] + pads[rank + axis] for axis, dim in enumerate(shape)]
        for axis, dim in enumerate(padded):
            if isinstance(dim, int) and dim < 0:
                raise IRError(f"padding {show_shape(pads)} leaves axis {axis} of size {shape[axis]} with {dim}")
        return [tensor_type(self.x).with_shape(padded)]

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        pads = content(self.pads)
        return [self.x] if pads is not None and not any(pads) else super().fold(constants)

    def compute(self, frame: Any, *args: Any) -> Any:
        x, pads = args[0], [int(pad) for pad in args[1]]
        value = np.asarray(args[2]).reshape(-1)[0] if len(args) == 3 else blank(numpy_dtype(self.result.type))
        for axis in range(x.ndim):
            x = pad_axis(x, axis, pads[axis], pads[x.ndim + axis], self.mode, value)
        return x


def pad_axis(x: Array, axis: int, before: int, after: int, mode: str, value: Any) -> Array:
    """One axis of `PadOp`. Raises IRError where nothing is left, or an empty axis has nothing to repeat."""
    size = x.shape[axis] + before + after
    low, high = max(-before, 0), x.shape[axis] - max(-after, 0)
    window = max(high - low, 0)
    if size < 0 or (window == 0 and size > 0 and mode != "constant"):
        raise IRError(f"axis {axis} of size {x.shape[axis]} cannot be padded ({mode}) by {before} and {after}")
    position = np.arange(size) - max(before, 0)
    inside = (position >= 0) & (position < window)
    if window == 0:
        return np.full((*x.shape[:axis], size, *x.shape[axis + 1 :]), value, x.dtype)
    if mode == "reflect":
        period = max(2 * (window - 1), 1)
        folded = position % period
        position = np.minimum(folded, period - folded) if window > 1 else folded * 0
    elif mode == "wrap":
        position = position % window
    taken: Array = np.take(x, low + np.clip(position, 0, window - 1), axis)
    if mode == "constant" and not inside.all():
        np.moveaxis(taken, axis, 0)[~inside] = value
    return taken


class TileOp(DataDependentOp):
    """The operand repeated `repeats[i]` times along axis i. ONNX: Tile.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %n = graph.constant dense<[1, 2]> : tensor<2xsi64>
    %r = graph.tile %x, %n : (tensor<2x3xf32>, tensor<2xsi64>) -> tensor<2x6xf32>
    ```
    """

    name = "graph.tile"
    decided_by = ("repeats",)
    x: Value = operand(TENSOR)
    repeats: Value = operand(INDEX_LIST)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape = shape_of(self.x)
        check_list(self.repeats, len(shape), "repeats")
        repeats = content(self.repeats)
        if repeats is None:
            return [tensor_type(self.x).with_shape([fresh_dim(self, "tile", axis) for axis in range(len(shape))])]
        if any(isinstance(count, int) and count < 0 for count in repeats):
            raise IRError(f"repeats {show_shape(repeats)} must not be negative")
        return [tensor_type(self.x).with_shape([dim * count for dim, count in zip(shape, repeats, strict=True)])]

    def infer_content(self) -> Content | None:
        found, repeats = content_array(self.x), content(self.repeats)
        if found is None or repeats is None or not is_content_type(self.result.type):
            return None
        return content_of(np.tile(found, [count for count in repeats if isinstance(count, int)]))

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        repeats = content(self.repeats)
        return [self.x] if repeats is not None and all(n == 1 for n in repeats) else super().fold(constants)

    def compute(self, frame: Any, *args: Any) -> Any:
        return np.tile(args[0], [int(count) for count in args[1]])


class ReverseSequenceOp(GraphOp):
    """Along `time_axis`, the first `lengths[b]` elements of batch entry b (on `batch_axis`) in reverse order, the others
    as they are. ONNX: ReverseSequence.

    ```mlir
    %x = "test.value"() : () -> tensor<4x2xf32>
    %n = "test.value"() : () -> tensor<2xsi64>
    %r = graph.reverse_sequence %x, %n {batch_axis = 1 : i64, time_axis = 0 : i64} : (tensor<4x2xf32>, tensor<2xsi64>) -> tensor<4x2xf32>
    ```
    """  # noqa: E501

    name = "graph.reverse_sequence"
    x: Value = operand(TENSOR)
    lengths: Value = operand(INDEX_LIST)
    batch_axis: int = attr(INT)
    time_axis: int = attr(INT)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape = shape_of(self.x)
        check_axis(self.batch_axis, len(shape))
        check_axis(self.time_axis, len(shape))
        if self.batch_axis == self.time_axis:
            raise IRError(f"batch and time are both axis {self.time_axis}")
        agree(shape[self.batch_axis], list_size(self.lengths, "lengths"), "batch and lengths")
        return [self.x.type]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, lengths = args
        steps = x.shape[self.time_axis]
        if (bad := (lengths < 0) | (lengths > steps)).any():
            raise RuntimeError(f"a sequence length is not in 0 to {steps}", int(lengths[bad][0]))
        moved = np.moveaxis(x, (self.batch_axis, self.time_axis), (0, 1))
        out = moved.copy()
        for batch, length in enumerate(lengths):
            out[batch, :length] = moved[batch, :length][::-1]
        return np.moveaxis(out, (0, 1), (self.batch_axis, self.time_axis))
