"""Data movement: the same elements in another order or shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import GraphOp, shape_of, tensor_type
from stepwell.dialects.graph.symbols import run_time_shape
from stepwell.errors import IRError
from stepwell.ir.attrkinds import INTS
from stepwell.ir.constraints import TENSOR
from stepwell.ir.core import Value
from stepwell.ir.opdef import attr, operand, optional_operand, result
from stepwell.ir.types import Type


class TransposeOp(GraphOp):
    """Axis i of the result is axis `permutation[i]` of the operand.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %r = graph.transpose %x {permutation = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
    ```
    """

    name = "graph.transpose"
    x: Value = operand(TENSOR)
    permutation: tuple[int, ...] = attr(INTS)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape = shape_of(self.x)
        if sorted(self.permutation) != list(range(len(shape))):
            raise IRError(f"permutation {list(self.permutation)} does not order {len(shape)} axes")
        return [tensor_type(self.x).with_shape([shape[axis] for axis in self.permutation])]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.transpose(args[0], self.permutation)


class ReshapeOp(GraphOp):
    """The same elements in row-major order in another shape, given by the result type and optionally as an operand.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %r = graph.reshape %x : (tensor<2x3xf32>) -> tensor<6xf32>
    ```
    """

    name = "graph.reshape"
    x: Value = operand(TENSOR)
    shape: Value | None = optional_operand(TENSOR)
    result: Value = result(TENSOR)

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.reshape(args[0], run_time_shape(self, frame, args[:1], tensor_type(self.results[0])))
