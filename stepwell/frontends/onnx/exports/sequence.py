"""Sequences of tensors and optional values."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.graph import sequence as graph
from stepwell.dialects.graph.pack import RequiredOp, UnpackOp
from stepwell.dialects.graph.sequence_tensors import ConcatSequenceOp, SplitSequenceOp
from stepwell.frontends.onnx.element_types import ELEMENT_NUMBERS, type_proto
from stepwell.frontends.onnx.writer import Writer, exports


@exports(graph.SequenceOp)
def sequence(op: graph.SequenceOp, writer: Writer) -> None:
    """graph.sequence %a, %b -> SequenceConstruct(a, b); without operands: SequenceEmpty {dtype}"""
    if op.xs:
        writer.node("SequenceConstruct", op.xs, op.results)
    else:
        writer.node("SequenceEmpty", [], op.results, dtype=ELEMENT_NUMBERS[op.element])


@exports(graph.SequenceInsertOp)
def insert(op: graph.SequenceInsertOp, writer: Writer) -> None:
    """graph.sequence_insert %s, %x, %i -> SequenceInsert(s, x, i)"""
    writer.node("SequenceInsert", [op.sequence, op.x, op.position], op.results)


@exports(graph.SequenceEraseOp)
def erase(op: graph.SequenceEraseOp, writer: Writer) -> None:
    """graph.sequence_erase %s, %i -> SequenceErase(s, i)"""
    writer.node("SequenceErase", [op.sequence, op.position], op.results)


@exports(graph.SequenceAtOp)
def at(op: graph.SequenceAtOp, writer: Writer) -> None:
    """graph.sequence_at %s, %i -> SequenceAt(s, i)"""
    writer.node("SequenceAt", [op.sequence, op.position], op.results)


@exports(graph.SequenceLengthOp)
def length(op: graph.SequenceLengthOp, writer: Writer) -> None:
    """graph.sequence_length %s -> SequenceLength(s)"""
    writer.node("SequenceLength", [op.sequence], op.results)


@exports(graph.OptionalOp)
def optional(op: graph.OptionalOp, writer: Writer) -> None:
    """graph.optional %x -> Optional(x); without an operand: Optional() {type}"""
    writer.node("Optional", [op.x], op.results, type=None if op.x is not None else type_proto(op.of))


@exports(graph.OptionalHasElementOp)
def has_element(op: graph.OptionalHasElementOp, writer: Writer) -> None:
    """graph.optional_has_element %o -> OptionalHasElement(o)"""
    writer.node("OptionalHasElement", [op.x], op.results)


@exports(graph.OptionalGetElementOp)
def get_element(op: graph.OptionalGetElementOp, writer: Writer) -> None:
    """graph.optional_get_element %o -> OptionalGetElement(o)"""
    writer.node("OptionalGetElement", [op.x], op.results)


@exports(ConcatSequenceOp)
def concat(op: ConcatSequenceOp, writer: Writer) -> None:
    """graph.concat_sequence %s {axis} -> ConcatFromSequence(s) {axis, new_axis}"""
    writer.node("ConcatFromSequence", [op.sequence], op.results, axis=op.axis, new_axis=int(op.new))


@exports(SplitSequenceOp)
def split(op: SplitSequenceOp, writer: Writer) -> None:
    """graph.split_sequence %x, %k {axis} -> SplitToSequence(x, k) {axis, keepdims}"""
    writer.node("SplitToSequence", [op.x, op.sizes], op.results, axis=op.axis, keepdims=int(op.keeps))


@exports(UnpackOp)
def unpack(op: UnpackOp, writer: Writer) -> None:
    """graph.unpack %x, %p, %s -> Reshape(Slice(x, p, p + ReduceProd(s)), s)"""
    count = writer.make("ReduceProd", [op.sizes], keepdims=1)
    part = writer.make("Slice", [op.x, op.start, writer.make("Add", [op.start, count])])
    writer.node("Reshape", [part, op.sizes], op.results, allowzero=1)


@exports(RequiredOp)
def required(op: RequiredOp, writer: Writer) -> None:
    """graph.required %x, %h -> Add(x, Gather([0], Where(h, 0, far))): an index out of range where it does not hold"""
    zero, far = writer.constant(np.array(0, np.int64)), writer.constant(np.array(1 << 40, np.int64))
    place = writer.make("Where", [op.holds, zero, far])
    nothing = writer.make("Gather", [writer.constant(np.array([0], np.int64)), place])
    writer.node("Add", [op.x, writer.make("CastLike", [nothing, op.x])], op.results)
