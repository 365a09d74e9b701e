"""What is known of a value from the ops that make it, so that guards which never strike are not written."""

from __future__ import annotations

from stepwell.dialects import arith
from stepwell.dialects.arith import constant_int
from stepwell.dialects.vector import BroadcastOp
from stepwell.ir.attributes import ElementsAttr
from stepwell.ir.core import Operation, Value
from stepwell.ir.opdef import PURE, has_trait


def known_lanes(value: Value) -> list[int] | None:
    """The constants that an integer's lanes are; of a scalar, the one that it is."""
    op = value.defining_op
    if isinstance(op, BroadcastOp):
        return known_lanes(op.source)
    if isinstance(op, arith.ConstantOp) and isinstance(op.value, ElementsAttr):
        return [int(lane) for lane in op.value.numpy().reshape(-1)]
    known = constant_int(value)
    return None if known is None else [known]


def is_positive(value: Value) -> bool:
    """Whether an integer is above 0 in all lanes for certain: a constant, or a maximum with one."""
    known = known_lanes(value)
    if known is not None:
        return all(lane > 0 for lane in known)
    op = value.defining_op
    return isinstance(op, arith.MaxSIOp) and any(is_positive(side) for side in (op.lhs, op.rhs))


def is_never(value: Value, number: int) -> bool:
    """Whether an integer, in no lane, is this number (not above 0) for certain: as `is_positive`, or a choice that
    avoids it.

    select(cmpi eq %x, 0, 1, %x)  is never 0"""
    known = known_lanes(value)
    if known is not None:
        return number not in known
    op = value.defining_op
    if isinstance(op, BroadcastOp):
        return is_never(op.source, number)
    if isinstance(op, arith.SelectOp):
        avoids = is_never(op.false_value, number) or _holds_for(op.condition, op.false_value, number)
        return avoids and is_never(op.true_value, number)
    return is_positive(value)


def _holds_for(condition: Value, value: Value, number: int) -> bool:
    """Whether a condition holds for certain where the value is this number."""
    op = condition.defining_op
    if isinstance(op, arith.OrIOp):
        return _holds_for(op.lhs, value, number) or _holds_for(op.rhs, value, number)
    if isinstance(op, BroadcastOp):
        return _holds_for(op.source, value, number)
    if not isinstance(op, arith.CmpIOp) or op.predicate != "eq":
        return False
    compared = known_lanes(op.rhs) if op.lhs is value else known_lanes(op.lhs) if op.rhs is value else None
    return compared is not None and set(compared) == {number}


def may_run_early(op: Operation) -> bool:
    """Whether an op may run where the program might not have run it: it is pure and cannot fail."""
    return has_trait(op, PURE) and not (isinstance(op, arith.DIVISIONS) and not is_never(op.rhs, 0))
