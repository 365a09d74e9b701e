"""What the cost model reads of a target's description."""

from __future__ import annotations

from typing import Any

import attrs

from stepwell.ir.dims import Dim

TYPICAL = 128  # the size assumed for a symbolic dim


@attrs.frozen
class Machine:
    """Sizes in bytes, rates per cycle."""

    vector_bytes: int = 32
    vector_registers: int = 16
    fma_per_cycle: float = 2
    loads_per_cycle: float = 2
    fma_latency: float = 4
    l1_bytes: int = 32 << 10
    l2_bytes: int = 512 << 10

    @staticmethod
    def of(target: Any) -> Machine:
        """From a backend's target; a common AVX2 machine where there is none."""
        if target is None:
            return Machine()
        return Machine(
            target.vector_bytes, target.vector_registers, target.fma_per_cycle, 2, 4, target.l1d_bytes, target.l2_bytes
        )


def size_of(size: Dim) -> int:
    """A size for counting; an empty dim counts as 1."""
    return max(1, size) if isinstance(size, int) else TYPICAL
