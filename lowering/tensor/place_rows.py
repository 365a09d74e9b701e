"""Lets those who read rows of a state read them where they lie: in a larger tensor, of which they read less.

%r = tensor.rows %room; reader(%r at (i, j))     ->  reader(%room at (i, j))
%r = tensor.rows %room; tensor.reshape %r        ->  tensor.rows (tensor.reshape %room), where the rows stay rows
%r = tensor.rows %room; another reader(%r)       ->  reader(copy of %room at (i, j))
%room = tensor.room %past; reader(%past)         ->  reader(tensor.rows %room)

What is left of `tensor.rows` says of results which rows of the caller's memory they are."""

from __future__ import annotations

import math
from typing import ClassVar

import attrs

from stepwell.dialects.func import FuncOp, ReturnOp
from stepwell.dialects.kept import kept_by
from stepwell.dialects.tensor import AppendOp, DimsAttr, ReshapeOp, RoomOp, RowsOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Value
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.rewrite import is_dead
from stepwell.ir.types import TensorType
from stepwell.lowering.tensor.place import copying, reads_places


@attrs.frozen
class PlaceRows(Pass):
    """Let the rows of a state be read where they lie."""

    name: ClassVar[str] = "place-rows"

    def run(self, module: Operation, context: PassContext) -> None:
        for function in module.walk_of(FuncOp):
            for room in list(function.walk_of(RoomOp)):
                _own_argument(room)
            pending = list(function.walk_of(RowsOp))
            while pending:
                pending += _place(pending.pop(), function, context)


def _own_argument(room: RoomOp) -> None:
    """Let nothing but its room read an argument."""
    first = room.x.owner_block.first if room.x.owner_block is not None else None
    if first is not None and first is not room:
        room.move_before(first)
    uses = [(user, index) for user, index in room.x.uses if user is not room]
    if uses:
        count = DimsAttr((tensor_type(room.x).shape[room.axis],))
        rows = Builder.after(room).insert(RowsOp(room.result, axis=room.axis, count=count, loc=room.loc))
        for user, index in uses:
            user.set_operand(index, rows.result)


def _place(rows: RowsOp, function: FuncOp, context: PassContext) -> list[RowsOp]:
    """Give the readers of some rows what the rows lie in; answers rows of that under another shape."""
    made: list[RowsOp] = []
    copy: Value | None = None
    for user, index in list(rows.result.uses):
        if reads_places(user, rows.result):
            user.set_operand(index, rows.room)
        elif isinstance(user, ReshapeOp) and (other := _reshaped(rows, user)) is not None:
            made.append(other)
        elif not (isinstance(user, ReturnOp) and is_kept(rows, index, function)):
            if copy is None:
                copy = _copied(rows)
                context.remark(user, "the rows of a state are copied: they are not read at known places")
            user.set_operand(index, copy)
    if is_dead(rows):
        rows.erase()
    return made


def is_kept(rows: RowsOp, result: int, function: FuncOp) -> bool:
    """Whether rows, as the function's result of that number, are what the caller finds in its own memory."""
    written = rows.room.defining_op
    room = written.room.defining_op if isinstance(written, AppendOp) else None
    if not isinstance(room, RoomOp):
        return False
    return any(kept.result == result and function.arguments[kept.argument] is room.x for kept in kept_by(function))


def _reshaped(rows: RowsOp, op: ReshapeOp) -> RowsOp | None:
    """reshape(rows(room))  ->  rows(reshape(room)), where the axis of the rows stays an axis of its own"""
    source, target = tensor_type(rows.result).shape, tensor_type(op.result).shape
    before, count = math.prod(source[: rows.axis], start=1), source[rows.axis]
    room = tensor_type(rows.room)
    for axis, size in enumerate(target):
        if size == count and math.prod(target[:axis], start=1) == before:
            shape = [*target[:axis], room.shape[rows.axis], *target[axis + 1 :]]
            builder = Builder.before(op)
            whole = builder.insert(ReshapeOp(rows.room, result_types=[room.with_shape(shape)], loc=op.loc)).result
            made = builder.insert(RowsOp(whole, axis=axis, count=rows.count, loc=rows.loc))
            op.replace_with([made.result])
            return made
    return None


def _copied(rows: RowsOp) -> Value:
    """The rows alone, in memory of their own."""
    type_ = tensor_type(rows.result)
    whole = TensorType(type_.shape, type_.element)
    identity = AffineMap.identity(type_.rank)
    copy = copying(rows.room, whole, list(type_.shape), identity, identity)
    copy.loc = rows.loc
    return Builder.after(rows).insert(copy).results[0]
