"""A builder: the place where new operations go, and the location they get."""

from __future__ import annotations

from stepwell.ir.core import Block, Operation, OpT
from stepwell.ir.location import UNKNOWN, Location


class Builder:
    """Inserts operations before `anchor` in `block` (at the end where that is None)."""

    __slots__ = ("anchor", "block", "loc")

    def __init__(self, block: Block, anchor: Operation | None = None, loc: Location = UNKNOWN) -> None:
        self.block = block
        self.anchor = anchor
        self.loc = loc

    @staticmethod
    def at_end(block: Block, loc: Location = UNKNOWN) -> Builder:
        """Append to a block."""
        return Builder(block, None, loc)

    @staticmethod
    def at_start(block: Block, loc: Location = UNKNOWN) -> Builder:
        """Insert before a block's first operation."""
        return Builder(block, block.first, loc)

    @staticmethod
    def before(op: Operation) -> Builder:
        """Insert before an operation, with its location."""
        assert op.parent is not None
        return Builder(op.parent, op, op.loc)

    @staticmethod
    def after(op: Operation) -> Builder:
        """Insert behind an operation, with its location."""
        assert op.parent is not None
        return Builder(op.parent, op.next, op.loc)

    def insert(self, op: OpT) -> OpT:
        """Put a new operation at the insertion point and return it."""
        if op.loc is UNKNOWN:
            op.loc = self.loc
        self.block.insert_before(self.anchor, op)
        return op
