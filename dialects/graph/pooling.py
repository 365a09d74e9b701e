"""Pools: one number per window of every channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, GraphOp, same_element, shape_of, tensor_type
from stepwell.dialects.graph.demands import demand_equal
from stepwell.dialects.graph.indexing import checked_indices
from stepwell.dialects.graph.numeric import rounded, widened
from stepwell.dialects.graph.windows import PADDING, Window, sliding_view, static_sizes
from stepwell.errors import IRError
from stepwell.ir.attrkinds import BOOL, FLOAT, INTS
from stepwell.ir.constraints import FLOAT_TENSOR, INT_TENSOR, NUMERIC_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import proven_different
from stepwell.ir.opdef import attr, operand, result
from stepwell.ir.types import SI64, TensorType, Type, numpy_dtype


class PoolOp(GraphOp):
    """Base of the pools over windows: x [n, c, spatial...] -> [n, c, places...].

    `ceil_mode` also visits a last window that overhangs the padded end, if it starts before that end's padding."""

    kernel: tuple[int, ...] = attr(INTS)
    strides: tuple[int, ...] = attr(INTS)
    dilations: tuple[int, ...] = attr(INTS)
    pads: tuple[int, ...] = attr(INTS)
    padding: str = attr(PADDING, default="explicit")
    ceil_mode: bool = attr(BOOL, default=False)

    @property
    def window(self) -> Window:
        """The window. Raises IRError where it is malformed."""
        window = Window(self.kernel, self.strides, self.dilations, self.pads, self.padding, self.ceil_mode)
        window.check()
        return window

    def pooled_type(self) -> TensorType:
        """The type of one number per window."""
        x = tensor_type(self.operands[0])
        if x.rank < 3:
            raise IRError(f"a pool needs a batch, channels and spatial axes, not rank {x.rank}")
        return x.with_shape((*x.shape[:2], *self.window.places(x.shape[2:])))

    def infer_types(self) -> Sequence[Type]:
        return [self.pooled_type()]


def lowest(dtype: np.dtype[Any]) -> Any:
    """What a maximum starts from: -inf, or the least integer."""
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def flat_windows(x: Array, window: Window, fill: Any) -> Array:
    """[n, c, places..., kernel elements]."""
    view = sliding_view(x, window, fill)
    outer = view.ndim - window.rank
    return view.reshape(*view.shape[:outer], math.prod(view.shape[outer:]))


class MaxPoolOp(PoolOp):
    """The maximum of every window; NaN if any element is NaN. Padding never wins. Stands for ONNX MaxPool without
    indices.

    ```mlir
    %x = "test.value"() : () -> tensor<1x3x8x8xf32>
    %r = graph.max_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>,
      pads = array<i64: 0, 0, 0, 0>} : (tensor<1x3x8x8xf32>) -> tensor<1x3x4x4xf32>
    ```
    """

    name = "graph.max_pool"
    x: Value = operand(NUMERIC_TENSOR)
    result: Value = result(NUMERIC_TENSOR)

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = widened(args[0])
        flat = flat_windows(x, self.window, lowest(x.dtype))
        return rounded(np.max(flat, axis=-1), numpy_dtype(self.results[0].type))


