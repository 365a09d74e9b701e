"""What is kept of the demands that ops make of open sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph import elementwise as e
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.dialects.graph.movement import ConcatOp
from stepwell.dialects.graph.shape import ReshapeOp
from stepwell.dialects.program_attributes import DEMANDS
from stepwell.ir.attributes import ArrayAttr, StringAttr
from stepwell.ir.dims import symbol
from stepwell.lowering.to_tensor.demands import keep_demands

from .descent import graph_module, main, types_of

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
        (lambda a, b: ConcatOp([a, b], axis=0), (A, A), []),
        (lambda a, b: ConcatOp([a, b], axis=1), (A, B),
         ["graph.concat: axis 0 of concatenated tensors: sizes d2 and d4 differ"]),
        (lambda a: ReshapeOp.to(a, [symbol("d2") * symbol("d3")]), (A,), []),
    ],
)  # fmt: skip
def test_demands(build: Any, inputs: Any, expected: list[str]) -> None:
    assert demands(build, *inputs)[1::2] == expected


def test_a_demand_is_a_size_that_must_be_0() -> None:
    assert demands(MatmulOp, A, B)[0] == "d3 - d4"


def test_equal_demands_are_kept_once() -> None:
    assert len(demands(lambda a, b: e.AddOp(MatmulOp(a, b).result, MatmulOp(a, b).result), A, B)) == 2
