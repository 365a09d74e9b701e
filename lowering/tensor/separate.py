"""Gives everything that leaves a region for good, or is written over, a memory of its own, by copies where need be.

A kernel writes its result to one place. What a function returns and the rows that a loop collects must be written to
given places, and what a loop carries must not lie where the next round writes.

return %x, %r, %r               ->  return copy(%x), %r, copy(%r)
for { yield if { .. }, %r, %r } ->  for { yield copy(if { .. }), %r, copy(%r) }   (the last is a row)

A carried value that comes from above, or that was carried into the round, may stay where it is, since nothing writes
there. What a `while` both carries and collects is copied: the stack's memory moves when it grows.

A place is chosen for a value behind a reshape too, but only where the place has its size for certain when the value is
written: a check in front of the reshape would come too late.

%x = exp %y : [r], check.require r == 12, %s = reshape %x : [3, 4], return %s  ->  .., return copy(%s)"""

from __future__ import annotations

import math

from stepwell.dialects import func
from stepwell.dialects.tensor import (
    DimsAttr,
    ForOp,
    GenericOp,
    JoinOp,
    KernelOp,
    ReshapeOp,
    RowOp,
    RowsOp,
    ScatterOp,
    WhileOp,
    YieldOp,
    tensor_type,
)
from stepwell.ir.affine import AffineMap
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, OpResult, Region, Value
from stepwell.ir.dims import free_symbols
from stepwell.ir.types import TensorType


def separate_results(function: func.FuncOp) -> None:
    """Insert the copies that a function needs."""
    ret = function.body.block.terminator
    claimed: set[Value] = set()
    for index, value in enumerate(ret.operands):
        if not isinstance(value.defining_op, RowsOp):  # the caller's own memory
            claim(ret, index, claimed)
    for op in function.walk():
        if isinstance(op, (ForOp, WhileOp)):
            _separate_rounds(op)
        elif isinstance(op, ScatterOp):
            _separate_base(op)


def _separate_base(op: ScatterOp) -> None:
    """A scatter writes over its base: that is a value made for it alone, or a copy."""
    value = op.base
    while value.has_one_use and isinstance(value.defining_op, ReshapeOp):
        value = value.defining_op.x
    made = value.defining_op
    if not isinstance(made, GenericOp) or made.parent is not op.parent or not value.has_one_use:
        op.set_operand(0, copied(Builder.before(op), op.base))


def _separate_rounds(op: ForOp | WhileOp) -> None:
    last = op.body.block.terminator
    carried = len(op.initial)
    claimed: set[Value] = set()
    for index in range(carried, len(last.operands)):
        claim(last, index, claimed)
    for index in range(carried):
        value = last.operands[index]
        source = origin(value)
        moves = isinstance(op, WhileOp) and source in claimed
        placed = is_placed(source) and source.owner_block is op.body.block and not moves
        if placed or _stays(behind_views(value), op):
            continue
        last.set_operand(index, copied(Builder.before(last), value))


def _stays(value: Value, op: Operation) -> bool:
    """Whether nothing writes to a value's memory in a later round: it is from outside the loop, or carried itself."""
    if value.defining_op is None and value.owner_block is op.regions[0].block:
        return True
    return value.defining_op is None or not op.is_ancestor_of(value.defining_op)


def claim(last: Operation, index: int, claimed: set[Value]) -> None:
    """Let an operand of a terminator be a value whose place of writing can be chosen, for this operand alone."""
    value = last.operands[index]
    source = origin(value)
    if is_placed(source) and source not in claimed and source.owner_block is last.parent:
        claimed.add(source)
    else:
        last.set_operand(index, copied(Builder.before(last), value))


def is_placed(value: Value) -> bool:
    """Whether the place of a value can be chosen: a kernel's result, parts in one place, or what a loop collects."""
    op = value.defining_op
    if isinstance(op, ForOp) and isinstance(value, OpResult):
        return value.index >= len(op.initial)
    return isinstance(op, (GenericOp, JoinOp, KernelOp))


def origin(value: Value) -> Value:
    """The value behind reshapes, which has all of its memory, as is known before it is written."""
    while isinstance(value.defining_op, ReshapeOp) and _keeps_size(value.defining_op):
        value = value.defining_op.x
    return value


def _keeps_size(op: ReshapeOp) -> bool:
    """Whether both sides have as many elements whatever the sizes are, or the call is checked for it (sw.demands)."""
    before, after = tensor_type(op.x).shape, tensor_type(op.result).shape
    if math.prod(before) == math.prod(after):
        return True
    if not isinstance(op.parent_op, func.FuncOp):
        return False
    types = [argument.type for argument in op.parent_op.arguments]
    told = {name for t in types if isinstance(t, TensorType) for dim in t.shape for name in free_symbols(dim)}
    return all(free_symbols(dim) <= told for dim in (*before, *after))


def behind_views(value: Value) -> Value:
    """The value in whose memory another lies."""
    while isinstance(value.defining_op, (ReshapeOp, RowOp)):
        value = value.defining_op.x
    return value


def copied(builder: Builder, value: Value) -> Value:
    """A generic that copies."""
    type_ = tensor_type(value)
    block = Block([type_.element])
    block.append(YieldOp([block.arguments[0]]))
    identity = AffineMap.identity(type_.rank)
    made = GenericOp(
        [value], (), result_types=[type_], regions=[Region([block])], sizes=DimsAttr(type_.shape),
        iterators=["parallel"] * type_.rank, names=[f"d{d}" for d in range(type_.rank)], maps=[identity, identity],
    )  # fmt: skip
    if value.defining_op is not None:
        made.loc = value.defining_op.loc
    return builder.insert(made).outputs[0]
