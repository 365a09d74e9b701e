"""Control flow: regions that run under a condition, a count, or once per slice of a tensor.

Regions may use values from above. A symbol that is born inside a region means something else on every run of it; what
leaves the region gets symbols of the op's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, content, shape_of
from stepwell.dialects.graph.demands import demand_equal
from stepwell.dialects.graph.symbols import DataDependentOp, fresh_dim, run_time_shape
from stepwell.dialects.sequence_types import joined_type
from stepwell.dialects.sequence_types import same_kind as same_kind
from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attributes import ArrayAttr, StringAttr
from stepwell.ir.attrkinds import INTS
from stepwell.ir.constraints import BOOL_TENSOR, INT_TENSOR, TENSOR
from stepwell.ir.core import BlockArgument, Region, Value
from stepwell.ir.dims import Dim, dim_max, free_symbols, proven_different
from stepwell.ir.opdef import TERMINATOR, Op, attr, operand, operands, optional_operand, region, results
from stepwell.ir.types import I1, SI64, TensorType, Type, numpy_dtype


class YieldOp(Op):
    """Ends a region of a control-flow op with the values that leave it.

    ```mlir
    %x = "test.value"() : () -> tensor<4xf32>
    graph.yield %x : tensor<4xf32>
    ```
    """

    name = "graph.yield"
    traits = frozenset({TERMINATOR})
    assembly = "attr-dict ($values^ `:` type($values))?"
    values: Sequence[Value] = operands()


def yielded(region_: Region) -> Sequence[Value]:
    """What leaves a region of one block. Raises IRError where it does not end with graph.yield."""
    last = region_.block.last
    if not isinstance(last, YieldOp):
        raise IRError("the region does not end with graph.yield")
    return last.operands


def inner_symbols(region_: Region) -> set[str]:
    """The names of symbols born inside a region: in its arguments' types, or at an op."""
    names: set[str] = set()
    for block in region_.blocks:
        for op in (inner for outer in block for inner in outer.walk()):
            kept = op.properties.get("new_dims")
            if isinstance(kept, ArrayAttr):
                names |= {name.value for name in kept if isinstance(name, StringAttr)}
    return names


def symbols_of(type_: Type) -> set[str]:
    """The names of all symbols in a tensor type."""
    return set().union(*(free_symbols(dim) for dim in type_.shape)) if isinstance(type_, TensorType) else set()


def need_same_kind(what: str, a: Type, b: Type) -> None:
    """Raise IRError where two types differ in more than sizes."""
    if not same_kind(a, b):
        raise IRError(f"{what}: {a} and {b} differ in more than sizes")


class RegionOp(DataDependentOp):
    """Base of the control-flow ops, which give fresh symbols to sizes that depend on a region's run."""

    traits = frozenset()

    def joined(self, a: Type, b: Type, hint: str, start: int, hidden: set[str]) -> tuple[Type, int]:
        """(the type of a value that has type a or b, number of fresh symbols so far): sizes that differ, or that
        mention a hidden symbol, become fresh symbols."""
        if not (isinstance(a, TensorType) and isinstance(b, TensorType)):
            return joined_type(a, b), start
        shape: list[Dim] = []
        for x, y in zip(a.shape, b.shape, strict=True):
            if x == y and not free_symbols(x) & hidden:
                shape.append(x)
            else:
                shape.append(fresh_dim(self, hint, start))
                start += 1
        return a.with_shape(shape), start


