"""The onnx package's node cases for contractions, through import and interpretation."""

from __future__ import annotations

import pytest

from tests.frontends.onnx.contraction_harness import assert_matches, cases_of, check_sizes, data_sets, import_model, run

CASES = cases_of("MatMul", "MatMulInteger", "Gemm", "Einsum", "Conv", "ConvInteger", "ConvTranspose", "DeformConv")


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = CASES[name]
    function = import_model(case.model)
    for inputs, expected in data_sets(case):
        assert_matches(run(function, inputs), expected)


@pytest.mark.parametrize("name", CASES)
def test_case_with_symbolic_data(name: str) -> None:
    case = CASES[name]
    function = import_model(case.model, symbolic=[case.model.graph.input[0].name])
    for inputs, expected in data_sets(case):
        made = run(function, inputs)
        assert_matches(made, expected)
        check_sizes(function, inputs, made)
