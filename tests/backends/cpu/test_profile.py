"""Profiles: launches counted, arithmetic and bytes over the sizes of a call, results unchanged."""

from __future__ import annotations

import numpy as np
import pytest

import stepwell
from stepwell import show
from stepwell.backends.cpu import model, target
from stepwell.backends.cpu.launches import Launch
from stepwell.backends.cpu.limits import STREAMED, Roofs, Work
from stepwell.backends.cpu.profile import OUTSIDE, Profiler, rows_of
from stepwell.backends.cpu.roofs import measured
from stepwell.errors import InputError
from stepwell.ir.parser import parse_module

F = 'tensor<?x3xf32, #graph.shape<["batch"]>>'
TWO_KERNELS = f"""builtin.module {{
  func.func @main(%x: {F} {{onnx.name = "x"}}, %w: tensor<3x5xf32> {{onnx.name = "w"}}) -> tensor<?x5xf32, #graph.shape<["batch"]>> {{
    %a = graph.matmul %x, %w : ({F}, tensor<3x5xf32>) -> tensor<?x5xf32, #graph.shape<["batch"]>>
    func.return %a : tensor<?x5xf32, #graph.shape<["batch"]>>
  }}
}}
"""  # noqa: E501

IN_A_LOOP = """builtin.module {
  func.func private @k(%x: memref<4xf32>, %y: memref<4xf32>) attributes {kernel, sw.flops = "4", sw.bytes = "32"} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c4 = arith.constant 4 : index
    loop.parallel %i = %c0 to %c4 step %c1 {
      %v = buffer.load %x[%i] : memref<4xf32>
      %w = arith.addf %v, %v : f32
      buffer.store %w, %y[%i] : memref<4xf32>
      loop.yield
    }
    func.return
  }
  func.func @main(%x: memref<4xf32>, %y: memref<4xf32> {sw.out}) {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c3 = arith.constant 3 : index
    loop.for %n = %c0 to %c3 step %c1 {
      kernel.launch @k(%x, %y) : (memref<4xf32>, memref<4xf32>) -> ()
      loop.yield
    }
    kernel.launch @k(%x, %y) : (memref<4xf32>, memref<4xf32>) -> ()
    func.return
  }
}
"""


def test_sizes_of_the_call_are_counted() -> None:
    compiled = stepwell.compile(TWO_KERNELS, threads=1)
    x, w = np.ones((7, 3), np.float32), np.ones((3, 5), np.float32)
    found = compiled.profile({"x": x, "w": w}, seconds=0)
    rows = found.rows
    assert sum(row.flops or 0 for row in rows) == 2 * 7 * 3 * 5
    contraction = next(row for row in rows if row.flops)
    assert contraction.bytes is not None and contraction.bytes >= 4 * (7 * 3 + 3 * 5 + 7 * 5)
    assert [row.seconds for row in rows] == sorted((row.seconds for row in rows), reverse=True)
    assert sum(row.share for row in rows) == pytest.approx(1, rel=0.5)
    assert show.profile(found).count("\n") == len(rows) + 2


def test_launches_in_a_loop_are_added_up() -> None:
    profiler = Profiler(parse_module(IN_A_LOOP), target.host())
    by_name = {row.kernel: row for row in profiler.run([np.ones(4, np.float32)], seconds=0).rows}
    assert set(by_name) == {"k", OUTSIDE}
    row = by_name["k"]
    assert (row.launches, row.flops, row.bytes) == (4, 16, 128)
    assert row.seconds > 0
    assert row.gflops_per_second == pytest.approx(16e-9 / row.seconds)
    assert row.gigabytes_per_second == pytest.approx(128e-9 / row.seconds)
    assert by_name[OUTSIDE].flops is None and by_name[OUTSIDE].gflops_per_second is None


def launch(kernel: str, node: str) -> Launch:
    return Launch(kernel, (node,), (), None, None, None)


def test_rows_say_what_limits_them() -> None:
    roofs = Roofs(1, 1e9, {"L1": 8e9, "L2": 4e9, "L3": 2e9, "memory": 1e9}, {"L1": 1, "L2": 1000, "L3": 2000}, 1e-6)
    launches = [launch("a", "n0"), launch("b", "n1"), launch("a", "n2"), launch("c", "n3"), launch("d", "n4")]
    busy, copy, tiny = Work(10**6, 32, 100, 0, 100), Work(0, None, 4000, 0, 4000), Work(1, 32, 1, 0, 1)
    times = np.array([[[2e6, 1, 9], [16e3, 2, 8], [2e6, 1, 9], [500, 1, 1], [700, 1, 1]]] * 3)
    works = [None if work is None else (work, work) for work in (busy, copy, busy, tiny, None)]
    found = rows_of(launches, works, times, np.full(3, 5e-3), roofs)
    rows = {row.kernel: row for row in found}
    assert [rows[name].limit for name in "abcd"] == ["compute", "memory", "overhead", "-"]
    assert [rows[name].of_limit for name in "abcd"] == [pytest.approx(0.5), pytest.approx(0.5), None, None]
    assert (rows["a"].launches, rows["a"].nodes, rows["a"].flops) == (2, ("n0", "n2"), 2 * 10**6)
    assert (rows["b"].launches, rows["b"].bytes, rows["b"].least) == (2, 8000, pytest.approx(8e-6))
    assert rows["d"].flops is None
    assert rows[OUTSIDE].seconds == pytest.approx(5e-3 - 4e-3 - 16e-6 - 1.2e-6) and rows[OUTSIDE].limit == "-"


def test_a_profile_says_what_the_machine_reaches() -> None:
    compiled = stepwell.compile(TWO_KERNELS, threads=1)
    found = compiled.profile({"x": np.ones((7, 3), np.float32), "w": np.ones((3, 5), np.float32)}, seconds=0)
    assert found.roofs is measured(1) and found.trace is None
    assert found.footprint >= 4 * (7 * 3 + 3 * 5 + 7 * 5)
    assert {row.limit for row in found.rows} <= {"overhead", "-", *STREAMED, "compute"}


def test_the_results_stay() -> None:
    compiled = model.build(parse_module(IN_A_LOOP), target.host(), profile=True)
    result, times = compiled.run([np.arange(4, dtype=np.float32)])
    np.testing.assert_array_equal(result, [0, 2, 4, 6])
    assert times[:, 1].tolist() == [3, 1]


def test_inputs_are_checked() -> None:
    compiled = stepwell.compile(TWO_KERNELS, threads=1)
    with pytest.raises(InputError, match="no array for input 'w'"):
        compiled.profile({"x": np.ones((1, 3), np.float32)})

