"""Calls into Python at the tensor landing, where strings are handles (see `host_strings`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepwell.dialects.host import check_signature, sizes_type
from stepwell.dialects.host_calls import HostCall, current
from stepwell.dialects.tensor_base import tensor_type
from stepwell.errors import IRError
from stepwell.ir.attributes import DictAttr
from stepwell.ir.attrkinds import FUNCTION_TYPE, INT, SYMBOL, attr_of
from stepwell.ir.constraints import INT_TENSOR, TENSOR
from stepwell.ir.core import Value
from stepwell.ir.opdef import PURE, Op, attr, operand, operands, result
from stepwell.ir.types import I64, FunctionType, TensorType, Type


class HostCallOp(Op):
    """Calls a function on the host and tells the sizes of its results, one after the other. The results themselves are
    taken by `tensor.host_result`, behind the symbols that their sizes bring. `signature` has the types that the
    function sees; a tensor of strings is one of handles here.

    ```mlir
    %x = "test.value"() : () -> tensor<4xi64>
    %sizes = tensor.host_call @regex_full_match(%x) {config = {pattern = "a+"}, signature = (tensor<4x!graph.string>) -> tensor<4xi1>} : tensor<4xi64>
    %y = tensor.host_result %sizes {number = 0 : i64} : (tensor<1xi64>) -> tensor<4xi1>
    ```
    """  # noqa: E501

    name = "tensor.host_call"
    traits = frozenset({PURE})
    assembly = "$callee `(` $inputs `)` attr-dict `:` type($inputs)"
    inputs: Sequence[Value] = operands(TENSOR)
    callee: str = attr(SYMBOL)
    config: DictAttr = attr(attr_of(DictAttr))
    signature: FunctionType = attr(FUNCTION_TYPE)
    sizes: Value = result(INT_TENSOR)

    @property
    def call(self) -> HostCall:
        """The call as a record."""
        return HostCall(self.callee, self.config, self.signature, self.loc.label)

    def infer_types(self) -> Sequence[Type]:
        return [TensorType(tuple(sizes_type(self.signature).shape), I64)]

    def verify_op(self) -> None:
        check_signature(self.signature, [value.type for value in self.inputs])

    def interpret(self, frame: Any, *args: Any) -> Any:
        return current().run(self, self.call, args)


class HostResultOp(Op):
    """One of the results of the call that told the sizes.

    ```mlir
    %x = "test.value"() : () -> tensor<4xi64>
    %sizes = tensor.host_call @regex_full_match(%x) {config = {pattern = "a+"}, signature = (tensor<4x!graph.string>) -> tensor<4xi1>} : tensor<4xi64>
    %y = tensor.host_result %sizes {number = 0 : i64} : (tensor<1xi64>) -> tensor<4xi1>
    ```
    """  # noqa: E501

    name = "tensor.host_result"
    traits = frozenset({PURE})
    sizes: Value = operand(INT_TENSOR)
    number: int = attr(INT)
    result: Value = result(TENSOR)

    @property
    def call(self) -> HostCallOp:
        """The call that it is a result of. Raises IRError where there is none."""
        op = self.sizes.defining_op
        if not isinstance(op, HostCallOp):
            raise IRError("its operand is what a tensor.host_call told")
        return op

    def verify_op(self) -> None:
        types = self.call.call.results
        if not 0 <= self.number < len(types) or types[self.number].rank != tensor_type(self.result).rank:
            raise IRError(f"result {self.number} of {self.call.signature} is no {self.result.type}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        return current().result(self.call, self.number)
