"""The onnx package's node cases for signal processing, through import and interpretation."""

from __future__ import annotations

import pytest

from tests.frontends.onnx.contraction_harness import assert_matches, cases_of, data_sets, import_model, run

CASES = cases_of("DFT", "STFT", "HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix")


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    function = import_model(CASES[name].model)
    for inputs, expected in data_sets(CASES[name]):
        assert_matches(run(function, inputs), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if "dft" in name or "stft" in name])
def test_case_with_symbolic_data(name: str) -> None:
    case = CASES[name]
    function = import_model(case.model, symbolic=[case.model.graph.input[0].name], fixed=[-1])
    for inputs, expected in data_sets(case):
        assert_matches(run(function, inputs), expected, rtol=1e-3, atol=1e-5)
