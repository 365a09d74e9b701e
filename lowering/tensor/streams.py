"""Bytes that a loop nest moves between the levels of the memory.

From the inside out: a loop over which all of its data stay in a cache brings each byte once, and so does the one around
it, whose body stays; further out, a loop brings nothing more for operands on which it and those inside do not depend;
any other brings everything again for each step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from stepwell.dialects.schedule import ScheduleAttr
from stepwell.lowering.tensor.space import Space
from stepwell.lowering.tensor.stage_work import Access
from stepwell.lowering.tensor.tile_cost import LINE

USABLE = 0.75  # of a cache: the rest is lost to its sets, and to what comes and goes
WRITTEN = 2.0  # a line that is written is read before, and carried back behind


@attrs.frozen
class Level:
    """A loop: its dim (None: one that the stage does not have), its steps, of which the last may be a part, and the
    sizes of the space inside it."""

    dim: int | None
    trips: float
    inside: tuple[int, ...]


def nest_of(space: Space, schedule: ScheduleAttr, outer: Sequence[Level] = ()) -> list[Level]:
    """The loops that a schedule makes of a space, outermost first, down to one step of a register tile; `outer` are
    those of the kernel's root in which the stage stands."""
    names = list(space.names)
    sizes = list(space.sizes)
    found = list(outer)

    def cut(d: int, tile: int, always: bool = False) -> None:
        trips = max(1.0, sizes[d] / tile)
        sizes[d] = min(tile, sizes[d])
        if trips > 1 or always:
            found.append(Level(d, trips, tuple(sizes)))

    for spec in schedule.loops:
        cut(names.index(spec.dim), spec.tile, always=True)
    register = {names.index(name): size for name, size in schedule.register}
    for d in sorted(space.parallel, key=lambda d: (register.get(d, 1) == 1, names[d] != schedule.vector)):
        cut(d, register.get(d, 1))
    for d in space.reduction:
        cut(d, schedule.lanes if names[d] == schedule.vector else 1)
    return found


def footprint(access: Access, sizes: Sequence[int]) -> int:
    """Bytes of the lines that hold what a box of the space reaches."""
    if access.is_constant:
        return access.item * math.prod(sizes[d] for d in access.used)
    box = access.box(sizes)
    run, outer, is_whole = 1, 1, True
    for reach, axis in zip(reversed(box), reversed(access.shape), strict=True):
        if is_whole:
            run *= reach
            is_whole = reach == axis
        else:
            outer *= reach
    return outer * -(-run * access.item // LINE) * LINE


def traffic(
    nest: Sequence[Level], accesses: Sequence[tuple[Access, float]], whole: Sequence[int], caches: Sequence[int],
    local: int = 0,
) -> list[float]:  # fmt: skip
    """Bytes moved into each of some caches of so many bytes; 0 where everything fits. Each access comes with its
    weight. What is local to the kernel lies in the same memory in every step of the first `local` loops."""
    sizes = [tuple(whole), *(level.inside for level in nest)]
    held: list[dict[int, int]] = [{} for _ in accesses]

    def bytes_at(index: int, depth: int) -> int:
        access, known = accesses[index][0], held[index]
        if access.is_local:
            depth = max(depth, local)
        if depth not in known:
            known[depth] = footprint(access, sizes[depth])
        return known[depth]

    def fitting(cache: int) -> int:
        """The loops around what fits a cache."""
        room, depth = cache * USABLE, 0
        while depth < len(nest) and sum(bytes_at(index, depth) for index in range(len(accesses))) > room:
            depth += 1
        return depth

    def moved(index: int, inner: int) -> float:
        """By all steps of the loops around what fits."""
        access = accesses[index][0]
        if inner == len(nest):  # lines are used up by the steps that follow
            total, around = float(access.item * math.prod(access.box(sizes[inner]))), inner
        else:  # what one step of the loop around shares with the next stays too
            total, around = float(bytes_at(index, inner - 1)), inner - 1
        stays = around == inner or _is_still(access, nest[around], around < local)
        for depth in range(around - 1, -1, -1):
            stays = stays and _is_still(access, nest[depth], depth < local)
            if not stays:
                total *= nest[depth].trips
        return total

    found = []
    for cache in caches:
        inner = fitting(cache)
        found.append(sum(weight * moved(index, inner) for index, (_, weight) in enumerate(accesses)) if inner else 0.0)
    return found


def _is_still(access: Access, level: Level, is_local: bool) -> bool:
    """Whether the steps of a loop reach the same elements."""
    return level.dim not in access.used or (access.is_local and is_local)
