"""Which views of an arena are known apart: by their bytes, and by what they lie on."""

from __future__ import annotations

from itertools import combinations

import pytest

from stepwell.dialects import buffer, func
from stepwell.ir.parser import parse_module
from stepwell.lowering.loop.places import Places

TEXT = """
builtin.module {
  func.func @main(%heap: memref<2x2xi64>, %n: index, %arena: memref<?xi8>) {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c64 = arith.constant 64 : index
    %s0 = heap.segment %heap[%c0](%n) : memref<2x2xi64> to memref<?xi8>
    %s1 = heap.segment %heap[%c1](%n) : memref<2x2xi64> to memref<?xi8>
    %turn = heap.segment %heap[%n](%n) : memref<2x2xi64> to memref<?xi8>
    VIEWS
    func.return
  }
}
"""
FIXED = "%{} = buffer.view %{}[%{}]() : memref<?xi8> to memref<{}xi8>"
OPEN = "%{} = buffer.view %{}[%n](%n) {{sw.above = array<i64: {}>}} : memref<?xi8> to memref<?xi8>"
CASES = {
    "bytes": ([FIXED.format("a", "arena", "c0", 64), FIXED.format("b", "arena", "c64", 64),
               FIXED.format("c", "arena", "c0", 65)], {"ac", "bc"}),
    "one on the other, directly or not": ([OPEN.format("a", "arena", "0"), OPEN.format("b", "arena", "1, 0"),
                                           OPEN.format("c", "arena", "2, 1"), OPEN.format("d", "arena", "3, 0")],
                                          {"bd", "cd"}),
    "one buffer": ([OPEN.format("a", "arena", "0"), OPEN.format("b", "arena", "0")], {"ab"}),
    "nothing is said": ([OPEN.format("a", "arena", "0"), FIXED.format("b", "arena", "c64", 64),
                         FIXED.format("c", "arena", "n", 64)], {"ab", "ac", "bc"}),
    "numbers of two segments": ([OPEN.format("a", "s0", "0"), OPEN.format("b", "s1", "1, 0"),
                                 OPEN.format("c", "s1", "0")], set()),
    "segments": ([FIXED.format("a", "arena", "c0", 8), FIXED.format("b", "s0", "c0", 8),
                  FIXED.format("c", "s1", "c0", 8), FIXED.format("d", "turn", "c0", 8)], {"bd", "cd"}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_pairs_that_may_overlap(name: str) -> None:
    views, expected = CASES[name]
    (function,) = parse_module(TEXT.replace("VIEWS", "\n    ".join(views))).walk_of(func.FuncOp)
    named = {view.result.name: view.result for view in function.walk_of(buffer.ViewOp)}
    places = Places.of(function)
    found = {f"{a}{b}" for a, b in combinations(named, 2) if places.may_overlap(named[a], named[b])}
    assert found == expected
    assert found == {f"{a}{b}" for a, b in combinations(named, 2) if places.may_overlap(named[b], named[a])}


def test_what_is_no_view_may_be_anywhere() -> None:
    (function,) = parse_module(TEXT.replace("VIEWS", FIXED.format("a", "arena", "c0", 8))).walk_of(func.FuncOp)
    (view,) = function.walk_of(buffer.ViewOp)
    assert Places.of(function).may_overlap(view.result, function.arguments[0])
