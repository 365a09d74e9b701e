"""Sequences as the interpreter runs them: places, and what is outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.func import FuncOp
from stepwell.errors import IRError
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.verifier import verify

S = "!graph.sequence<element = f32>"
V = 'tensor<?xf32, #graph.shape<["at_0"]>>'
MAIN = f"""
builtin.module {{
  func.func @main(%a: tensor<1xf32>, %b: tensor<2xf32>, %i: tensor<si64>, %j: tensor<si64>) -> ({V}, tensor<si64>) {{
    %s = graph.sequence %a, %b, %a {{element = f32}} : (tensor<1xf32>, tensor<2xf32>, tensor<1xf32>) -> {S}
    %z = graph.constant dense<1> : tensor<si64>
    %t = graph.sequence_erase %s, %z : ({S}, tensor<si64>) -> {S}
    %u = graph.sequence_insert %t, %b, %z : ({S}, tensor<2xf32>, tensor<si64>) -> {S}
    %r = graph.sequence_at %u, %i {{new_dims = ["at_0"]}} : ({S}, tensor<si64>) -> {V}
    %w = graph.sequence_insert %u, %a, %j : ({S}, tensor<1xf32>, tensor<si64>) -> {S}
    %n = graph.sequence_length %w : ({S}) -> tensor<si64>
    func.return %r, %n : {V}, tensor<si64>
  }}
}}"""


def run(i: int, j: int) -> Any:
    module = parse_module(MAIN)
    verify(module)
    a, b = np.float32([1]), np.float32([2, 3])
    return run_function(next(iter(module.walk_of(FuncOp))), [a, b, np.array(i), np.array(j)])


@pytest.mark.parametrize(("i", "sizes"), [(0, 1), (1, 2), (2, 1), (-1, 1), (-2, 2), (-3, 1)])
def test_places(i: int, sizes: int) -> None:
    found, count = run(i, 3)
    assert (found.size, int(count)) == (sizes, 4)


@pytest.mark.parametrize(("i", "j"), [(3, 0), (-4, 0), (0, 4), (0, -4)])
def test_outside(i: int, j: int) -> None:
    with pytest.raises(IRError, match="of a sequence of 3 tensors"):
        run(i, j)
