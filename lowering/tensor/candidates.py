"""Schedules of a whole kernel: those that the cost model compares, and those near one that a tuner tries."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Any

import attrs

from stepwell.dialects.schedule import LoopSpec, ScheduleAttr
from stepwell.dialects.tensor import KernelOp
from stepwell.errors import PassError
from stepwell.lowering.precision import is_strict
from stepwell.lowering.tensor.canonical import structure
from stepwell.lowering.tensor.check_schedule import check_schedule
from stepwell.lowering.tensor.choose import Ranked
from stepwell.lowering.tensor.common_rows import Rows
from stepwell.lowering.tensor.cost import estimate, launched
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.row_schedule import (
    Parts,
    one_row_schedule,
    row_schedule,
    rows_that_slide,
    sliding_blocks,
)
from stepwell.lowering.tensor.running import running
from stepwell.lowering.tensor.sizes import assumed
from stepwell.lowering.tensor.space import Space
from stepwell.lowering.tensor.stage_work import StageWork
from stepwell.lowering.tensor.stages import Stage, stages_of
from stepwell.lowering.tensor.tiles import candidates_of

BLOCKS = (1, 2, 4, 8, 12, 16, 24, 32, 64)  # rows computed together
PARTS = (256, 512, 1024)  # steps of a reduction in one part
KEYS = (512,)  # steps of a softmax in one part
UNROLLED = (1, 2, 4)
_known: OrderedDict[Hashable, tuple[Ranked, ...]] = OrderedDict()
_lock = threading.Lock()
_evolve: Any = attrs.evolve  # schedules are attrs classes, which the decorator hides from type checkers
KNOWN = 4096  # kernels whose schedules are remembered
LEAST_GRAINS = 16  # of a kernel, below which a tuner does not go: other machines have other teams


def candidates(kernel: KernelOp, machine: Machine, count: int = 2) -> list[Ranked]:
    """The schedules of a kernel that may be the best, at least `count` where there are as many. The first is the cost
    model's choice. Raises PassError for stages that cannot be computed together.

    Layouts, fusion and schedules ask for the same kernels: the last KNOWN are remembered."""
    key = (structure(kernel), is_strict(kernel), machine, count, assumed())
    with _lock:
        known = _known.get(key)
        if known is not None:
            _known.move_to_end(key)
            return list(known)
    found = _candidates(kernel, machine, count)
    with _lock:
        _known[key] = tuple(found)
        if len(_known) > KNOWN:
            _known.popitem(last=False)
    return found


def _candidates(kernel: KernelOp, machine: Machine, count: int) -> list[Ranked]:
    stages = stages_of(kernel)
    if len(stages) == 1:
        found = candidates_of(StageWork.of_stage(stages[0]), machine, count)
        return [Ranked(each.schedule, launched(each.terms)) for each in found]
    rows = Rows.of(stages)
    if rows is None:
        raise PassError(f"{kernel.loc.label or 'a kernel'}: its stages share no rows")
    sliding = rows_that_slide(rows)
    if not rows.rows:
        made = [one_row_schedule(rows, machine)]
    elif sliding is not None:
        blocks = (*sliding_blocks(sliding, machine), *(BLOCKS if count > 2 else ()))
        made = [row_schedule(sliding, machine, block) for block in blocks]
        found = [Ranked(each, estimate(kernel, each, machine)) for each in dict.fromkeys(made)]
        return sorted(found, key=lambda each: each.terms.cycles)
    else:
        parts = list(parts_of(rows))
        blocks = BLOCKS if count > 2 else ()
        made = [row_schedule(rows, machine), *(row_schedule(rows, machine, parts=each) for each in parts)]
        if parts and not isinstance(rows.root.root.sizes.dims[parts[0].running.dim], int):
            made = made[1:]  # any number of keys
        else:
            made = sorted(made, key=lambda each: estimate(kernel, each, machine).cycles)
        made += [row_schedule(rows, machine, block) for block in blocks]
    first, *others = [Ranked(each, estimate(kernel, each, machine)) for each in dict.fromkeys(made)]
    return [first, *sorted(others, key=lambda each: each.terms.cycles)]


def parts_of(rows: Rows) -> Iterator[Parts]:
    """The parts in which a softmax and the sum behind it may be computed."""
    found = running(rows)
    if found is not None:
        size = rows.root.root.sizes.dims[found.dim]
        yield from (Parts(found, steps) for steps in KEYS if not isinstance(size, int) or size > steps)


def neighbours(kernel: KernelOp, schedule: ScheduleAttr) -> list[ScheduleAttr]:
    """Schedules that differ in one thing: a loop's tile, the order of two loops, a side of the register tile, the
    unrolling, the parts of a reduction. How sums are cut into partial sums stays as it is."""
    root = stages_of(kernel)[-1]
    few = min(LEAST_GRAINS, grains(root, schedule))
    found: dict[ScheduleAttr, None] = {}
    for made in _changed(root, schedule, alone=len(stages_of(kernel)) == 1):
        try:
            check_schedule(kernel, made)
        except PassError:
            continue
        if grains(root, made) >= few and made != schedule:
            found[made] = None
    return list(found)


def grains(root: Stage, schedule: ScheduleAttr) -> int:
    """How many pieces threads share out; symbolic sizes count as TYPICAL."""
    space = Space.of(root.root)
    left = dict(zip(space.names, space.sizes, strict=True))
    count = 1
    for spec in schedule.loops:
        if spec.parallel:
            count *= -(-left[spec.dim] // spec.tile)
        left[spec.dim] = min(left[spec.dim], spec.tile)
    return count


def _changed(root: Stage, schedule: ScheduleAttr, alone: bool) -> Iterator[ScheduleAttr]:
    sizes = dict(zip(root.root.names, Space.of(root.root).sizes, strict=True))
    register = dict(schedule.register)
    loops = list(schedule.loops)
    for n, spec in enumerate(loops):
        unit = register.get(spec.dim, 1)
        for tile in (spec.tile // 2 // unit * unit, spec.tile * 2):
            if unit <= tile and (tile < spec.tile or spec.tile < sizes[spec.dim]):
                yield _evolve(schedule, loops=(*loops[:n], _evolve(spec, tile=tile), *loops[n + 1 :]))
    if not alone:
        return
    for n in range(len(loops) - 1):
        if loops[n].dim != loops[n + 1].dim and min(sizes[spec.dim] for spec in loops[n : n + 2]) > 1:
            yield _evolve(schedule, loops=(*loops[:n], loops[n + 1], loops[n], *loops[n + 2 :]))
    for name, size in schedule.register:
        step = schedule.lanes if name == schedule.vector else 1
        for other in (size - step, size + step):
            if other >= step:
                block = tuple((key, other if key == name else old) for key, old in schedule.register)
                yield _evolve(schedule, register=block, loops=tuple(_fitted(spec, name, other) for spec in loops))
    if root.root.has_reduction:
        yield from (_evolve(schedule, unroll=copies) for copies in UNROLLED)
        yield from _parts(root, schedule)


def _fitted(spec: LoopSpec, name: str, unit: int) -> LoopSpec:
    """A loop over a dim whose register tile has become another."""
    if spec.dim != name:
        return spec
    made: LoopSpec = _evolve(spec, tile=max(1, round(spec.tile / unit)) * unit)
    return made


def _parts(root: Stage, schedule: ScheduleAttr) -> Iterator[ScheduleAttr]:
    """With the reduction in parts of other lengths, or in one."""
    space = Space.of(root.root)
    if len(space.reduction) != 1 or schedule.vector == space.names[space.reduction[0]]:
        return
    (reduced,) = space.reduction
    name = space.names[reduced]
    kept = tuple(spec for spec in schedule.loops if spec.dim != name)
    if len(kept) < len(schedule.loops):
        yield _evolve(schedule, loops=kept)
    if root.holds_partial_sums:
        for steps in PARTS:
            if steps < space.sizes[reduced]:
                yield _evolve(schedule, loops=(*kept, LoopSpec(f"{name}0", name, steps)))
