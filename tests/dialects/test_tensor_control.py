"""Loops and branches of the tensor dialect: what they compute, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.func import FuncOp
from stepwell.errors import IRError, StepwellError
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.verifier import verify

ROWS = """
func.func @f(%x: tensor<?x2xf32, #graph.shape<["n"]>>, %h: tensor<2xf32>)
    -> (tensor<2xf32>, tensor<?x2xf32, #graph.shape<["n"]>>) {
  %r, %all = tensor.for %h {backward = array<i64: BACKWARD>, steps = #tensor.dims<["n"]>}
    : (tensor<2xf32>) -> (tensor<2xf32>, tensor<?x2xf32, #graph.shape<["n"]>>) {
  ^bb0(%i: index, %v: tensor<2xf32>):
    %last = tensor.size {of = #tensor.dims<["n - 1"]>}
    %back = arith.subi %last, %i : index
    %row = tensor.row %x[%back] : tensor<?x2xf32, #graph.shape<["n"]>>
    tensor.yield %row, %v : tensor<2xf32>, tensor<2xf32>
  }
  func.return %r, %all : tensor<2xf32>, tensor<?x2xf32, #graph.shape<["n"]>>
}"""


def run(text: str, *arrays: Any) -> Any:
    module = parse_module(f"builtin.module {{ {text} }}")
    verify(module)
    return run_function(next(iter(module.walk_of(FuncOp))), arrays)


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("backward", [0, 1])
def test_rows_in_and_out(rows: int, backward: int) -> None:
    x, h = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2), np.array([8, 9], np.float32)
    last, stack = run(ROWS.replace("BACKWARD", str(backward)), x, h)
    states = [h, *x[::-1]]
    np.testing.assert_array_equal(last, states[-1])
    np.testing.assert_array_equal(stack, (states[:-1][::-1] if backward else states[:-1]) if rows else x)


COUNTDOWN = """
func.func @f(%c: tensor<1xi1>, %x: tensor<i64>) -> tensor<i64> {
  %e, %r = tensor.while %c, %x : (tensor<1xi1>, tensor<i64>) -> (tensor<1xi1>, tensor<i64>) {
  ^bb0(%go: tensor<1xi1>, %v: tensor<i64>):
    %next = tensor.generic %v {iterators = [], maps = [affine_map<() -> ()>, affine_map<() -> ()>], names = [],
      identities = [], operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<[]>}
      : (tensor<i64>) -> tensor<i64> {
    ^bb1(%a: i64):
      %one = arith.constant 1 : i64
      %b = arith.subi %a, %one : i64
      tensor.yield %b : i64
    }
    %again = tensor.generic %v {iterators = [], maps = [affine_map<() -> ()>, affine_map<() -> ()>], names = [],
      identities = [], operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<[]>} : (tensor<i64>) -> tensor<i1> {
    ^bb1(%a: i64):
      %one = arith.constant 1 : i64
      %b = arith.cmpi sgt, %a, %one : i64
      tensor.yield %b : i1
    }
    %flag = tensor.reshape %again : (tensor<i1>) -> tensor<1xi1>
    tensor.yield %flag, %next : tensor<1xi1>, tensor<i64>
  }
  func.return %r : tensor<i64>
}"""


@pytest.mark.parametrize(("going", "start", "end"), [(True, 4, 0), (False, 4, 4), (True, 1, 0)])
def test_while_the_condition_holds(going: bool, start: int, end: int) -> None:
    assert run(COUNTDOWN, np.array([going]), np.array(start))[0] == end


@pytest.mark.parametrize(("condition", "result"), [(True, 1), (False, 2)])
def test_a_branch(condition: bool, result: int) -> None:
    text = """
    func.func @f(%c: tensor<i1>, %x: tensor<i64>, %y: tensor<i64>) -> tensor<i64> {
      %r = tensor.if %c : (tensor<i1>) -> tensor<i64> {
        tensor.yield %x : tensor<i64>
      } {
        tensor.yield %y : tensor<i64>
      }
      func.return %r : tensor<i64>
    }"""
    assert run(text, np.array(condition), np.array(1), np.array(2))[0] == result


def for_text(types: str = "(tensor<4xf32>) -> tensor<4xf32>", arguments: str = "%i: index, %v: tensor<4xf32>",
             steps: str = "8", backward: str = "array<i64>", values: str = "%v : tensor<4xf32>") -> str:  # fmt: skip
    return f"""
    func.func @f(%x: tensor<4xf32>, %y: tensor<5xf32>, %c: tensor<2xi1>) {{
      %r = tensor.for %x {{backward = {backward}, steps = #tensor.dims<[{steps}]>}} : {types} {{
      ^bb0({arguments}):
        tensor.yield {values}
      }}
      func.return
    }}"""


def while_text(argument: str, results: str, rows: str = "", row_types: str = "") -> str:
    return f"""
    func.func @f(%c: tensor<i1>, %x: tensor<4xf32>) {{
      %e, {", ".join(f"%r{n}" for n in range(results.count("tensor<")))} = tensor.while %c, %x
        : (tensor<i1>, tensor<4xf32>) -> (tensor<i1>, {results}) {{
      ^bb0(%go: tensor<i1>, %v: {argument}):
        tensor.yield %go, %v{rows} : tensor<i1>, {argument}{row_types}
      }}
      func.return
    }}"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (for_text(steps="8, 8"), "one number of rounds, not 2"),
        (for_text(arguments="%v: tensor<4xf32>"), "the body takes the round and the carried values"),
        (for_text(values="%y : tensor<5xf32>"), "each of the type that it takes"),
        (for_text(backward="array<i64: 0>"), "0 collected values and 1 directions"),
        (for_text(types="(tensor<4xf32>) -> tensor<5xf32>"), "the results are the carried values"),
        ("""func.func @f(%c: tensor<2xi1>) {
              tensor.if %c : (tensor<2xi1>) -> () { tensor.yield } { tensor.yield }
              func.return
            }""", "the condition has one element"),
        ("""func.func @f(%c: tensor<i1>, %x: tensor<4xf32>, %y: tensor<5xf32>) {
              %r = tensor.if %c : (tensor<i1>) -> tensor<4xf32> { tensor.yield %x : tensor<4xf32> }
                { tensor.yield %y : tensor<5xf32> }
              func.return
            }""", "each branch yields the results"),
        ("""func.func @f(%x: tensor<4xf32>) {
              %r = tensor.while %x : (tensor<4xf32>) -> tensor<4xf32> {
              ^bb0(%v: tensor<4xf32>):
                tensor.yield %v : tensor<4xf32>
              }
              func.return
            }""", "the first carried value is the condition"),
        (while_text("tensor<4xf32>", "tensor<5xf32>"), "a carried value keeps its type"),
        (while_text('tensor<?xf32, #graph.shape<["k"]>>', "tensor<4xf32>"), "a carried value keeps its type"),
        (while_text("tensor<4xf32>", "tensor<4xf32>, tensor<?x5xf32, #graph.shape<[\"n\"]>>", ", %v",
                    ", tensor<4xf32>"), "do not stack to"),
        ("""func.func @f(%x: tensor<f32>, %i: index) {
              %r = tensor.row %x[%i] : tensor<f32>
              func.return
            }""", "a tensor of rank 0 has no rows"),
    ],
)  # fmt: skip
def test_what_does_not_fit(text: str, message: str) -> None:
    with pytest.raises(StepwellError, match=message):
        verify(parse_module(f"builtin.module {{ {text} }}"))


def test_a_row_that_is_not_there() -> None:
    text = """
    func.func @f(%x: tensor<2x2xf32>) -> tensor<2xf32> {
      %i = arith.constant 2 : index
      %r = tensor.row %x[%i] : tensor<2x2xf32>
      func.return %r : tensor<2xf32>
    }"""
    with pytest.raises(IRError, match="row 2 of an array of 2 rows"):
        run(text, np.zeros((2, 2), np.float32))
