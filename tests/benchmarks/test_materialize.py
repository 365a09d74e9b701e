"""Filled models and seeded inputs are the same bytes everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks import materialize


def digest(arrays: Mapping[str, Any]) -> str:
    total = hashlib.sha256()
    for name, array in arrays.items():
        total.update(f"{name}{array.dtype}{array.shape}".encode() + array.tobytes())
    return total.hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "weights", "inputs"),
    [
        ("digits_cnn", "5cdb60ae8c97b595", "da2f45cbe57efba0"),
        ("mlp_b64", "62d3c33a3e766d97", "f6b2a8fb00f70700"),
        ("lstm_2x256_s64", "339eabb3a210f7e2", "03c69e7a9175e7f3"),
        ("mobilenetv2", "0c55dd0b86d6b3bf", "09b44cb4269cbdb6"),
    ],
)
def test_the_bytes_of_models_and_inputs(name: str, weights: str, inputs: str) -> None:
    filled = materialize.load(materialize.MODELS / f"{name}.onnx")
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in filled.graph.initializer}
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert digest(arrays) == weights
    assert digest(materialize.inputs(filled)) == inputs


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("bert4_dyn", "9e14a456646037ac"), ("llama_decode_dyn", "64bd3776a09adcd9"), ("unet_dyn", "430a7997ce7bd9c4")],
)
def test_the_bytes_of_inputs_with_symbolic_sizes(name: str, inputs: str) -> None:
    assert digest(materialize.inputs(onnx.load(materialize.MODELS / f"{name}.onnx"))) == inputs


def test_symbols_win_over_the_metadata() -> None:
    model = onnx.load(materialize.MODELS / "unet_dyn.onnx")
    (image,) = materialize.inputs(model, {"batch": 3, "h8": 2}).values()
    assert image.shape == (3, 3, 16, 192)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [("batch", 4), ("8*h8", 24), ("past + 1", 8), ("2*batch*h8 + past+ 3", 34), ("unknown", 1), ("12", 12)],
)
def test_sizes_are_sums_of_products(expression: str, expected: int) -> None:
    assert materialize.size(expression, {"batch": 4, "h8": 3, "past": 7}) == expected
