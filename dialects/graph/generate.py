"""Tensors made from numbers: ranges, diagonals, triangles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import (
    CONTENT_LIMIT,
    Array,
    Content,
    GraphOp,
    blank,
    constant_array,
    content,
    same_element,
    shape_of,
    tensor_type,
)
from stepwell.dialects.graph.indexing import check_one_element
from stepwell.dialects.graph.symbols import DataDependentOp, ShapedByTypeOp, fresh_dim, run_time_shape
from stepwell.errors import IRError
from stepwell.ir.attrkinds import BOOL, INT
from stepwell.ir.constraints import INT_TENSOR, NUMERIC_TENSOR, REAL_OR_BOOL_TENSOR, SCALAR_OR_STRING_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, ceildiv, dim_max
from stepwell.ir.opdef import attr, operand, optional_operand, result
from stepwell.ir.types import Type, numpy_dtype


class RangeOp(DataDependentOp):
    """`start + i * delta` for i from 0 to max(ceil((limit - start) / delta), 0), exclusive. Computed in the element
    type; f16 and bf16 in f32, rounded once, unless `narrow`. A delta of 0 is an error. ONNX: Range.

    ```mlir
    %a = graph.constant dense<2> : tensor<si64>
    %b = graph.constant dense<9> : tensor<si64>
    %d = graph.constant dense<3> : tensor<si64>
    %r = graph.range %a, %b, %d : (tensor<si64>, tensor<si64>, tensor<si64>) -> tensor<3xsi64>
    ```
    """

    name = "graph.range"
    start: Value = operand(NUMERIC_TENSOR)
    limit: Value = operand(NUMERIC_TENSOR)
    delta: Value = operand(NUMERIC_TENSOR)
    narrow: bool = attr(BOOL, default=False)
    result: Value = result(NUMERIC_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        same_element(self.start, self.limit, self.delta)
        for value, what in ((self.start, "start"), (self.limit, "limit"), (self.delta, "delta")):
            check_one_element(value, what)
        length = self._length()
        if length is None:
            length = fresh_dim(self, "range")
        return [tensor_type(self.start).with_shape((length,))]

    def _length(self) -> Dim | None:
        arrays = [constant_array(value) for value in self.operands]
        if all(array is not None for array in arrays):
            return int(self._elements(arrays).size)
        start, limit, delta = self._scalars() or (None, None, None)
        if start is None or limit is None or not isinstance(delta, int):
            return None
        if delta == 0:
            raise IRError("a range by steps of 0")
        return dim_max(ceildiv(limit - start, delta) if delta > 0 else ceildiv(start - limit, -delta), 0)

    def _scalars(self) -> tuple[Dim, Dim, Dim] | None:
        found = [content(value) for value in self.operands]
        if any(dims is None for dims in found):
            return None
        start, limit, delta = (dims[0] for dims in found if dims is not None)
        return start, limit, delta

    def infer_content(self) -> Content | None:
        dims = self._scalars()
        (length,) = shape_of(self.result)
        if dims is None or not isinstance(length, int) or length > CONTENT_LIMIT:
            return None
        return tuple(dims[0] + index * dims[2] for index in range(length))

    def compute(self, frame: Any, *args: Any) -> Any:
        return self._elements(args)

    def _elements(self, args: Sequence[Any]) -> Array:
        dtype = numpy_dtype(self.start.type)
        wide = np.dtype(np.float32) if dtype.kind in "fV" and dtype.itemsize < 4 and not self.narrow else dtype
        start, limit, delta = (np.asarray(arg).reshape(-1)[0].astype(wide) for arg in args)
        if delta == 0:
            raise IRError("a range by steps of 0")
        with np.errstate(all="ignore"):
            if dtype.kind in "iu":
                length = -(-(int(limit) - int(start)) // int(delta))
            else:
                quotient = float((limit - start) / delta)
                if not math.isfinite(quotient):
                    raise IRError(f"a range from {start} to {limit} by {delta} has no length")
                length = math.ceil(quotient)
            steps = np.arange(max(length, 0)).astype(wide)
            return np.asarray(start + steps * delta).astype(dtype)


class EyeOp(ShapedByTypeOp):
    """A matrix of the result type's shape with ones where column - row is `k`, zeros elsewhere. ONNX: EyeLike.

    ```mlir
    %r = graph.eye {k = 1 : i64} : () -> tensor<3x4xf32>
    ```
    """

    name = "graph.eye"
    k: int = attr(INT, default=0)
    result: Value = result(REAL_OR_BOOL_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        return self.known_types()

    def verify_op(self) -> None:
        if tensor_type(self.result).rank != 2:
            raise IRError(f"an identity matrix has rank 2, not {self.result.type}")

    def compute(self, frame: Any, *args: Any) -> Any:
        rows, columns = run_time_shape(self, frame, args, self.result.type)
        return np.eye(rows, columns, self.k).astype(numpy_dtype(self.result.type))


class TriluOp(GraphOp):
    """Of the matrices in the last two dims, the upper triangle (column - row >= k) or the lower one (column - row <=
    k); zeros (empty strings) elsewhere. `k` absent is 0. ONNX: Trilu.

    ```mlir
    %x = "test.value"() : () -> tensor<2x4x4xf32>
    %r = graph.trilu %x {upper = true} : (tensor<2x4x4xf32>) -> tensor<2x4x4xf32>
    ```
    """

    name = "graph.trilu"
    x: Value = operand(SCALAR_OR_STRING_TENSOR)
    k: Value | None = optional_operand(INT_TENSOR)
    upper: bool = attr(BOOL)
    result: Value = result(SCALAR_OR_STRING_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        if tensor_type(self.x).rank < 2:
            raise IRError(f"a triangle of {self.x.type}, which holds no matrix")
        if self.k is not None:
            check_one_element(self.k, "k")
        return [self.x.type]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = args[0]
        k = int(np.asarray(args[1]).reshape(-1)[0]) if len(args) == 2 else 0
        distance = np.arange(x.shape[-1]) - np.arange(x.shape[-2])[:, None]
        kept = distance >= k if self.upper else distance <= k
        return np.where(kept, x, blank(x.dtype))
