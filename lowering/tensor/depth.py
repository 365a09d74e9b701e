"""How many additions a term of a sum goes through, by the schedule: what bounds the sum's rounding error.

A sum whose terms go through at most h additions has an error of at most h u / (1 - h u) times the sum of its terms'
magnitudes, u being half of the distance from 1 to the next float; products that are rounded before they are added count
as one more (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stepwell.dialects.schedule import ScheduleAttr


def additions(sizes: Sequence[int], names: Sequence[str], schedule: ScheduleAttr) -> int:
    """The longest way of a term through the sum over reduced dims of these sizes and names, outermost first."""
    blocks = {spec.dim: spec.tile for spec in schedule.loops}
    pairs = sorted(zip(sizes, names, strict=True), key=lambda pair: pair[1] == schedule.slide)
    lanes = schedule.lanes if schedule.vector in names else 1
    copies = schedule.unroll if lanes > 1 else 1
    count = math.prod(-(-size // blocks.get(name, size)) if size else 0 for size, name in pairs)
    inner = [min(size, blocks.get(name, size)) for size, name in pairs]
    steps = [_steps(size, lanes, copies) if name == schedule.vector else size
             for size, (_, name) in zip(inner, pairs, strict=True)]  # fmt: skip
    chain = _cut(inner, steps, schedule, [name for _, name in pairs], lanes, copies, count)
    return chain + (math.ceil(math.log2(copies)) + int(math.log2(lanes)) if lanes > 1 else 0)


def _steps(size: int, lanes: int, copies: int) -> int:
    """Additions to one accumulator of a row along the lanes: whole steps of all copies, then what is left by one."""
    chunk = lanes * copies
    return size // chunk + -(-(size % chunk) // lanes)


def _cut(
    sizes: Sequence[int], steps: Sequence[int], schedule: ScheduleAttr, names: Sequence[str], lanes: int, copies: int,
    count: int,
) -> int:  # fmt: skip
    """The chain over `count` blocks of those sizes, where the first dim that fits a partial sum is cut into such."""
    for d in range(len(sizes)):
        within = math.prod(sizes[d + 1 :])
        part = max(1, schedule.partial // within) if within else 0
        if schedule.partial and part and within <= schedule.partial and sizes[d] > part:
            own = _steps(part, lanes, copies) if names[d] == schedule.vector else part
            parts = -(-sizes[d] // part) * math.prod(sizes[:d]) * count
            return own * math.prod(steps[d + 1 :]) + parts
    return math.prod(steps) * count
