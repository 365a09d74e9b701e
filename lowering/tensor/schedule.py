"""Writes the `#tensor.schedule` of every kernel from the target's description, or takes one that was tuned."""

from __future__ import annotations

from typing import ClassVar

import attrs

from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import KernelOp
from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass, PassContext
from stepwell.lowering.tensor.candidates import candidates
from stepwell.lowering.tensor.choose import Ranked, why_lost
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.tuned import TUNED, TunedSchedules


@attrs.frozen
class Schedule(Pass):
    """Decide how every kernel's loops are cut."""

    name: ClassVar[str] = "schedule"

    def run(self, module: Operation, context: PassContext) -> None:
        machine = Machine.of(context.target)
        tuned = context.options.get(TUNED) or TunedSchedules({})
        if tuned.foreign:
            context.remark(module, f"{tuned.source}: {tuned.foreign} schedules are for other targets")
        for kernel in module.walk_of(KernelOp):
            if kernel.schedule is None:
                choice = candidates(kernel, machine)
                found = tuned.find(kernel, choice[0].schedule)
                kernel.schedule = found or choice[0].schedule
                if found is not None:
                    context.count("schedules tuned")
                    usual = choice[0].schedule
                    instead = "as usual" if found == usual else f"instead of {short(usual)}"
                    context.remark(kernel, f"tuned: {short(found)}, {instead}")
                else:
                    context.remark(kernel, _said(choice))


def kernel_schedule(kernel: KernelOp, machine: Machine) -> ScheduleAttr:
    """The schedule that the cost model gives a kernel."""
    return candidates(kernel, machine, 1)[0].schedule


def short(schedule: ScheduleAttr) -> str:
    """The register tile and the loops, for remarks."""
    register = ", ".join(f"{dim}: {size}" for dim, size in schedule.register)
    return f"{{{register}}} in [{', '.join(f'{spec.dim} by {spec.tile}' for spec in schedule.loops)}]"


def _said(choice: list[Ranked]) -> str:
    best = choice[0]
    text = f"scheduled {short(best.schedule)}: {best.terms}"
    return text if len(choice) < 2 else f"{text}; next {short(choice[1].schedule)}: {why_lost(choice[1], best)}"
