"""Linear algebra on the matrices in the last two dims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import GraphOp, shape_of, tensor_type
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
        agree(*shape[-2:], "rows and columns of the matrices")
        return [tensor_type(self.x).with_shape(shape[:-2])]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = widened(args[0])
        if x.shape[-1] != x.shape[-2]:
            raise IRError(f"a determinant of {x.shape[-2]}x{x.shape[-1]} matrices, which are not square")
        with np.errstate(all="ignore"):
            return rounded(np.linalg.det(x), numpy_dtype(self.result.type))
