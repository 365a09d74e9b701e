"""Moves index arithmetic and other pure ops out of the loops in which nothing they use changes. A loop may run no
iteration, so that what may fail stays: a division, unless its divisor is never 0.

loop.for %k { %p = floordivsi %n, 64; ... }  ->  %p = floordivsi %n, 64; loop.for %k { ... }
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from stepwell.dialects import loop
from stepwell.dialects.arith_proofs import may_run_early
from stepwell.ir.core import Operation, Value
from stepwell.ir.passes import Pass, PassContext


@attrs.frozen
class Hoist(Pass):
    """Move invariant pure ops out of loops."""

    name: ClassVar[str] = "hoist"

    def run(self, module: Operation, context: PassContext) -> None:
        loops = [op for op in module.walk() if isinstance(op, (loop.ForOp, loop.ParallelOp))]
        for op in reversed(loops):  # inner loops first, so that an op climbs as far as it may
            context.count("ops hoisted", hoist_from(op))


def hoist_from(op: Operation) -> int:
    """Move what does not change inside the loop before it; returns how many ops."""
    moved = 0
    for inner in list(op.regions[0].block):
        if may_run_early(inner) and not inner.regions and all(_is_outside(v, op) for v in inner.operands):
            inner.move_before(op)
            moved += 1
    return moved


def _is_outside(value: Value, op: Operation) -> bool:
    block = value.owner_block
    owner = block.parent_op if block is not None else None
    return owner is not None and not op.is_ancestor_of(owner)
