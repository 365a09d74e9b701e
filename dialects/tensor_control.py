"""Control flow of the tensor dialect: rounds in order, with tensors carried from one to the next, and branches.

Regions use values from above. What is carried keeps its type; what is collected has as many rows as there are rounds.
Below, this is control flow of the program around kernels: nothing carried is copied, since what passes from one round
to the next is where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.tensor_base import DimsAttr, YieldOp, concrete, concrete_shape, tensor_type
from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attrkinds import INTS, attr_of
from stepwell.ir.constraints import BOOL_TENSOR, INDEX_TYPE, TENSOR
from stepwell.ir.core import Region, Value
from stepwell.ir.dims import Dim, DimExpr, free_symbols, symbol
from stepwell.ir.opdef import PURE, Op, attr, operand, operands, region, result, results
from stepwell.ir.types import I1, INDEX, TensorType, Type, numpy_dtype


class RowOp(Op):
    """The row at a place along the first axis, without that axis; a view. The place is inside.

    ```mlir
    %x = "test.value"() : () -> tensor<8x4xf32>
    %i = "test.value"() : () -> index
    %r = tensor.row %x[%i] : tensor<8x4xf32>
    ```
    """

    name = "tensor.row"
    traits = frozenset({PURE})
    assembly = "$x `[` $place `]` attr-dict `:` type($x)"
    x: Value = operand(TENSOR)
    place: Value = operand(INDEX_TYPE)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        type_ = tensor_type(self.x)
        if not type_.rank:
            raise IRError("a tensor of rank 0 has no rows")
        return [type_.with_shape(type_.shape[1:])]

    def interpret(self, frame: Any, *args: Any) -> Any:
        array, place = args
        if not 0 <= int(place) < array.shape[0]:
            raise IRError(f"row {int(place)} of an array of {array.shape[0]} rows")
        return array[int(place), ...]


class RoundsOp(Op):
    """Base of the ops that carry values from round to round and collect rows."""

    initial: Sequence[Value] = operands(TENSOR)
    outputs: Sequence[Value] = results(TENSOR)
    body: Region = region()

    @property
    def finals(self) -> Sequence[Value]:
        """The carried values after the last round."""
        return self.results[: len(self.initial)]

    @property
    def stacks(self) -> Sequence[Value]:
        """The collected values."""
        return self.results[len(self.initial) :]


class ForOp(RoundsOp):
    """Runs the body for the rounds 0, 1, .. below `steps` (one size), in order.

    The body takes the number of the round (an index) and the carried values, and yields the next carried values, then
    a row of each collected value. Results: the carried values after the last round, and the collected rows stacked
    along a new first axis: the row of round i is number i, or steps - 1 - i where `backward` is 1.

    ```mlir
    %x = "test.value"() : () -> tensor<8x4xf32>
    %h0 = "test.value"() : () -> tensor<4xf32>
    %h, %all = tensor.for %h0 {backward = array<i64: 0>, steps = #tensor.dims<[8]>}
      : (tensor<4xf32>) -> (tensor<4xf32>, tensor<8x4xf32>) {
    ^bb0(%i: index, %v: tensor<4xf32>):
      %r = tensor.row %x[%i] : tensor<8x4xf32>
      tensor.yield %r, %v : tensor<4xf32>, tensor<4xf32>
    }
    ```
    """

    name = "tensor.for"
    traits = frozenset({PURE})
    steps: DimsAttr = attr(attr_of(DimsAttr))
    backward: Sequence[int] = attr(INTS, default=())

    @property
    def count(self) -> Dim:
        """How many rounds."""
        return self.steps.dims[0]

    def infer_types(self) -> Sequence[Type]:
        rows = [tensor_type(value) for value in _yielded(self.body)[len(self.initial) :]]
        return [*(v.type for v in self.initial), *(row.with_shape((self.count, *row.shape)) for row in rows)]

    def verify_op(self) -> None:
        if len(self.steps.dims) != 1:
            raise IRError(f"one number of rounds, not {len(self.steps.dims)}")
        types = [value.type for value in self.initial]
        ends = _yielded(self.body)
        if [a.type for a in self.body.block.arguments] != [INDEX, *types]:
            raise IRError("the body takes the round and the carried values")
        if [v.type for v in ends[: len(types)]] != types:
            raise IRError("the body yields the carried values first, each of the type that it takes")
        if len(ends) - len(types) != len(self.backward):
            raise IRError(f"{len(ends) - len(types)} collected values and {len(self.backward)} directions")
        if [r.type for r in self.results] != list(self.infer_types()):
            raise IRError("the results are the carried values and, for each collected one, its rows")

    def interpret(self, frame: Any, *args: Any) -> Any:
        steps, state = concrete(self.count, frame), list(args)
        stacks = [np.empty(concrete_shape(_shape(v), frame), numpy_dtype(v.type)) for v in self.stacks]
        for step in range(steps):
            ends = frame.run_region(self.body, [np.int64(step), *state])
            state = list(ends[: len(state)])
            for stack, backward, row in zip(stacks, self.backward, ends[len(state) :], strict=True):
                stack[steps - 1 - step if backward else step] = row
        return (*state, *stacks)


class WhileOp(RoundsOp):
    """Runs the body on the carried values, the first of which is a condition (i1, one element), as long as it holds.

    The body yields the next carried values, then a row of each collected value. Results: the carried values after the
    last round, and the collected rows stacked along a new first axis. All rows of a stack have one shape; a run-time
    error where they do not. Without a round, sizes of rows that only a round would tell are 0.

    A size of a carried value that rounds change is a symbol in the type of the body's argument and in that of the
    result, which `tensor.measure` binds at the head of the body and behind the op; likewise the number of the rows.

    ```mlir
    %c = "test.value"() : () -> tensor<i1>
    %x = "test.value"() : () -> tensor<4xf32>
    %e, %r = tensor.while %c, %x : (tensor<i1>, tensor<4xf32>) -> (tensor<i1>, tensor<4xf32>) {
    ^bb0(%go: tensor<i1>, %v: tensor<4xf32>):
      tensor.yield %go, %v : tensor<i1>, tensor<4xf32>
    }
    ```
    """

    name = "tensor.while"

    def keeps_type(self, index: int) -> bool:
        """Whether no round changes the sizes of a carried value."""
        end = _yielded(self.body)[index]
        return self.initial[index].type is self.body.block.arguments[index].type is end.type

    def verify_op(self) -> None:
        carried, ends = len(self.initial), _yielded(self.body)
        if not carried or not is_condition(self.initial[0].type) or not self.keeps_type(0):
            raise IRError("the first carried value is the condition, an i1 with one element")
        arguments = self.body.block.arguments
        if len(arguments) != carried:
            raise IRError("the body takes the carried values")
        if len(ends) != len(self.results) or len(ends) < carried:
            raise IRError("the body yields the carried values, and a row of each collected one")
        for group in (self.initial, ends[:carried]):
            for place in (arguments, self.finals):
                if not all(map(_may_be, place, group)):
                    raise IRError("a carried value keeps its type, but for sizes that are symbols in the argument")
        for stack, row in zip(self.stacks, ends[carried:], strict=True):
            type_ = tensor_type(stack)
            if not type_.rank or not _may_be_type(type_.with_shape(type_.shape[1:]), tensor_type(row)):
                raise IRError(f"rows of type {row.type} do not stack to {type_}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        state, rows = list(args), [list[Any]() for _ in self.stacks]
        while np.asarray(state[0]).reshape(-1)[0]:
            ends = frame.run_region(self.body, state)
            state = list(ends[: len(state)])
            for collected, row in zip(rows, ends[len(state) :], strict=True):
                if collected and np.shape(row) != np.shape(collected[0]):
                    raise RuntimeError(ROWS_DIFFER, where=self.loc.label or "a loop")
                collected.append(row)
        stacks = (np.stack(r) if r else _no_rows(s, frame) for r, s in zip(rows, self.stacks, strict=True))
        return (*state, *stacks)


ROWS_DIFFER = "what the rounds of a loop collect differs in its sizes"


def _no_rows(stack: Value, frame: Any) -> Any:
    bound = frame.state.get("symbols", {})
    known = (dim if free_symbols(dim) <= bound.keys() else 0 for dim in _shape(stack)[1:])
    return np.empty((0, *concrete_shape(tuple(known), frame)), numpy_dtype(stack.type))


class IfOp(Op):
    """Runs `then` where the condition (one element) holds, else `otherwise`; both yield the results.

    A size in which the branches differ is a symbol in the result's type, which `tensor.measure` binds behind the op.

    ```mlir
    %c = "test.value"() : () -> tensor<i1>
    %x = "test.value"() : () -> tensor<4xf32>
    %y = "test.value"() : () -> tensor<4xf32>
    %r = tensor.if %c : (tensor<i1>) -> tensor<4xf32> {
      tensor.yield %x : tensor<4xf32>
    } {
      tensor.yield %y : tensor<4xf32>
    }
    ```
    """

    name = "tensor.if"
    traits = frozenset({PURE})
    condition: Value = operand(BOOL_TENSOR)
    outputs: Sequence[Value] = results(TENSOR)
    then: Region = region()
    otherwise: Region = region()

    def infer_types(self) -> Sequence[Type]:
        return [value.type for value in _yielded(self.then)]

    def verify_op(self) -> None:
        if not is_condition(self.condition.type):
            raise IRError(f"the condition has one element, unlike {self.condition.type}")
        for side in self.regions:
            if side.block.arguments:
                raise IRError("branches take no arguments")
            values = _yielded(side)
            if len(values) != len(self.results) or not all(map(_may_be, self.results, values)):
                raise IRError("each branch yields the results")

    def interpret(self, frame: Any, *args: Any) -> Any:
        return frame.run_region(self.then if np.asarray(args[0]).reshape(-1)[0] else self.otherwise, ())


def _may_be(result_: Value, value: Value) -> bool:
    """Whether a value may be handed on as another: the types agree where the result's sizes are no symbols."""
    return _may_be_type(tensor_type(result_), tensor_type(value))


def _may_be_type(wanted: TensorType, given: TensorType) -> bool:
    if wanted.element is not given.element or wanted.layout != given.layout or wanted.rank != given.rank:
        return False
    sizes = zip(wanted.shape, given.shape, strict=True)
    return all(size == other or (isinstance(size, DimExpr) and is_symbol(size)) for size, other in sizes)


def is_symbol(size: DimExpr) -> bool:
    """Whether a size is a symbol by itself."""
    names = free_symbols(size)
    return len(names) == 1 and size == symbol(next(iter(names)))


def is_condition(type_: Type) -> bool:
    """Whether a type is that of one truth."""
    return isinstance(type_, TensorType) and type_.element is I1 and all(size == 1 for size in type_.shape)


def _yielded(body: Region) -> Sequence[Value]:
    last = body.block.last
    if not isinstance(last, YieldOp):
        raise IRError("the region does not end with tensor.yield")
    return last.operands


def _shape(value: Value) -> Sequence[Dim]:
    return tensor_type(value).shape
