"""Texts for people: reports, arrays, timings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepwell.dialects import kernel
from stepwell.dialects.host_calls import HostProgram
from stepwell.ir.attributes import StringAttr
from stepwell.ir.core import Operation
from stepwell.ir.instruments import Timing
from stepwell.ir.passes import PassContext
from stepwell.ports import main_function, ports_of

if TYPE_CHECKING:
    from stepwell.backends.cpu.limits import Roofs
    from stepwell.backends.cpu.profile import Profile, ProfileRow

BENCH_SECONDS = 1.0
MIN_CALLS, MAX_CALLS = 5, 10_000
SHOWN_NODES = 4  # of a kernel, in a profile


def report(module: Operation, context: PassContext, timing: Timing) -> str:
    """What a compilation did: the program's interface, its kernels, memory, decisions, time."""
    function = main_function(module)
    inputs, outputs = ports_of(function)
    lines = [f"input   {port}" for port in inputs] + [f"output  {port}" for port in outputs]
    launches = list(function.walk_of(kernel.LaunchOp))
    kernels = {launch.callee for launch in launches}
    lines.append(f"kernels: {len(launches)} launches of {len(kernels)} functions")
    if launches:
        from stepwell.backends.cpu.waits import count_waits

        lines.append(f"team: {count_waits(module)}")
    calls = HostProgram.of(function).names()
    if calls:
        lines.append(f"host calls: {len(calls)} ({', '.join(calls)})")
    arena = function.attributes.get("sw.arena")
    if isinstance(arena, StringAttr):
        lines.append(f"arena: {arena.value} bytes")
    lines.append(f"remarks: {len(context.remarks)}")
    lines += [f"{name}: {count}" for name, count in sorted(context.statistics.items())]
    return "\n".join([*lines, timing.table()]) + "\n"


def array(name: str, value: np.ndarray[Any, Any]) -> str:
    """A name, an element type, a shape and some elements."""
    body = np.array2string(value, threshold=24, edgeitems=3, precision=6)
    return f"{name}: {value.dtype}{list(value.shape)}\n{body}"


def bench(call: Callable[..., Any], arrays: Sequence[Any], seconds: float = BENCH_SECONDS) -> str:
    """Time calls for about some seconds: median, and the span of the middle 80 %."""
    for _ in range(2):
        call(*arrays)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < MIN_CALLS or (time.perf_counter() < end and len(times) < MAX_CALLS):
        start = time.perf_counter()
        call(*arrays)
        times.append(time.perf_counter() - start)
    low, median, high = np.percentile(np.array(times) * 1e3, [10, 50, 90])
    return f"median {median:.4g} ms, 10 % to 90 %: {low:.4g} to {high:.4g} ms, {len(times)} calls"


def profile(found: Profile) -> str:
    """What the machine reaches, and a table of kernels: launches, time, share of the call, rates, megabytes streamed,
    what limits them and how near they are to it, and the ONNX nodes that each was made from."""
    head = ("kernel", "launches", "ms", "share", "GFLOP/s", "GB/s", "MB", "threads", "limit", "of it", "nodes")
    cells = [head, *(_profile_cells(row) for row in found.rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head) - 1)]
    table = "".join(
        f"{line[0]:<{widths[0]}}  "
        + "  ".join(f"{text:>{width}}" for text, width in zip(line[1:-1], widths[1:], strict=True))
        + f"  {line[-1]}".rstrip()
        + "\n"
        for line in cells
    )
    return f"{roofs(found.roofs)}\n{table}"


def roofs(found: Roofs) -> str:
    """What the machine reaches, in one line."""
    read = ", ".join(f"{level} {rate * 1e-9:.0f}" for level, rate in found.bandwidth.items())
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    start = f"starting a kernel {found.launch * 1e6:.2f} us"
    return f"{threads} reach {found.flops * 1e-9:.0f} GFLOP/s in f32 and read in GB/s: {read}; {start}"


def _profile_cells(row: ProfileRow) -> tuple[str, ...]:
    shown = ", ".join(row.nodes[:SHOWN_NODES]) + (f", ... ({len(row.nodes)})" if len(row.nodes) > SHOWN_NODES else "")
    return (row.kernel, str(row.launches or "-"), f"{row.seconds * 1e3:.4f}", f"{row.share:.1%}",
            number(row.gflops_per_second, ".1f"), number(row.gigabytes_per_second, ".1f"),
            number(None if row.bytes is None else row.bytes * 1e-6, ".3f"), busy(row), row.limit,
            number(row.of_limit, ".0%"), shown)  # fmt: skip


def busy(row: ProfileRow) -> str:
    """How many threads a kernel keeps busy."""
    return f"{row.threads:.3g}" if row.launches else "-"


def number(value: float | None, form: str) -> str:
    """A number, or a dash."""
    return "-" if value is None else format(value, form)
