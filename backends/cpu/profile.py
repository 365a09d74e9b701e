"""Where the time of a call goes: each kernel's time, arithmetic and memory traffic.

    for row in Profiler(module, target.host()).run(arrays): print(row.kernel, row.seconds)
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.func import FuncOp
from stepwell.dialects.kernel import LaunchOp
from stepwell.ir.attributes import StringAttr
from stepwell.ir.core import Operation
from stepwell.ir.dims import Dim, evaluate, free_symbols, parse_dim
from stepwell.ir.location import FusedLoc, Location
from stepwell.lowering.to_loop.work import BYTES, FLOPS

from .model import build, program_of
from .target import CpuTarget

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
    None where they depend on sizes born at run time."""

    kernel: str
    launches: int
    nodes: tuple[str, ...]
    seconds: float
    share: float
    flops: int | None
    bytes: int | None

    @property
    def gflops_per_second(self) -> float | None:
        """Arithmetic per time, in 1e9 operations."""
        return None if self.flops is None else self.flops / max(self.seconds, 1e-9) * 1e-9

    @property
    def gigabytes_per_second(self) -> float | None:
        """Traffic per time, in 1e9 bytes, as if every input and output went through memory once."""
        return None if self.bytes is None else self.bytes / max(self.seconds, 1e-9) * 1e-9


@attrs.frozen
class _Launch:
    kernel: str
    nodes: tuple[str, ...]
    flops: Dim | None
    bytes: Dim | None

    @staticmethod
    def of(op: LaunchOp, kernels: Mapping[str, FuncOp]) -> _Launch:
        function = kernels[op.callee]
        return _Launch(op.callee, tuple(_labels(op.loc)), _size(function, FLOPS), _size(function, BYTES))


class Profiler:
    """A program with clocks around its launches; `module` stands at the end of the loop landing and is left alone."""

    def __init__(
        self, module: Operation, target: CpuTarget, *, threads: int | None = None, cached: bool = False
    ) -> None:
        kernels = {op.sym_name: op for op in module.walk_of(FuncOp) if "kernel" in op.attributes}
        self._launches = [_Launch.of(op, kernels) for op in program_of(module).walk_of(LaunchOp)]
        self._program = build(module, target, threads=threads, profile=True, cached=cached)

    def run(self, arrays: Sequence[Array], seconds: float = SECONDS) -> list[ProfileRow]:
        """Call for about so many seconds; the rows, the largest time first."""
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
        symbols = self._program.symbols(*(np.shape(array) for array in arrays))
        return self._rows(float(np.median(walls)), np.array(times), symbols)

    def _rows(self, wall: float, times: Array, symbols: Mapping[str, int]) -> list[ProfileRow]:
        """`times` has the axes call, launch, (nanoseconds, runs)."""
        groups: dict[str, list[int]] = {}
        for number, launch in enumerate(self._launches):
            groups.setdefault(launch.kernel, []).append(number)
        rows = []
        for name, numbers in groups.items():
            spent = float(np.median(times[:, numbers, 0].sum(axis=1))) * 1e-9
            runs = [int(np.median(times[:, number, 1])) for number in numbers]
            launches = [self._launches[number] for number in numbers]
            nodes = tuple(dict.fromkeys(node for launch in launches for node in launch.nodes))
            rows.append(ProfileRow(name, sum(runs), nodes, spent, spent / wall,
                                   _total([launch.flops for launch in launches], runs, symbols),
                                   _total([launch.bytes for launch in launches], runs, symbols)))  # fmt: skip
        rest = max(0.0, wall - sum(row.seconds for row in rows))
        rows.append(ProfileRow(OUTSIDE, 0, (), rest, rest / wall, None, None))
        return sorted(rows, key=lambda row: -row.seconds)


def _total(dims: Sequence[Dim | None], runs: Sequence[int], symbols: Mapping[str, int]) -> int | None:
    total = 0
    for dim, count in zip(dims, runs, strict=True):
        if dim is None or any(name not in symbols for name in free_symbols(dim)):
            return None
        total += evaluate(dim, symbols) * count
    return total


def _labels(loc: Location) -> list[str]:
    parts = loc.locations if isinstance(loc, FusedLoc) else (loc,)
    return [part.label for part in parts if part.label]


def _size(op: Operation, name: str) -> Dim | None:
    attribute = op.attributes.get(name)
    return parse_dim(attribute.value) if isinstance(attribute, StringAttr) else None
