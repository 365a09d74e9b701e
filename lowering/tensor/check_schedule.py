"""Whether a schedule that somebody else wrote suits a kernel: its names, its sizes, the places of its stages."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stepwell.dialects.schedule import WHOLE_KERNEL, ScheduleAttr
from stepwell.dialects.tensor import GenericOp, KernelOp
from stepwell.errors import PassError
from stepwell.lowering.precision import is_strict
from stepwell.lowering.tensor.common_rows import Rows
from stepwell.lowering.tensor.running import running
from stepwell.lowering.tensor.stages import Stage, stages_of

MOST_POINTS = 4096  # elements of a register tile
MOST_LANES = 64
MOST_UNROLL = 16
MOST_LOOPS = 32


def check_schedule(kernel: KernelOp, schedule: ScheduleAttr) -> None:
    """Raises PassError, saying what is wrong, where a schedule cannot be one of this kernel."""
    stages = stages_of(kernel)
    _check_stage(stages[-1].root, schedule, stages[-1].name or "the root")
    labels = [WHOLE_KERNEL, *(spec.label for spec in schedule.loops)]
    wanted = {stage.name: stage.root for stage in stages[:-1]}
    given = [spec.name for spec in schedule.stages]
    if sorted(given) != sorted(wanted):
        raise PassError(f"it places the stages {_listed(given)}; the kernel has {_listed(list(wanted))}")
    for spec in schedule.stages:
        if spec.at not in labels:
            raise PassError(f"stage {spec.name} is placed at {spec.at!r}; the loops are {_listed(labels)}")
        if spec.schedule.stages:
            raise PassError(f"stage {spec.name} has stages of its own")
        _check_stage(wanted[spec.name], spec.schedule, f"stage {spec.name}")
    _check_parts(stages, schedule)


def _check_parts(stages: Sequence[Stage], schedule: ScheduleAttr) -> None:
    """Where a loop cuts the root's sum, its results hold the parts before, and every stage that it goes through is
    computed in it, with the role it has."""
    root = stages[-1].root
    kinds = dict(zip(root.names, root.iterators, strict=True))
    cutting = [n for n, spec in enumerate(schedule.loops) if kinds[spec.dim] != "parallel"]
    if cutting and not stages[-1].holds_partial_sums:
        raise PassError(f"loop {schedule.loops[cutting[0]].label} cuts a sum whose parts the results cannot hold")
    inside = {spec.label for spec in schedule.loops[cutting[0] :]} if cutting else set()
    placed = [spec for spec in schedule.stages if spec.role or spec.at in inside]
    if not placed:
        return
    rows = Rows.of(stages)
    found = running(rows) if rows is not None else None
    if found is None:
        raise PassError(f"stage {placed[0].name} cannot be computed part by part")
    label = schedule.loops[cutting[0]].label if len(cutting) == 1 else ""
    for stage in stages[:-1]:
        spec = next(spec for spec in schedule.stages if spec.name == stage.name)
        role = found.roles.get(stage, "")
        along = stage.root.names[found.along[stage]] if role else ""
        if (spec.role, spec.along) != (role, along) or (spec.at == label) != (stage in found.along) or not label:
            raise PassError(f"stage {spec.name}: in the loop over parts of the root's sum, {role or 'no part'} "
                            f"{f'of {along}' if role else ''} belongs")  # fmt: skip


def _check_stage(root: GenericOp, schedule: ScheduleAttr, where: str) -> None:
    names = list(root.names)
    kinds = dict(zip(names, root.iterators, strict=True))
    cut = [spec.dim for spec in schedule.loops]
    register = [name for name, _ in schedule.register]
    if unknown := [name for name in (*cut, *register) if name not in kinds]:
        raise PassError(f"{where}: there is no dim {_listed(unknown)}; the dims are {_listed(names)}")
    if schedule.vector not in (*names, "none"):
        raise PassError(f"{where}: vectors along {schedule.vector!r}; the dims are {_listed(names)}")
    labels = [spec.label for spec in schedule.loops]
    if len(set(labels)) != len(labels) or len(set(register)) != len(register):
        raise PassError(f"{where}: a loop or a dim of the register tile is there twice")
    if reduced := [name for name in register if kinds[name] != "parallel"]:
        raise PassError(f"{where}: the register tile is one of results, and {_listed(reduced)} is reduced")
    if serial := [spec.label for spec in schedule.loops if spec.parallel and kinds[spec.dim] != "parallel"]:
        raise PassError(f"{where}: loop {_listed(serial)} adds up, and cannot be parallel")
    lanes = schedule.lanes
    if lanes > MOST_LANES or lanes & (lanes - 1) or (lanes > 1 and schedule.vector == "none"):
        raise PassError(f"{where}: {lanes} lanes")
    if dict(schedule.register).get(schedule.vector, lanes) % lanes:
        raise PassError(f"{where}: the register tile cuts a vector of {lanes} lanes")
    points = math.prod(size for _, size in schedule.register)
    if points > MOST_POINTS or schedule.unroll > MOST_UNROLL or len(labels) > MOST_LOOPS:
        raise PassError(f"{where}: {points} elements of a register tile, {len(labels)} loops, unrolled "
                        f"{schedule.unroll} times: that is too much")  # fmt: skip
    if schedule.slide:
        _check_slide(root, schedule, where)


def _check_slide(root: GenericOp, schedule: ScheduleAttr, where: str) -> None:
    """The dim along which a register tile slides is reduced whole, in few steps, and may run innermost."""
    sizes = {name: size for name, size, kind in zip(root.names, root.sizes.dims, root.iterators, strict=True)
             if kind != "parallel"}  # fmt: skip
    size = sizes.get(schedule.slide)
    if not isinstance(size, int) or size > MOST_UNROLL or schedule.slide in (
        schedule.vector, *(spec.dim for spec in schedule.loops)
    ):
        raise PassError(f"{where}: no register tile slides along {schedule.slide!r}")
    if is_strict(root) and schedule.slide != list(sizes)[-1]:
        raise PassError(f"{where}: strict sums run in order, {schedule.slide!r} not innermost")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
