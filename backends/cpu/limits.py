"""What limits a kernel on a machine, and the least time that it can take there: the roofline model.

A kernel does arithmetic, and streams data from the level of the memory hierarchy that holds it. The larger of the two
times is a bound that no schedule gets under (Williams, Waterman, Patterson: "Roofline", CACM 52(4), 2009; with a roof
for each level). Where even the bound is less than what starting a kernel takes, the start is the limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

COMPUTE, OVERHEAD, UNKNOWN = "compute", "overhead", "-"
CACHES = ("L1", "L2", "L3")
MEMORY = "memory"
LEVELS = (*CACHES, MEMORY)
STREAMED = LEVELS[1:]
"""From where a kernel gets what another one has made: its own thread's L1 cache has little of it."""


@attrs.frozen
class Roofs:
    """What a team of threads reaches on this machine at most, all threads together.

    `flops` are f32 operations per second (a multiply-add counts as two), `bandwidth` bytes read per second from each of
    LEVELS, `capacity` the bytes that each of CACHES holds for the team, `launch` the seconds that starting a kernel and
    waiting for its end take. `alone` has the roofs of one thread."""

    threads: int
    flops: float
    bandwidth: Mapping[str, float]
    capacity: Mapping[str, int]
    launch: float
    alone: Roofs | None = None

    def level_of(self, size: int) -> str:
        """The nearest of STREAMED that holds so many bytes."""
        return next((level for level in CACHES[1:] if size <= self.capacity[level]), MEMORY)


    def busy(self, grains: float) -> float:
        """How many threads so many equal grains keep busy on average, until the last one is done: 3 grains on 2 threads
        take the time of 4, so they keep 1.5 busy."""
        return max(1.0, grains) / max(1, math.ceil(grains / self.threads))

    def of_part(self, threads: float) -> Roofs:
        """The roofs of a part of the team: fewer threads read from each level, and have fewer caches of their own. A
        kernel that starts waits for all of the team."""
        one = self.alone
        if one is None or threads >= self.threads:
            return self
        bandwidth = {level: min(rate, threads * one.bandwidth[level]) for level, rate in self.bandwidth.items()}
        own = {level: int(threads * one.capacity[level]) for level in CACHES[:2]}
        return attrs.evolve(self, flops=min(self.flops, threads * one.flops), bandwidth=bandwidth,
                            capacity={**self.capacity, **own})  # fmt: skip


@attrs.frozen
class Work:
    """What one launch of a kernel does.

    `flops` counts its arithmetic in elements of `bits` bits (None: none that a roof is measured for). Of the `bytes`
    that it streams, `outside` are weights, and inputs and outputs of the model: what was last touched by the call
    before, and has since shared the caches with all `footprint` bytes that a call touches."""

    flops: int
    bits: int | None
    bytes: int
    outside: int
    footprint: int


@attrs.frozen
class Limit:
    """What binds a kernel, and the least seconds that it takes at that limit."""

    name: str
    seconds: float


def compute_seconds(work: Work, roofs: Roofs) -> float:
    """The least time of the arithmetic alone. A vector has half as many f64 as f32; what is narrower is computed in
    f32."""
    if work.bits is None:
        return 0.0
    return work.flops / roofs.flops * max(1.0, work.bits / 32)


def streaming_seconds(work: Work, roofs: Roofs) -> dict[str, float]:
    """The least time of the traffic of each of STREAMED alone. What comes from a level passes all nearer ones."""
    far = min(work.outside, work.bytes)
    parts = (
        (far, roofs.level_of(max(work.footprint, work.bytes))),
        (work.bytes - far, roofs.level_of(work.bytes)),
    )
    return {
        level: sum(size for size, origin in parts if STREAMED.index(origin) >= place) / roofs.bandwidth[level]
        for place, level in enumerate(STREAMED)
    }


def limit_of(work: Work, roofs: Roofs) -> Limit:
    """What takes the longest; of equal times the first of arithmetic, L2, L3 and memory."""
    times = {COMPUTE: compute_seconds(work, roofs), **streaming_seconds(work, roofs)}
    name = max(times, key=lambda limit: times[limit])
    if times[name] < roofs.launch:
        return Limit(OVERHEAD, roofs.launch)
    return Limit(name, times[name])


def ridge(roofs: Roofs, level: str) -> float:
    """The operations per byte from which on arithmetic takes longer than reading from a level."""
    return roofs.flops / roofs.bandwidth[level] if roofs.bandwidth[level] else math.inf
