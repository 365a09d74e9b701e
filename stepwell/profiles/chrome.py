"""A trace in the format of Chrome's trace viewer, which Perfetto and chrome://tracing read.

One track for each thread with the grains that it ran, named after the ONNX nodes. Times are in microseconds since the
call began (Trace Event Format, Google 2016: complete events "X" and metadata events "M").
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwell.backends.cpu.trace import Span, Trace, Traced

SHOWN_NODES = 4  # in the name of an event; all of them are in its arguments


def trace_events(trace: Trace, title: str, facts: Mapping[str, str]) -> dict[str, Any]:
    """The file's content: an object for `json.dumps`."""
    pid = os.getpid()
    lengths = _lengths(trace)
    threads = sorted({0, *(span.thread for span in trace.spans)})
    events: list[dict[str, Any]] = [_named(pid, None, "process_name", title)]
    events += [_named(pid, n, "thread_name", f"thread {n}" + ("" if n else " (calls)")) for n in threads]
    call = {"name": "call", "cat": "call", "ph": "X", "ts": 0.0, "dur": trace.nanoseconds * 1e-3, "pid": pid, "tid": 0}
    events.append({**call, "args": {"launches": len(lengths), "grains": len(trace.spans), "left out": trace.left_out}})
    events += [_event(span, trace.launches[span.launch], lengths[span.run], pid) for span in trace.spans]
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": dict(facts)}


def trace_text(trace: Trace, title: str, facts: Mapping[str, str]) -> str:
    """The file."""
    return json.dumps(trace_events(trace, title, facts), separators=(",", ":"))


def _lengths(trace: Trace) -> dict[int, int]:
    """How many nanoseconds each run of a launch takes, from its first grain's start to its last one's end."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for span in trace.spans:
        first[span.run] = min(span.start, first.get(span.run, span.start))
        last[span.run] = max(span.stop, last.get(span.run, span.stop))
    return {run: last[run] - first[run] for run in first}


def _event(span: Span, launch: Traced, length: int, pid: int) -> dict[str, Any]:
    shown = ", ".join(launch.nodes[:SHOWN_NODES]) + (", ..." if len(launch.nodes) > SHOWN_NODES else "")
    arguments: dict[str, Any] = {
        "kernel": launch.kernel,
        "ONNX nodes": list(launch.nodes),
        "operands": list(launch.operands),
        "launch": span.run,
        "grain": span.grain,
        "launch takes us": length * 1e-3,
    }
    for name, rate, amount in (("operations", "GFLOP/s", launch.flops), ("bytes", "GB/s", launch.bytes)):
        if amount is not None:
            arguments |= {name: amount, rate: round(amount / max(1, length), 3)}
    times = {"ts": span.start * 1e-3, "dur": (span.stop - span.start) * 1e-3}
    return {"name": shown or launch.kernel, "cat": "grain", "ph": "X", **times, "pid": pid, "tid": span.thread,
            "args": arguments}  # fmt: skip


def _named(pid: int, thread: int | None, kind: str, name: str) -> dict[str, Any]:
    place = {"pid": pid} if thread is None else {"pid": pid, "tid": thread}
    return {"name": kind, "ph": "M", **place, "args": {"name": name}}
