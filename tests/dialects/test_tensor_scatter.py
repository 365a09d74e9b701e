"""What a scatter of the tensor dialect computes, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.func import FuncOp
from stepwell.errors import StepwellError
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.verifier import verify

SCATTER = """
func.func @f(%x: tensor<BASE>, %i: tensor<PLACES>, %u: tensor<UPDATES>) -> tensor<BASE> {
  %r = "tensor.scatter"(%x, %i, %u) ({
  ^bb0(%old: OLD, %new: f32):
    %sum = arith.addf %old, %new : f32
    tensor.yield %sum : f32
  }) : (tensor<BASE>, tensor<PLACES>, tensor<UPDATES>) -> tensor<BASE>
  func.return %r : tensor<BASE>
}"""


def scatter(base: str, places: str, updates: str, old: str = "f32") -> FuncOp:
    text = SCATTER.replace("BASE", base).replace("PLACES", places).replace("UPDATES", updates).replace("OLD", old)
    module = parse_module(f"builtin.module {{ {text} }}")
    verify(module)
    return next(iter(module.walk_of(FuncOp)))


def run(*arrays: Any) -> Any:
    x, i, u = arrays
    types = ("x".join(map(str, a.shape)) for a in arrays)
    base, places, updates = types
    (made,) = run_function(scatter(f"{base}xf32", f"{places}xi64", f"{updates}xf32"), [x, i, u])
    return made


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([[0], [2], [0]], [[14, 18], [2, 3], [7, 9]]),
        ([[-1], [3], [1]], [[0, 1], [14, 17], [4, 5]]),  # places outside are left out
        ([[0, 1], [2, 2], [1, 0]], [[2, 15], [14, 6], [7, 9]]),  # a place of its own for each element
    ],
)
def test_updates_are_combined_in_order(places: Any, expected: Any) -> None:
    x = np.arange(6, dtype=np.float32).reshape(1, 3, 2)
    u = np.array([[[2, 3], [3, 4], [12, 14]]], np.float32)
    np.testing.assert_array_equal(run(x, np.array([places]), u), [expected])


@pytest.mark.parametrize(
    ("base", "places", "updates", "old"),
    [
        ("3x2xf32", "1x3x1xi64", "1x3x2xf32", "f32"),
        ("1x3x2xf32", "1x3x1xi32", "1x3x2xf32", "f32"),
        ("1x3x2xf64", "1x3x1xi64", "1x3x2xf32", "f32"),
    ],
)
def test_what_does_not_fit(base: str, places: str, updates: str, old: str) -> None:
    with pytest.raises(StepwellError):
        scatter(base, places, updates, old)
