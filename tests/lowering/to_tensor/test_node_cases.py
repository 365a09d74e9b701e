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


def cases() -> Iterator[Any]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in load_model_tests(kind="node"):
            if case.model is not None and case.data_sets and case.name.startswith(FAMILIES):
                yield pytest.param(case, id=case.name)


def as_value(value: Any) -> Any:
    """An array, a list of arrays, or None."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return value if isinstance(value, list) or value is None else np.asarray(value)


@pytest.mark.parametrize("case", list(cases()))
def test_case(case: Any) -> None:
    compiled = stepwell.compile(case.model)
    for inputs, outputs in case.data_sets:
        found = compiled(*map(as_value, inputs))
        for given, wanted in zip(found if isinstance(found, tuple) else [found], map(as_value, outputs), strict=True):
            assert (given is None, type(given)) == (wanted is None, type(wanted))
            pair = [[value] if not isinstance(value, list) else value for value in (given, wanted) if value is not None]
            for a, b in zip(*pair, strict=True):
                assert (a.dtype, a.shape) == (b.dtype, b.shape)
                np.testing.assert_allclose(a, b, rtol=case.rtol, atol=1e-5)
