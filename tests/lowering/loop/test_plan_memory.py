"""Programs before and after memory planning: the same results, from views of one arena."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects import buffer, func, heap
from stepwell.errors import PassError
from stepwell.ir.attributes import StringAttr
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.loop.places import Places
from stepwell.lowering.loop.plan_memory import PlanMemory

KERNELS = """
  func.func private @double(%x: memref<?x4xf32>, %y: memref<?x4xf32>, %n: index) attributes {kernel INPLACE} {
    %0 = arith.constant 0 : index
    %1 = arith.constant 1 : index
    %4 = arith.constant 4 : index
    loop.parallel %i = %0 to %n step %1 {
      loop.parallel %j = %0 to %4 step %1 {
        %a = buffer.load %x[%i, %j] : memref<?x4xf32>
        %b = arith.addf %a, %a : f32
        buffer.store %b, %y[%i, %j] : memref<?x4xf32>
        loop.yield
      }
      loop.yield
    }
    func.return
  }
"""
CHAIN = """
builtin.module {
  KERNELS
  func.func @main(%x: memref<?x4xf32> {sw.tensor = "tensor<?x4xf32, #graph.shape<[\\"n\\"]>>"},
                  %y: memref<?x4xf32> {sw.out}) {
    %n = buffer.dim %x {axis = 0} : memref<?x4xf32>
    %a = buffer.alloc(%n) {sw.tensor = "tensor<?x4xf32, #graph.shape<[\\"n\\"]>>"} : memref<?x4xf32>
    kernel.launch @double(%x, %a, %n) : (memref<?x4xf32>, memref<?x4xf32>, index) -> ()
    %b = buffer.alloc(%n) {sw.tensor = "tensor<?x4xf32, #graph.shape<[\\"n\\"]>>"} : memref<?x4xf32>
    kernel.launch @double(%a, %b, %n) : (memref<?x4xf32>, memref<?x4xf32>, index) -> ()
    %c = buffer.alloc(%n) {sw.tensor = "tensor<?x4xf32, #graph.shape<[\\"n\\"]>>"} : memref<?x4xf32>
    kernel.launch @double(%b, %c, %n) : (memref<?x4xf32>, memref<?x4xf32>, index) -> ()
    kernel.launch @double(%c, %y, %n) : (memref<?x4xf32>, memref<?x4xf32>, index) -> ()
    func.return
  }
}
"""


def described(symbol: str) -> str:
    return f'{{sw.tensor = "tensor<?x4xf32, #graph.shape<[\\"{symbol}\\"]>>"}}'


def module(text: str, inplace: str = "") -> Operation:
    parsed = parse_module(text.replace("KERNELS", KERNELS.replace("INPLACE", inplace)))
    verify(parsed)
    return parsed


def main_of(parsed: Operation) -> func.FuncOp:
    return next(f for f in parsed.walk_of(func.FuncOp) if f.sym_name == "main")


def planned(parsed: Operation, **options: Any) -> tuple[func.FuncOp, PassContext]:
    context = PassContext(options=options)
    PlanMemory().run(parsed, context)
    verify(parsed)
    return main_of(parsed), context


def arena_of(function: func.FuncOp) -> str:
    attribute = function.attributes["sw.arena"]
    assert isinstance(attribute, StringAttr)
    return attribute.value


@pytest.mark.parametrize(
    ("inplace", "arena"),
    [("", "128*((n + 3)//4)"), (", sw.inplace = [array<i64: 0, 1>]", "64*((n + 3)//4)")],
)
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_a_chain_needs_two_buffers_or_one_in_place(inplace: str, arena: str, rows: int) -> None:
    function, context = planned(module(CHAIN, inplace))
    assert arena_of(function) == arena
    assert "sw.arena" in function.argument_attributes(2)
    assert not list(function.walk_of(buffer.AllocOp))
    x, y = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4), np.zeros((rows, 4), np.float32)
    run_function(function, [x, y, np.zeros(4096, np.int8)])
    np.testing.assert_array_equal(y, 16 * x)
    assert context.statistics["arena bytes"] >= context.statistics["arena lower bound bytes"] > 0


def test_planning_twice_changes_nothing() -> None:
    parsed = module(CHAIN)
    planned(parsed)
    once = str(parsed)
    planned(parsed)
    assert str(parsed) == once


def test_views_that_live_together_are_known_apart() -> None:
    function, _ = planned(module(CHAIN))
    a, b, c = (view.result for view in function.walk_of(buffer.ViewOp))
    may_overlap = Places.of(function).may_overlap
    assert (may_overlap(a, b), may_overlap(b, c), may_overlap(a, c)) == (False, False, True)
    assert may_overlap(a, function.arguments[0])


def test_an_unused_buffer_gets_no_place() -> None:
    function, _ = planned(parse_module("""
    builtin.module {
      func.func @main(%y: memref<4xf32> {sw.out}) {
        %a = buffer.alloc() : memref<4xf32>
        func.return
      }
    }"""))
    assert arena_of(function) == "0"


def test_reshapes_and_regions_count_as_uses() -> None:
    function, _ = planned(module("""
    builtin.module {
      KERNELS
      func.func @main(%y: memref<4x4xf32> {sw.out}, %c: i1) {
        %n = arith.constant 4 : index
        %a = buffer.alloc() : memref<16xf32>
        %r = buffer.reshape %a(%n) : memref<16xf32> to memref<?x4xf32>
        kernel.launch @double(%r, %r, %n) : (memref<?x4xf32>, memref<?x4xf32>, index) -> ()
        %b = buffer.alloc() : memref<16xf32>
        %s = buffer.reshape %b(%n) : memref<16xf32> to memref<?x4xf32>
        loop.if %c : (i1) -> () {
          kernel.launch @double(%s, %s, %n) : (memref<?x4xf32>, memref<?x4xf32>, index) -> ()
          loop.yield
        } {
          kernel.launch @double(%r, %s, %n) : (memref<?x4xf32>, memref<?x4xf32>, index) -> ()
          loop.yield
        }
        func.return
      }
    }"""))
    assert arena_of(function) == "128"


def test_a_buffer_of_unknown_size_is_an_error() -> None:
    text = CHAIN.replace(f"%b = buffer.alloc(%n) {described('n')}", "%b = buffer.alloc(%n)")
    with pytest.raises(PassError, match="needs its tensor type"):
        planned(module(text))


def test_a_symbol_that_no_argument_has_is_an_error() -> None:
    text = CHAIN.replace(f"%b = buffer.alloc(%n) {described('n')}", f"%b = buffer.alloc(%n) {described('k')}")
    with pytest.raises(PassError, match="no argument tells the size k"):
        planned(module(text))


def test_a_size_that_grows_too_large_is_told_with_the_node() -> None:
    """(a0 + b0) * (a1 + b1) * ..: twice as many terms with each"""
    sums = [f"a{n} + b{n}" for n in range(11)]
    shape = "?x" * len(sums) + "f32"
    names = ", ".join(f'"{text}"' for text in sums)
    type_ = f"tensor<{shape}, #graph.shape<[{names}]>>".replace('"', '\\"')
    text = f"""builtin.module {{
      func.func @main(%n: index) {{
        %a = buffer.alloc({", ".join(["%n"] * len(sums))}) {{sw.tensor = "{type_}"}} : memref<{shape}> loc("Sum_7")
        %z = arith.constant 0 : index
        %x = buffer.load %a[{", ".join(["%z"] * len(sums))}] : memref<{shape}>
        func.return
      }}
    }}"""
    with pytest.raises(PassError, match=r"Sum_7: the bytes of a result of sizes a0 \+ b0, .* grows beyond"):
        planned(module(text))


BY_DATA = """
builtin.module {
  KERNELS
  func.func @main(%x: memref<1xi64>, %out: memref<3xi64> {sw.descriptor, sw.out, sw.tensor =
                  "tensor<?x4xf32, #graph.shape<[\\"k\\"]>>"}) {
    %0 = arith.constant 0 : index
    %most = arith.constant 99 : index
    %raw = buffer.load %x[%0] : memref<1xi64>
    %number = arith.index_cast %raw : i64 to index
    %fixed = buffer.alloc() : memref<8x4xf32>
    %8 = arith.constant 8 : index
    %same = buffer.reshape %fixed(%8) : memref<8x4xf32> to memref<?x4xf32>
    kernel.launch @double(%same, %same, %8) : (memref<?x4xf32>, memref<?x4xf32>, index) -> ()
    %k = heap.size %number upto %most {of = "k"} : index
    %a = buffer.alloc(%k) {sw.tensor = "tensor<?x4xf32, #graph.shape<[\\"k\\"]>>"} : memref<?x4xf32>
    kernel.launch @double(%a, %a, %k) : (memref<?x4xf32>, memref<?x4xf32>, index) -> ()
    %b = buffer.alloc(%k) {sw.tensor = "tensor<?x4xf32, #graph.shape<[\\"k\\"]>>"} : memref<?x4xf32>
    kernel.launch @double(%a, %b, %k) : (memref<?x4xf32>, memref<?x4xf32>, index) -> ()
    heap.publish %b, %out : memref<?x4xf32>, memref<3xi64>
    func.return
  }
}
"""


def test_buffers_of_a_size_that_data_decide_lie_in_a_segment_reserved_behind_it() -> None:
    planned = module(BY_DATA)
    PlanMemory().run(planned, PassContext())
    verify(planned)
    main = next(f for f in planned.walk_of(func.FuncOp) if f.sym_name == "main")
    assert str(main.attributes["sw.arena"]) == '"128"'
    (reserve,) = planned.walk_of(heap.ReserveOp)
    (size,) = planned.walk_of(heap.SizeOp)
    assert size.is_before(reserve)
    views = list(planned.walk_of(buffer.ViewOp))
    (segment,) = planned.walk_of(heap.SegmentOp)
    assert [view.arena is segment.result for view in views] == [False, True, True]
    may_overlap = Places.of(main).may_overlap
    assert not may_overlap(views[0].result, views[1].result) and not may_overlap(views[1].result, views[2].result)
