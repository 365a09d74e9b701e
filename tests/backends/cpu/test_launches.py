"""What is known of launches: what they do, what lies outside of a call, what a call touches."""

from __future__ import annotations

import pytest

from stepwell.backends.cpu.launches import Launch, footprint, launches_of, nodes_of, works_of
from stepwell.backends.cpu.limits import Work
from stepwell.backends.cpu.model import program_of
from stepwell.dialects.func import FuncOp
from stepwell.ir.dims import symbol
from stepwell.ir.parser import parse_module

B = symbol("batch")
TEXT = """builtin.module {
  func.func private @add(%a: memref<?x4xf64>, %b: memref<4xf64>, %c: memref<?x4xf64>) attributes {KERNEL} {
    %c0 = arith.constant 0 : index
    %v = buffer.load %a[%c0, %c0] : memref<?x4xf64>
    %w = buffer.load %b[%c0] : memref<4xf64>
    %s = arith.addf %v, %w : f64
    buffer.store %s, %c[%c0, %c0] : memref<?x4xf64>
    func.return
  }
  func.func private @copy(%a: memref<?x4xf64>, %c: memref<?x4xf64>) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %v = buffer.load %a[%c0, %c0] : memref<?x4xf64>
    buffer.store %v, %c[%c0, %c0] : memref<?x4xf64>
    func.return
  }
  func.func @main(%x: memref<?x4xf64> {sw.tensor = "TENSOR"}, %y: memref<?x4xf64> {sw.out, sw.tensor = "TENSOR"},
                  %z: memref<?x4xf64> {sw.out, sw.tensor = "TENSOR"}) {
    %w = buffer.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf64> as memref<4xf64>
    kernel.launch @add(%x, %w, %y) : (memref<?x4xf64>, memref<4xf64>, memref<?x4xf64>) -> () loc("one")
    kernel.launch @add(%y, %w, %z) : (memref<?x4xf64>, memref<4xf64>, memref<?x4xf64>) -> () loc(fused["two", "one"])
    kernel.launch @copy(%x, %z) : (memref<?x4xf64>, memref<?x4xf64>) -> () loc("three")
    func.return
  }
}
""".replace("KERNEL", 'kernel, sw.flops = "4*batch", sw.bytes = "64*batch + 32"').replace(
    "TENSOR", r"tensor<?x4xf64, #graph.shape<[\"batch\"]>>"
)


@pytest.fixture(scope="module")
def launches() -> list[Launch]:
    module = parse_module(TEXT)
    return launches_of(program_of(module), {op.sym_name: op for op in module.walk_of(FuncOp)})


def test_what_a_launch_does(launches: list[Launch]) -> None:
    first, second, third = launches
    assert (first.kernel, first.nodes, first.bits) == ("add", ("one",), 64)
    assert (first.flops, first.bytes) == (4 * B, 64 * B + 32)
    assert second.nodes == ("two", "one")
    assert first.operands == ("memref<?x4xf64>", "memref<4xf64>", "memref<?x4xf64>")
    assert (third.flops, third.bytes, third.bits) == (None, None, None)


def test_an_output_that_was_written_before_is_not_outside(launches: list[Launch]) -> None:
    sizes = [sorted(str(size) for size in launch.outside.values()) for launch in launches]
    assert sizes == [["32", "32*batch", "32*batch"], ["32", "32*batch"], ["32*batch", "32*batch"]]


def test_the_work_of_a_call(launches: list[Launch]) -> None:
    assert launches[0].work({"batch": 10}, 9999) == Work(40, 64, 672, 672, 9999)
    assert launches[1].work({"batch": 10}, 9999) == Work(40, 64, 672, 352, 9999)
    assert launches[0].work({}, 9999) is None
    assert launches[2].work({"batch": 10}, 9999) is None


def test_a_call_touches_each_thing_once(launches: list[Launch]) -> None:
    assert footprint(launches, {"batch": 10}, arena=1000) == 1000 + 32 + 3 * 320


def test_in_a_loop_what_is_read_again_was_touched_one_round_before() -> None:
    weights = {"w": 10**6}
    launches = [
        Launch("a", (), (), 8, 10**6, 32, weights, round="loop"),
        Launch("b", (), (), 8, 10**4, 32, {}, round="loop"),
        Launch("c", (), (), 8, 5 * 10**6, 32, {"v": 5 * 10**6}),
        Launch("d", (), (), None, None, None),
    ]
    found = works_of(launches, {}, arena=10**5)
    footprints = [None if works is None else tuple(work.footprint for work in works) for works in found]
    assert footprints == [(6_100_000, 1_010_000), (6_100_000, 1_010_000), (6_100_000, 5_000_000), None]


def test_launches_know_the_loop_around_them() -> None:
    call = "kernel.launch @copy(%x, %z) : (memref<?x4xf64>, memref<?x4xf64>) -> ()"
    loops = "%c0 = arith.constant 0 : index\nloop.for %i = %c0 to %c0 step %c0 {\n" + call + "\n"
    choice = "%b = arith.cmpi eq, %i, %c0 : index\nloop.if %b : (i1) -> () {\n" + call + "\nloop.yield\n} {\n}\n"
    module = parse_module(TEXT.replace(call + ' loc("three")', loops + choice + "loop.yield\n}"))
    first, second, third, fourth = launches_of(program_of(module), {f.sym_name: f for f in module.walk_of(FuncOp)})
    assert first.round is second.round is None
    assert third.round is fourth.round is not None


def test_of_a_table_a_call_touches_what_it_reads() -> None:
    lookup = Launch("k", (), (), 0, 100, None, {"table": 10**9, "output": 64})
    assert footprint([lookup, lookup], {}, arena=0) == 164


def test_nodes_of_all_launches() -> None:
    assert nodes_of(parse_module(TEXT)) == {"add": ("one", "two"), "copy": ("three",)}
