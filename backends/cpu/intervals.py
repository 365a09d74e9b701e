"""Which launches of a program run at the same time.

Launches that follow each other without anything but pure ops between them are put into *intervals*: each into the
first one behind all intervals that it depends on. Two launches depend on each other where one writes memory that the
other reads or writes, also where the memory planner has given two buffers the same place at different times.

    launch @a(%x -> %s); launch @b(%s -> %t); launch @c(%x -> %u)   ->   { @a, @c }; { @b }
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs

from stepwell.dialects import buffer, kernel, loop, vector
from stepwell.dialects.func import FuncOp
from stepwell.ir.attributes import DenseArrayAttr
from stepwell.ir.core import Block, BlockArgument, Value
from stepwell.ir.opdef import PURE, Trait, has_trait
from stepwell.ir.types import MemRefType, bit_width
from stepwell.lowering.loop.lifetimes import roots_of
from stepwell.lowering.loop.places import Places

from .abi import JOBS


def launch_runs(block: Block) -> list[list[kernel.LaunchOp]]:
    """The launches of a block that follow each other; pure ops between them are moved in front of them."""
    runs: list[list[kernel.LaunchOp]] = [[]]
    for op in list(block):
        if isinstance(op, kernel.LaunchOp):
            runs[-1].append(op)
        elif not has_trait(op, PURE):
            runs.append([])
        elif runs[-1]:
            op.move_before(runs[-1][0])
    return [run for run in runs if run]


def intervals(
    run: Sequence[kernel.LaunchOp], uses: dict[str, Uses], places: Places
) -> list[list[kernel.LaunchOp]]:
    """The launches of a run, by the interval in which they run. Within an interval they keep their order."""
    found: list[list[tuple[kernel.LaunchOp, Touched]]] = []
    for launch in run:
        touched = Touched.of(launch, uses[launch.callee])
        behind = len(found)
        while behind and not any(touched.conflicts(other, places) for _, other in found[behind - 1]):
            behind -= 1
        while behind < len(found) and len(found[behind]) == JOBS:
            behind += 1
        if behind == len(found):
            found.append([])
        found[behind].append((launch, touched))
    return [[launch for launch, _ in interval] for interval in found]


@attrs.frozen
class Uses:
    """What a kernel does to the memory of its arguments: the numbers of those that it reads, and that it writes."""

    reads: frozenset[int]
    writes: frozenset[int]

    @staticmethod
    def of(function: FuncOp) -> Uses:
        """By its loads and stores. An op that is neither, nor known to leave memory alone, counts as both."""
        arguments: list[Value] = list(function.arguments)
        numbers = {value: number for number, value in enumerate(arguments) if isinstance(value.type, MemRefType)}
        roots = roots_of(function, numbers)
        reads, writes = set[int](), set[int]()
        for op in function.walk():
            if op is function or isinstance(op, _CONTROL) or has_trait(op, PURE) or has_trait(op, Trait.TERMINATOR):
                continue  # what control flow hands on is in the roots
            touched = {numbers[root] for operand in op.operands for root in roots.get(operand, ())}
            if not isinstance(op, _STORES):
                reads |= touched
            if not isinstance(op, _LOADS):
                writes |= touched
        return Uses(frozenset(reads), frozenset(writes))


_CONTROL = (loop.ForOp, loop.IfOp, loop.ParallelOp, loop.WhileOp)
_LOADS = (buffer.LoadOp, buffer.ReadOp, vector.LoadOp, vector.MaskedLoadOp, vector.GatherOp)
_STORES = (buffer.StoreOp, vector.StoreOp, vector.MaskedStoreOp)


@attrs.frozen
class Touched:
    """The memory that a launch reads and writes."""

    reads: tuple[Place, ...]
    writes: tuple[Place, ...]
    parts: frozenset[Value] = frozenset()
    """The roots of joined tensors of which it writes a part; two launches write different elements of these."""

    @staticmethod
    def of(launch: kernel.LaunchOp, uses: Uses) -> Touched:
        """The places of its arguments."""
        marked = launch.attributes.get(kernel.PARTS)
        numbers = marked.values if isinstance(marked, DenseArrayAttr) else ()
        parts = frozenset(Place.of(launch.inputs[int(number)]).root for number in numbers)
        return Touched(_places(launch, uses.reads), _places(launch, uses.writes), parts)

    def conflicts(self, other: Touched, places: Places) -> bool:
        """Whether one must end before the other begins."""
        if any(mine.overlaps(theirs, places) for mine in self.writes for theirs in other.reads):
            return True
        if any(mine.overlaps(theirs, places) for mine in self.reads for theirs in other.writes):
            return True
        joined = self.parts & other.parts
        return any(
            mine.overlaps(theirs, places) and not (mine.root is theirs.root and mine.root in joined)
            for mine in self.writes
            for theirs in other.writes
        )


@attrs.frozen
class Place:
    """Memory of a program: the bytes of `root` from `low` on, up to `high` or (None) to its end. The root is an
    argument of the program, a constant, a view of the arena, or memory that control flow hands on and may be any of
    these."""

    root: Value
    low: int = 0
    high: int | None = None

    @staticmethod
    def of(memory: Value) -> Place:
        """Where a memref lies."""
        op = memory.defining_op
        if isinstance(op, (buffer.ReshapeOp, buffer.RoomOp)):
            return Place.of(op.memory)
        if isinstance(op, buffer.PartOp) and isinstance(memory.type, MemRefType):
            whole = Place.of(op.memory)
            element = max(1, bit_width(memory.type) // 8)
            low = whole.low + op.offset * element
            return Place(whole.root, low, low + math.prod(memory.type.shape) * element)
        if isinstance(op, (buffer.SliceOp, buffer.RebaseOp)):
            return Place.of(op.memory)
        return Place(memory)

    def overlaps(self, other: Place, places: Places) -> bool:
        """Whether the two may share a byte."""
        if self.root is other.root:
            return (other.high is None or self.low < other.high) and (self.high is None or other.low < self.high)
        kinds = (_kind(self.root), _kind(other.root))
        if None in kinds:
            return True  # memory that control flow hands on
        if kinds == ("arena", "arena"):
            return places.may_overlap(self.root, other.root)
        return False  # two arguments, constants, or one of them and the arena


def _kind(root: Value) -> str | None:
    if isinstance(root, BlockArgument):
        return "argument" if isinstance(root.block.parent_op, FuncOp) else None
    op = root.defining_op
    if isinstance(op, buffer.ViewOp):
        return "arena"
    return "constant" if isinstance(op, buffer.ConstantOp) else None


def _places(launch: kernel.LaunchOp, arguments: Iterable[int]) -> tuple[Place, ...]:
    return tuple(dict.fromkeys(Place.of(launch.inputs[n]) for n in sorted(arguments)))
