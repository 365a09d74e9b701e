"""Control flow: the onnx package's node cases, and sizes that change from round to round."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.frontends.onnx.contraction_harness import assert_matches, cases_of, data_sets, import_model, run

CASES = cases_of("If", "Loop", "Scan")


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    function = import_model(CASES[name].model)
    for inputs, expected in data_sets(CASES[name]):
        assert_matches(run(function, inputs), expected)
