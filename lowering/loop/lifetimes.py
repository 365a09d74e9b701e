"""In which buffers a program's values may lie, and from where to where each buffer is needed.

Positions number the program's ops in the order of their text, ops of regions included. A buffer from outside a loop
that anything inside touches is needed for the whole loop, since the next round may read what this one has written; so
is one that is carried from round to round. A buffer of the loop's own is needed from its first to its last use, in
every round anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from stepwell.dialects import buffer, func, loop
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.types import MemRefType

Roots = Mapping[Value, frozenset[Value]]
NOWHERE: frozenset[Value] = frozenset()


def buffer_roots(function: func.FuncOp) -> Roots:
    """Memref -> the allocs that it may point into, through views, regions and rounds of loops."""
    return roots_of(function, [alloc.result for alloc in function.walk_of(buffer.AllocOp)])


def roots_of(function: func.FuncOp, memories: Iterable[Value]) -> Roots:
    """Memref -> which of some memories it may point into, likewise."""
    roots: dict[Value, frozenset[Value]] = {memory: frozenset([memory]) for memory in memories}
    flows = [flow for op in function.walk() for flow in _flows(op)]
    changed = True
    while changed:
        changed = False
        for target, source in flows:
            before = roots.get(target, NOWHERE)
            after = before | roots.get(source, NOWHERE)
            if len(after) != len(before):
                roots[target] = after
                changed = True
    return roots


def _flows(op: Operation) -> Iterator[tuple[Value, Value]]:
    """(memref, a memref that it may be) for what an op makes or takes into its regions."""
    for targets, sources in _handed_on(op):
        for target, source in zip(targets, sources, strict=True):
            if isinstance(target.type, MemRefType):
                yield target, source


def _handed_on(op: Operation) -> Iterator[tuple[Sequence[Value], Sequence[Value]]]:
    if isinstance(op, loop.ForOp):
        for sources in (op.inits, op.block.terminator.operands):
            yield op.carried, sources
            yield op.results, sources
    elif isinstance(op, loop.WhileOp):
        tested = op.before.block.terminator.operands[1:]
        for sources in (op.inits, op.body.block.terminator.operands):
            yield op.before.block.arguments, sources
        yield op.body.block.arguments, tested
        yield op.results, tested
    elif isinstance(op, loop.IfOp):
        for side in op.regions:
            if side.blocks:
                yield op.results, side.block.terminator.operands
    elif not isinstance(op, func.FuncOp):
        targets = [*op.results, *(a for r in op.regions for b in r.blocks for a in b.arguments)]
        targets = [target for target in targets if isinstance(target.type, MemRefType)]
        if not targets:
            return
        inside = [value for inner in op.walk() for value in inner.operands]
        yield from (([target], [source]) for target in targets for source in inside)


class Positions:
    """The ops of a function, numbered."""

    def __init__(self, function: func.FuncOp) -> None:
        self.first: dict[Operation, int] = {}
        self.last: dict[Operation, int] = {}
        self._number(function.body)

    def _number(self, region: Region) -> None:
        for block in region.blocks:
            for op in block:
                self.first[op] = len(self.first)
                for inner in op.regions:
                    self._number(inner)
                self.last[op] = len(self.first) - 1

    def span(self, op: Operation, root: Value) -> tuple[int, int]:
        """From where to where a buffer is needed because an op touches it."""
        around = _enclosing(root.owner_block)
        first = last = self.first[op]
        node: Operation | None = op
        if op.parent_op is not None and isinstance(op, loop.YieldOp) and _is_loop(op.parent_op):
            node = op.parent_op  # handed on to the next round, wherever it was made
            first, last = self.first[node], self.last[node]
        while node is not None and node.parent not in around:
            node = node.parent_op
            if node is not None and _is_loop(node):
                first, last = self.first[node], self.last[node]
        return first, last


def _is_loop(op: Operation) -> bool:
    return isinstance(op, (loop.ForOp, loop.WhileOp, loop.ParallelOp))


def _enclosing(block: Block | None) -> set[Block | None]:
    found: set[Block | None] = set()
    while block is not None:
        found.add(block)
        owner = block.parent_op
        block = owner.parent if owner is not None else None
    return found


def lifetimes(function: func.FuncOp, roots: Roots, positions: Positions) -> dict[Value, tuple[int, int]]:
    """(first, last) position of each alloc that is used."""
    found: dict[Value, tuple[int, int]] = {}
    for op in positions.first:
        if isinstance(op, buffer.AllocOp):
            continue
        touched = NOWHERE.union(*(roots.get(value, NOWHERE) for value in op.operands))
        for root in touched:
            first, last = positions.span(op, root)
            known = found.get(root, (first, last))
            found[root] = min(first, known[0]), max(last, known[1])
    return found