class MaxPoolIndicesOp(PoolOp):
    """The maximum of every window and where it was found first: si64 positions in the flattened whole of x, the
    spatial axes counted row-major, or column-major with `column_major`. Stands for ONNX MaxPool with indices.

    ```mlir
    %x = "test.value"() : () -> tensor<1x3x8x8xf32>
    %r, %i = graph.max_pool_indices %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>,
      dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>}
      : (tensor<1x3x8x8xf32>) -> (tensor<1x3x4x4xf32>, tensor<1x3x4x4xsi64>)
    ```
    """

    name = "graph.max_pool_indices"
    x: Value = operand(NUMERIC_TENSOR)
    column_major: bool = attr(BOOL, default=False)
    values: Value = result(NUMERIC_TENSOR)
    indices: Value = result(INT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        type_ = self.pooled_type()
        return [type_, type_.with_element(SI64)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = widened(args[0])
        spatial = x.shape[2:]
        order = list(range(len(spatial)))[:: -1 if self.column_major else 1]
        plane = np.arange(int(np.prod(spatial))).reshape([spatial[axis] for axis in order]).transpose(order)
        planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * len(spatial))
        positions = flat_windows(planes * plane.size + plane, self.window, -1)
        values = flat_windows(x, self.window, lowest(x.dtype))
        top = np.max(values, axis=-1, keepdims=True)
        found = ((values == top) | ((values != values) & (top != top))) & (positions >= 0)
        first = np.argmax(found, axis=-1)[..., None]
        indices = np.take_along_axis(positions, first, axis=-1)[..., 0]
        return rounded(top[..., 0], numpy_dtype(self.results[0].type)), indices.astype(np.int64)


class AveragePoolOp(PoolOp):
    """The mean of every window, over its elements inside the data; with `count_include_pad` the declared padding
    counts as zeros. Whatever overhangs the padding never counts. Stands for ONNX AveragePool.

    ```mlir
    %x = "test.value"() : () -> tensor<1x3x8x8xf32>
    %r = graph.average_pool %x {kernel = array<i64: 3, 3>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>,
      pads = array<i64: 1, 1, 1, 1>, count_include_pad = true} : (tensor<1x3x8x8xf32>) -> tensor<1x3x8x8xf32>
    ```
    """

    name = "graph.average_pool"
    x: Value = operand(FLOAT_TENSOR)
    count_include_pad: bool = attr(BOOL, default=False)
    result: Value = result(FLOAT_TENSOR)

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = widened(args[0])
        with np.errstate(all="ignore"):
            total = flat_windows(x, self.window, 0).sum(axis=-1)
            mean = total / self.counts(x.shape[2:]).astype(x.dtype)
        return rounded(mean, numpy_dtype(self.results[0].type))

    def counts(self, sizes: Sequence[int]) -> Array:
        """[places...]: how many elements each window averages."""
        window = self.window
        counts = np.ones((), np.int64)
        places = static_sizes(window.places(sizes))
        for axis, (size, pads) in enumerate(zip(sizes, window.pads_of(sizes), strict=True)):
            begin, end = static_sizes(pads)
            low, high = (-begin, size + end) if self.count_include_pad else (0, size)
            starts = np.arange(places[axis]) * self.strides[axis] - begin
            taps = starts[:, None] + np.arange(self.kernel[axis]) * self.dilations[axis]
            counts = counts[..., None] * ((taps >= low) & (taps < high)).sum(axis=1)
        return counts


class LpPoolOp(PoolOp):
    """The p-norm of every window, (sum |x|^p)^(1/p). Stands for ONNX LpPool.

    ```mlir
    %x = "test.value"() : () -> tensor<1x3x8xf32>
    %r = graph.lp_pool %x {kernel = array<i64: 2>, strides = array<i64: 2>, dilations = array<i64: 1>,
      pads = array<i64: 0, 0>, p = 2.0} : (tensor<1x3x8xf32>) -> tensor<1x3x4xf32>
    ```
    """

    name = "graph.lp_pool"
    x: Value = operand(FLOAT_TENSOR)
    p: float = attr(FLOAT, default=2.0)
    result: Value = result(FLOAT_TENSOR)

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = widened(args[0])
        with np.errstate(all="ignore"):
            powers = np.abs(x) ** np.asarray(self.p, x.dtype)
            norm = flat_windows(powers, self.window, 0).sum(axis=-1) ** np.asarray(1 / self.p, x.dtype)
        return rounded(norm, numpy_dtype(self.results[0].type))


class MaxRoiPoolOp(GraphOp):
    """The maximum of every cell of a grid over regions of x [n, c, h, w]: rois [r, 5] hold the batch index and the
    inclusive corners x1, y1, x2, y2, times `spatial_scale` and rounded half away from zero; a region is at least one
    element large. Cells [r, c, *pooled]; one that covers no element is 0. Stands for ONNX MaxRoiPool (Girshick 2015).

    ```mlir
    %x = "test.value"() : () -> tensor<1x3x8x8xf32>
    %rois = "test.value"() : () -> tensor<2x5xf32>
    %r = graph.max_roi_pool %x, %rois {pooled = array<i64: 2, 2>, spatial_scale = 0.5}
      : (tensor<1x3x8x8xf32>, tensor<2x5xf32>) -> tensor<2x3x2x2xf32>
    ```
    """

    name = "graph.max_roi_pool"
    x: Value = operand(FLOAT_TENSOR)
    rois: Value = operand(FLOAT_TENSOR)
    pooled: tuple[int, ...] = attr(INTS)
    spatial_scale: float = attr(FLOAT, default=1.0)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        x, rois = shape_of(self.x), shape_of(self.rois)
        if len(x) != 4 or len(rois) != 2 or proven_different(rois[1], 5):
            raise IRError("data needs rank 4 and regions the shape [regions, 5]")
        demand_equal(rois[1], 5, "numbers of a region")
        if len(self.pooled) != 2 or min(self.pooled) < 1:
            raise IRError(f"the pooled grid needs two positive sizes, not {list(self.pooled)}")
        return [TensorType((rois[0], x[1], *self.pooled), same_element(self.x, self.rois))]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, rois = args
        out = np.zeros((len(rois), x.shape[1], *self.pooled), x.dtype)
        corners = np.asarray(rois, np.float64)[:, 1:] * self.spatial_scale
        corners = (np.sign(corners) * np.floor(np.abs(corners) + 0.5)).astype(np.int64)
        images = checked_indices(rois[:, 0], x.shape[0], 0)
        for index, (left, top, right, bottom) in enumerate(corners):
            plane = x[images[index]]
            rows = _cells(top, bottom, self.pooled[0], plane.shape[1])
            columns = _cells(left, right, self.pooled[1], plane.shape[2])
            for i, row in enumerate(rows):
                for j, column in enumerate(columns):
                    cell = plane[:, row, column]
                    if cell.size:
                        out[index, :, i, j] = cell.max(axis=(1, 2))
        return out


def _cells(first: int, last: int, count: int, size: int) -> list[slice]:
    step = max(last - first + 1, 1) / count
    bounds = [(first + int(np.floor(i * step)), first + int(np.ceil((i + 1) * step))) for i in range(count)]
    return [slice(min(max(low, 0), size), min(max(high, 0), size)) for low, high in bounds]
