"""Writing at places that data tell, one update after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.tensor_base import tensor_type
from stepwell.errors import IRError
from stepwell.ir.constraints import TENSOR
from stepwell.ir.core import Region, Value
from stepwell.ir.opdef import PURE, Op, operand, region, result
from stepwell.ir.types import I64, Type


class ScatterOp(Op):
    """`base` [p, n, s] with out[i, places[i, k, j], j] = combine(out at that place, updates[i, k, j]) for k in order.

    `places` [p, k, s or 1] and `updates` [p, k, s]; an update whose place is not in 0 .. n - 1 is left out. Of several
    updates of one place the last is combined last, whatever the number of threads.

    ```mlir
    %x = "test.value"() : () -> tensor<1x8x4xf32>
    %i = "test.value"() : () -> tensor<1x3x1xi64>
    %u = "test.value"() : () -> tensor<1x3x4xf32>
    %r = tensor.scatter %x, %i, %u : (tensor<1x8x4xf32>, tensor<1x3x1xi64>, tensor<1x3x4xf32>) -> tensor<1x8x4xf32> {
    ^bb0(%old: f32, %new: f32):
      tensor.yield %new : f32
    }
    ```
    """

    name = "tensor.scatter"
    traits = frozenset({PURE})
    base: Value = operand(TENSOR)
    places: Value = operand(TENSOR)
    updates: Value = operand(TENSOR)
    result: Value = result(TENSOR)
    combine: Region = region()

    def infer_types(self) -> Sequence[Type]:
        return [self.base.type]

    def verify_op(self) -> None:
        types = [tensor_type(value) for value in (self.base, self.places, self.updates)]
        if any(type_.rank != 3 for type_ in types) or types[1].element is not I64:
            raise IRError("the base, the updates and their places (i64) have rank 3")
        if [a.type for a in self.combine.block.arguments] != [types[0].element, types[2].element]:
            raise IRError("combine takes an element of the base and one of the updates")

    def interpret(self, frame: Any, *args: Any) -> Any:
        base, places, updates = args
        out = base.copy()
        lines, _, inner = base.shape
        rows, columns = np.ogrid[:lines, :inner]
        for number in range(updates.shape[1]):
            place = np.broadcast_to(places[:, number], (lines, inner))
            inside = (place >= 0) & (place < base.shape[1])
            at = (rows, np.where(inside, place, 0), columns)
            if out.size:
                (value,) = frame.run_region(self.combine, [out[at], updates[:, number]])
                out[at] = np.where(inside, value, out[at])
        return out
