"""Sampling images at computed places: grid sampling, affine grids, regions of interest; and folding of columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, GraphOp, content, same_element, shape_of, tensor_type
from stepwell.dialects.graph.demands import demand_equal
from stepwell.dialects.graph.indexing import checked_indices
from stepwell.dialects.graph.movement import agree
from stepwell.dialects.graph.resize import cubic
from stepwell.dialects.graph.selection import widened
from stepwell.dialects.graph.shape import check_list, list_length, list_size, product, show_shape
from stepwell.dialects.graph.symbols import DataDependentOp, fresh_dim
from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attrkinds import BOOL, FLOAT, INT, INTS, enum
from stepwell.ir.constraints import FLOAT_TENSOR, INDEX_LIST, REAL_OR_BOOL_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, proven_different
from stepwell.ir.opdef import attr, operand, result
from stepwell.ir.types import Type

GRID_CUBIC_A = -0.75


class GridSampleOp(GraphOp):
    """`x` [n, c, d1 ... dr] read at the places of `grid` [n, o1 ... or, r], whose innermost dim gives normalised
    coordinates in [-1, 1], the last axis of `x` first; the result is [n, c, o1 ... or].

    -1 and 1 are the centers of the outermost elements with `align_corners`, else their outer edges. Places outside read
    zeros, the border, or the image reflected at its borders (`padding`). Cubic interpolation has a = -0.75.
    ONNX: GridSample.

    ```mlir
    %x = "test.value"() : () -> tensor<1x3x8x8xf32>
    %g = "test.value"() : () -> tensor<1x4x5x2xf32>
    %r = graph.grid_sample %x, %g {align_corners = false, mode = "linear", padding = "zeros"} : (tensor<1x3x8x8xf32>, tensor<1x4x5x2xf32>) -> tensor<1x3x4x5xf32>
    ```
    """  # noqa: E501

    name = "graph.grid_sample"
    x: Value = operand(REAL_OR_BOOL_TENSOR)
    grid: Value = operand(FLOAT_TENSOR)
    mode: str = attr(enum("nearest", "linear", "cubic"))
    padding: str = attr(enum("zeros", "border", "reflection"), default="zeros")
    align_corners: bool = attr(BOOL, default=False)
    result: Value = result(REAL_OR_BOOL_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape, grid = shape_of(self.x), shape_of(self.grid)
        if len(shape) < 3 or len(grid) != len(shape) or proven_different(grid[-1], len(shape) - 2):
            raise IRError(f"a grid {show_shape(grid)} does not address the spatial axes of {show_shape(shape)}")
        demand_equal(grid[-1], len(shape) - 2, "coordinates of a place in the grid")
        batch = agree(shape[0], grid[0], "batches of image and grid")
        return [tensor_type(self.x).with_shape((batch, shape[1], *grid[1:-1]))]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, grid = widened(args[0]), widened(args[1])
        spatial = x.shape[2:]
        at = [self._place(grid[..., -1 - axis], size) for axis, size in enumerate(spatial)]
        taps = [self._taps(place, size) for place, size in zip(at, spatial, strict=True)]
        is_moved = self.mode == "nearest"  # elements as they are: large integers, which no float holds, too
        kind = x.dtype if is_moved else np.result_type(x.dtype, np.float32)
        out = np.zeros((x.shape[0], x.shape[1], *grid.shape[1:-1]), kind)
        batch = np.arange(x.shape[0]).reshape((-1,) + (1,) * (grid.ndim - 2))
        with np.errstate(invalid="ignore"):
            for choice in np.ndindex(*(len(axis) for axis in taps)):
                picked = [taps[axis][tap] for axis, tap in enumerate(choice)]
                index = (batch, slice(None), *(position for position, _ in picked))
                start = np.ones((), np.result_type(kind, np.float32))
                weight = math.prod((weight for _, weight in picked), start=start)[:, None]
                read = np.moveaxis(x[index], -1, 1)  # advanced indices first: [n, o1 ... or, c]
                out += np.where(weight != 0, read if is_moved else read * weight, np.zeros((), kind))
        return out.astype(args[0].dtype)

    def _place(self, coordinate: Array, size: int) -> Array:
        if self.align_corners:
            return (coordinate + 1) / 2 * (size - 1)
        return ((coordinate + 1) * size - 1) / 2

    def _taps(self, at: Array, size: int) -> list[tuple[Array, Array]]:
        """(position inside, weight) of every element that one axis contributes; weight 0 for zeros outside."""
        low, high = (0.0, size - 1.0) if self.align_corners else (-0.5, size - 0.5)
        if self.mode != "cubic":
            at = self._inside(at, low, high, size)
        at = np.where(np.isfinite(at), at, -100.0)
        if self.mode == "nearest":
            taps = [(np.rint(at), np.ones_like(at))]
        elif self.mode == "linear":
            base = np.floor(at)
            taps = [(base, 1 - (at - base)), (base + 1, at - base)]
        else:
            base = np.floor(at)
            taps = [(base + k, cubic(np.abs(base + k - at), GRID_CUBIC_A)) for k in (-1, 0, 1, 2)]
        found = []
        for position, weight in taps:
            moved = self._inside(position, low, high, size) if self.mode == "cubic" else position
            valid = (moved >= 0) & (moved <= size - 1)
            kept = np.where(valid, weight, 0) if self.padding == "zeros" else weight
            found.append((np.clip(moved, 0, size - 1).astype(np.int64), kept))
        return found

    def _inside(self, at: Array, low: float, high: float, size: int) -> Array:
        if self.padding == "border":
            return np.clip(at, 0, size - 1)
        if self.padding == "reflection":
            return np.clip(reflect(at, low, high), 0, size - 1)
        return at


def reflect(at: Array, low: float, high: float) -> Array:
    """Coordinates mirrored at `low` and `high` until they lie between."""
    span = high - low
    if span <= 0:
        return np.zeros_like(at)
    folded = np.mod(at - low, 2 * span)
    return low + np.minimum(folded, 2 * span - folded)


class AffineGridOp(DataDependentOp):
    """The places in an image that an affine map `theta` [n, r, r + 1] sends each element of a regular grid to: for
    `size` = [n, c, d1 ... dr], a tensor [n, d1 ... dr, r] of coordinates, the last axis first, for `grid_sample`.
    The grid spans [-1, 1]: centers of the outermost elements with `align_corners`, else outer edges. ONNX: AffineGrid.

    ```mlir
    %t = "test.value"() : () -> tensor<2x2x3xf32>
    %s = graph.constant dense<[2, 3, 5, 6]> : tensor<4xsi64>
    %r = graph.affine_grid %t, %s {align_corners = true} : (tensor<2x2x3xf32>, tensor<4xsi64>) -> tensor<2x5x6x2xf32>
    ```
    """

    name = "graph.affine_grid"
    decided_by = ("size",)
    theta: Value = operand(FLOAT_TENSOR)
    size: Value = operand(INDEX_LIST)
    align_corners: bool = attr(BOOL, default=False)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        theta = shape_of(self.theta)
        length = list_length(self.size, "size")
        if length not in (4, 5):
            raise IRError(f"size must be [n, c, h, w] or [n, c, d, h, w], is {self.size.type}")
        rank = length - 2
        if len(theta) != 3 or proven_different(theta[1], rank) or proven_different(theta[2], rank + 1):
            raise IRError(f"theta must be [n, {rank}, {rank + 1}], is {self.theta.type}")
        demand_equal(theta[1], rank, "rows of theta")
        demand_equal(theta[2], rank + 1, "columns of theta")
        size = content(self.size)
        spatial = size[2:] if size is not None else [fresh_dim(self, "affine_grid", axis) for axis in range(rank)]
        return [tensor_type(self.theta).with_shape((theta[0], *spatial, rank))]

    def compute(self, frame: Any, *args: Any) -> Any:
        theta, size = widened(args[0]), [int(v) for v in args[1]][2:]
        axes = [self._axis(count, theta.dtype) for count in size]
        grid = np.meshgrid(*axes, indexing="ij")[::-1]
        places = np.stack([*grid, np.ones(size, theta.dtype)], axis=-1).reshape(-1, len(size) + 1)
        moved = np.einsum("pk,nrk->npr", places, theta)
        return moved.reshape(theta.shape[0], *size, len(size)).astype(args[0].dtype)

    def _axis(self, count: int, dtype: np.dtype[Any]) -> Array:
        if self.align_corners:
            return np.linspace(-1, 1, count).astype(dtype)
        return ((2 * np.arange(count) + 1) / max(count, 1) - 1).astype(dtype)


class RoiAlignOp(GraphOp):
    """For every region (x1, y1, x2, y2) in `rois` [r, 4] of image `batch_indices[r]` of `x` [n, c, h, w]: a grid of
    `height` x `width` bins, each the average (or the largest) of bilinear samples; the result is [r, c, height, width].

    Coordinates are multiplied by `scale`, and lowered by half an element with `half_pixel` (else a region is at least 1
    wide and high). A bin has `samples` x `samples` samples, as many as it has elements where that is 0. A sample more
    than one element outside is 0. The largest of samples is taken over the four weighted neighbours of each, as in
    ONNX. K. He et al., "Mask R-CNN", 2017. ONNX: RoiAlign.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3x16x16xf32>
    %b = "test.value"() : () -> tensor<5x4xf32>
    %i = "test.value"() : () -> tensor<5xsi64>
    %r = graph.roi_align %x, %b, %i {half_pixel = true, height = 4 : i64, reduce = "mean", samples = 2 : i64, scale = 0.5 : f64, width = 4 : i64} : (tensor<2x3x16x16xf32>, tensor<5x4xf32>, tensor<5xsi64>) -> tensor<5x3x4x4xf32>
    ```
    """  # noqa: E501

    name = "graph.roi_align"
    x: Value = operand(FLOAT_TENSOR)
    rois: Value = operand(FLOAT_TENSOR)
    batch_indices: Value = operand(INDEX_LIST)
    height: int = attr(INT)
    width: int = attr(INT)
    samples: int = attr(INT, default=0)
    scale: float = attr(FLOAT, default=1.0)
    half_pixel: bool = attr(BOOL, default=True)
    reduce: str = attr(enum("mean", "max"), default="mean")
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape, rois = shape_of(self.x), shape_of(self.rois)
        if len(shape) != 4:
            raise IRError(f"regions of interest need an image [n, c, h, w], not {self.x.type}")
        if len(rois) != 2 or proven_different(rois[1], 4):
            raise IRError(f"regions must be [r, 4], is {self.rois.type}")
        demand_equal(rois[1], 4, "numbers of a region")
        same_element(self.x, self.rois)
        if self.height < 1 or self.width < 1 or self.samples < 0:
            raise IRError(f"{self.height} x {self.width} bins of {self.samples} samples")
        count = agree(rois[0], list_size(self.batch_indices, "batch_indices"), "regions and batch indices")
        return [tensor_type(self.x).with_shape((count, shape[1], self.height, self.width))]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, rois = widened(args[0]), widened(args[1])
        images = checked_indices(args[2], x.shape[0], 0)
        out = np.zeros((len(rois), x.shape[1], self.height, self.width), x.dtype)
        for number, (roi, image) in enumerate(zip(rois, images, strict=True)):
            out[number] = self._region(x[image], roi)
        return out.astype(args[0].dtype)

    def _region(self, image: Array, roi: Array) -> Array:
        x1, y1, x2, y2 = roi * x_type(image)(self.scale) - x_type(image)(0.5 if self.half_pixel else 0)
        rows, count_y = self._samples(y1, y2, self.height)
        columns, count_x = self._samples(x1, x2, self.width)
        corners = [bilinear(at, size) for at, size in zip((rows, columns), image.shape[1:], strict=True)]
        inside = within(rows, image.shape[1])[:, None] & within(columns, image.shape[2])
        parts = [
            np.where(inside, image[:, row[:, None], column[None, :]] * (row_weight[:, None] * column_weight), 0)
            for row, row_weight in corners[0]
            for column, column_weight in corners[1]
        ]
        if count_x * count_y == 0:
            return np.zeros((image.shape[0], self.height, self.width), image.dtype)
        read = np.maximum.reduce(parts) if self.reduce == "max" else np.add.reduce(parts)
        bins = read.reshape(image.shape[0], self.height, count_y, self.width, count_x)
        return np.asarray(bins.max(axis=(2, 4)) if self.reduce == "max" else bins.mean(axis=(2, 4)))

    def _samples(self, low: Any, high: Any, bins: int) -> tuple[Array, int]:
        """The coordinates of all samples along one axis, and how many a bin has."""
        length = high - low if self.half_pixel else max(high - low, type(low)(1))
        size = length / type(low)(bins)
        count = self.samples or max(math.ceil(size), 0)
        offsets = (np.arange(count, dtype=low.dtype) + low.dtype.type(0.5)) * size / max(count, 1)
        return (low + np.arange(bins, dtype=low.dtype)[:, None] * size + offsets).reshape(-1), count


def x_type(array: Array) -> Any:
    """The scalar type of an array."""
    return array.dtype.type


def within(at: Array, size: int) -> Array:
    """Which places are samples of an image: not beyond -1 or its size."""
    return (at >= -1) & (at <= size)


def bilinear(at: Array, size: int) -> list[tuple[Array, Array]]:
    """(position, weight) of both neighbours along one axis of each place `within` it."""
    held = np.clip(np.where(within(at, size), at, 0), 0, size - 1)
    low = np.floor(held).astype(np.int64)
    part = (held - low).astype(at.dtype)
    return [(low, 1 - part), (np.minimum(low + 1, size - 1), part)]


NOT_BLOCKS = "the rows of the columns are not whole blocks"
NOT_ALL_BLOCKS = "there are not as many columns as blocks of the image"


class ColToImOp(DataDependentOp):
    """The sum of overlapping blocks: columns [n, c * prod(block), blocks] become an image [n, c, d1 ... dr] of
    `image_shape`, each column added at its block's place, dilated, over the padded image. Blocks are in row-major
    order. ONNX: Col2Im.

    ```mlir
    %x = "test.value"() : () -> tensor<1x5x5xf32>
    %i = graph.constant dense<[5, 5]> : tensor<2xsi64>
    %b = graph.constant dense<[1, 5]> : tensor<2xsi64>
    %r = graph.col_to_im %x, %i, %b {dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x5x5xf32>, tensor<2xsi64>, tensor<2xsi64>) -> tensor<1x1x5x5xf32>
    ```
    """  # noqa: E501

    name = "graph.col_to_im"
    decided_by = ("image_shape", "block_shape")
    x: Value = operand(REAL_OR_BOOL_TENSOR)
    image_shape: Value = operand(INDEX_LIST)
    block_shape: Value = operand(INDEX_LIST)
    strides: tuple[int, ...] = attr(INTS)
    pads: tuple[int, ...] = attr(INTS)
    dilations: tuple[int, ...] = attr(INTS)
    result: Value = result(REAL_OR_BOOL_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape, rank = shape_of(self.x), len(self.strides)
        if len(shape) != 3:
            raise IRError(f"columns must be [n, c * block, blocks], is {self.x.type}")
        if len(self.dilations) != rank or len(self.pads) != 2 * rank:
            raise IRError(f"{rank} strides need as many dilations and {2 * rank} pads")
        for value, what in ((self.image_shape, "image_shape"), (self.block_shape, "block_shape")):
            check_list(value, rank, what)
        image, block = content(self.image_shape), content(self.block_shape)
        made = 0
        channels: Dim
        if block is None:
            channels, made = fresh_dim(self, "col_to_im", 0), 1
        elif proven_different(shape[1] % product(block), 0):
            raise IRError(f"{shape[1]} rows are not whole blocks of {show_shape(block)}")
        else:
            channels = shape[1] // product(block)
        sizes = image or tuple(fresh_dim(self, "col_to_im", made + axis) for axis in range(rank))
        return [tensor_type(self.x).with_shape((shape[0], channels, *sizes))]

    def compute(self, frame: Any, *args: Any) -> Any:
        x = widened(args[0])
        image, block = ([int(v) for v in arg] for arg in args[1:])
        rank = len(image)
        padded = [image[a] + self.pads[a] + self.pads[rank + a] for a in range(rank)]
        spans = [self.dilations[a] * (block[a] - 1) + 1 for a in range(rank)]
        counts = [(padded[a] - spans[a]) // self.strides[a] + 1 for a in range(rank)]
        if min(block) < 1 or x.shape[1] % math.prod(block):
            raise RuntimeError(NOT_BLOCKS, x.shape[1])
        if min(image) < 0 or x.shape[2] != math.prod(max(count, 0) for count in counts):
            raise RuntimeError(NOT_ALL_BLOCKS, x.shape[2])
        if min(counts) < 1:
            return np.zeros((x.shape[0], x.shape[1] // math.prod(block), *image), args[0].dtype)
        columns = x.reshape(x.shape[0], -1, *block, *counts)
        out = np.zeros((x.shape[0], columns.shape[1], *padded), x.dtype)
        for offset in np.ndindex(*block):
            place = tuple(
                slice(start, start + self.strides[a] * (counts[a] - 1) + 1, self.strides[a])
                for a, start in enumerate(o * d for o, d in zip(offset, self.dilations, strict=True))
            )
            out[(slice(None), slice(None), *place)] += columns[(slice(None), slice(None), *offset)]
        inner = tuple(slice(self.pads[a], self.pads[a] + image[a]) for a in range(rank))
        return out[(slice(None), slice(None), *inner)].astype(args[0].dtype)
