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
        shape = shape_of(self.x)
        if len(shape) < 2:
            raise IRError(f"a determinant of {self.x.type}, which holds no matrix")
        agree(shape[-2], shape[-1], "rows and columns of the matrices")
        return [tensor_type(self.x).with_shape(shape[:-2])]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = widened(args[0])
        if x.shape[-1] != x.shape[-2]:
            raise IRError(f"a determinant of {x.shape[-2]}x{x.shape[-1]} matrices, which are not square")
        with np.errstate(all="ignore"):
            return rounded(_determinants(x.copy()), numpy_dtype(self.result.type))


def _determinants(x: Array) -> Array:
    """By elimination in place; NaN makes NaN, where a library may find that a matrix has no pivot."""
    det = np.ones(x.shape[:-2], x.dtype)
    for k in range(x.shape[-1]):
        rows = np.abs(x[..., k:, k]).argmax(-1)[..., None, None] + k
        pivot_row = np.take_along_axis(x, rows, -2).copy()
        np.put_along_axis(x, rows, x[..., k : k + 1, :].copy(), -2)
        x[..., k : k + 1, :] = pivot_row
        pivot = pivot_row[..., 0, k]
        det = det * np.where(rows[..., 0, 0] == k, pivot, -pivot)
        share = x[..., k + 1 :, k] / np.where(pivot == 0, np.ones_like(pivot), pivot)[..., None]
        x[..., k + 1 :, :] -= share[..., None] * pivot_row
    return det
