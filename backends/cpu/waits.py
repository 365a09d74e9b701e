"""How often a run of a program makes threads wait for each other, and how much of it one thread does alone.

Counted in the program as `share` leaves it: a barrier is the end of an interval of shared grains. What stands in a loop
of constant bounds counts once for each round; where data decide how many rounds there are, a round is counted apart. Of
two branches the larger number counts.
"""

from __future__ import annotations

import attrs

from stepwell.dialects import cpu, func, loop
from stepwell.dialects.arith import constant_int
from stepwell.ir.core import Block, Operation
from stepwell.ir.passes import PassContext

from .model import program_of
from .share import ShareOut


@attrs.frozen
class Count:
    """Barriers, launches, and those of them that surely have one grain and an interval of their own: one thread runs
    them while the others wait for the next barrier."""

    barriers: int = 0
    launches: int = 0
    alone: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.barriers + other.barriers, self.launches + other.launches, self.alone + other.alone)

    def times(self, rounds: int) -> Count:
        """Of so many rounds."""
        return Count(self.barriers * rounds, self.launches * rounds, self.alone * rounds)

    def most(self, other: Count) -> Count:
        """The larger of each."""
        pairs = zip(attrs.astuple(self), attrs.astuple(other), strict=True)
        return Count(*(max(pair) for pair in pairs))

    def __str__(self) -> str:
        return f"{self.barriers} barriers, {self.launches} launches, {self.alone} of them on one thread"


@attrs.frozen
class Waits:
    """What a run has, and what each round adds of loops whose rounds are counted by data."""

    run: Count
    rounds: Count

    def __str__(self) -> str:
        more = f"; for each round of loops whose rounds data decide {self.rounds}" if self.rounds != Count() else ""
        return f"in a run {self.run}{more}"


def count_waits(module: Operation) -> Waits:
    """Of the program of a module at the end of the loop landing, which is not changed."""
    copy = module.clone()
    ShareOut().run(copy, PassContext(None))
    return waits_of(program_of(copy).body.block)


def waits_of(block: Block) -> Waits:
    """Of a block of a program, with what its loops and branches do."""
    run, rounds = Count(), Count()
    for op in block:
        found = _of_op(op)
        run, rounds = run + found.run, rounds + found.rounds
    return Waits(run, rounds)


def _of_op(op: Operation) -> Waits:
    if isinstance(op, cpu.JoinOp):
        return Waits(Count(barriers=1), Count())
    if isinstance(op, cpu.ShareOp):
        return Waits(Count(launches=1), Count())
    if isinstance(op, func.CallOp):
        return Waits(Count(launches=1, alone=1), Count())
    inner = [waits_of(block) for region in op.regions for block in region.blocks]
    if isinstance(op, loop.ForOp):
        (body,) = inner
        trips = _trips(op)
        return Waits(Count(), body.run + body.rounds) if trips is None else Waits(body.run.times(trips), body.rounds)
    run, rounds = Count(), Count()
    for found in inner:
        if isinstance(op, loop.IfOp):
            run, rounds = run.most(found.run), rounds.most(found.rounds)
        else:
            run, rounds = run + found.run, rounds + found.rounds
    return Waits(Count(), run + rounds) if isinstance(op, loop.WhileOp) else Waits(run, rounds)


def _trips(op: loop.ForOp) -> int | None:
    lower, upper, step = (constant_int(value) for value in (op.lower, op.upper, op.step))
    if lower is None or upper is None or step is None or step < 1:
        return None
    return max(0, -(-(upper - lower) // step))
