"""What a stage writes straight into the memory of the kernel's result."""

from __future__ import annotations

import numpy as np
import pytest

import stepwell
from tests.onnx_conformance.cases import OK
from tests.onnx_conformance.suite import outcome

# y = cos(x) - cos(x + x), of which each is a stage of its own
TEXT = """
builtin.module {
  func.func @main(%x: tensor<SIZExf32>) -> tensor<SIZExf32> {
    %p = graph.cos %x : (tensor<SIZExf32>) -> tensor<SIZExf32>
    %d = graph.add %x, %x : (tensor<SIZExf32>, tensor<SIZExf32>) -> tensor<SIZExf32>
    %q = graph.cos %d : (tensor<SIZExf32>) -> tensor<SIZExf32>
    %y = graph.sub %p, %q : (tensor<SIZExf32>, tensor<SIZExf32>) -> tensor<SIZExf32>
    func.return %y : tensor<SIZExf32>
  }
}
"""


@pytest.mark.parametrize("size", [1, 10, 16, 100, 5000])
def test_several_stages_of_one_root_do_not_share_it(size: int) -> None:
    x = np.linspace(-3, 3, size, dtype=np.float32)
    wide = x.astype(np.float64)
    expected = np.cos(wide) - np.cos(2 * wide)
    found = stepwell.compile(TEXT.replace("SIZE", str(size)))(x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("window", ["hamming", "hann", "blackman"])
def test_window_functions_spelled_out(window: str) -> None:
    """Two cosines of an index that is no tensor, each a stage of the sum."""
    assert outcome(f"test_{window}window_expanded").kind == OK
