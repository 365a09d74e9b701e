"""Sequences of tensors, and values that may be absent.

A sequence's type tells the element type, and what all its tensors' shapes have in common. Where the ops that make a
sequence are in sight, its elements are known (`elements_of`), and what is taken from it is one of them: many models
use sequences as lists of a known length, and nothing is left of them after folding. What is left becomes tensors
(`spread-sequences`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, Content, GraphOp, content
from stepwell.dialects.graph.symbols import DataDependentOp, fresh_dim
from stepwell.dialects.sequence_types import (
    EVERY_SIZE,
    OPTIONAL,
    SEQUENCE,
    OptionalType,
    SequenceType,
    joined_type,
    same_kind,
    sequence_of,
    without_symbols,
)
from stepwell.dialects.sequence_types import (
    MapType as MapType,
)
from stepwell.errors import IRError
from stepwell.ir.attributes import Attribute
from stepwell.ir.attrkinds import TYPE
from stepwell.ir.constraints import INT_TENSOR, TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.opdef import attr, operand, operands, optional_operand, result
from stepwell.ir.types import I1, SI64, TensorType, Type


def sequence_type(value: Value) -> SequenceType:
    """The type of a sequence."""
    assert isinstance(value.type, SequenceType)
    return value.type


def elements_of(value: Value) -> tuple[Value, ...] | None:
    """The elements of a sequence, where they are known. Raises IRError for a place outside of it."""
    changes: list[SequenceInsertOp | SequenceEraseOp] = []
    op = value.defining_op
    while isinstance(op, (SequenceInsertOp, SequenceEraseOp)):
        changes.append(op)
        op = op.sequence.defining_op
    if not isinstance(op, SequenceOp):
        return None
    found = list(op.xs)
    for change in reversed(changes):
        inserts = isinstance(change, SequenceInsertOp)
        place = _known_place(change.position, len(found), inserts)
        if place is None:
            return None
        if isinstance(change, SequenceInsertOp):
            found.insert(place, change.x)
        else:
            del found[place]
    return tuple(found)


def _known_place(position: Value | None, length: int, inserts: bool) -> int | None:
    known: Content | None = (length if inserts else -1,) if position is None else content(position)
    return checked_place(known[0], length, inserts) if known and isinstance(known[0], int) else None


def checked_place(place: int, length: int, inserts: bool = False) -> int:
    """A place counted from the front. Raises IRError outside [-length, length), of an insertion [-length, length]."""
    if not -length <= place < length + inserts:
        raise IRError(f"place {place} of a sequence of {length} tensors")
    return place + length if place < 0 else place


def _run_time_place(position: Any, length: int, inserts: bool) -> int:
    default = length if inserts else -1
    return checked_place(default if position is None else int(np.asarray(position).reshape(-1)[0]), length, inserts)


class SequenceOp(GraphOp):
    """A sequence of tensors. ONNX: SequenceConstruct, SequenceEmpty.

    ```mlir
    %a = "test.value"() : () -> tensor<4xf32>
    %b = "test.value"() : () -> tensor<2x3xf32>
    %s = graph.sequence %a, %b {element = f32} : (tensor<4xf32>, tensor<2x3xf32>) -> !graph.sequence<element = f32>
    %n = graph.sequence_length %s : (!graph.sequence<element = f32>) -> tensor<si64>
    ```
    """

    name = "graph.sequence"
    xs: Sequence[Value] = operands(TENSOR)
    element: Type = attr(TYPE)
    result: Value = result(SEQUENCE)

    def infer_types(self) -> Sequence[Type]:
        type_ = SequenceType(self.element, empty=True)
        for x in self.xs:
            type_ = _with(type_, x)
        return [type_]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return list(args)


def _with(type_: SequenceType, x: Value) -> SequenceType:
    """The type of a sequence that holds one more tensor."""
    if not isinstance(x.type, TensorType) or x.type.element is not type_.element:
        raise IRError(f"a sequence of {type_.element} does not hold {x.type}")
    return type_.joined(sequence_of(x.type))


class SequenceInsertOp(GraphOp):
    """A sequence with one more tensor, before the one at a place (absent: at the end). ONNX: SequenceInsert.

    ```mlir
    %a = "test.value"() : () -> tensor<4xf32>
    %s = graph.sequence %a, %a {element = f32} : (tensor<4xf32>, tensor<4xf32>) -> !graph.sequence<element = f32>
    %r = graph.sequence_insert %s, %a : (!graph.sequence<element = f32>, tensor<4xf32>) -> !graph.sequence<element = f32>
    %n = graph.sequence_length %r : (!graph.sequence<element = f32>) -> tensor<si64>
    ```
    """  # noqa: E501

    name = "graph.sequence_insert"
    sequence: Value = operand(SEQUENCE)
    x: Value = operand(TENSOR)
    position: Value | None = optional_operand(INT_TENSOR)
    result: Value = result(SEQUENCE)

    def infer_types(self) -> Sequence[Type]:
        return [_with(sequence_type(self.sequence), self.x)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        found = list(args[0])
        found.insert(_run_time_place(args[2] if len(args) > 2 else None, len(found), True), args[1])
        return found


class SequenceEraseOp(GraphOp):
    """A sequence without the tensor at a place (absent: the last). ONNX: SequenceErase.

    ```mlir
    %a = "test.value"() : () -> tensor<4xf32>
    %s = graph.sequence %a, %a {element = f32} : (tensor<4xf32>, tensor<4xf32>) -> !graph.sequence<element = f32>
    %r = graph.sequence_erase %s : (!graph.sequence<element = f32>) -> !graph.sequence<element = f32>
    %n = graph.sequence_length %r : (!graph.sequence<element = f32>) -> tensor<si64>
    ```
    """

    name = "graph.sequence_erase"
    sequence: Value = operand(SEQUENCE)
    position: Value | None = optional_operand(INT_TENSOR)
    result: Value = result(SEQUENCE)

    def infer_types(self) -> Sequence[Type]:
        return [self.sequence.type]

    def interpret(self, frame: Any, *args: Any) -> Any:
        found = list(args[0])
        del found[_run_time_place(args[1] if len(args) > 1 else None, len(found), False)]
        return found


class SequenceAtOp(DataDependentOp):
    """The tensor at a place, counted from the back where that is negative. ONNX: SequenceAt.

    All tensors of the sequence have one rank, unless it is known which of them is meant.

    ```mlir
    %a = "test.value"() : () -> tensor<4xf32>
    %b = "test.value"() : () -> tensor<3xf32>
    %i = "test.value"() : () -> tensor<si64>
    %s = graph.sequence %a, %b {element = f32} : (tensor<4xf32>, tensor<3xf32>) -> !graph.sequence<element = f32>
    %r = graph.sequence_at %s, %i {new_dims = ["at_0"]} : (!graph.sequence<element = f32>, tensor<si64>) -> tensor<?xf32, #graph.shape<["at_0"]>>
    ```
    """  # noqa: E501

    name = "graph.sequence_at"
    sequence: Value = operand(SEQUENCE)
    position: Value = operand(INT_TENSOR)
    result: Value = result(TENSOR)

    def element(self) -> Value | None:
        """The element, where it is known which."""
        found = elements_of(self.sequence)
        place = _known_place(self.position, len(found), False) if found is not None else None
        return found[place] if found is not None and place is not None else None

    def infer_types(self) -> Sequence[Type]:
        chosen, found = self.element(), elements_of(self.sequence)
        if chosen is not None:
            return [chosen.type]
        if found is None:
            sequence = sequence_type(self.sequence)
            return [TensorType(sized(self, "at", sequence), sequence.element)]
        if not found:
            raise IRError("the sequence is empty")
        types = [x.type for x in found if isinstance(x.type, TensorType)]
        if len({type_.rank for type_ in types}) != 1:
            raise IRError("the place is not known, and the tensors of the sequence differ in rank")
        sizes, fresh = [], 0
        for axis, size in enumerate(types[0].shape):
            if any(type_.shape[axis] != size for type_ in types):
                size, fresh = fresh_dim(self, "at", fresh), fresh + 1
            sizes.append(size)
        return [types[0].with_shape(sizes)]

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        """sequence_at(sequence(%a, %b), 1) -> %b"""
        chosen = self.element()
        return [chosen] if chosen is not None else None

    def compute(self, frame: Any, *args: Any) -> Any:
        return args[0][_run_time_place(args[1], len(args[0]), False)]


def sized(op: DataDependentOp, hint: str, sequence: SequenceType) -> tuple[Dim, ...]:
    """The shape of any tensor of a sequence; sizes that they do not share are symbols that the op brings.

    Raises IRError where they do not share the rank."""
    if sequence.empty:
        raise IRError("the sequence is empty")
    if sequence.sizes is None:
        raise IRError("how many dimensions the tensors of the sequence have is not known")
    sizes: list[Dim] = []
    made = 0
    for size in sequence.sizes:
        if size == EVERY_SIZE:
            sizes.append(fresh_dim(op, hint, made))
            made += 1
        else:
            sizes.append(size)
    return tuple(sizes)


class SequenceLengthOp(GraphOp):
    """How many tensors a sequence has. ONNX: SequenceLength.

    ```mlir
    %a = "test.value"() : () -> tensor<4xf32>
    %s = graph.sequence %a, %a {element = f32} : (tensor<4xf32>, tensor<4xf32>) -> !graph.sequence<element = f32>
    %n = graph.sequence_length %s : (!graph.sequence<element = f32>) -> tensor<si64>
    ```
    """

    name = "graph.sequence_length"
    sequence: Value = operand(SEQUENCE)
    result: Value = result(INT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        return [TensorType((), SI64)]

    def infer_content(self) -> Content | None:
        found = elements_of(self.sequence)
        return (len(found),) if found is not None else None

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.array(len(args[0]), np.int64)


class OptionalOp(GraphOp):
    """A value, or the absence of one. ONNX: Optional.

    ```mlir
    %x = "test.value"() : () -> tensor<4xf32>
    %o = graph.optional %x {of = tensor<4xf32>} : (tensor<4xf32>) -> !graph.optional<of = tensor<4xf32>>
    %n = graph.optional {of = tensor<4xf32>} : () -> !graph.optional<of = tensor<4xf32>>
    %r = graph.optional_has_element %n : (!graph.optional<of = tensor<4xf32>>) -> tensor<i1>
    ```
    """

    name = "graph.optional"
    x: Value | None = optional_operand()
    of: Type = attr(TYPE)
    result: Value = result(OPTIONAL)

    def infer_types(self) -> Sequence[Type]:
        if self.x is not None and not _may_be(self.x.type, self.of):
            raise IRError(f"an optional {self.of} is not {self.x.type}")
        return [OptionalType(self.of)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return (args[0] if args else None,)


def _may_be(given: Type, wanted: Type) -> bool:
    """Whether a value may be in an optional of a type: one that says no more than the value's own type."""
    return given is wanted or (same_kind(given, wanted) and joined_type(given, wanted) is without_symbols(wanted))


