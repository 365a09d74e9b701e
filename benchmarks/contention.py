"""How much of our CPUs other processes took: on a shared machine, the difference between a slow engine and bad luck."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

STAT = Path("/proc/stat")
# proc_stat(5): user nice system idle iowait irq softirq steal; guest time is part of user time.
BUSY_FIELDS = (0, 1, 2, 5, 6, 7)


def busy_ticks(stat: str, cpus: Collection[int]) -> int:
    """Clock ticks that `cpus` have been busy, or stolen by the hypervisor, by the text of /proc/stat."""
    names = {f"cpu{cpu}" for cpu in cpus}
    lines = (line.split() for line in stat.splitlines())
    return sum(int(fields[1 + i]) for fields in lines if fields and fields[0] in names for i in BUSY_FIELDS)


class Watch:
    """Starts at its creation; `foreign()` tells how many CPUs, on average since then, others took of ours."""

    def __init__(self) -> None:
        self._wall = time.monotonic()
        self._own = self._own_seconds()
        self._busy = self._busy_seconds()

    def foreign(self) -> float:
        """CPUs busy with other processes among those this process may use; 0 where the system does not tell. Children
        that have ended are no others."""
        busy, own = self._busy_seconds() - self._busy, self._own_seconds() - self._own
        return max(0.0, busy - own) / max(time.monotonic() - self._wall, 1e-9)

    @staticmethod
    def _own_seconds() -> float:
        children = os.times()
        return time.process_time() + children.children_user + children.children_system

    @staticmethod
    def _busy_seconds() -> float:
        try:
            return busy_ticks(STAT.read_text(), os.sched_getaffinity(0)) / os.sysconf("SC_CLK_TCK")
        except (OSError, AttributeError):
            return 0.0