class IfOp(RegionOp):
    """Runs `then` where the condition (one element) holds, else `otherwise`; both yield values of the same element
    types and ranks. Stands for ONNX If.

    ```mlir
    %c = "test.value"() : () -> tensor<i1>
    %x = "test.value"() : () -> tensor<4xf32>
    %r = graph.if %c : (tensor<i1>) -> tensor<4xf32> {
      graph.yield %x : tensor<4xf32>
    } {
      %y = graph.neg %x : (tensor<4xf32>) -> tensor<4xf32>
      graph.yield %y : tensor<4xf32>
    }
    ```
    """

    name = "graph.if"
    condition: Value = operand(BOOL_TENSOR)
    then: Region = region()
    otherwise: Region = region()
    outputs: Sequence[Value] = results()

    def infer_types(self) -> Sequence[Type]:
        first, second = yielded(self.then), yielded(self.otherwise)
        if len(first) != len(second):
            raise IRError(f"the branches yield {len(first)} and {len(second)} values")
        hidden = inner_symbols(self.then) | inner_symbols(self.otherwise)
        types, fresh = [], 0
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            need_same_kind(f"value {index} of the branches", a.type, b.type)
            type_, fresh = self.joined(a.type, b.type, "if", fresh, hidden)
            types.append(type_)
        return types

    def verify_op(self) -> None:
        if any(branch.block.arguments for branch in self.regions):
            raise IRError("branches take no arguments")

    def compute(self, frame: Any, *args: Any) -> Any:
        condition = np.asarray(args[0])
        if condition.size != 1:
            raise IRError(f"the condition has {condition.size} elements, not one")
        return frame.run_region(self.then if condition.reshape(-1)[0] else self.otherwise, ())


def check_carried(arguments: Sequence[BlockArgument], initial: Sequence[Value], values: Sequence[Value]) -> None:
    """Raise IRError where values carried around a region do not keep their element types and ranks."""
    for index, (argument, begin, end) in enumerate(zip(arguments, initial, values, strict=True)):
        need_same_kind(f"carried value {index} at first", begin.type, argument.type)
        need_same_kind(f"carried value {index} after a round", end.type, argument.type)


class LoopOp(RegionOp):
    """Runs the body while the count (one element; absent: unlimited) is not reached and the condition holds (one
    element; absent: true).

    The body takes the number of the round (si64), the condition (i1) and the carried values, and yields the next
    condition, the next carried values, and values to collect. Results: the carried values after the last round, and
    for each collected value all of them, stacked along a new first axis. Stands for ONNX Loop.

    ```mlir
    %n = "test.value"() : () -> tensor<si64>
    %x = "test.value"() : () -> tensor<4xf32>
    %r, %all = graph.loop %n, %x {operandSegmentSizes = array<i32: 1, 0, 1>, new_dims = ["loop_0"]}
      : (tensor<si64>, tensor<4xf32>) -> (tensor<4xf32>, tensor<?x4xf32, #graph.shape<["loop_0"]>>) {
    ^bb0(%i: tensor<si64>, %go: tensor<i1>, %v: tensor<4xf32>):
      %y = graph.neg %v : (tensor<4xf32>) -> tensor<4xf32>
      graph.yield %go, %y, %y : tensor<i1>, tensor<4xf32>, tensor<4xf32>
    }
    ```
    """

    name = "graph.loop"
    count: Value | None = optional_operand(INT_TENSOR)
    condition: Value | None = optional_operand(BOOL_TENSOR)
    initial: Sequence[Value] = operands()
    body: Region = region()
    outputs: Sequence[Value] = results()

    @property
    def rounds(self) -> Dim | None:
        """How often the body runs, where that is known beforehand."""
        count = content(self.count)
        arguments, ends = self.body.block.arguments, yielded(self.body)
        endless = ends[0] is arguments[1] or content(ends[0]) == (1,)
        started = self.condition is None or content(self.condition) == (1,)
        return dim_max(count[0], 0) if count and endless and started else None

    def infer_types(self) -> Sequence[Type]:
        arguments, ends, carried = self.body.block.arguments, yielded(self.body), len(self.initial)
        if len(arguments) != carried + 2 or len(ends) <= carried:
            raise IRError(f"a body that carries {carried} values takes {carried + 2} arguments and yields a condition")
        check_carried(arguments[2:], self.initial, ends[1 : carried + 1])
        hidden = inner_symbols(self.body)
        for argument, begin in zip(arguments[2:], self.initial, strict=True):
            hidden |= symbols_of(argument.type) - symbols_of(begin.type)
        types: list[Type] = []
        fresh = 0
        for begin, end in zip(self.initial, ends[1 : carried + 1], strict=True):
            type_, fresh = self.joined(begin.type, end.type, "loop", fresh, hidden)
            types.append(type_)
        rounds = self.rounds
        for value in ends[carried + 1 :]:
            if rounds is None:
                rounds, fresh = fresh_dim(self, "loop", fresh), fresh + 1
            type_, fresh = self.joined(value.type, value.type, "loop", fresh, hidden)
            if not isinstance(type_, TensorType):
                raise IRError(f"values of type {type_} cannot be collected")
            types.append(type_.with_shape((rounds, *type_.shape)))
        return types

    def verify_op(self) -> None:
        arguments, ends = self.body.block.arguments, yielded(self.body)
        if [a.type for a in arguments[:2]] != [TensorType((), SI64), TensorType((), I1)]:
            raise IRError("the body's first arguments are the round, tensor<si64>, and the condition, tensor<i1>")
        if not ends or not isinstance(ends[0].type, TensorType) or ends[0].type.element is not I1:
            raise IRError("the body yields the next condition, an i1, first")

    def compute(self, frame: Any, *args: Any) -> Any:
        given = list(args)
        limit = int(np.asarray(given.pop(0)).reshape(-1)[0]) if self.count is not None else None
        going = bool(np.asarray(given.pop(0)).reshape(-1)[0]) if self.condition is not None else True
        state, carried, done = given, len(given), 0
        collected: list[list[Any]] = [[] for _ in range(len(self.results) - carried)]
        while going and (limit is None or done < limit):
            ends = frame.run_region(self.body, (np.array(done, np.int64), np.array(going), *state))
            going, state = bool(np.asarray(ends[0]).reshape(-1)[0]), list(ends[1 : carried + 1])
            for rows, value in zip(collected, ends[carried + 1 :], strict=True):
                rows.append(value)
            done += 1
        stacks = (
            np.stack(rows) if rows else nothing(self, frame, args, result.type, 0)
            for rows, result in zip(collected, self.results[carried:], strict=True)
        )
        return (*state, *stacks)


