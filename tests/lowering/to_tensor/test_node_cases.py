"""ONNX's own node tests of recurrent layers and control flow, as machine code."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import stepwell

FAMILIES = ("test_lstm", "test_gru", "test_rnn", "test_simple_rnn", "test_if", "test_loop", "test_scan")
REFUSED = {
    "test_if_seq": "sequences", "test_if_opt": "optionals", "test_loop13_seq": "sequences",
    "test_loop16_seq_none": "sequences",
}  # fmt: skip


def cases() -> Iterator[Any]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in load_model_tests(kind="node"):
            if case.model is not None and case.data_sets and case.name.startswith(FAMILIES):
                refused = case.name in REFUSED
                marks = [pytest.mark.xfail(reason=REFUSED[case.name], strict=True)] if refused else []
                yield pytest.param(case, id=case.name, marks=marks)


def as_array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


@pytest.mark.parametrize("case", list(cases()))
def test_case(case: Any) -> None:
    compiled = stepwell.compile(case.model)
    for inputs, outputs in case.data_sets:
        found = compiled(*map(as_array, inputs))
        for a, b in zip(found if isinstance(found, tuple) else [found], map(as_array, outputs), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_allclose(a, b, rtol=case.rtol, atol=1e-5)
