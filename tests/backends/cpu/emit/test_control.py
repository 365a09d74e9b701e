"""Loops, conditions and what they carry; guards against what LLVM leaves undefined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.backends.cpu import model, target
from stepwell.backends.cpu.team import Team
from stepwell.errors import RuntimeError, TargetError
from stepwell.ir.parser import parse_module


def kernel(body: str, arguments: str = "%a: memref<8xi64>, %b: memref<8xi64>") -> str:
    """A kernel on two arrays of 8 numbers, launched once."""
    return f"""
builtin.module {{
  func.func private @k({arguments}) attributes {{kernel}} {{
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c8 = arith.constant 8 : index
    %z = arith.constant 0 : i64
    %one = arith.constant 1 : i64
    {body}
    func.return
  }}
  func.func @main(%a: memref<8xi64>, %b: memref<8xi64> {{sw.out}}) {{
    kernel.launch @k(%a, %b) : (memref<8xi64>, memref<8xi64>) -> ()
    func.return
  }}
}}
"""


def each(body: str) -> str:
    """A kernel that makes %r from %x, the element, and %i, its index."""
    return kernel(f"""
    loop.for %i = %c0 to %c8 step %c1 {{
      %x = buffer.load %a[%i] : memref<8xi64>
      {body}
      buffer.store %r, %b[%i] : memref<8xi64>
      loop.yield
    }}""")


NUMBERS = np.array([5, -3, 0, 7, 1, 2, -8, 4])

BODIES = {
    "sum up to the index": """
      %r = loop.for %j = %c0 to %i step %c1 iter(%s = %z) -> (i64) {
        %y = buffer.load %a[%j] : memref<8xi64>
        %t = arith.addi %s, %y : i64
        loop.yield %t : i64
      }""",
    "two carried values, swapped": """
      %r, %q = loop.for %j = %c0 to %i step %c1 iter(%s = %x, %t = %one) -> (i64, i64) {
        loop.yield %t, %s : i64, i64
      }""",
    "a step above one": """
      %c3 = arith.constant 3 : index
      %r = loop.for %j = %i to %c8 step %c3 iter(%s = %z) -> (i64) {
        %y = buffer.load %a[%j] : memref<8xi64>
        %t = arith.addi %s, %y : i64
        loop.yield %t : i64
      }""",
    "a carried vector": """
      %v = arith.constant dense<1> : vector<4xi64>
      %w = loop.for %j = %c0 to %i step %c1 iter(%s = %v) -> (vector<4xi64>) {
        %t = arith.addi %s, %s : vector<4xi64>
        loop.yield %t : vector<4xi64>
      }
      %r = vector.extract %w {static_position = array<i64: 3>} : i64 from vector<4xi64>""",
    "either side": """
      %p = arith.cmpi sgt, %x, %z : i64
      %r = loop.if %p : (i1) -> i64 {
        %d = arith.addi %x, %x : i64
        loop.yield %d : i64
      } {
        loop.yield %one : i64
      }""",
    "an if without results, inside another": """
      %p = arith.cmpi sgt, %x, %z : i64
      %q = arith.cmpi sgt, %x, %one : i64
      buffer.store %z, %b[%i] : memref<8xi64>
      loop.if %p : (i1) -> () {
        loop.if %q : (i1) -> () {
          buffer.store %x, %b[%i] : memref<8xi64>
          loop.yield
        } {
          buffer.store %one, %b[%i] : memref<8xi64>
          loop.yield
        }
        loop.yield
      } {
      }
      %r = buffer.load %b[%i] : memref<8xi64>""",
    "halve while above one": """
      %two = arith.constant 2 : i64
      %r, %n = loop.while %x, %z : (i64, i64) -> (i64, i64) {
      ^bb0(%v: i64, %k: i64):
        %more = arith.cmpi sgt, %v, %one : i64
        loop.yield %more, %v, %k : i1, i64, i64
      } {
      ^bb0(%v: i64, %k: i64):
        %h = arith.divsi %v, %two : i64
        %k1 = arith.addi %k, %one : i64
        loop.yield %h, %k1 : i64, i64
      }""",
    "a loop in a condition in a loop, on addresses of all levels": """
      %p = arith.cmpi ne, %x, %z : i64
      %r = loop.if %p : (i1) -> i64 {
        %u = loop.for %j = %c1 to %c8 step %c1 iter(%s = %z) -> (i64) {
          %before = arith.subi %j, %c1 : index
          %y = buffer.load %a[%before] : memref<8xi64>
          %t = arith.addi %s, %y : i64
          loop.yield %t : i64
        }
        loop.yield %u : i64
      } {
        %last = arith.subi %c8, %c1 : index
        %mirrored = arith.subi %last, %i : index
        %y = buffer.load %a[%mirrored] : memref<8xi64>
        loop.yield %y : i64
      }""",
    "buffers chosen by a condition": """
      %local = buffer.local() : memref<8xi64>
      buffer.store %one, %local[%i] : memref<8xi64>
      %p = arith.cmpi sgt, %x, %z : i64
      %m = loop.if %p : (i1) -> memref<8xi64> {
        loop.yield %a : memref<8xi64>
      } {
        loop.yield %local : memref<8xi64>
      }
      %r = buffer.load %m[%i] : memref<8xi64>""",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_control_flow(both: Any, body: str) -> None:
    both(each(body), [NUMBERS])


def test_select_of_buffers(both: Any) -> None:
    both(each("""
      %local = buffer.local() : memref<8xi64>
      buffer.store %one, %local[%i] : memref<8xi64>
      %p = arith.cmpi sgt, %x, %z : i64
      %m = arith.select %p, %a, %local : memref<8xi64>
      %r = buffer.load %m[%i] : memref<8xi64>"""), [NUMBERS])  # fmt: skip


DIVISIONS = ["divsi", "divui", "remsi", "remui", "floordivsi", "ceildivsi"]


@pytest.mark.parametrize("name", DIVISIONS)
@pytest.mark.parametrize("threads", [1, 2])
def test_division_by_zero_is_reported_with_its_place(level: target.CpuTarget, name: str, threads: int) -> None:
    text = each(f"""%y = arith.subi %x, %one : i64
      %r = arith.{name} %x, %y : i64 loc("/layer/Div")""")
    compiled = model.build(parse_module(text), level)
    Team.get(threads=threads)
    assert len(compiled.run([NUMBERS + (NUMBERS == 1)])) == 1
    with pytest.raises(RuntimeError, match=r"/layer/Div: division of an integer by zero \(value 1\)"):
        compiled.run([NUMBERS])
    assert len(compiled.run([NUMBERS + (NUMBERS == 1)])) == 1


@pytest.mark.parametrize("name", DIVISIONS)
def test_division_of_vectors_by_zero_is_reported(level: target.CpuTarget, name: str) -> None:
    text = kernel(f"""
    %v = vector.load %a[%c0] : memref<8xi64>, vector<8xi64>
    %r = arith.{name} %v, %v : vector<8xi64>
    vector.store %r, %b[%c0] : memref<8xi64>, vector<8xi64>""")
    compiled = model.build(parse_module(text), level)
    assert len(set(compiled.run([NUMBERS + (NUMBERS == 0)])[0].tolist())) == 1
    with pytest.raises(RuntimeError, match="division of an integer by zero"):
        compiled.run([NUMBERS])


def test_a_requirement_ends_the_run(level: target.CpuTarget) -> None:
    text = each("""%p = arith.cmpi sge, %x, %z : i64
      check.require %p, %x {message = "a negative number"} : i1, i64 loc("/check")
      %r = arith.addi %x, %z : i64""")
    compiled = model.build(parse_module(text), level)
    with pytest.raises(RuntimeError, match=r"/check: a negative number \(value -7\)"):
        compiled.run([np.array([1, 2, 3, -7, 5, 6, 7, 8])])
    assert compiled.run([np.abs(NUMBERS)])[0].tolist() == np.abs(NUMBERS).tolist()


@pytest.mark.parametrize("lane", [0, 3, 7])
def test_a_requirement_tells_the_lane_that_fails(level: target.CpuTarget, lane: int) -> None:
    text = kernel("""
    %v = vector.load %a[%c0] : memref<8xi64>, vector<8xi64>
    %w = arith.trunci %v : vector<8xi64> to vector<8xi16>
    %n = arith.constant dense<100> : vector<8xi64>
    %p = arith.cmpi slt, %v, %n : vector<8xi64>
    check.require %p, %w {message = "too large"} : vector<8xi1>, vector<8xi16>
    vector.store %v, %b[%c0] : memref<8xi64>, vector<8xi64>""")
    compiled = model.build(parse_module(text), level)
    numbers = np.arange(8)
    assert compiled.run([numbers])[0].tolist() == numbers.tolist()
    numbers[lane] = 100 + lane
    with pytest.raises(RuntimeError, match=rf"too large \(value {100 + lane}\)"):
        compiled.run([numbers])


LOW = np.iinfo(np.int64).min


@pytest.mark.parametrize(
    ("line", "x", "expected"),
    [
        ("%r = arith.divsi %x, %m : i64", LOW, LOW),
        ("%r = arith.remsi %x, %m : i64", LOW, 0),
        ("%r = arith.floordivsi %x, %m : i64", LOW, LOW),
        ("%r = arith.ceildivsi %x, %m : i64", LOW, LOW),
        ("%r = arith.divsi %m, %x : i64", -1, 1),
        ("%r = arith.shli %one, %x : i64", 64, 0),
        ("%r = arith.shli %one, %x : i64", -1, 0),
        ("%r = arith.shrui %m, %x : i64", 64, 0),
        ("%r = arith.shrsi %m, %x : i64", 64, -1),
        ("%r = arith.shrsi %one, %x : i64", 1000, 0),
        ("%r = arith.shli %one, %k : i64", 5, 0),
    ],
)
def test_what_llvm_leaves_undefined_has_a_meaning(level: target.CpuTarget, line: str, x: int, expected: int) -> None:
    text = each(f"""%m = arith.constant -1 : i64
      %k = arith.constant 77 : i64
      {line}""")
    out = model.build(parse_module(text), level).run([np.full(8, x)])[0]
    assert out.tolist() == [expected] * 8


@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize(
    ("op", "source", "element", "expected"),
    [
        ("fptosi", [1e30, -1e30, np.nan, np.inf, -np.inf, -2.9, 2.9, 0.5], "i32",
         [2**31 - 1, -(2**31), 0, 2**31 - 1, -(2**31), -2, 2, 0]),
        ("fptoui", [300, -1, np.nan, np.inf, -np.inf, 254.9, 2.9, 255], "i8", [-1, 0, 0, -1, 0, -2, 2, -1]),
    ],
)  # fmt: skip
def test_floats_out_of_range_give_the_nearest_integer(
    level: target.CpuTarget, op: str, source: list[float], element: str, expected: list[int], lanes: int
) -> None:
    type_ = element if lanes == 1 else f"vector<8x{element}>"
    from_ = "f32" if lanes == 1 else "vector<8xf32>"
    load = "buffer.load %a[%i] : memref<8xf32>" if lanes == 1 else "vector.load %a[%i] : memref<8xf32>, vector<8xf32>"
    into = f"memref<8x{element}>"
    store = f"buffer.store %r, %b[%i] : {into}" if lanes == 1 else f"vector.store %r, %b[%i] : {into}, {type_}"
    text = f"""
