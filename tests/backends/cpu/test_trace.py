"""Traces: every grain once, on some thread, at some time; results unchanged; records that do not fit are counted."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

import stepwell
from stepwell.backends.cpu import model, recorder, target
from stepwell.backends.cpu.launches import Launch
from stepwell.backends.cpu.share import ShareOut
from stepwell.backends.cpu.trace import Span, Traced, Tracer, trace_of
from stepwell.dialects import cpu
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext

TEXT = """builtin.module {
  func.func private @k(%x: memref<40xf32>, %y: memref<40xf32>) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c40 = arith.constant 40 : index
    loop.parallel %i = %c0 to %c40 step %c1 {
      %v = buffer.load %x[%i] : memref<40xf32>
      %w = arith.addf %v, %v : f32
      buffer.store %w, %y[%i] : memref<40xf32>
      loop.yield
    }
    func.return
  }
  func.func private @one(%x: memref<40xf32>, %z: memref<40xf32>) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %v = buffer.load %x[%c0] : memref<40xf32>
    buffer.store %v, %z[%c0] : memref<40xf32>
    func.return
  }
  func.func @main(%x: memref<40xf32>, %y: memref<40xf32> {sw.out}, %z: memref<40xf32> {sw.out}) {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c3 = arith.constant 3 : index
    loop.for %n = %c0 to %c3 step %c1 {
      kernel.launch @k(%x, %y) : (memref<40xf32>, memref<40xf32>) -> ()
      loop.yield
    }
    kernel.launch @one(%x, %z) : (memref<40xf32>, memref<40xf32>) -> ()
    kernel.launch @k(%x, %y) : (memref<40xf32>, memref<40xf32>) -> ()
    func.return
  }
}
"""
LAUNCHES = [Launch(name, (f"node of {name}",), (), 40, 320, 32) for name in ("k", "one", "k")]
X = np.arange(40, dtype=np.float32)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_grain_once(threads: int) -> None:
    found = Tracer(parse_module(TEXT), target.host(), LAUNCHES, threads=threads).run([X], {}, seconds=0)
    runs = Counter((span.launch, span.run) for span in found.spans)
    assert sorted(runs.values()) == [1, 40, 40, 40, 40] and runs[1, 3] == 1
    assert sorted({span.run for span in found.spans}) == [0, 1, 2, 3, 4]
    for key in runs:
        assert sorted(span.grain for span in found.spans if (span.launch, span.run) == key) == list(range(runs[key]))
    assert {span.thread for span in found.spans} <= set(range(threads))
    assert all(0 <= span.start <= span.stop <= found.nanoseconds for span in found.spans)
    assert [span.start for span in found.spans] == sorted(span.start for span in found.spans)
    assert found.left_out == 0
    assert found.launches[1] == Traced("one", ("node of one",), (), 40, 320)


def test_a_thread_runs_one_grain_at_a_time() -> None:
    found = Tracer(parse_module(TEXT), target.host(), LAUNCHES, threads=3).run([X], {}, seconds=0)
    for thread in range(3):
        mine = [span for span in found.spans if span.thread == thread]
        assert all(before.stop <= after.start for before, after in itertools.pairwise(mine))


@pytest.mark.parametrize("rows", [1, 2, 50, 1000])
def test_results_stay_and_what_does_not_fit_is_counted(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "ROWS", rows)
    compiled = model.build(parse_module(TEXT), target.host(), trace=True)
    y, z, records = compiled.run([X])
    np.testing.assert_array_equal(y, X + X)
    assert z[0] == X[0]
    assert records.shape == (rows, cpu.RECORD_WORDS) and records[0, recorder.FREE] == 1 + 4 * 40 + 1
    found = trace_of(records[: min(rows, 162)], LAUNCHES, {})
    assert (len(found.spans), found.left_out) == (min(rows, 162) - 1, max(0, 162 - rows))


def test_kernels_are_the_same_code_with_and_without_a_trace() -> None:
    host = target.host()
    plain = model.executable_of(parse_module(TEXT), host).objects
    traced = model.executable_of(parse_module(TEXT), host, trace=True).objects
    assert plain[:-1] == traced[:-1] and plain[-1] != traced[-1]


def test_the_interpreter_records_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "ROWS", 100)
    module = parse_module(TEXT)
    ShareOut(trace=True).run(module, PassContext(None))
    y, z, records = np.zeros(40, np.float32), np.zeros(40, np.float32), np.zeros((100, 5), np.int64)
    run_function(model.program_of(module), [X, y, z, records])
    np.testing.assert_array_equal(y, X + X)
    assert records[0, 0] == 162
    assert records[1:, 0].tolist() == [0] * 99 and records[1:, 1].tolist() == [*range(40), *range(40), *range(19)]


def test_records_become_spans() -> None:
    records = np.array([[4, 1000, 1900, 0, 0], [0, 0, 0, 1010, 1500], [0, 1, 1, 1005, 1400], [1, 0, 0, 1600, 1800]])
    found = trace_of(records, LAUNCHES[:2], {})
    assert found.nanoseconds == 900
    assert found.spans == (Span(0, 0, 1, 1, 5, 400), Span(0, 0, 0, 0, 10, 500), Span(1, 1, 0, 0, 600, 800))


def test_a_model_is_traced() -> None:
    compiled = stepwell.compile(TEXT, threads=2)
    feeds = {port.name: X for port in compiled.inputs}
    assert compiled.profile(feeds, seconds=0).trace is None
    found = compiled.profile(feeds, seconds=0, trace=True).trace
    assert found is not None and len(found.spans) == 161
