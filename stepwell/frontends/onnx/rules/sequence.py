"""Sequences of tensors and optional values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph import sequence as graph
from stepwell.dialects.graph.base import content, normalize_axis, shape_of, tensor_type
from stepwell.dialects.graph.control import LoopOp
from stepwell.dialects.graph.movement import ConcatOp
from stepwell.dialects.graph.sequence import elements_of
from stepwell.dialects.graph.sequence_tensors import ConcatSequenceOp, SplitSequenceOp
from stepwell.dialects.sequence_types import OptionalType, SequenceType, without_symbols
from stepwell.errors import ModelError, UnknownError
from stepwell.frontends.onnx.declared import plain_dims
from stepwell.frontends.onnx.element_types import value_type
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import reshaped
from stepwell.frontends.onnx.rules.control import CONDITION, ROUND, discard, import_body
from stepwell.frontends.onnx.rules.movement import split_by_sizes
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import F32, Type


def sequence(node: Node, index: int) -> Value:
    """An input that is a sequence, or an optional one, which then must be there."""
    value = node.input(index)
    if isinstance(value.type, OptionalType) and isinstance(value.type.of, SequenceType):
        return node.insert(graph.OptionalGetElementOp(value)).result
    if not isinstance(value.type, SequenceType):
        raise ModelError(f"its input {index} is no sequence: {value.type}")
    return value


def made(node: Node, values: Sequence[Value], element: Type) -> Value:
    """A sequence of values."""
    return node.insert(graph.SequenceOp(values, element=element)).result


@rule("SequenceConstruct")
def construct(node: Node) -> Value:
    values = node.inputs()
    return made(node, values, tensor_type(values[0]).element)


@rule("SequenceEmpty")
def empty(node: Node) -> Value:
    return made(node, (), node.element_type("dtype", F32))


@rule("SequenceInsert")
def insert(node: Node) -> Value:
    return node.insert(graph.SequenceInsertOp(sequence(node, 0), node.input(1), node.optional(2))).result


@rule("SequenceErase")
def erase(node: Node) -> Value:
    return node.insert(graph.SequenceEraseOp(sequence(node, 0), node.optional(1))).result


@rule("SequenceLength")
def length(node: Node) -> Value:
    return node.insert(graph.SequenceLengthOp(sequence(node, 0))).result


@rule("SequenceAt")
def at(node: Node) -> Value:
    """The element itself where it is known which."""
    value = sequence(node, 0)
    if elements_of(value) is None:
        _check_rank(node, value)
    op = graph.SequenceAtOp(value, node.input(1))
    chosen = op.element()
    if chosen is None:
        return node.insert(op).result
    op.drop_all_references()
    return chosen


def _check_rank(node: Node, value: Value) -> None:
    """Raise Unsupported where the tensors of a sequence do not have one known rank."""
    type_ = value.type
    if isinstance(type_, SequenceType) and (type_.empty or type_.sizes is None):
        has = "has no tensors" if type_.empty else "may have tensors of different ranks, or of an unknown one"
        reason = f"the sequence {has}"
        advice = "give the rank of an input, as in shapes={'NAME': ('h', 3)}, and have arrays of one rank in a sequence"
        raise node.unsupported(reason, advice, None if type_.empty else UnknownError(reason, sequences=[value]))


@rule("ConcatFromSequence")
def concatenated(node: Node) -> Value:
    """Along an axis that the tensors have, or one that is new."""
    whole = sequence(node, 0)
    values = elements_of(whole)
    new = node.int("new_axis", 0)
    if values is None:
        _check_rank(node, whole)
        assert isinstance(whole.type, SequenceType)
        axis = normalize_axis(node.int("axis"), len(whole.type.sizes or ()) + new)
        return node.insert(ConcatSequenceOp(whole, axis=axis, new=bool(new))).result
    if not values:
        raise node.unsupported("an empty sequence is concatenated", "its result has no shape: leave the node out")
    rank = len(shape_of(values[0])) + new
    axis = normalize_axis(node.int("axis"), rank)
    if new:
        values = tuple(reshaped(node, x, (*shape_of(x)[:axis], 1, *shape_of(x)[axis:])) for x in values)
    return node.insert(ConcatOp(values, axis=axis)).result


@rule("SplitToSequence")
def split(node: Node) -> Value:
    """Into slices of given sizes, or of one size, the last of which may be smaller; without sizes, into slices of 1,
    which lose the axis unless `keepdims` is 1."""
    x = node.input(0)
    shape = shape_of(x)
    axis = normalize_axis(node.int("axis", 0), len(shape))
    sizes = _sizes(node, shape[axis])
    if sizes is None:
        op = SplitSequenceOp(x, node.optional(1), axis=axis, keeps=bool(node.int("keepdims", 1)))
        return node.insert(op).result
    parts = split_by_sizes(node, sizes)
    if not node.has_input(1) and not node.int("keepdims", 1):
        parts = [reshaped(node, part, (*shape[:axis], *shape[axis + 1 :])) for part in parts]
    return made(node, parts, tensor_type(x).element)


def _sizes(node: Node, size: Dim) -> list[Dim] | None:
    """The sizes of the parts; None where not even their number is known."""
    given: Sequence[Dim] | None = content(node.input(1)) if node.has_input(1) else (1,)
    if given is None:
        return None
    if node.has_input(1) and len(shape_of(node.input(1))) == 1:
        return list(given)
    part = given[0]
    if not isinstance(size, int) or not isinstance(part, int):
        return None
    if part < 1:
        raise ModelError(f"parts of size {part}")
    return [min(part, size - start) for start in range(0, size, part)]


@rule("SequenceMap")
def mapped(node: Node) -> Sequence[Value]:
    """The body once for each element; inputs that are no sequences are the same each time."""
    body = node.subgraph("body")
    values = [sequence(node, 0), *node.inputs()[1:]]
    known = [elements_of(value) for value in values if isinstance(value.type, SequenceType)]
    first = known[0]
    if first is None or any(found is None for found in known):
        return _mapped_in_rounds(node, body, values)
    columns = [
        elements_of(value) or () if isinstance(value.type, SequenceType) else [value] * len(first) for value in values
    ]
    if any(len(column) != len(first) for column in columns):
        raise ModelError(f"sequences of different lengths: {[len(column) for column in columns]}")
    if not first:
        raise node.unsupported("an empty sequence is mapped", "leave the node out")
    rows = [body.import_here(list(row)) for row in zip(*columns, strict=True)]
    return [made(node, column, tensor_type(column[0]).element) for column in zip(*rows, strict=True)]


def _mapped_in_rounds(node: Node, body: Any, values: Sequence[Value]) -> Sequence[Value]:
    """A loop over the places of the first sequence, which carries the results."""
    types: list[SequenceType] = []

    def emit(block: Block) -> Sequence[Value]:
        builder = Builder.at_end(block)
        place, going, *made = block.arguments
        items = [
            builder.insert(graph.SequenceAtOp(value, place)).result if isinstance(value.type, SequenceType) else value
            for value in values
        ]
        found = body.import_into(block, items)
        types[:] = [SequenceType(tensor_type(value).element, empty=True) for value in found]
        pairs = zip(made, found, strict=True) if made else ()
        return [going, *(builder.insert(graph.SequenceInsertOp(all_, x)).result for all_, x in pairs)]

    for value in values:
        if isinstance(value.type, SequenceType):
            _check_rank(node, value)
    trial = Block([ROUND, CONDITION])
    emit(trial)
    discard(trial)
    count = node.insert(graph.SequenceLengthOp(values[0])).result
    empty = [made(node, (), type_.element) for type_ in types]
    region = import_body(node, [value.type for value in empty], ([ROUND, CONDITION], []), 1, emit)
    return node.insert(LoopOp(count, None, empty, regions=[region])).results


@rule("Optional")
def optional(node: Node) -> Value:
    """Without an input, the absence of a value whose type the attribute gives."""
    value = node.optional(0)
    type_ = without_symbols(value.type if value is not None else value_type(node.type_proto("type"), plain_dims))
    return node.insert(graph.OptionalOp(value, of=type_)).result


@rule("OptionalHasElement")
def has_element(node: Node) -> Value:
    """What is not optional is there."""
    value = node.optional(0)
    if value is None or not isinstance(value.type, OptionalType):
        return node.constant(np.array(value is not None))
    return node.insert(graph.OptionalHasElementOp(value)).result


@rule("OptionalGetElement")
def get_element(node: Node) -> Value:
    """What is not optional is itself; of an optional in sight, what is in it."""
    value = node.input(0)
    if not isinstance(value.type, OptionalType):
        return value
    inside = value.defining_op
    if isinstance(inside, graph.OptionalOp) and inside.x is not None:
        return inside.x
    return node.insert(graph.OptionalGetElementOp(value)).result