builtin.module {{
  func.func private @k(%a: memref<8xf32>, %b: {into}) attributes {{kernel}} {{
    %c0 = arith.constant 0 : index
    %step = arith.constant {lanes} : index
    %c8 = arith.constant 8 : index
    loop.parallel %i = %c0 to %c8 step %step {{
      %x = {load}
      %r = arith.{op} %x : {from_} to {type_}
      {store}
      loop.yield
    }}
    func.return
  }}
  func.func @main(%a: memref<8xf32>, %b: {into} {{sw.out}}) {{
    kernel.launch @k(%a, %b) : (memref<8xf32>, {into}) -> ()
    func.return
  }}
}}
"""
    assert model.build(parse_module(text), level).run([np.array(source, np.float32)])[0].tolist() == expected


def test_reports_of_the_ir_itself() -> None:
    text = each("""%p = arith.cmpi slt, %x, %z : i64
      loop.if %p : (i1) -> () {
        cpu.report %i {message = "a negative number"} : index loc("/check")
        loop.yield
      } {
      }
      %r = arith.addi %x, %z : i64""")
    compiled = model.build(parse_module(text), target.host())
    with pytest.raises(RuntimeError, match=r"/check: a negative number \(value 1\)"):
        compiled.run([NUMBERS])
    assert compiled.run([np.abs(NUMBERS)])[0].tolist() == np.abs(NUMBERS).tolist()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('"test.unknown"() : () -> () loc("/strange")', "test.unknown .from /strange. cannot be compiled"),
        ("%n = arith.constant 2 : index\n    cpu.share @k[%n]() :", "only a program may share out grains"),
        ("cpu.join", "only a program may share out grains"),
    ],
)
def test_what_cannot_be_compiled_is_named(body: str, why: str) -> None:
    with pytest.raises(TargetError, match=why):
        model.llvm_ir(parse_module(kernel(body)), target.named("x86-64"))
