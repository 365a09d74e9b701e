"""Calls into Python from a program: the loop landing's side of `graph.host_call`.

A call is two ops: `host.call` runs the function and tells the sizes of what it made; `host.result` copies one of the
results to memory, which by then can have been found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepwell.dialects.host_calls import HostCall, current
from stepwell.errors import IRError
from stepwell.ir.attributes import DictAttr
from stepwell.ir.attrkinds import FUNCTION_TYPE, INT, SYMBOL, attr_of
from stepwell.ir.constraints import MEMREF
from stepwell.ir.core import Value
from stepwell.ir.opdef import Op, attr, operand, operands
from stepwell.ir.registry import Dialect
from stepwell.ir.types import I64, FunctionType, MemRefType, Type

FAILED = "a function on the host failed"
"""What is said of a call where the host says no more."""


class CallOp(Op):
    """Calls a function on the host with arrays and writes the sizes of its results, one after the other. The results
    stay on the host until the call of this `number` is made again. `signature` has the types that the function sees; of
    a tensor of strings the buffer has handles. A run-time error where the function fails.

    ```mlir
    %x = "test.value"() : () -> memref<4xi64>
    %sizes = "test.value"() : () -> memref<1xi64>
    host.call @regex_full_match(%x) -> %sizes {config = {pattern = "a+"}, number = 0 : i64, signature = (tensor<4x!graph.string>) -> tensor<4xi1>} : memref<4xi64> -> memref<1xi64>
    ```
    """  # noqa: E501

    name = "host.call"
    assembly = "$callee `(` $inputs `)` `->` $sizes attr-dict `:` type($inputs) `->` type($sizes)"
    inputs: Sequence[Value] = operands(MEMREF)
    sizes: Value = operand(MEMREF)
    callee: str = attr(SYMBOL)
    config: DictAttr = attr(attr_of(DictAttr))
    signature: FunctionType = attr(FUNCTION_TYPE)
    number: int = attr(INT)

    message = FAILED

    @property
    def call(self) -> HostCall:
        """The call as a record."""
        return HostCall(self.callee, self.config, self.signature, self.loc.label)

    def verify_op(self) -> None:
        check_signature(self.signature, [value.type for value in self.inputs])
        wanted = sizes_type(self.signature)
        if self.sizes.type is not wanted:
            raise IRError(f"the sizes of its results are a {wanted}, not a {self.sizes.type}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        *arrays, sizes = args
        sizes[...] = current().run(self.number, self.call, arrays)
        return ()


class ResultOp(Op):
    """Copies a result of the last call of a `number` to memory of its sizes.

    ```mlir
    %m = "test.value"() : () -> memref<?xi64>
    host.result %m {call = 0 : i64, number = 1 : i64} : memref<?xi64>
    ```
    """

    name = "host.result"
    assembly = "$memory attr-dict `:` type($memory)"
    memory: Value = operand(MEMREF)
    call: int = attr(INT)
    number: int = attr(INT)

    message = FAILED

    def interpret(self, frame: Any, *args: Any) -> Any:
        made = current().result(self.call, self.number)
        if made.shape != args[0].shape:
            raise IRError(f"a result of shape {list(made.shape)} for memory of shape {list(args[0].shape)}")
        args[0][...] = made
        return ()


def sizes_type(signature: FunctionType) -> MemRefType:
    """The type of the memory for the sizes of all results."""
    return MemRefType((sum(getattr(type_, "rank", 0) for type_ in signature.results),), I64)


def check_signature(signature: FunctionType, given: Sequence[Type]) -> None:
    """Raise IRError where values are not as many, or of other ranks, than a signature says."""
    wanted, found = ([getattr(type_, "rank", None) for type_ in types] for types in (signature.inputs, given))
    if wanted != found:
        raise IRError(f"a call {signature} is given {', '.join(map(str, given)) or 'nothing'}")


DIALECT = Dialect.of_module("host", globals().values(), __doc__, landing="loop")
