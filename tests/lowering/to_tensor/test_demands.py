"""What is kept of the demands that ops make of open sizes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from stepwell.dialects.check import RequireOp
from stepwell.dialects.graph import elementwise as e
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.dialects.graph.demands import (
    demand_at_most,
    demand_broadcast,
    demand_multiple,
    demand_one_of,
    recorded,
)
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.movement import ConcatOp
from stepwell.dialects.graph.quantization import DequantizeOp
from stepwell.dialects.graph.selection import TopKOp
from stepwell.dialects.graph.shape import ReshapeOp
from stepwell.dialects.program_attributes import DEMANDS
from stepwell.dialects.tensor import BornOp, IfOp
from stepwell.ir.attributes import ArrayAttr, StringAttr
from stepwell.ir.dims import evaluate, symbol
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.types import F32
from stepwell.lowering.to_tensor.convert import ToTensor
from stepwell.lowering.to_tensor.demands import ASKING, keep_demands

from .descent import graph_module, ints, main, types_of

A, B = np.zeros((2, 3), np.float32), np.zeros((4, 5), np.float32)
ROW, COLUMN = np.zeros((1, 3), np.float32), np.zeros((2, 1), np.float32)


def demands(build: Any, *inputs: Any) -> list[str]:
    function = main(graph_module(types_of(inputs, symbolic=True), build))
    keep_demands(function)
    kept = function.attributes.get(DEMANDS)
    return [text.value for text in kept.values if isinstance(text, StringAttr)] if isinstance(kept, ArrayAttr) else []


@pytest.mark.parametrize(
    ("build", "inputs", "expected"),
    [
        (e.AddOp, (A, A), []),
        (e.AddOp, (A, ROW), []),
        (e.AddOp, (ROW, COLUMN), []),
        (e.AddOp, (A, B[:, :3]), ["graph.add: sizes d2 and d4 do not broadcast"]),
        (MatmulOp, (A, B), ["graph.matmul: the inner sizes of a matrix product: sizes d3 and d4 differ"]),
        (lambda x, s: DequantizeOp(x, s, None, element=F32, axis=1), (np.zeros((2, 3), np.int8), B[0]),
         ["graph.dequantize: the scale: sizes d5 and d3 differ"]),
        (lambda a, b: ConcatOp([a, b], axis=0), (A, A), []),
        (lambda a, b: ConcatOp([a, b], axis=1), (A, B),
         ["graph.concat: axis 0 of concatenated tensors: sizes d2 and d4 differ"]),
        (lambda x: GatherOp(x, ints(0, -3, 4), axis=1), (A,),
         ["graph.gather: entries along axis 1 for the index -3: 3 is more than d3",
          "graph.gather: entries along axis 1 for the index 4: 5 is more than d3"]),
        (lambda x: GatherOp(x, ints(-2), axis=0), (A,),
         ["graph.gather: entries along axis 0 for the index -2: 2 is more than d2"]),
        (lambda x: TopKOp(x, ints(4), axis=1), (A,), ["graph.top_k: the best elements: 4 is more than d3"]),
        (lambda a: ReshapeOp.to(a, [symbol("d2") * symbol("d3")]), (A,), []),
    ],
)  # fmt: skip
def test_demands(build: Any, inputs: Any, expected: list[str]) -> None:
    assert demands(build, *inputs)[1::2] == expected


def test_a_demand_is_a_size_that_must_be_0() -> None:
    assert demands(MatmulOp, A, B)[0] == "d3 - d4"


def test_equal_demands_are_kept_once() -> None:
    assert len(demands(lambda a, b: e.AddOp(MatmulOp(a, b).result, MatmulOp(a, b).result), A, B)) == 2

N, M = symbol("n"), symbol("m")


@pytest.mark.parametrize(
    ("ask", "holds", "fails"),
    [
        (lambda: demand_multiple(N, 4, "it"), [{"n": 0}, {"n": 8}], [{"n": 1}, {"n": 6}]),
        (lambda: demand_multiple(N, M, "it"), [{"n": 6, "m": 3}, {"n": 0, "m": 5}, {"n": 0, "m": 0}],
         [{"n": 6, "m": 4}, {"n": 3, "m": 6}, {"n": 2, "m": 0}]),
        (lambda: demand_at_most(N, M, "it"), [{"n": 2, "m": 2}, {"n": 0, "m": 3}], [{"n": 3, "m": 2}]),
        (lambda: demand_broadcast(N, M),
         [{"n": 3, "m": 3}, {"n": 1, "m": 5}, {"n": 4, "m": 1}, {"n": 0, "m": 0}, {"n": 0, "m": 1}, {"n": 1, "m": 0}],
         [{"n": 3, "m": 2}, {"n": 0, "m": 2}, {"n": 2, "m": 0}]),
        (lambda: demand_broadcast(N, 0), [{"n": 0}, {"n": 1}], [{"n": 2}]),
        (lambda: demand_one_of(N, (M, 2), "it"), [{"n": 2, "m": 7}, {"n": 7, "m": 7}], [{"n": 3, "m": 7}]),
    ],
)  # fmt: skip
def test_what_is_demanded_of_sizes(ask: Any, holds: Any, fails: Any) -> None:
    with recorded() as found:
        ask()
    (demand,) = found
    assert [evaluate(demand.zero, sizes) for sizes in holds] == [0] * len(holds)
    assert all(evaluate(demand.zero, sizes) != 0 for sizes in fails)


@pytest.mark.parametrize("ask", [
    lambda: demand_multiple(4 * N, 4, "it"), lambda: demand_multiple(N * M, M, "it"),
    lambda: demand_at_most(N, N + M, "it"), lambda: demand_one_of(N, (2, N), "it"),
])  # fmt: skip
def test_what_is_proven_is_not_demanded(ask: Any) -> None:
    with recorded() as found:
        ask()
    assert found == []


def test_what_the_inputs_do_not_tell_is_asked_for_in_the_program() -> None:
    """In front of the op, where it stands in a region as well."""
    row, column = 'tensor<1x?xf32, #graph.shape<["n"]>>', 'tensor<?x1xf32, #graph.shape<["m"]>>'
    text = f"""
    func.func @main(%x: {row}, %y: {column}, %z: tensor<1x1xf32>, %c: tensor<i1>) -> tensor<1x1xf32> {{
      %r = graph.if %c : (tensor<i1>) -> tensor<1x1xf32> {{
        graph.yield %z : tensor<1x1xf32>
      }} {{
        %p = graph.matmul %x, %y : ({row}, {column}) -> tensor<1x1xf32>
        graph.yield %p : tensor<1x1xf32>
      }}
      func.return %r : tensor<1x1xf32>
    }}
    """
    module = parse_module(text)
    ToTensor().run(module, PassContext())
    (asked,) = module.walk_of(RequireOp)
    assert "inner sizes" in asked.message and isinstance(asked.parent_op, IfOp)
    assert main(module).attributes.get(DEMANDS) is None


FEW = 'tensor<1x?xsi64, #graph.shape<["k"]>>'
BORN = f"""
func.func @main(%x: tensor<?xf32, #graph.shape<["n"]>>, %r: tensor<4xsi64>, %i: tensor<i1>)
    -> (tensor<4xsi64>, tensor<4xsi64>, tensor<2x2xsi64>) {{
  %v = graph.non_zero %x {{new_dims = ["k"]}} : (tensor<?xf32, #graph.shape<["n"]>>) -> {FEW}
  %e = graph.abs %v : ({FEW}) -> {FEW}
  %a = graph.reshape %e : ({FEW}) -> tensor<4xsi64>
  %s = graph.neg %e : ({FEW}) -> {FEW}
  %b = graph.reshape %s : ({FEW}) -> tensor<4xsi64>
  %y = graph.if %i : (tensor<i1>) -> tensor<2x2xsi64> {{
    %t = graph.abs %s : ({FEW}) -> {FEW}
    %w = graph.reshape %t : ({FEW}) -> tensor<2x2xsi64>
    graph.yield %w : tensor<2x2xsi64>
  }} {{
    %z = graph.reshape %r : (tensor<4xsi64>) -> tensor<2x2xsi64>
    graph.yield %z : tensor<2x2xsi64>
  }}
  func.return %a, %b, %y : tensor<4xsi64>, tensor<4xsi64>, tensor<2x2xsi64>
}}
"""


def test_what_is_asked_for_comes_as_soon_as_it_is_known() -> None:
    """tensor.born "k"; check.require k == 4, once; .. if { check.require k == 4; .. }"""
    module = parse_module(BORN)
    ToTensor().run(module, PassContext())
    outer, inner = [op for op in module.walk_of(RequireOp) if "numbers of elements" in op.message]
    assert isinstance(inner.parent_op, IfOp)
    before = list(itertools.takewhile(lambda op: op is not outer, main(module).body.block))
    (born,) = [op for op in before if isinstance(op, BornOp)]
    assert all(isinstance(op, ASKING) for op in before[before.index(born) :])
    start = list(itertools.takewhile(lambda op: op is not inner, inner.parent or ()))
    assert all(isinstance(op, ASKING) for op in start)
