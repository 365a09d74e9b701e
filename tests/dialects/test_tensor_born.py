"""Sizes that data tell, at the tensor landing."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.errors import StepwellError
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.verifier import verify

TEXT = """
builtin.module {
  func.func @main(%n: tensor<1xi64>, %x: tensor<?xf32, #graph.shape<["m"]>>) -> tensor<?xf32, #graph.shape<["k + 1"]>> {
    tensor.born %n {at_most = #tensor.dims<["m"]>, symbol = "k"} : tensor<1xi64>
    %y = tensor.generic {operandSegmentSizes = array<i32: 0, 0>, identities = [], iterators = ["parallel"],
      maps = [affine_map<(d0) -> (d0)>], names = ["i"], sizes = #tensor.dims<["k + 1"]>}
      : () -> tensor<?xf32, #graph.shape<["k + 1"]>> {
    ^bb0():
      %c = arith.constant 2.0 : f32
      tensor.yield %c : f32
    }
    func.return %y : tensor<?xf32, #graph.shape<["k + 1"]>>
  }
}
"""


def test_a_size_holds_from_the_op_on() -> None:
    module = parse_module(TEXT)
    verify(module)
    main = module.regions[0].block.first
    assert main is not None
    for count in (0, 3, 5):
        (result,) = run_function(main, [np.array([count]), np.zeros(5, np.float32)])
        assert result.tolist() == [2.0] * (count + 1)
    for count in (-1, 6):
        with pytest.raises(StepwellError, match="'k', which is decided by data"):
            run_function(main, [np.array([count]), np.zeros(5, np.float32)])


@pytest.mark.parametrize(("old", "new"), [
    ("1xi64", "2xi64"), ("1xi64", "1xi32"), ('<["m"]>, symbol', '<["m", 2]>, symbol'),
])  # fmt: skip
def test_a_size_is_one_number(old: str, new: str) -> None:
    with pytest.raises(StepwellError, match=r"a size is one i64|one largest size|i64"):
        verify(parse_module(TEXT.replace(old, new)))


def test_a_branch_decides_a_size_that_is_measured_behind_it() -> None:
    text = """
    builtin.module {
      func.func @main(%c: tensor<i1>, %x: tensor<4xf32>, %y: tensor<2xf32>) -> tensor<?xf32, #graph.shape<["k"]>> {
        %r = tensor.if %c : (tensor<i1>) -> tensor<?xf32, #graph.shape<["k"]>> {
          tensor.yield %x : tensor<4xf32>
        } {
          tensor.yield %y : tensor<2xf32>
        }
        tensor.measure %r {axis = 0, symbol = "k"} : tensor<?xf32, #graph.shape<["k"]>>
        func.return %r : tensor<?xf32, #graph.shape<["k"]>>
      }
    }
    """
    module = parse_module(text)
    verify(module)
    main = module.regions[0].block.first
    assert main is not None
    sizes = [run_function(main, [np.bool_(c), np.zeros(4), np.zeros(2)])[0].shape for c in (True, False)]
    assert sizes == [(4,), (2,)]
    for old, new, words in (
        ('symbol = "k"', 'symbol = "q"', "is not 'q'"), ("axis = 0", "axis = 1", "axis 1 of"),
        ("tensor<2xf32>", "tensor<2xf64>", "yields the results"),
    ):  # fmt: skip
        with pytest.raises(StepwellError, match=words):
            verify(parse_module(text.replace(old, new)))
