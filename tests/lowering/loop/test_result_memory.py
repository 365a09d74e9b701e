"""What a stage writes straight into the memory of the kernel's result."""

from __future__ import annotations

import pytest

from tests.onnx_conformance.cases import OK
from tests.onnx_conformance.suite import outcome


@pytest.mark.parametrize("window", ["hamming", "hann", "blackman"])
def test_two_stages_of_one_root_do_not_share_it(window: str) -> None:
    """A window function spelled out: two cosines of an index that is no tensor, each a stage of the sum."""
    assert outcome(f"test_{window}window_expanded").kind == OK
