"""What each thread does in one call: the grains that it runs, and when.

    trace = Tracer(module, target.host(), launches).run(arrays, symbols)

Unlike in a profile, where each launch runs by itself, launches run at the same time where they do without a trace. The
kernels are the same machine code; a clock stands before and behind each grain.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.ir.core import Operation

from .launches import Launch, sized
from .model import build
from .recorder import BEGIN, END, FREE, ROWS
from .target import CpuTarget

Array = np.ndarray[Any, Any]

SECONDS = 0.2
MIN_CALLS, MAX_CALLS = 5, 200


@attrs.frozen
class Span:
    """A grain: the number of its launch in the program's text, which run of any launch in the call it belongs to, the
    thread that ran it, and from when to when, in nanoseconds since the call began."""

    launch: int
    run: int
    grain: int
    thread: int
    start: int
    stop: int


@attrs.frozen
class Traced:
    """A launch of the program's text: kernel, ONNX nodes, types of its operands, and what it does in this call; None
    where data decide."""

    kernel: str
    nodes: tuple[str, ...]
    operands: tuple[str, ...]
    flops: int | None
    bytes: int | None


@attrs.frozen
class Trace:
    """One call: its launches, its grains in the order of their starts, its nanoseconds, and how many grains were left
    out because there was no room for their records."""

    launches: tuple[Traced, ...]
    spans: tuple[Span, ...]
    nanoseconds: int
    left_out: int


class Tracer:
    """A program that records its grains; `module` stands at the end of the loop landing and is left alone."""

    def __init__(
        self,
        module: Operation,
        target: CpuTarget,
        launches: Sequence[Launch],
        *,
        threads: int | None = None,
        cached: bool = False,
    ) -> None:
        self._launches = launches
        self._program = build(module, target, threads=threads, trace=True, cached=cached)

    def run(self, arrays: Sequence[Array], symbols: Mapping[str, int], seconds: float = SECONDS) -> Trace:
        """Call for about so many seconds; of these calls, one of the usual length."""
        for _ in range(2):
            self._program.run(arrays)
        found: list[Array] = []
        end = time.perf_counter() + seconds
        while len(found) < MIN_CALLS or (time.perf_counter() < end and len(found) < MAX_CALLS):
            records = self._program.run(arrays)[-1]
            found.append(records[: min(int(records[0, FREE]), ROWS)].copy())
        found.sort(key=lambda records: int(records[0, END] - records[0, BEGIN]))
        return trace_of(found[len(found) // 2], self._launches, symbols)


def trace_of(records: Array, launches: Sequence[Launch], symbols: Mapping[str, int]) -> Trace:
    """Read the records that a `recorder` has made."""
    begin = int(records[0, BEGIN])
    runs: dict[int, int] = {}
    spans = []
    for row, (launch, grain, thread, start, stop) in enumerate(records[1:].tolist(), 1):
        run = runs.setdefault(row - grain, len(runs))  # the row of the run's grain 0
        spans.append(Span(launch, run, grain, thread, start - begin, stop - begin))
    traced = tuple(
        Traced(launch.kernel, launch.nodes, launch.operands, sized(launch.flops, symbols), sized(launch.bytes, symbols))
        for launch in launches
    )
    length = int(records[0, END]) - begin
    left_out = max(0, int(records[0, FREE]) - len(records))
    return Trace(traced, tuple(sorted(spans, key=lambda span: (span.start, span.run, span.grain))), length, left_out)
