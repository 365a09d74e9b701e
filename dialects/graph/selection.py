"""Selections whose sizes depend on data: non-zero positions, unique values, top-k, non-maximum suppression."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, blank, constant_array, shape_of, tensor_type
from stepwell.dialects.graph.demands import demand_at_most, demand_equal
from stepwell.dialects.graph.indexing import check_one_element, scalar_dim
from stepwell.dialects.graph.movement import agree, check_axis
from stepwell.dialects.graph.shape import known_scalar, product
from stepwell.dialects.graph.symbols import DataDependentOp, fresh_dim
from stepwell.errors import IRError
from stepwell.ir.attrkinds import BOOL, INT, enum
from stepwell.ir.constraints import FLOAT_TENSOR, INT_TENSOR, NUMERIC_TENSOR, TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, proven_different
from stepwell.ir.opdef import attr, operand, optional_operand, result
from stepwell.ir.types import SI64, TensorType, Type


def widened(array: Array) -> Array:
    """Floats narrower than f32 as f32, for computing; other arrays as they are."""
    return array.astype(np.float32) if array.dtype.kind in "fV" and array.dtype.itemsize < 4 else array


class NonZeroOp(DataDependentOp):
    """The positions of the elements that are not zero (NaN is not, an empty string is), in row-major order, one per
    column; a scalar has positions without rows. ONNX: NonZero, Compress.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %r = graph.non_zero %x {new_dims = ["k"]} : (tensor<2x3xf32>) -> tensor<2x?xsi64, #graph.shape<["k"]>>
    ```
    """

    name = "graph.non_zero"
    x: Value = operand(TENSOR)
    result: Value = result(INT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        return [TensorType((tensor_type(self.x).rank, self._count()), SI64)]

    def _count(self) -> Dim:
        """A constant's count, and all elements of a broadcast scalar, are known: exporters write ranges this way."""
        array = constant_array(self.x)
        if array is not None:
            return int(np.count_nonzero(widened(array)))
        scalar = known_scalar(self.x)
        if scalar is not None:
            return product(shape_of(self.x)) if scalar else 0
        return fresh_dim(self, "non_zero")

    def compute(self, frame: Any, *args: Any) -> Any:
        x = np.asarray(args[0])
        if x.ndim == 0:
            return np.zeros((0, int(bool(x))), np.int64)
        return np.stack(np.nonzero(widened(x) != blank(widened(x).dtype))).astype(np.int64)


class UniqueOp(DataDependentOp):
    """The distinct elements, or distinct slices along `axis`, ascending if `sorted`, else in the order in which they
    first appear; the place of each one's first appearance; for each element its place among the distinct ones; and how
    often each appears. Equal NaNs count once, after all numbers. ONNX: Unique.

    ```mlir
    %x = "test.value"() : () -> tensor<6xf32>
    %y, %first, %inverse, %counts = graph.unique %x {new_dims = ["k"], sorted = true} : (tensor<6xf32>) -> (tensor<?xf32, #graph.shape<["k"]>>, tensor<?xsi64, #graph.shape<["k"]>>, tensor<6xsi64>, tensor<?xsi64, #graph.shape<["k"]>>)
    ```
    """  # noqa: E501

    name = "graph.unique"
    x: Value = operand(TENSOR)
    axis: int | None = attr(INT, default=None)
    sorted: bool = attr(BOOL, default=True)
    values: Value = result(TENSOR)
    first: Value = result(INT_TENSOR)
    inverse: Value = result(INT_TENSOR)
    counts: Value = result(INT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        type_ = tensor_type(self.x)
        size = fresh_dim(self, "unique")
        shape: tuple[Dim, ...] = (size,)
        length = product(type_.shape)
        if self.axis is not None:
            check_axis(self.axis, type_.rank)
            shape = (*type_.shape[: self.axis], size, *type_.shape[self.axis + 1 :])
            length = type_.shape[self.axis]
        places = TensorType((size,), SI64)
        return [type_.with_shape(shape), places, TensorType((length,), SI64), places]

    def compute(self, frame: Any, *args: Any) -> Any:
        x = np.asarray(args[0])
        slices = x.reshape(-1) if self.axis is None else np.moveaxis(x, self.axis, 0)
        rows = slices.reshape(len(slices), math.prod(slices.shape[1:]))
        _, codes = np.unique(widened(rows), return_inverse=True)
        keys = np.concatenate([np.zeros((len(rows), 1), np.int64), codes.reshape(rows.shape)], axis=1)
        _, first, inverse, counts = np.unique(
            keys, axis=0, return_index=True, return_inverse=True, return_counts=True
        )
        inverse = inverse.reshape(-1)
        if not self.sorted:
            order = np.argsort(first, kind="stable")
            inverse = np.argsort(order, kind="stable")[inverse]
            first, counts = first[order], counts[order]
        taken = x.reshape(-1)[first] if self.axis is None else np.take(x, first, self.axis)
        return taken, first.astype(np.int64), inverse.astype(np.int64), counts.astype(np.int64)


class TopKOp(DataDependentOp):
    """The `k` largest (or smallest) elements along `axis` and their positions, best first. Among equal elements the one
    with the lower position comes first; NaN is larger than every number. Where not `sorted`, an order is not promised.
    ONNX: TopK.

    ```mlir
    %x = "test.value"() : () -> tensor<2x9xf32>
    %k = graph.constant dense<[3]> : tensor<1xsi64>
    %v, %i = graph.top_k %x, %k {axis = 1 : i64, largest = true, sorted = true} : (tensor<2x9xf32>, tensor<1xsi64>) -> (tensor<2x3xf32>, tensor<2x3xsi64>)
    ```
    """  # noqa: E501

    name = "graph.top_k"
    decided_by = ("k",)
    x: Value = operand(NUMERIC_TENSOR)
    k: Value = operand(INT_TENSOR)
    axis: int = attr(INT)
    largest: bool = attr(BOOL, default=True)
    sorted: bool = attr(BOOL, default=True)
    values: Value = result(NUMERIC_TENSOR)
    indices: Value = result(INT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        type_ = tensor_type(self.x)
        check_axis(self.axis, type_.rank)
        check_one_element(self.k, "k")
        k = scalar_dim(self.k)
        size = type_.shape[self.axis]
        if k is None:
            k = fresh_dim(self, "top_k")
        elif isinstance(k, int) and (k < 0 or (isinstance(size, int) and k > size)):
            raise IRError(f"the top {k} of {size} elements")
        else:
            demand_at_most(k, size, "the best elements")
        shape = (*type_.shape[: self.axis], k, *type_.shape[self.axis + 1 :])
        return [type_.with_shape(shape), TensorType(shape, SI64)]

    def compute(self, frame: Any, *args: Any) -> Any:
        x, k = np.asarray(args[0]), int(np.asarray(args[1]).reshape(-1)[0])
        size = x.shape[self.axis]
        if not 0 <= k <= size:
            raise IRError(f"the top {k} of {size} elements")
        keys = widened(x)
        if self.largest:  # a stable descending sort: the reverse of the ascending sort of the reverse
            order = np.argsort(np.flip(keys, self.axis), axis=self.axis, kind="stable")
            order = size - 1 - np.flip(order, self.axis)
        else:
            order = np.argsort(keys, axis=self.axis, kind="stable")
        order = np.take(order, np.arange(k), self.axis)
        return np.take_along_axis(x, order, self.axis), order.astype(np.int64)


MOST_BOXES = (1 << 31) - 1  # of a batch entry, so that their places are i32


class NonMaxSuppressionOp(DataDependentOp):
    """For every batch entry and class, boxes in the order of falling scores, without those that overlap a box chosen
    before by more than `iou_threshold` (intersection over union; absent: 0), those whose score is not above
    `score_threshold` (absent: no limit), and those beyond the first `max_boxes` (absent: none is chosen). Rows of the
    result are (batch, class, box).

    `boxes` [batches, n, 4] holds two opposite `corners` (y1, x1, y2, x2) or (x, y) of the `center`, width and height;
    `scores` is [batches, classes, n]. ONNX: NonMaxSuppression.

    ```mlir
    %b = "test.value"() : () -> tensor<1x6x4xf32>
    %s = "test.value"() : () -> tensor<1x2x6xf32>
    %m = graph.constant dense<[3]> : tensor<1xsi64>
    %t = graph.constant dense<[0.5]> : tensor<1xf32>
    %r = graph.non_max_suppression %b : tensor<1x6x4xf32> scores %s : tensor<1x2x6xf32> most %m : tensor<1xsi64> iou_above %t : tensor<1xf32> {boxes_as = "corners", new_dims = ["k"]} -> tensor<?x3xsi64, #graph.shape<["k"]>>
    ```
    """  # noqa: E501

    name = "graph.non_max_suppression"
    assembly = (
        "$boxes `:` type($boxes) `scores` $scores `:` type($scores) (`most` $max_boxes ^ `:` type($max_boxes))?"
        " (`iou_above` $iou_threshold ^ `:` type($iou_threshold))?"
        " (`score_above` $score_threshold ^ `:` type($score_threshold))?"
        " attr-dict `->` type($result)"
    )
    boxes: Value = operand(FLOAT_TENSOR)
    scores: Value = operand(FLOAT_TENSOR)
    max_boxes: Value | None = optional_operand(INT_TENSOR)
    iou_threshold: Value | None = optional_operand(FLOAT_TENSOR)
    score_threshold: Value | None = optional_operand(FLOAT_TENSOR)
    boxes_as: str = attr(enum("corners", "center"), default="corners")
    result: Value = result(INT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        boxes, scores = shape_of(self.boxes), shape_of(self.scores)
        if len(boxes) != 3 or proven_different(boxes[2], 4):
            raise IRError(f"boxes must be [batches, n, 4], is {self.boxes.type}")
        demand_equal(boxes[2], 4, "numbers of a box")
        if len(scores) != 3:
            raise IRError(f"scores must be [batches, classes, n], is {self.scores.type}")
        agree(boxes[0], scores[0], "batches of boxes and scores")
        agree(boxes[1], scores[2], "number of boxes and scores")
        demand_at_most(scores[2], MOST_BOXES, "boxes")
        for name in ("max_boxes", "iou_threshold", "score_threshold"):
            value = getattr(self, name)
            if value is not None:
                check_one_element(value, name)
        return [TensorType((fresh_dim(self, "non_max_suppression"), 3), SI64)]

    def compute(self, frame: Any, *args: Any) -> Any:
        given = iter(args)
        boxes, scores = next(given), next(given)
        most = int(np.reshape(next(given), -1)[0]) if self.max_boxes is not None else 0
        overlap = np.reshape(next(given), -1)[0] if self.iou_threshold is not None else boxes.dtype.type(0)
        lowest = np.reshape(next(given), -1)[0] if self.score_threshold is not None else None
        rows = [
            (batch, label, box)
            for batch in range(scores.shape[0])
            for label in range(scores.shape[1])
            for box in self._chosen(boxes[batch], scores[batch, label], most, overlap, lowest)
        ]
        return np.array(rows, np.int64).reshape(-1, 3)

    def _chosen(self, boxes: Array, scores: Array, most: int, overlap: Any, lowest: Any) -> list[int]:
        corners = sorted_corners(boxes, self.boxes_as)
        chosen: list[int] = []
        for box in np.argsort(-scores, kind="stable"):
            if len(chosen) >= most:
                break
            if lowest is not None and not scores[box] > lowest:
                continue
            if all(not iou(corners[box], corners[other]) > overlap for other in chosen):
                chosen.append(int(box))
        return chosen


def sorted_corners(boxes: Array, boxes_as: str) -> Array:
    """[n, 4] boxes as (low, low, high, high) corners."""
    first, second = boxes[:, :2], boxes[:, 2:]
    if boxes_as == "center":
        return np.concatenate([first - second / 2, first + second / 2], axis=1)
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)


def iou(a: Array, b: Array) -> Any:
    """Intersection over union of two boxes given by sorted corners; 0 where a box is empty."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if not np.all(sides > 0):
        return a.dtype.type(0)
    shared = sides[0] * sides[1]
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return shared / (area_a + area_b - shared) if area_a > 0 and area_b > 0 else a.dtype.type(0)
