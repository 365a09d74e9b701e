"""Barriers and launches of a run: straight lines, loops with and without known rounds, branches."""

from __future__ import annotations

import pytest

from stepwell.backends.cpu.waits import Count, Waits, count_waits
from stepwell.ir.parser import parse_module

TEXT = """builtin.module {
  func.func private @wide(%x: memref<4xf32>, %y: memref<4xf32>) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c4 = arith.constant 4 : index
    loop.parallel %i = %c0 to %c4 step %c1 {
      %v = buffer.load %x[%i] : memref<4xf32>
      buffer.store %v, %y[%i] : memref<4xf32>
      loop.yield
    }
    func.return
  }
  func.func private @narrow(%x: memref<4xf32>, %y: memref<4xf32>) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %v = buffer.load %x[%c0] : memref<4xf32>
    buffer.store %v, %y[%c0] : memref<4xf32>
    func.return
  }
  func.func @main(%x: memref<4xf32>, %n: memref<?xf32>, %y: memref<4xf32> {sw.out}, %z: memref<4xf32> {sw.out}) {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c3 = arith.constant 3 : index
    %any = buffer.dim %n {axis = 0} : memref<?xf32>
    %yes = arith.cmpi ult, %any, %c3 : index
BODY
    func.return
  }
}
"""
WIDE_Y = "kernel.launch @wide(%x, %y) : (memref<4xf32>, memref<4xf32>) -> ()\n"
WIDE_Z = "kernel.launch @wide(%x, %z) : (memref<4xf32>, memref<4xf32>) -> ()\n"
AFTER_Y = "kernel.launch @wide(%y, %z) : (memref<4xf32>, memref<4xf32>) -> ()\n"
NARROW = "kernel.launch @narrow(%x, %y) : (memref<4xf32>, memref<4xf32>) -> ()\n"


def repeated(body: str, upper: str) -> str:
    return f"loop.for %i{upper} = %c0 to %{upper} step %c1 {{\n{body}loop.yield\n}}\n"


def branches(then: str, otherwise: str) -> str:
    return f"loop.if %yes : (i1) -> () {{\n{then}loop.yield\n}} {{\n{otherwise}loop.yield\n}}\n"


@pytest.mark.parametrize(
    ("body", "run", "rounds"),
    [
        pytest.param("", Count(), Count(), id="nothing"),
        pytest.param(WIDE_Y + WIDE_Z, Count(1, 2, 0), Count(), id="two at the same time"),
        pytest.param(WIDE_Y + AFTER_Y, Count(2, 2, 0), Count(), id="one after the other"),
        pytest.param(NARROW, Count(0, 1, 1), Count(), id="one grain"),
        pytest.param(repeated(WIDE_Y + NARROW, "c3"), Count(3, 6, 3), Count(), id="three rounds"),
        pytest.param(repeated(WIDE_Y, "any") + NARROW, Count(0, 1, 1), Count(1, 1, 0), id="rounds that data decide"),
        pytest.param(repeated(repeated(WIDE_Y, "c3"), "any"), Count(), Count(3, 3, 0), id="constant rounds inside"),
        pytest.param(branches(WIDE_Y + AFTER_Y, NARROW), Count(2, 2, 1), Count(), id="the larger of two branches"),
    ],
)
def test_counts(body: str, run: Count, rounds: Count) -> None:
    module = parse_module(TEXT.replace("BODY", body))
    text = str(module)
    assert count_waits(module) == Waits(run, rounds)
    assert str(module) == text


def test_as_text() -> None:
    text = "in a run 4 barriers, 6 launches, 1 of them on one thread"
    assert str(Waits(Count(4, 6, 1), Count())) == text
    more = "; for each round of loops whose rounds data decide 1 barriers, 1 launches, 0 of them on one thread"
    assert str(Waits(Count(4, 6, 1), Count(1, 1, 0))) == text + more
