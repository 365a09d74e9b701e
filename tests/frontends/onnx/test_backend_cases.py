"""ONNX's own node tests, for every operator that has an import rule: imported, interpreted, compared."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from stepwell.frontends.onnx import rules as _rules
from stepwell.frontends.onnx.registry import RULES
from tests.frontends.onnx.rule_harness import run_model

assert _rules

# Cases that cannot be compared, with the reason.
SKIPPED: dict[str, str] = {}


def is_covered(model: Any) -> bool:
    """Whether every node has a rule, and every input and output is a tensor of numbers."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    ports = [*model.graph.input, *model.graph.output]
    return (
        not model.functions
        and all(RULES.find(n.domain, n.op_type, opsets.get(n.domain, 0)) for n in model.graph.node)
        and all(p.type.WhichOneof("value") == "tensor_type" and p.type.tensor_type.elem_type != 8 for p in ports)
    )


def cases() -> Iterator[Any]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in load_model_tests(kind="node"):
            if case.model is not None and case.data_sets and is_covered(case.model):
                marks = [pytest.mark.skip(SKIPPED[case.name])] if case.name in SKIPPED else []
                yield pytest.param(case, id=case.name, marks=marks)


@pytest.mark.parametrize("case", list(cases()))
def test_case(case: Any) -> None:
    for inputs, expected in case.data_sets:
        given = [np.asarray(x) for x, name in zip(inputs, case.model.graph.input, strict=True) if name.name]
        found = run_model(case.model, given)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            b = np.asarray(b)
            assert a.dtype == b.dtype and a.shape == b.shape
            if b.dtype.kind in "biu":
                np.testing.assert_array_equal(a, b)
            elif b.dtype.kind == "V":
                np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=case.rtol, atol=case.atol)
            else:
                np.testing.assert_allclose(a, b, rtol=case.rtol, atol=case.atol)
