"""Traces for Perfetto and chrome://tracing: the structure that their readers expect."""

from __future__ import annotations

import itertools
import json

from stepwell.backends.cpu.trace import Span, Trace, Traced
from stepwell.profiles.chrome import trace_events, trace_text

LAUNCHES = (
    Traced("k_conv", ("conv", "bias", "relu", "add", "pool"), ("memref<1x8xf32>",), 4000, 800),
    Traced("k_nms", (), (), None, None),
)
SPANS = (Span(0, 0, 0, 0, 1000, 2000), Span(0, 0, 1, 1, 1100, 3000), Span(1, 1, 0, 0, 3100, 3150))
TRACE = Trace(LAUNCHES, SPANS, 4000, 2)


def test_the_file_is_json_with_complete_events() -> None:
    found = json.loads(trace_text(TRACE, 'a "model"\n', {"LLVM": "20"}))
    assert set(found) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert found["otherData"] == {"LLVM": "20"}
    for event in found["traceEvents"]:
        assert event["ph"] in ("X", "M") and isinstance(event["pid"], int)
        if event["ph"] == "X":
            assert isinstance(event["tid"], int) and event["ts"] >= 0 and event["dur"] >= 0 and event["name"]


def test_tracks_have_names() -> None:
    names = [(event["name"], event.get("tid"), event["args"]["name"])
             for event in trace_events(TRACE, "m", {})["traceEvents"] if event["ph"] == "M"]  # fmt: skip
    threads = [("thread_name", 0, "thread 0 (calls)"), ("thread_name", 1, "thread 1")]
    assert names == [("process_name", None, "m"), *threads]


def test_events_say_what_ran() -> None:
    call, first, second, third = (e for e in trace_events(TRACE, "m", {})["traceEvents"] if e["ph"] == "X")
    assert (call["name"], call["ts"], call["dur"]) == ("call", 0, 4)
    assert call["args"] == {"launches": 2, "grains": 3, "left out": 2}
    assert [(e["tid"], e["ts"], round(e["dur"], 6)) for e in (first, second)] == [(0, 1.0, 1.0), (1, 1.1, 1.9)]
    assert first["name"] == second["name"] == "conv, bias, relu, add, ..."
    assert first["args"] == {
        "kernel": "k_conv", "ONNX nodes": ["conv", "bias", "relu", "add", "pool"], "operands": ["memref<1x8xf32>"],
        "launch": 0, "grain": 0, "launch takes us": 2.0,
        "operations": 4000, "GFLOP/s": 2.0, "bytes": 800, "GB/s": 0.4,
    }  # fmt: skip
    assert third["name"] == "k_nms" and "operations" not in third["args"]


def test_what_nests_in_the_call_does_not_overlap_on_a_track() -> None:
    events = [e for e in trace_events(TRACE, "m", {})["traceEvents"] if e["ph"] == "X" and e["cat"] == "grain"]
    for thread in (0, 1):
        mine = [e for e in events if e["tid"] == thread]
        assert all(a["ts"] + a["dur"] <= b["ts"] for a, b in itertools.pairwise(mine))


def test_a_call_without_launches() -> None:
    events = trace_events(Trace((), (), 10, 0), "m", {})["traceEvents"]
    assert [event["name"] for event in events] == ["process_name", "thread_name", "call"]
