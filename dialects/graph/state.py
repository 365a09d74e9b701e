"""State that grows: rows behind those that the calls before have left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import GraphOp, same_element, shape_of, tensor_type
from stepwell.dialects.graph.movement import agree, check_axis
from stepwell.errors import IRError
from stepwell.ir.attrkinds import INT
from stepwell.ir.constraints import TENSOR
from stepwell.ir.core import Value
from stepwell.ir.opdef import attr, operand, result
from stepwell.ir.types import Type


class AppendOp(GraphOp):
    """`new` behind `past` along `axis`, as a concatenation. `past` is an argument that the caller keeps from call to
    call in memory with room for `capacity` rows, so that only the new rows are written.

    ```mlir
    %past = "test.value"() : () -> tensor<2x?xf32, #graph.shape<["past"]>>
    %new = "test.value"() : () -> tensor<2x1xf32>
    %r = graph.append %past, %new {axis = 1 : i64, capacity = 64 : i64} : (tensor<2x?xf32, #graph.shape<["past"]>>, tensor<2x1xf32>) -> tensor<2x?xf32, #graph.shape<["past + 1"]>>
    ```
    """  # noqa: E501

    name = "graph.append"
    past: Value = operand(TENSOR)
    new: Value = operand(TENSOR)
    axis: int = attr(INT)
    capacity: int = attr(INT)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        same_element(self.past, self.new)
        shape, other = list(shape_of(self.past)), shape_of(self.new)
        check_axis(self.axis, len(shape))
        if len(other) != len(shape):
            raise IRError(f"{self.new.type} does not go behind {self.past.type}")
        if self.capacity < 1:
            raise IRError(f"room for {self.capacity} rows")
        for axis, size in enumerate(other):
            if axis == self.axis:
                shape[axis] = shape[axis] + size
            else:
                shape[axis] = agree(shape[axis], size, f"axis {axis} of appended rows")
        return [tensor_type(self.past).with_shape(shape)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.concatenate(args, self.axis)
