"""Sizes that only data tell: the ops of the tensor dialect that bring symbols into the program.

Everything behind them in the program may mention the symbols in its types and sizes, as it may those of the
arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepwell.dialects.heap import MOST, checked_size
from stepwell.dialects.random_streams import INTERPRETED_ENTROPY
from stepwell.dialects.tensor_base import DimsAttr, concrete, tensor_type
from stepwell.errors import IRError
from stepwell.ir.attrkinds import INT, STRING, attr_of
from stepwell.ir.constraints import INT_TENSOR, TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import symbol
from stepwell.ir.opdef import Op, attr, operand
from stepwell.ir.types import I64


class MeasureOp(Op):
    """From here on a symbol is the size of a tensor along an axis: of one that control flow has made, which may have
    another size each time.

    ```mlir
    %x = "test.value"() : () -> tensor<4x?xf32, #graph.shape<["k"]>>
    tensor.measure %x {axis = 1, symbol = "k"} : tensor<4x?xf32, #graph.shape<["k"]>>
    ```
    """

    name = "tensor.measure"
    assembly = "$x attr-dict `:` type($x)"
    x: Value = operand(TENSOR)
    symbol: str = attr(STRING)
    axis: int = attr(INT)

    def verify_op(self) -> None:
        shape = tensor_type(self.x).shape
        if not 0 <= self.axis < len(shape) or shape[self.axis] != symbol(self.symbol):
            raise IRError(f"axis {self.axis} of {self.x.type} is not {self.symbol!r}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        frame.state.setdefault("symbols", {})[self.symbol] = int(np.shape(args[0])[self.axis])
        return ()


class BornOp(Op):
    """From here on a symbol is the number that a tensor of one element holds. A run-time error where the number is
    negative, or larger than `at_most` where that is given.

    In a loop's body the symbol is born in every round anew.

    ```mlir
    %n = "test.value"() : () -> tensor<i64>
    tensor.born %n {at_most = #tensor.dims<[12]>, symbol = "k"} : tensor<i64>
    ```
    """

    name = "tensor.born"
    assembly = "$size attr-dict `:` type($size)"
    size: Value = operand(INT_TENSOR)
    symbol: str = attr(STRING)
    at_most: DimsAttr | None = attr(attr_of(DimsAttr), default=None)

    def verify_op(self) -> None:
        type_ = tensor_type(self.size)
        if type_.element is not I64 or any(size != 1 for size in type_.shape):
            raise IRError(f"a size is one i64, not {type_}")
        if self.at_most is not None and len(self.at_most.dims) != 1:
            raise IRError(f"one largest size, not {len(self.at_most.dims)}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        most = concrete(self.at_most.dims[0], frame) if self.at_most is not None else MOST
        size = checked_size(self.loc.label, self.symbol, int(np.asarray(args[0]).reshape(-1)[0]), most)
        frame.state.setdefault("symbols", {})[self.symbol] = size
        return ()


class EntropyOp(Op):
    """From here on a symbol is a number that no two runs share: a clock's time, which says nothing else.

    The interpreter always takes the same one, so that its results can be compared.

    ```mlir
    tensor.entropy {symbol = "chance_0"}
    ```
    """

    name = "tensor.entropy"
    assembly = "attr-dict"
    symbol: str = attr(STRING)

    def interpret(self, frame: Any, *args: Any) -> Any:
        frame.state.setdefault("symbols", {})[self.symbol] = INTERPRETED_ENTROPY
        return ()
