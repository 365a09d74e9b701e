"""Requirements in the interpreter, and when two of them are one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.check import RequireOp
from stepwell.dialects.func import FuncOp
from stepwell.errors import RuntimeError, VerifyError
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.graph.cse import CommonSubexpressions
from stepwell.lowering.graph.dce import DeadCode
from stepwell.lowering.loop.hoist import Hoist

SCALAR = """builtin.module {
  func.func @f(%c: i1, %x: index) {
    check.require %c, %x {message = "too large"} : i1, index loc("/node")
    func.return
  }
}
"""
VECTOR = SCALAR.replace("i1", "vector<4xi1>").replace("index", "vector<4xi32>")


def function(text: str) -> Any:
    module = parse_module(text)
    verify(module)
    return next(iter(module.walk_of(FuncOp)))


def test_what_holds_passes() -> None:
    assert run_function(function(SCALAR), [np.bool_(True), np.int64(3)]) == ()
    assert run_function(function(VECTOR), [np.ones(4, bool), np.arange(4, dtype=np.int32)]) == ()


def test_the_first_failing_lane_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"^/node: too large \(value 3\)$"):
        run_function(function(SCALAR), [np.bool_(False), np.int64(3)])
    with pytest.raises(RuntimeError, match=r"^/node: too large \(value 12\)$") as raised:
        run_function(function(VECTOR), [np.array([1, 1, 0, 0], bool), np.arange(10, 14, dtype=np.int32)])
    assert (raised.value.where, raised.value.problem, raised.value.value) == ("/node", "too large", 12)


def test_condition_and_value_have_the_same_lanes() -> None:
    with pytest.raises(VerifyError, match="a condition of type i1 for values of type vector<4xi32>"):
        function(SCALAR.replace("index", "vector<4xi32>"))


def test_it_is_not_dead_but_a_second_one_is() -> None:
    line = '    check.require %c, %x {message = "too large"} : i1, index loc("/node")\n'
    module = parse_module(SCALAR.replace(line, 2 * line))
    DeadCode().run(module, PassContext())
    assert len(list(module.walk_of(RequireOp))) == 2
    CommonSubexpressions().run(module, PassContext())
    assert len(list(module.walk_of(RequireOp))) == 1


def test_what_may_fail_stays_in_a_loop_that_may_not_run() -> None:
    module = parse_module("""builtin.module {
      func.func @f(%c: i1, %x: index, %n: index) {
        %z = arith.constant 0 : index
        %one = arith.constant 1 : index
        loop.for %i = %z to %n step %one {
          check.require %c, %x {message = "too large"} : i1, index
          %q = arith.divsi %one, %x : index
          %p = arith.maxsi %x, %one : index
          %r = arith.divsi %n, %p : index
          loop.yield
        }
        func.return
      }
    }
    """)
    Hoist().run(module, PassContext())
    loop = next(op for op in module.walk() if op.op_name == "loop.for")
    assert [op.op_name for op in loop.regions[0].block] == ["check.require", "arith.divsi", "loop.yield"]
    run_function(next(iter(module.walk_of(FuncOp))), [np.bool_(False), np.int64(0), np.int64(0)])