class OptionalHasElementOp(GraphOp):
    """Whether a value is there. ONNX: OptionalHasElement.

    ```mlir
    %x = "test.value"() : () -> tensor<4xf32>
    %o = graph.optional %x {of = tensor<4xf32>} : (tensor<4xf32>) -> !graph.optional<of = tensor<4xf32>>
    %r = graph.optional_has_element %o : (!graph.optional<of = tensor<4xf32>>) -> tensor<i1>
    ```
    """

    name = "graph.optional_has_element"
    x: Value = operand(OPTIONAL)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        return [TensorType((), I1)]

    def infer_content(self) -> Content | None:
        made = self.x.defining_op
        return (int(made.x is not None),) if isinstance(made, OptionalOp) else None

    def interpret(self, frame: Any, *args: Any) -> Array:
        return np.array(args[0] is not None)


class OptionalGetElementOp(DataDependentOp):
    """The value that is there. An error where there is none. ONNX: OptionalGetElement.

    ```mlir
    %x = "test.value"() : () -> tensor<4xf32>
    %o = graph.optional %x {of = tensor<4xf32>} : (tensor<4xf32>) -> !graph.optional<of = tensor<4xf32>>
    %r = graph.optional_get_element %o : (!graph.optional<of = tensor<4xf32>>) -> tensor<4xf32>
    ```
    """

    name = "graph.optional_get_element"
    x: Value = operand(OPTIONAL)
    result: Value = result()

    def infer_types(self) -> Sequence[Type]:
        assert isinstance(self.x.type, OptionalType)
        made = self.x.defining_op
        if isinstance(made, OptionalOp) and made.x is None:
            raise IRError("the value is absent")
        wanted = self.x.type.of
        if isinstance(made, OptionalOp) and made.x is not None:
            return [made.x.type]
        if not isinstance(wanted, TensorType):
            return [wanted]
        return [TensorType(sized(self, "element", sequence_of(wanted)), wanted.element)]

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        """optional_get_element(optional(%x)) -> %x"""
        made = self.x.defining_op
        return [made.x] if isinstance(made, OptionalOp) and made.x is not None else None

    def compute(self, frame: Any, *args: Any) -> Any:
        if args[0] is None:
            raise IRError("the value is absent")
        return args[0]
