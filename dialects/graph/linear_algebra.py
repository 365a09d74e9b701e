"""Linear algebra on the matrices in the last two dims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, GraphOp, shape_of, tensor_type
from stepwell.dialects.graph.movement import agree
from stepwell.dialects.graph.numeric import rounded, widened
from stepwell.errors import IRError
from stepwell.ir.constraints import FLOAT_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.opdef import operand, result
from stepwell.ir.types import Type, numpy_dtype


class DetOp(GraphOp):
    """Determinants of square matrices: x [.., n, n] -> [..]; 1 of matrices of size 0. Narrow floats are computed in
    f32 and rounded once. ONNX: Det.

    ```mlir
    %x = "test.value"() : () -> tensor<2x4x4xf32>
    %r = graph.det %x : (tensor<2x4x4xf32>) -> tensor<2xf32>
    ```
    """

    name = "graph.det"
    x: Value = operand(FLOAT_TENSOR)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        _need_square(self.x, "a determinant")
        return [tensor_type(self.x).with_shape(shape_of(self.x)[:-2])]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = _square(args[0], "a determinant")
        with np.errstate(all="ignore"):
            return rounded(_determinants(x.copy()), numpy_dtype(self.result.type))


class InverseOp(GraphOp):
    """Inverses of square matrices: x [.., n, n] -> [.., n, n]; not finite where a pivot is 0. Narrow floats are
    computed in f32 and rounded once. Stands for com.microsoft Inverse.

    ```mlir
    %x = "test.value"() : () -> tensor<2x4x4xf32>
    %r = graph.inverse %x : (tensor<2x4x4xf32>) -> tensor<2x4x4xf32>
    ```
    """

    name = "graph.inverse"
    x: Value = operand(FLOAT_TENSOR)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        _need_square(self.x, "an inverse")
        return [self.x.type]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = _square(args[0], "an inverse")
        unit = np.broadcast_to(np.eye(x.shape[-1], dtype=x.dtype), x.shape)
        with np.errstate(all="ignore"):
            made = _reduced(np.concatenate([x, unit], -1))
        return rounded(made[..., x.shape[-1] :], numpy_dtype(self.result.type))


def _need_square(x: Value, what: str) -> None:
    shape = shape_of(x)
    if len(shape) < 2:
        raise IRError(f"{what} of {x.type}, which holds no matrix")
    agree(shape[-2], shape[-1], "rows and columns of the matrices")


def _square(x: Any, what: str) -> Array:
    """Matrices in f32 at least. Raises IRError where they are not square."""
    wide = widened(x)
    if wide.shape[-1] != wide.shape[-2]:
        raise IRError(f"{what} of {wide.shape[-2]}x{wide.shape[-1]} matrices, which are not square")
    return wide


def _swapped(x: Array, k: int) -> tuple[Array, Array]:
    """Swap row k with the one from there on that is largest in column k, in place; its place and a copy of it."""
    rows = np.abs(x[..., k:, k]).argmax(-1)[..., None, None] + k
    pivot_row = np.take_along_axis(x, rows, -2).copy()
    np.put_along_axis(x, rows, x[..., k : k + 1, :].copy(), -2)
    x[..., k : k + 1, :] = pivot_row
    return rows[..., 0, 0], pivot_row


def _reduced(x: Array) -> Array:
    """[x | y] -> [1 | x^-1 y] by elimination above and below each pivot, in place."""
    for k in range(x.shape[-2]):
        _, row = _swapped(x, k)
        shares = x[..., :, k] / row[..., 0, k][..., None]
        scaled = row / row[..., k][..., None]
        x -= shares[..., None] * row
        x[..., k : k + 1, :] = scaled
    return x


def _determinants(x: Array) -> Array:
    """By elimination in place; NaN makes NaN, where a library may find that a matrix has no pivot."""
    det = np.ones(x.shape[:-2], x.dtype)
    for k in range(x.shape[-1]):
        place, pivot_row = _swapped(x, k)
        pivot = pivot_row[..., 0, k]
        det = det * np.where(place == k, pivot, -pivot)
        share = x[..., k + 1 :, k] / np.where(pivot == 0, np.ones_like(pivot), pivot)[..., None]
        x[..., k + 1 :, :] -= share[..., None] * pivot_row
    return det
