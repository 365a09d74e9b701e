"""Writes the `#tensor.schedule` of every kernel from the target's description."""

from __future__ import annotations

from typing import ClassVar

import attrs

from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import KernelOp
from stepwell.errors import PassError
from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass, PassContext
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.row_schedule import one_row_schedule, row_schedule
from stepwell.lowering.tensor.space import Space
from stepwell.lowering.tensor.stages import Rows, stages_of
from stepwell.lowering.tensor.tiles import schedule_of


@attrs.frozen
class Schedule(Pass):
    """Decide how every kernel's loops are cut."""

    name: ClassVar[str] = "schedule"

    def run(self, module: Operation, context: PassContext) -> None:
        machine = Machine.of(context.target)
        for kernel in module.walk_of(KernelOp):
            if kernel.schedule is None:
                kernel.schedule = kernel_schedule(kernel, machine)


def kernel_schedule(kernel: KernelOp, machine: Machine) -> ScheduleAttr:
    """The schedule of a kernel: that of its one stage, or loops over the rows that its stages share."""
    stages = stages_of(kernel)
    if len(stages) == 1:
        return schedule_of(Space.of(stages[0].root), machine)
    rows = Rows.of(stages)
    if rows is None:
        raise PassError(f"{kernel.loc.label or 'a kernel'}: its stages share no rows")
    return row_schedule(rows, machine) if rows.dims else one_row_schedule(rows, machine)
