"""Casts that change nothing, and broadcasts that the reader does itself."""

from __future__ import annotations

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import broadcast_shapes, shape_of, tensor_type
from stepwell.dialects.graph.conversion import CastOp
from stepwell.dialects.graph.logic import WhereOp
from stepwell.dialects.graph.shape import ExpandOp
from stepwell.ir.core import Operation, Value
from stepwell.ir.rewrite import Rewriter
from stepwell.ir.types import (
    BF16,
    F16,
    F32,
    F64,
    I1,
    UI32,
    FloatType,
    IntegerType,
    Signedness,
    StringType,
    Type,
    bit_width,
)
from stepwell.lowering.graph.matching import made_by
from stepwell.lowering.graph.simplify import simplifies, simplifies_each

# Float type -> (the floats whose numbers it has all, the bits of the integers that it has all)
HOLDS: dict[Type, tuple[set[Type], int]] = {F32: ({F16, BF16}, 24), F64: ({F16, BF16, F32}, 53), F16: (set(), 11)}


@simplifies
def merge_casts(op: CastOp, rewriter: Rewriter) -> bool:
    """cast(cast(x : si8 -> f32) -> si32) -> cast(x -> si32), where the first cast keeps every number"""
    inner = made_by(op.x, CastOp)
    if inner is None or isinstance(op.to, StringType) or not _keeps_all(tensor_type(inner.x).element, inner.to):
        return False
    source = tensor_type(inner.x).element
    if source is UI32 and isinstance(inner.to, FloatType):
        return False  # floats saturate as si32, integers wrap
    if source is op.to:
        rewriter.replace(op, inner.x)
    else:
        rewriter.replace_with(op, CastOp(inner.x, to=op.to, saturate=op.saturate, round_mode=op.round_mode))
    return True


def _keeps_all(source: Type, target: Type) -> bool:
    """Whether every number of one element type is one of another, so that a cast loses nothing."""
    if target in HOLDS:
        floats, bits = HOLDS[target]
        return source in floats or source is I1 or (isinstance(source, IntegerType) and bit_width(source) <= bits)
    if not isinstance(source, IntegerType) or not isinstance(target, IntegerType) or target is I1:
        return False
    if source is I1 or source.signedness is target.signedness:
        return bit_width(source) <= bit_width(target)
    return source.signedness is Signedness.UNSIGNED and bit_width(source) < bit_width(target)


@simplifies_each(graph.AddOp, graph.SubOp, graph.MulOp, graph.DivOp, graph.MaxOp, graph.MinOp, WhereOp)
def broadcast_in_reader(op: Operation, rewriter: Rewriter) -> bool:
    """add(expand(x), y) -> add(x, y), where the sum has the same shape"""
    for index, value in enumerate(op.operands):
        expand = made_by(value, ExpandOp)
        if expand is None or expand.new_dims:
            continue
        shapes = [shape_of(expand.x if n == index else v) for n, v in enumerate(op.operands)]
        if broadcast_shapes(*shapes) == shape_of(op.results[0]):
            _read_instead(op, index, expand.x, rewriter)
            return True
    return False


def _read_instead(op: Operation, index: int, value: Value, rewriter: Rewriter) -> None:
    operands = [*op.operands[:index], value, *op.operands[index + 1 :]]
    made = type(op).make(operands, [op.results[0].type], op.properties, op.attributes, loc=op.loc)
    rewriter.replace(op, rewriter.insert(made).results[0])
