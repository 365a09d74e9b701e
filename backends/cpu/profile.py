"""Where the time of a call goes: each kernel's time, arithmetic and memory traffic, and how far it is from its limit.

    for row in Profiler(module, target.host()).run(arrays).rows: print(row.kernel, row.seconds, row.limit)
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.func import FuncOp
from stepwell.ir.core import Operation

from .launches import Launch, footprint, launches_of, works_of
from .limits import OVERHEAD, UNKNOWN, Limit, Roofs, Work, limit_of
from .model import build, program_of
from .roofs import measured
from .target import CpuTarget
from .trace import Trace, Tracer

Array = np.ndarray[Any, Any]

OUTSIDE = "(outside kernels)"
"""The row of what is left of a call: entry, outputs' memory, the program's own arithmetic, clocks."""
SECONDS = 1.0
MIN_CALLS, MAX_CALLS = 5, 1000


@attrs.frozen
class ProfileRow:
    """One kernel function in one call: medians over calls.

    `launches` is how often it ran, `nodes` the ONNX nodes it was made from, `seconds` the time of all its launches,
    `share` their part of the call; `flops` and `bytes` are counted from the tensor landing, for all launches together,
    None where they depend on sizes born at run time. `threads` says how many of the team the grains of a launch can
    keep busy, on average. `limit` names what binds so many (see `limits`), and `least` is the time that all launches
    take at that limit, None where the limit is starting them."""

    kernel: str
    launches: int
    nodes: tuple[str, ...]
    seconds: float
    share: float
    flops: int | None
    bytes: int | None
    threads: float = 1.0
    limit: str = UNKNOWN
    least: float | None = None

    @property
    def gflops_per_second(self) -> float | None:
        """Arithmetic per time, in 1e9 operations."""
        return None if self.flops is None else self.flops / max(self.seconds, 1e-9) * 1e-9

    @property
    def gigabytes_per_second(self) -> float | None:
        """Traffic per time, in 1e9 bytes, as if every input and output went through memory once."""
        return None if self.bytes is None else self.bytes / max(self.seconds, 1e-9) * 1e-9

    @property
    def of_limit(self) -> float | None:
        """The speed as a part of what the limit allows: 1 is at the limit."""
        return None if self.least is None else self.least / max(self.seconds, 1e-9)


@attrs.frozen
class Profile:
    """A profile: rows with the largest time first, the median `seconds` of a call, the `footprint` in bytes that a call
    touches, and the roofs that the rows' limits were found with; a `trace` of one call where one was asked for."""

    rows: tuple[ProfileRow, ...]
    seconds: float
    footprint: int
    roofs: Roofs
    trace: Trace | None = None


class Profiler:
    """A program with clocks around its launches; `module` stands at the end of the loop landing and is left alone."""

    def __init__(
        self, module: Operation, target: CpuTarget, *, threads: int | None = None, cached: bool = False
    ) -> None:
        kernels = {op.sym_name: op for op in module.walk_of(FuncOp) if "kernel" in op.attributes}
        self._launches = launches_of(program_of(module), kernels)
        self._program = build(module, target, threads=threads, profile=True, cached=cached)
        self._threads = threads
        self._make_tracer = functools.partial(Tracer, module, target, self._launches, threads=threads, cached=cached)
        self._tracer: Tracer | None = None

    def run(self, arrays: Sequence[Array], seconds: float = SECONDS, *, trace: bool = False) -> Profile:
        """Call for about so many seconds; with `trace`, some more calls whose grains are noted."""
        for _ in range(2):
            self._program.run(arrays)
        walls: list[float] = []
        times: list[Array] = []
        end = time.perf_counter() + seconds
        while len(walls) < MIN_CALLS or (time.perf_counter() < end and len(walls) < MAX_CALLS):
            start = time.perf_counter()
            results = self._program.run(arrays)
            walls.append(time.perf_counter() - start)
            times.append(results[-1])
        shapes = [np.shape(array) for array in arrays]
        symbols = self._program.symbols(*shapes)
        touched = footprint(self._launches, symbols, self._program.arena_bytes(*shapes))
        roofs = measured(self._threads)
        works = works_of(self._launches, symbols, self._program.arena_bytes(*shapes))
        rows = rows_of(self._launches, works, np.array(times), np.array(walls), roofs)
        return Profile(rows, float(np.median(walls)), touched, roofs, self._traced(arrays, symbols) if trace else None)

    def _traced(self, arrays: Sequence[Array], symbols: Mapping[str, int]) -> Trace:
        if self._tracer is None:
            self._tracer = self._make_tracer()
        return self._tracer.run(arrays, symbols)


def rows_of(
    launches: Sequence[Launch], works: Sequence[tuple[Work, Work] | None], times: Array, walls: Array, roofs: Roofs
) -> tuple[ProfileRow, ...]:
    """A row for each kernel, and one for what is left of a call. `works` are those of `works_of`; `times` has the axes
    call, launch, (nanoseconds, runs, grains), `walls` the seconds of each call."""
    wall = float(np.median(walls))
    groups: dict[str, list[int]] = {}
    for number, launch in enumerate(launches):
        groups.setdefault(launch.kernel, []).append(number)
    rows = []
    for name, numbers in groups.items():
        spent = float(np.median(times[:, numbers, 0].sum(axis=1))) * 1e-9
        runs, grains = (np.median(times[:, numbers, column], axis=0).astype(int) for column in (1, 2))
        busy = [roofs.busy(count / max(1, ran)) for count, ran in zip(grains, runs, strict=True)]
        nodes = tuple(dict.fromkeys(node for number in numbers for node in launches[number].nodes))
        threads = float(np.average(busy, weights=np.maximum(runs, 1)))
        row = ProfileRow(name, int(runs.sum()), nodes, spent, spent / wall, None, None, threads)
        done = [works[number] for number in numbers]
        known = [(work, int(ran), part) for work, ran, part in zip(done, runs, busy, strict=True) if work is not None]
        if len(known) == len(done):
            limit = _limit(known, roofs)
            row = attrs.evolve(
                row, flops=sum(work.flops * ran for (work, _), ran, _ in known),
                bytes=sum(work.bytes * ran for (work, _), ran, _ in known),
                limit=limit.name, least=None if limit.name == OVERHEAD else limit.seconds,
            )  # fmt: skip
        rows.append(row)
    rest = max(0.0, float(np.median(walls - times[:, :, 0].sum(axis=1) * 1e-9)))
    rows.append(ProfileRow(OUTSIDE, 0, (), rest, rest / wall, None, None))
    return tuple(sorted(rows, key=lambda row: -row.seconds))


def _limit(works: Sequence[tuple[tuple[Work, Work], int, float]], roofs: Roofs) -> Limit:
    """The limit of several launches of one kernel (what each does at first and again, how often, on how many threads):
    what binds most of their least time, and all of that time."""
    least: dict[str, float] = {}
    for (first, again), runs, threads in works:
        part = roofs.of_part(threads)
        for work, times in ((first, min(1, runs)), (again, max(0, runs - 1))):
            limit = limit_of(work, part)
            least[limit.name] = least.get(limit.name, 0.0) + times * limit.seconds
    name = max(least, key=lambda limit: least[limit])
    return Limit(name, sum(least.values()))
