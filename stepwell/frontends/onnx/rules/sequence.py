"""Sequences of tensors and optional values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph import sequence as graph
from stepwell.dialects.graph.base import content, normalize_axis, shape_of, tensor_type
from stepwell.dialects.graph.movement import ConcatOp
from stepwell.dialects.graph.sequence import SequenceType, elements_of
from stepwell.errors import ModelError
from stepwell.frontends.onnx.declared import plain_dims
from stepwell.frontends.onnx.element_types import value_type
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import reshaped
from stepwell.frontends.onnx.rules.movement import split_by_sizes
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import F32, Type

ADVICE = "make it where its tensors are in sight (SequenceConstruct, SplitToSequence by constants), not in If or Loop"


def sequence(node: Node, index: int) -> Value:
    """An input that is a sequence."""
    value = node.input(index)
    if not isinstance(value.type, SequenceType):
        raise ModelError(f"its input {index} is no sequence: {value.type}")
    return value


def known_elements(node: Node, index: int) -> Sequence[Value]:
    """The elements of an input that is a sequence. Raises Unsupported where they are not known."""
    found = elements_of(sequence(node, index))
    if found is None:
        raise node.unsupported("how many tensors the sequence has, and of what shapes, is not known", ADVICE)
    return found


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
    known_elements(node, 0)
    op = graph.SequenceAtOp(sequence(node, 0), node.input(1))
    chosen = op.element()
    if chosen is None:
        return node.insert(op).result
    op.drop_all_references()
    return chosen


@rule("ConcatFromSequence")
def concatenated(node: Node) -> Value:
    """Along an axis that the tensors have, or one that is new."""
    values = known_elements(node, 0)
    if not values:
        raise node.unsupported("an empty sequence is concatenated", "its result has no shape: leave the node out")
    new = node.int("new_axis", 0)
    rank = len(shape_of(values[0])) + new
    axis = normalize_axis(node.int("axis"), rank)
    if new:
        values = [reshaped(node, x, (*shape_of(x)[:axis], 1, *shape_of(x)[axis:])) for x in values]
    return node.insert(ConcatOp(values, axis=axis)).result


@rule("SplitToSequence")
def split(node: Node) -> Value:
    """Into slices of given sizes, or of one size, the last of which may be smaller; without sizes, into slices of 1,
    which lose the axis unless `keepdims` is 1."""
    x = node.input(0)
    shape = shape_of(x)
    axis = normalize_axis(node.int("axis", 0), len(shape))
    sizes = _sizes(node, shape[axis])
    parts = split_by_sizes(node, sizes)
    if not node.has_input(1) and not node.int("keepdims", 1):
        parts = [reshaped(node, part, (*shape[:axis], *shape[axis + 1 :])) for part in parts]
    return made(node, parts, tensor_type(x).element)


def _sizes(node: Node, size: Dim) -> list[Dim]:
    given: Sequence[Dim] | None = content(node.input(1)) if node.has_input(1) else (1,)
    if given is None:
        raise node.unsupported("the sizes of the parts are not known", "give them as constants")
    if node.has_input(1) and len(shape_of(node.input(1))) == 1:
        return list(given)
    part = given[0]
    if not isinstance(size, int) or not isinstance(part, int):
        raise node.unsupported(
            f"into how many parts of {part} the size {size} is split is not known",
            "fix the size of that axis (shapes=...), or split into given sizes",
        )
    if part < 1:
        raise ModelError(f"parts of size {part}")
    return [min(part, size - start) for start in range(0, size, part)]


@rule("SequenceMap")
def mapped(node: Node) -> Sequence[Value]:
    """The body once for each element; inputs that are no sequences are the same each time."""
    body = node.subgraph("body")
    values = node.inputs()
    first = known_elements(node, 0)
    columns = [
        known_elements(node, index) if isinstance(value.type, SequenceType) else [value] * len(first)
        for index, value in enumerate(values)
    ]
    if any(len(column) != len(first) for column in columns):
        raise ModelError(f"sequences of different lengths: {[len(column) for column in columns]}")
    if not first:
        raise node.unsupported("an empty sequence is mapped", "leave the node out")
    rows = [body.import_here(list(row)) for row in zip(*columns, strict=True)]
    return [made(node, column, tensor_type(column[0]).element) for column in zip(*rows, strict=True)]


@rule("Optional")
def optional(node: Node) -> Value:
    """Without an input, the absence of a value whose type the attribute gives."""
    value = node.optional(0)
    type_ = value.type if value is not None else value_type(node.type_proto("type"), plain_dims)
    return node.insert(graph.OptionalOp(value, of=type_)).result


@rule("OptionalHasElement")
def has_element(node: Node) -> Value:
    """What is not optional is there."""
    value = node.optional(0)
    if value is None or not isinstance(value.type, graph.OptionalType):
        return node.constant(np.array(value is not None))
    return node.insert(graph.OptionalHasElementOp(value)).result


@rule("OptionalGetElement")
def get_element(node: Node) -> Value:
    """What is not optional is itself; of an optional in sight, what is in it."""
    value = node.input(0)
    if not isinstance(value.type, graph.OptionalType):
        return value
    inside = value.defining_op
    if isinstance(inside, graph.OptionalOp) and inside.x is not None:
        return inside.x
    return node.insert(graph.OptionalGetElementOp(value)).result
