"""Schedules that were found by measuring, as data that the `schedule` pass looks up."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import KernelOp
from stepwell.errors import PassError
from stepwell.lowering.tensor.canonical import kernel_key
from stepwell.lowering.tensor.check_schedule import check_schedule

TUNED = "tuned"
"""The option of a compilation that holds `TunedSchedules`."""


@attrs.frozen
class TunedSchedules:
    """Schedules by the key of their kernel (`kernel_key`), for one target. `source` says where they came from,
    `foreign` how many more it has for other targets."""

    schedules: Mapping[str, ScheduleAttr]
    source: str = ""
    foreign: int = 0

    def find(self, kernel: KernelOp, usual: ScheduleAttr) -> ScheduleAttr | None:
        """The schedule of a kernel, None where there is none; `usual` is the one that it would have otherwise.

        Raises PassError for one that does not suit the kernel, or that rounds its sums worse."""
        if not self.schedules:
            return None
        found = self.schedules.get(kernel_key(kernel))
        if found is None:
            return None
        try:
            check_schedule(kernel, found)
            _check_sums(found, usual)
        except PassError as error:
            raise PassError(f"{self.source}: the schedule for {kernel.loc.label or 'a kernel'} does not suit it: "
                            f"{error}") from None  # fmt: skip
        return found


def _check_sums(found: ScheduleAttr, usual: ScheduleAttr) -> None:
    """How long a sum may be before it is rounded is no question of speed."""
    parts = {spec.name: spec.schedule.partial for spec in found.stages}
    for name, length in {spec.name: spec.schedule.partial for spec in usual.stages}.items():
        if parts.get(name) != length:
            raise PassError(f"sums of stage {name} have parts of {parts.get(name)} products, not {length}")
    if found.partial != usual.partial:
        raise PassError(f"sums have parts of {found.partial} products, not {usual.partial}")
