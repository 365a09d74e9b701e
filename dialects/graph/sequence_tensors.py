"""One tensor made of a sequence's tensors, and a sequence made of one tensor's parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import GraphOp, content, shape_of, tensor_type
from stepwell.dialects.graph.sequence import sequence_type, sized
from stepwell.dialects.graph.symbols import DataDependentOp
from stepwell.dialects.sequence_types import EVERY_SIZE, SEQUENCE, SequenceType
from stepwell.errors import IRError
from stepwell.ir.attrkinds import BOOL, INT
from stepwell.ir.constraints import INT_TENSOR, TENSOR
from stepwell.ir.core import Value
from stepwell.ir.opdef import attr, operand, optional_operand, result
from stepwell.ir.types import TensorType, Type


class ConcatSequenceOp(DataDependentOp):
    """The tensors of a sequence behind each other along `axis`, or along an axis that is `new`. They agree in their
    other sizes, and there is at least one. ONNX: ConcatFromSequence.

    ```mlir
    %a = "test.value"() : () -> tensor<2x4xf32>
    %s = graph.sequence %a, %a {element = f32}
      : (tensor<2x4xf32>, tensor<2x4xf32>) -> !graph.sequence<element = f32, sizes = [-1, 4]>
    %r = graph.concat_sequence %s {axis = 0 : i64, new_dims = ["n"]}
      : (!graph.sequence<element = f32, sizes = [-1, 4]>) -> tensor<?x4xf32, #graph.shape<["n"]>>
    ```
    """

    name = "graph.concat_sequence"
    sequence: Value = operand(SEQUENCE)
    axis: int = attr(INT)
    new: bool = attr(BOOL, default=False)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        sequence = sequence_type(self.sequence)
        sizes = list(sequence.sizes or ())
        if sequence.sizes is not None and not 0 <= self.axis < len(sizes) + self.new:
            raise IRError(f"axis {self.axis} is out of range for rank {len(sizes) + self.new}")
        sizes[self.axis : self.axis + (not self.new)] = [EVERY_SIZE]
        whole = SequenceType(sequence.element, None if sequence.sizes is None else tuple(sizes), sequence.empty)
        return [TensorType(sized(self, "concat", whole), sequence.element)]

    def compute(self, frame: Any, *args: Any) -> Any:
        if not args[0]:
            raise IRError("an empty sequence is concatenated")
        try:
            return (np.stack if self.new else np.concatenate)(args[0], self.axis)
        except ValueError:
            raise IRError(f"tensors of shapes {[np.shape(x) for x in args[0]]} along axis {self.axis}") from None


class SplitSequenceOp(GraphOp):
    """The parts of a tensor along `axis`: of these sizes (a list), or all of one size (a number) but the last, which
    may be smaller. Without sizes, slices of size 1, without the axis unless it `keeps` it. ONNX: SplitToSequence.

    ```mlir
    %x = "test.value"() : () -> tensor<?x4xf32, #graph.shape<["n"]>>
    %k = graph.constant dense<2> : tensor<si64>
    %s = graph.split_sequence %x, %k {axis = 0 : i64}
      : (tensor<?x4xf32, #graph.shape<["n"]>>, tensor<si64>) -> !graph.sequence<element = f32, sizes = [-1, 4]>
    %c = graph.sequence_length %s : (!graph.sequence<element = f32, sizes = [-1, 4]>) -> tensor<si64>
    ```
    """

    name = "graph.split_sequence"
    x: Value = operand(TENSOR)
    sizes: Value | None = optional_operand(INT_TENSOR)
    axis: int = attr(INT)
    keeps: bool = attr(BOOL, default=True)
    result: Value = result(SEQUENCE)

    @property
    def keeps_axis(self) -> bool:
        """Whether the parts have the axis."""
        return self.keeps or self.sizes is not None

    def infer_types(self) -> Sequence[Type]:
        shape = shape_of(self.x)
        if not 0 <= self.axis < len(shape):
            raise IRError(f"axis {self.axis} is out of range for rank {len(shape)}")
        if self.sizes is not None and tensor_type(self.sizes).rank > 1:
            raise IRError(f"the sizes of parts are a number or a list, not {self.sizes.type}")
        found = [dim if isinstance(dim, int) else EVERY_SIZE for dim in shape]
        along = [1 if self.sizes is None else self._size()] if self.keeps_axis else []
        found[self.axis : self.axis + 1] = along
        return [SequenceType(tensor_type(self.x).element, tuple(found))]

    def _size(self) -> int:
        """The size along the axis that all parts have; -1 where there is none."""
        total, known = shape_of(self.x)[self.axis], content(self.sizes)
        if known is None or not known or any(size != known[0] for size in known) or not isinstance(known[0], int):
            return EVERY_SIZE
        divides = isinstance(total, int) and known[0] > 0 and total % known[0] == 0
        return known[0] if divides else EVERY_SIZE

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, sizes = args[0], np.asarray(args[1] if len(args) > 1 else 1, np.int64)
        length = x.shape[self.axis]
        if not sizes.ndim and sizes < 1:
            raise IRError(f"parts of size {sizes}")
        if sizes.ndim and (sizes.sum() != length or (sizes < 0).any()):
            raise IRError(f"axis {self.axis} of size {length} cannot be split into {sizes.tolist()}")
        ends = np.cumsum(sizes) if sizes.ndim else np.arange(int(sizes), length + int(sizes), int(sizes))
        parts = np.split(x, ends[:-1], self.axis) if ends.size else []
        return parts if self.keeps_axis else [np.squeeze(part, self.axis) for part in parts]
