"""Lets state grow in place: a result that is an argument with rows behind it needs no copy of the argument.

@main(%past {sw.state = {result = 1}}) {sw.capacity = {past = 64}}
  %present = graph.concat %past, %new {axis = 2}              %past's axis 2 has `past` rows
->
@main(%past {sw.state = {axis = 2, capacity = 64, result = 1}})
  %present = graph.append %past, %new {axis = 2, capacity = 64}

Other arguments that are kept stay what they are: the caller gives the result of one call to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from stepwell.dialects.func import FuncOp
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.movement import ConcatOp
from stepwell.dialects.graph.state import AppendOp
from stepwell.dialects.kept import Kept, capacities, kept_by, set_kept
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import Dim, DimExpr, free_symbols, symbol
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import StringType, element_of


@attrs.frozen
class AppendStates(Pass):
    """Let results that are kept arguments with rows behind them grow in place."""

    name: ClassVar[str] = "append-states"

    def run(self, module: Operation, context: PassContext) -> None:
        for function in list(module.walk_of(FuncOp)):
            limits = capacities(function)
            growth: dict[str, Dim] = {}
            for kept in kept_by(function) if limits else ():
                if kept.grows:
                    continue
                reason = _append(function, kept, limits, growth)
                if reason is None:
                    context.count("states that grow in place")
                else:
                    name = function.arguments[kept.argument].name or f"argument {kept.argument}"
                    context.remark(function, f"%{name} is carried from call to call as a whole: {reason}")


def _append(function: FuncOp, kept: Kept, limits: Mapping[str, int], growth: dict[str, Dim]) -> str | None:
    """Rewrite one concatenation; answers why not. `growth` has the rows that a call adds to each symbol's."""
    past, present = function.arguments[kept.argument], function.returned[kept.result]
    op = present.defining_op
    if not isinstance(op, ConcatOp) or op.xs[0] is not past or len(op.xs) < 2 or op.parent is not function.entry:
        return "the result is not this argument with rows behind it"
    rows = shape_of(past)[op.axis]
    names = free_symbols(rows)
    name = next(iter(names)) if isinstance(rows, DimExpr) and len(names) == 1 else ""
    if name not in limits or rows != symbol(name):
        return f"no capacity is given for its {rows} rows"
    if isinstance(element_of(past.type), StringType):
        return "its elements are strings"
    added = shape_of(present)[op.axis] - rows
    if growth.setdefault(name, added) != added:
        return f"others grow from {name} by {growth[name]} rows, and it by {added}"
    new = _joined(op)
    made = AppendOp(past, new, axis=op.axis, capacity=limits[name], loc=op.loc)
    made.attributes.update(op.attributes)
    Builder.before(op).insert(made)
    made.result.name = present.name
    op.replace_with([made.result])
    set_kept(function, kept._replace(axis=op.axis, capacity=limits[name]))
    return None


def _joined(op: ConcatOp) -> Value:
    """What stands behind the first operand."""
    if len(op.xs) == 2:
        return op.xs[1]
    return Builder.before(op).insert(ConcatOp(list(op.xs[1:]), axis=op.axis, loc=op.loc)).result
