"""One module on arrays, at any landing."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.check import TooLong, interpret
from stepwell.dialects.tensor import is_written, unwritten
from stepwell.errors import IRError
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


BLOCKS = """builtin.module {
  func.func @main(%x: tensor<3xf32>) -> (tensor<2x2xf32>, tensor<2xf32>) {
    %a = tensor.generic %x {iterators = ["parallel"], maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0 floordiv 2, d0 mod 2)>], names = ["d0"], operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<[3]>} : (tensor<3xf32>) -> tensor<2x2xf32> {
    ^bb0(%e: f32):
      tensor.yield %e : f32
    }
    %b = tensor.generic %x {iterators = ["parallel"], maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (1)>], names = ["d0"], operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<[1]>} : (tensor<3xf32>) -> tensor<2xf32> {
    ^bb1(%e: f32):
      tensor.yield %e : f32
    }
    func.return %a, %b : tensor<2x2xf32>, tensor<2xf32>
  }
}"""  # noqa: E501


def test_what_a_map_leaves_out_is_not_written() -> None:
    a, b = interpret(parse_module(BLOCKS), [np.array([5, 6, 7], np.float32)]).results
    np.testing.assert_array_equal(a, [[5, 6], [7, np.nan]])
    assert is_written(a).tolist() == [[True, True], [True, False]]
    np.testing.assert_array_equal(b, [np.nan, 5])


PLACED = """builtin.module {{
  func.func @main(%x: tensor<2x3xf32>) -> tensor<2x{count}xf32> {{
    %a = tensor.generic %x {{iterators = ["parallel", "parallel"], maps = [affine_map<(d0, d1) -> (d0, 3)>, affine_map<(d0, d1) -> (d0, d1)>], names = ["d0", "d1"], operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<[2, {count}]>}} : (tensor<2x3xf32>) -> tensor<2x{count}xf32> {{
    ^bb0(%e: f32):
      tensor.yield %e : f32
    }}
    func.return %a : tensor<2x{count}xf32>
  }}
}}"""  # noqa: E501


def test_no_points_read_nothing() -> None:
    x = np.zeros((2, 3), np.float32)
    (made,) = interpret(parse_module(PLACED.format(count=0)), [x]).results
    assert made.shape == (2, 0)
    with pytest.raises(IRError, match=r"reads 3\.\.3 of a dim of size 3"):
        interpret(parse_module(PLACED.format(count=1)), [x])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64, np.int8, np.uint32, np.int64])
def test_not_written_is_told_from_every_result(dtype: type) -> None:
    blank = unwritten(np.zeros((2, 3), dtype))
    assert not is_written(blank).any() and blank.shape == (2, 3)
    blank[1, 2] = np.nan if np.dtype(dtype).kind in "fc" else 0
    assert is_written(blank).tolist() == [[False] * 3, [False, False, True]]
