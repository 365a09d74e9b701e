"""What the cost model reads of a target's description."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen(cache_hash=True)
class Machine:
    """Sizes in bytes, rates per cycle; a bandwidth is that of one core from the level named to the one above it."""

    vector_bytes: int = 32
    vector_registers: int = 16
    fma_per_cycle: float = 2
    loads_per_cycle: float = 2
    fma_latency: float = 4
    l1_bytes: int = 32 << 10
    l2_bytes: int = 512 << 10
    l3_bytes: int = 16 << 20
    stores_per_cycle: float = 1
    shuffles_per_cycle: float = 1
    l2_bandwidth: float = 24
    l3_bandwidth: float = 12
    memory_bandwidth: float = 4

    @staticmethod
    def of(target: Any) -> Machine:
        """From a backend's target; a common AVX2 machine where there is none."""
        if target is None:
            return Machine()
        return Machine(
            vector_bytes=target.vector_bytes, vector_registers=target.vector_registers,
            fma_per_cycle=target.fma_per_cycle, l1_bytes=target.l1d_bytes, l2_bytes=target.l2_bytes,
            l3_bytes=target.l3_bytes, l2_bandwidth=target.l2_bandwidth, l3_bandwidth=target.l3_bandwidth,
            memory_bandwidth=target.memory_bandwidth,
        )  # fmt: skip