def nothing(op: RegionOp, frame: Any, args: Sequence[Any], type_: Type, axis: int) -> Array:
    """What is collected in no round: size 0 along `axis`; sizes that only a round would tell are 0 too."""
    assert isinstance(type_, TensorType)
    sizes = []
    for dim in type_.shape[:axis] + type_.shape[axis + 1 :]:
        unknown = free_symbols(dim) & set(op.new_dims)
        sizes.append(0 if unknown else run_time_shape(op, frame, args, TensorType((dim,), type_.element))[0])
    return np.empty((*sizes[:axis], 0, *sizes[axis:]), numpy_dtype(type_))


KEPT = "a value that a scan carries keeps its sizes"


class ScanOp(RegionOp):
    """Runs the body once per slice of its inputs, along `input_axes`, from the last to the first where
    `input_reversed` is 1.

    The body takes the carried values and the slices (without the axis), and yields the next carried values, which
    keep their sizes, and values to collect. Results: the carried values after the last slice, and the collected
    ones stacked along `output_axes`, the first one last where `output_reversed` is 1. Stands for ONNX Scan.

    ```mlir
    %s = "test.value"() : () -> tensor<4xf32>
    %x = "test.value"() : () -> tensor<5x4xf32>
    %r, %all = graph.scan %s, %x {operandSegmentSizes = array<i32: 1, 1>, input_axes = array<i64: 0>,
      input_reversed = array<i64: 0>, output_axes = array<i64: 1>, output_reversed = array<i64: 0>}
      : (tensor<4xf32>, tensor<5x4xf32>) -> (tensor<4xf32>, tensor<4x5xf32>) {
    ^bb0(%v: tensor<4xf32>, %row: tensor<4xf32>):
      %y = graph.add %v, %row : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      graph.yield %y, %y : tensor<4xf32>, tensor<4xf32>
    }
    ```
    """

    name = "graph.scan"
    initial: Sequence[Value] = operands()
    inputs: Sequence[Value] = operands(TENSOR)
    input_axes: tuple[int, ...] = attr(INTS)
    input_reversed: tuple[int, ...] = attr(INTS)
    output_axes: tuple[int, ...] = attr(INTS)
    output_reversed: tuple[int, ...] = attr(INTS)
    body: Region = region()
    outputs: Sequence[Value] = results()

    def rounds(self) -> Dim:
        """How often the body runs. Raises IRError where inputs are known to disagree."""
        found: Dim | None = None
        for value, axis in zip(self.inputs, self.input_axes, strict=True):
            shape = shape_of(value)
            if not 0 <= axis < len(shape):
                raise IRError(f"axis {axis} is out of range for rank {len(shape)}")
            if isinstance(found, int) and isinstance(shape[axis], int) and found != shape[axis]:
                raise IRError(f"inputs have {found} and {shape[axis]} slices")
            if found is not None:
                demand_equal(found, shape[axis], "the inputs have as many slices")
            found = shape[axis] if not isinstance(found, int) else found
        if found is None:
            raise IRError("a scan needs an input to slice")
        return found

    def infer_types(self) -> Sequence[Type]:
        arguments, ends, carried = self.body.block.arguments, yielded(self.body), len(self.initial)
        if not len(self.inputs) == len(self.input_axes) == len(self.input_reversed):
            raise IRError("every input has an axis and a direction")
        if len(arguments) != carried + len(self.inputs) or len(ends) < carried:
            raise IRError(f"the body takes {carried} values and {len(self.inputs)} slices, and yields the values again")
        if not len(ends) - carried == len(self.output_axes) == len(self.output_reversed):
            raise IRError("every collected value has an axis and a direction")
        rounds = self.rounds()
        self._check_sizes(arguments[:carried], ends[:carried])
        hidden = inner_symbols(self.body)
        types = [begin.type for begin in self.initial]
        fresh = 0
        for value, axis in zip(ends[carried:], self.output_axes, strict=True):
            type_, fresh = self.joined(value.type, value.type, "scan", fresh, hidden)
            if not isinstance(type_, TensorType) or not 0 <= axis <= type_.rank:
                raise IRError(f"a value of type {type_} cannot be collected along axis {axis}")
            types.append(type_.with_shape((*type_.shape[:axis], rounds, *type_.shape[axis:])))
        return types

    def _check_sizes(self, arguments: Sequence[Value], ends: Sequence[Value]) -> None:
        for begin, argument, end in zip(self.initial, arguments, ends, strict=True):
            need_same_kind("a carried value", begin.type, end.type)
            if argument.type is not begin.type:
                raise IRError(f"the body takes {argument.type} where {begin.type} is carried")
            if isinstance(begin.type, TensorType) and isinstance(end.type, TensorType):
                for size, own in zip(end.type.shape, begin.type.shape, strict=True):
                    if proven_different(size, own):
                        raise IRError(f"{KEPT}: {begin.type} becomes {end.type}")

    def compute(self, frame: Any, *args: Any) -> Any:
        carried = len(self.initial)
        state, inputs = list(args[:carried]), args[carried:]
        counts = {array.shape[axis] for array, axis in zip(inputs, self.input_axes, strict=True)}
        if len(counts) != 1:
            raise IRError(f"inputs have different numbers of slices: {sorted(counts)}")
        (rounds,) = counts
        collected: list[list[Any]] = [[] for _ in self.output_axes]
        for index in range(rounds):
            slices = [
                np.take(array, rounds - 1 - index if backward else index, axis)
                for array, axis, backward in zip(inputs, self.input_axes, self.input_reversed, strict=True)
            ]
            ends = frame.run_region(self.body, (*state, *slices))
            for before, behind in zip(state, ends[:carried], strict=True):
                if np.shape(before) != np.shape(behind):
                    raise RuntimeError(KEPT, index, self.loc.label or "a scan")
            state = list(ends[:carried])
            for rows, value in zip(collected, ends[carried:], strict=True):
                rows.append(value)
        stacks = []
        for rows, axis, backward, result in zip(
            collected, self.output_axes, self.output_reversed, self.results[carried:], strict=True
        ):
            made = np.stack(rows, axis) if rows else nothing(self, frame, args, result.type, axis)
            stacks.append(np.flip(made, axis) if backward else made)
        return (*state, *stacks)
