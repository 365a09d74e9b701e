"""Tensors of any shape in one list: where one begins and what sizes it has are numbers in other tensors, which are
required to make sense."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import GraphOp, constant_array, shape_of, tensor_type
from stepwell.dialects.graph.shape import check_list, list_size
from stepwell.dialects.graph.symbols import DataDependentOp, fresh_dim
from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attributes import Attribute
from stepwell.ir.attrkinds import INTS, STRING
from stepwell.ir.constraints import BOOL_TENSOR, INDEX_LIST, TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.opdef import attr, operand, result
from stepwell.ir.types import TensorType, Type


class UnpackOp(DataDependentOp):
    """The tensor that lies in a list from place `start` (one number) on, in row-major order, and whose shape is in
    `sizes`; `known` has those of them that are no news, -1 for the others. A part of a sequence that has been spread.

    ```mlir
    %x = "test.value"() : () -> tensor<?xf32, #graph.shape<["n"]>>
    %p = "test.value"() : () -> tensor<1xsi64>
    %s = "test.value"() : () -> tensor<2xsi64>
    %r = graph.unpack %x, %p, %s {known = array<i64: -1, -1>, new_dims = ["k", "m"]}
      : (tensor<?xf32, #graph.shape<["n"]>>, tensor<1xsi64>, tensor<2xsi64>)
      -> tensor<?x?xf32, #graph.shape<["k", "m"]>>
    ```
    """

    name = "graph.unpack"
    x: Value = operand(TENSOR)
    start: Value = operand(INDEX_LIST)
    sizes: Value = operand(INDEX_LIST)
    known: tuple[int, ...] = attr(INTS)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        list_size(self.x, "what is unpacked")
        check_list(self.start, 1, "the place")
        check_list(self.sizes, len(self.known), "the sizes")
        shape: list[Dim] = []
        fresh = 0
        for size in self.known:
            if size < 0:
                shape.append(fresh_dim(self, "unpack", fresh))
                fresh += 1
            else:
                shape.append(size)
        return [TensorType(tuple(shape), tensor_type(self.x).element)]

    def compute(self, frame: Any, *args: Any) -> Any:
        x, start, sizes = args[0], int(args[1][0]), [int(size) for size in args[2]]
        end = start + int(np.prod(sizes, dtype=np.int64))
        if any(size not in (-1, given) for size, given in zip(self.known, sizes, strict=True)):
            raise IRError(f"a tensor of sizes {sizes} where {list(self.known)} are known")
        if not 0 <= start <= end <= x.size:
            raise IRError(f"elements {start} to {end} of {x.size}")
        return x[start:end].reshape(sizes)


class RequiredOp(GraphOp):
    """A list of numbers where each of the conditions holds. Where one does not, the run ends with an error that tells
    the message and the number.

    ```mlir
    %x = "test.value"() : () -> tensor<1xsi64>
    %h = graph.constant dense<[true]> : tensor<1xi1>
    %r = graph.required %x, %h {message = "a place outside"} : (tensor<1xsi64>, tensor<1xi1>) -> tensor<1xsi64>
    ```
    """

    name = "graph.required"
    x: Value = operand(INDEX_LIST)
    holds: Value = operand(BOOL_TENSOR)
    message: str = attr(STRING)
    result: Value = result(INDEX_LIST)

    def infer_types(self) -> Sequence[Type]:
        if shape_of(self.x) != shape_of(self.holds):
            raise IRError(f"conditions {self.holds.type} for numbers {self.x.type}")
        return [self.x.type]

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        """required(%x, true) -> %x"""
        known = constant_array(self.holds)
        return [self.x] if known is not None and known.all() else super().fold(constants)

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, holds = args
        if not holds.all():
            raise RuntimeError(self.message, int(x[~holds][0]), self.loc.label or "an operation")
        return x
