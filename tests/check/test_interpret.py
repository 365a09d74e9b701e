"""One module on arrays, at any landing."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.check import TooLong, interpret
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering.pipeline import phases

T = "tensor<4xf32>"
TEXT = f"""builtin.module {{
  func.func @main(%x: {T}, %y: {T}) -> ({T}, {T}) {{
    %a = graph.exp %x : ({T}) -> {T}
    %b = graph.add %a, %y : ({T}, {T}) -> {T}
    func.return %a, %b : {T}, {T}
  }}
}}"""
X, Y = np.array([1, -2, 3, 0], np.float32), np.array([0.5, 1.5, -1, 4], np.float32)


def test_a_module_runs_at_every_landing() -> None:
    module = parse_module(TEXT)
    expected = interpret(module, [X, Y]).results
    np.testing.assert_allclose(expected[1], np.exp(X) + Y, rtol=1e-6)
    PassManager(phases("graph", "loop")).run(module, PassContext())
    for a, b in zip(expected, interpret(module, [X, Y]).results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_budget_of_operations_is_kept() -> None:
    with pytest.raises(TooLong):
        interpret(parse_module(TEXT), [X, Y], budget=1)
