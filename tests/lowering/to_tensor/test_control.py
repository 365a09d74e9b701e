"""Control flow on the way down: what is carried, collected, chosen and captured is the same at every landing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.dialects import buffer, kernel, loop
from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.tensor import MeasureOp
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext, PassManager
from stepwell.ir.verifier import verify
from stepwell.lowering.pipeline import phases
from stepwell.lowering.to_tensor.convert import ToTensor
from tests.lowering.to_tensor.descent import main, walk_down
from tests.teams import compiled_for

V = "tensor<3xf32>"

X = np.array([1, -2, 3], np.float32)
Y = np.array([0.5, 4, -1], np.float32)
ADD = f"graph.add %a, %b : ({V}, {V}) -> {V}"

CASES: dict[str, tuple[str, list[Any]]] = {
    "fibonacci: one becomes the other": (f"""
    func.func @f(%x: {V}, %y: {V}) -> ({V}, {V}, tensor<5x3xf32>) {{
      %n = graph.constant dense<5> : tensor<si64>
      %p, %q, %all = graph.loop %n, %x, %y {{operandSegmentSizes = array<i32: 1, 0, 2>}}
        : (tensor<si64>, {V}, {V}) -> ({V}, {V}, tensor<5x3xf32>) {{
      ^bb0(%i: tensor<si64>, %go: tensor<i1>, %a: {V}, %b: {V}):
        %s = {ADD}
        graph.yield %go, %b, %s, %a : tensor<i1>, {V}, {V}, {V}
      }}
      func.return %p, %q, %all : {V}, {V}, tensor<5x3xf32>
    }}""", [X, Y]),
    "a swap, a delay line, and what passes through": (f"""
    func.func @f(%x: {V}, %y: {V}) -> ({V}, {V}, {V}, {V}, {V}, {V}) {{
      %n = graph.constant dense<7> : tensor<si64>
      %p, %q, %d0, %d1, %d2, %k = graph.loop %n, %x, %y, %x, %y, %x, %y {{operandSegmentSizes = array<i32: 1, 0, 6>}}
        : (tensor<si64>, {V}, {V}, {V}, {V}, {V}, {V}) -> ({V}, {V}, {V}, {V}, {V}, {V}) {{
      ^bb0(%i: tensor<si64>, %go: tensor<i1>, %a: {V}, %b: {V}, %c: {V}, %d: {V}, %e: {V}, %f: {V}):
        %s = graph.add %c, %e : ({V}, {V}) -> {V}
        %t = graph.add %s, %a : ({V}, {V}) -> {V}
        graph.yield %go, %b, %a, %t, %c, %d, %f : tensor<i1>, {V}, {V}, {V}, {V}, {V}, {V}
      }}
      func.return %p, %q, %d0, %d1, %d2, %k : {V}, {V}, {V}, {V}, {V}, {V}
    }}""", [X, Y]),
    "the number of the round, a captured value, rows that are carried as well": (f"""
    func.func @f(%x: {V}, %y: {V}) -> ({V}, tensor<4x3xf32>, tensor<4x3xf32>, tensor<4x3xf32>) {{
      %n = graph.constant dense<4> : tensor<si64>
      %p, %r, %s, %t = graph.loop %n, %x {{operandSegmentSizes = array<i32: 1, 0, 1>}}
        : (tensor<si64>, {V}) -> ({V}, tensor<4x3xf32>, tensor<4x3xf32>, tensor<4x3xf32>) {{
      ^bb0(%i: tensor<si64>, %go: tensor<i1>, %a: {V}):
        %z = graph.cast %i {{to = f32}} : (tensor<si64>) -> tensor<f32>
        %b = graph.mul %y, %z : ({V}, tensor<f32>) -> {V}
        %w = {ADD}
        graph.yield %go, %w, %w, %w, %y : tensor<i1>, {V}, {V}, {V}, {V}
      }}
      func.return %p, %r, %s, %t : {V}, tensor<4x3xf32>, tensor<4x3xf32>, tensor<4x3xf32>
    }}""", [X, Y]),
    "no rounds": (f"""
    func.func @f(%x: {V}) -> ({V}, tensor<0x3xf32>) {{
      %n = graph.constant dense<0> : tensor<si64>
      %p, %r = graph.loop %n, %x {{operandSegmentSizes = array<i32: 1, 0, 1>}}
        : (tensor<si64>, {V}) -> ({V}, tensor<0x3xf32>) {{
      ^bb0(%i: tensor<si64>, %go: tensor<i1>, %a: {V}):
        %w = graph.neg %a : ({V}) -> {V}
        graph.yield %go, %w, %w : tensor<i1>, {V}, {V}
      }}
      func.return %p, %r : {V}, tensor<0x3xf32>
    }}""", [X]),
    "rounds that data decides": (f"""
    func.func @f(%n: tensor<1xsi64>, %x: {V}, %y: {V}) -> ({V}, {V}) {{
      %limit = graph.constant dense<20.0> : tensor<f32>
      %p, %q = graph.loop %n, %x, %y {{operandSegmentSizes = array<i32: 1, 0, 2>}}
        : (tensor<1xsi64>, {V}, {V}) -> ({V}, {V}) {{
      ^bb0(%i: tensor<si64>, %go: tensor<i1>, %a: {V}, %b: {V}):
        %s = {ADD}
        %m = graph.reduce %s {{kind = "max", axes = array<i64: 0>, keepdims = false}} : ({V}) -> tensor<f32>
        %again = graph.compare %m, %limit {{predicate = "lt"}} : (tensor<f32>, tensor<f32>) -> tensor<i1>
        graph.yield %again, %b, %s : tensor<i1>, {V}, {V}
      }}
      func.return %p, %q : {V}, {V}
    }}""", [np.array([100], np.int64), X, Y]),
    "a count of rounds that data decides": (f"""
    func.func @f(%n: tensor<si64>, %go: tensor<i1>, %x: {V}) -> {V} {{
      %p = graph.loop %n, %go, %x {{operandSegmentSizes = array<i32: 1, 1, 1>}} : (tensor<si64>, tensor<i1>, {V}) -> {V} {{
      ^bb0(%i: tensor<si64>, %on: tensor<i1>, %a: {V}):
        %s = graph.add %a, %x : ({V}, {V}) -> {V}
        graph.yield %on, %s : tensor<i1>, {V}
      }}
      func.return %p : {V}
    }}""", [np.array(3), np.array(True), X]),  # noqa: E501
    "a branch in a loop, whose result is carried": (f"""
    func.func @f(%x: {V}, %y: {V}) -> ({V}, tensor<6x3xf32>) {{
      %n = graph.constant dense<6> : tensor<si64>
      %two = graph.constant dense<2> : tensor<si64>
      %zero = graph.constant dense<0> : tensor<si64>
      %p, %all = graph.loop %n, %x {{operandSegmentSizes = array<i32: 1, 0, 1>}}
        : (tensor<si64>, {V}) -> ({V}, tensor<6x3xf32>) {{
      ^bb0(%i: tensor<si64>, %go: tensor<i1>, %a: {V}):
        %odd = graph.mod %i, %two : (tensor<si64>, tensor<si64>) -> tensor<si64>
        %even = graph.compare %odd, %zero {{predicate = "eq"}} : (tensor<si64>, tensor<si64>) -> tensor<i1>
        %s = graph.if %even : (tensor<i1>) -> {V} {{
          %t = graph.add %a, %y : ({V}, {V}) -> {V}
          %u = graph.mul %t, %t : ({V}, {V}) -> {V}
          graph.yield %u : {V}
        }} {{
          graph.yield %a : {V}
        }}
        %v = graph.neg %a : ({V}) -> {V}
        %w = graph.add %v, %s : ({V}, {V}) -> {V}
        graph.yield %go, %s, %w : tensor<i1>, {V}, {V}
      }}
      func.return %p, %all : {V}, tensor<6x3xf32>
    }}""", [X * np.float32(0.1), Y * np.float32(0.1)]),
    "a loop in a loop, rows of rows": (f"""
    func.func @f(%x: {V}) -> ({V}, tensor<2x4x3xf32>) {{
      %n = graph.constant dense<2> : tensor<si64>
      %m = graph.constant dense<4> : tensor<si64>
      %p, %all = graph.loop %n, %x {{operandSegmentSizes = array<i32: 1, 0, 1>}}
        : (tensor<si64>, {V}) -> ({V}, tensor<2x4x3xf32>) {{
      ^bb0(%i: tensor<si64>, %go: tensor<i1>, %a: {V}):
        %q, %rows = graph.loop %m, %a {{operandSegmentSizes = array<i32: 1, 0, 1>}}
          : (tensor<si64>, {V}) -> ({V}, tensor<4x3xf32>) {{
        ^bb1(%j: tensor<si64>, %on: tensor<i1>, %b: {V}):
          %s = {ADD}
          graph.yield %on, %s, %b : tensor<i1>, {V}, {V}
        }}
        graph.yield %go, %q, %rows : tensor<i1>, {V}, tensor<4x3xf32>
      }}
      func.return %p, %all : {V}, tensor<2x4x3xf32>
    }}""", [X]),
    "results of branches, and values that are returned as they are": (f"""
    func.func @f(%c: tensor<1xi1>, %x: {V}, %y: {V}) -> ({V}, {V}, {V}, {V}) {{
      %r, %s = graph.if %c : (tensor<1xi1>) -> ({V}, {V}) {{
        %n = graph.neg %x : ({V}) -> {V}
        graph.yield %n, %n : {V}, {V}
      }} {{
        graph.yield %x, %y : {V}, {V}
      }}
      func.return %r, %s, %x, %r : {V}, {V}, {V}, {V}
    }}""", [np.array([True]), X, Y]),
    "parts from inside and outside the loop in one place": (f"""
    func.func @f(%x: {V}, %y: {V}) -> (tensor<6xf32>, tensor<4x6xf32>, tensor<4x6xf32>) {{
      %n = graph.constant dense<4> : tensor<si64>
      %o = graph.neg %y : ({V}) -> {V}
      %first = graph.concat %x, %o {{axis = 0}} : ({V}, {V}) -> tensor<6xf32>
      %p, %r, %s = graph.loop %n, %first {{operandSegmentSizes = array<i32: 1, 0, 1>}}
        : (tensor<si64>, tensor<6xf32>) -> (tensor<6xf32>, tensor<4x6xf32>, tensor<4x6xf32>) {{
      ^bb0(%i: tensor<si64>, %go: tensor<i1>, %a: tensor<6xf32>):
        %m = graph.reduce %a {{kind = "max", axes = array<i64: 0>, keepdims = false}} : (tensor<6xf32>) -> tensor<f32>
        %b = graph.add %x, %m : ({V}, tensor<f32>) -> {V}
        %c = graph.concat %b, %o {{axis = 0}} : ({V}, {V}) -> tensor<6xf32>
        %d = graph.sub %y, %m : ({V}, tensor<f32>) -> {V}
        %e = graph.concat %d, %b {{axis = 0}} : ({V}, {V}) -> tensor<6xf32>
        graph.yield %go, %c, %e, %a : tensor<i1>, tensor<6xf32>, tensor<6xf32>, tensor<6xf32>
      }}
      func.return %p, %r, %s : tensor<6xf32>, tensor<4x6xf32>, tensor<4x6xf32>
    }}""", [X, Y]),
    "slices from both ends, collected at both ends and along other axes": ("""
    func.func @f(%s: tensor<3xf32>, %x: tensor<?x3xf32, #graph.shape<["n"]>>, %y: tensor<3x?xf32, #graph.shape<["n"]>>)
        -> (tensor<3xf32>, tensor<3x?xf32, #graph.shape<["n"]>>, tensor<?x3xf32, #graph.shape<["n"]>>) {
      %r, %p, %q = graph.scan %s, %x, %y {operandSegmentSizes = array<i32: 1, 2>, input_axes = array<i64: 0, 1>,
        input_reversed = array<i64: 0, 1>, output_axes = array<i64: 1, 0>, output_reversed = array<i64: 0, 1>}
        : (tensor<3xf32>, tensor<?x3xf32, #graph.shape<["n"]>>, tensor<3x?xf32, #graph.shape<["n"]>>)
        -> (tensor<3xf32>, tensor<3x?xf32, #graph.shape<["n"]>>, tensor<?x3xf32, #graph.shape<["n"]>>) {
      ^bb0(%v: tensor<3xf32>, %a: tensor<3xf32>, %b: tensor<3xf32>):
        %t = graph.mul %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
        %w = graph.add %v, %t : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
        graph.yield %w, %w, %t : tensor<3xf32>, tensor<3xf32>, tensor<3xf32>
      }
      func.return %r, %p, %q : tensor<3xf32>, tensor<3x?xf32, #graph.shape<["n"]>>, tensor<?x3xf32, #graph.shape<["n"]>>
    }""", [X, np.arange(15, dtype=np.float32).reshape(5, 3), np.arange(15, dtype=np.float32).reshape(3, 5) % 4]),
}  # fmt: skip


def module_of(text: str) -> ModuleOp:
    return parse_module(f"builtin.module {{ {text.replace('@f(', '@main(')} }}")


@pytest.mark.parametrize("name", list(CASES))
def test_every_landing(name: str) -> None:
    text, arrays = CASES[name]
    module = module_of(text)
    walk_down(module, arrays, run_function(main(module), arrays), 1e-6, 1e-6)


@pytest.mark.parametrize("name", list(CASES))
def test_natively(name: str) -> None:
    text, arrays = CASES[name]
    module = module_of(text)
    expected = run_function(main(module), arrays)
    for model in compiled_for(module, (1, 2, 3)):
        found = model(*arrays)
        for mine, theirs in zip(found if isinstance(found, tuple) else [found], expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5)


def program_of(name: str) -> Operation:
    module = module_of(CASES[name][0])
    PassManager(phases("graph", "loop")).run(module, PassContext())
    verify(module)
    return main(module)


def test_nothing_is_copied_for_what_is_carried_and_collected() -> None:
    rounds = next(program_of("fibonacci: one becomes the other").walk_of(loop.ForOp))
    # The sum, and the row of a value that was carried into the round.
    assert len(list(rounds.walk_of(kernel.LaunchOp))) == 2
    assert len(list(rounds.walk_of(buffer.SliceOp))) == 1


def test_the_size_that_a_branch_decides_is_measured() -> None:
    text = """
    func.func @f(%c: tensor<i1>, %x: tensor<3xf32>, %y: tensor<4xf32>) -> tensor<?xf32, #graph.shape<["if_0"]>> {
      %r = graph.if %c {new_dims = ["if_0"]} : (tensor<i1>) -> tensor<?xf32, #graph.shape<["if_0"]>> {
        graph.yield %x : tensor<3xf32>
      } {
        graph.yield %y : tensor<4xf32>
      }
      func.return %r : tensor<?xf32, #graph.shape<["if_0"]>>
    }"""
    module = module_of(text)
    ToTensor().run(module, PassContext())
    verify(module)
    (measured,) = module.walk_of(MeasureOp)
    assert (measured.symbol, measured.axis) == ("if_0", 0)
    model = stepwell.compile(module_of(text))
    x, y = np.arange(3, dtype=np.float32), np.arange(4, dtype=np.float32)
    assert [model(np.array(c), x, y).size for c in (True, False)] == [3, 4]
