"""The layers of the training example: gradients against finite differences, exported models against onnxruntime."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SHAPES = {"mlp": (64,), "cnn": (1, 8, 8)}


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("train_digits", ROOT / "examples" / "train_digits.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_digits"] = module
    spec.loader.exec_module(module)
    return module


def _layer(digits: ModuleType, kind: str) -> tuple[Any, tuple[int, ...]]:
    rng = np.random.default_rng(0)
    return {
        "dense": (digits.Dense("dense", rng, 6, 5, gemm=True), (3, 6)),
        "conv": (digits.Conv3x3("conv", rng, 2, 3), (2, 2, 4, 6)),
        "relu": (digits.Relu("relu"), (3, 7)),
        "pool": (digits.MaxPool2x2("pool"), (2, 2, 4, 6)),
        "flatten": (digits.Flatten("flatten"), (2, 3, 2, 2)),
    }[kind]


@pytest.mark.parametrize("kind", ["dense", "conv", "relu", "pool", "flatten"])
def test_backward_is_the_derivative_of_forward(digits: ModuleType, kind: str) -> None:
    layer, shape = _layer(digits, kind)
    rng = np.random.default_rng(1)
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(np.float32) / 8 - 1.03
    weight = rng.standard_normal(layer.forward(x).shape).astype(np.float32)
    dx = layer.backward(weight)
    for array, gradient in [(x, dx), *((p.value, p.gradient) for p in layer.parameters())]:
        direction = rng.standard_normal(array.shape).astype(np.float32) * np.float32(1e-2)
        original = array.copy()
        array[...] = original + direction
        above = np.sum(layer.forward(x) * weight, dtype=np.float64)
        array[...] = original - direction
        below = np.sum(layer.forward(x) * weight, dtype=np.float64)
        array[...] = original
        assert (above - below) / 2 == pytest.approx(float(np.sum(gradient * direction)), rel=1e-2, abs=1e-4)


def test_adam_moves_by_the_rate_at_first_and_against_the_gradient(digits: ModuleType) -> None:
    parameter = digits.Parameter("p", np.array([1.0, 1.0]))
    parameter.gradient = np.array([5.0, -0.5], np.float32)
    parameter.update(1, rate=0.1)
    np.testing.assert_allclose(parameter.value, [0.9, 1.1], rtol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_exported_model_computes_the_layers(digits: ModuleType, name: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    layers = getattr(digits, name)(np.random.default_rng(3))
    x = np.random.default_rng(4).random((5, *SHAPES[name]), np.float32)
    session = ort.InferenceSession(digits.export(layers, name, SHAPES[name]).SerializeToString())
    (logits,) = session.run(None, {"image": x})
    np.testing.assert_allclose(logits, digits.predict(layers, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_committed_model_classifies_the_held_out_images(name: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    images = np.load(ROOT / "examples" / "digits_images.npy").reshape(-1, *SHAPES[name]).astype(np.float32) / 16
    labels = np.load(ROOT / "examples" / "digits_labels.npy")
    session = ort.InferenceSession(ROOT / "examples" / f"digits_{name}.onnx")
    (logits,) = session.run(None, {"image": images})
    assert np.mean(logits.argmax(axis=1) == labels) > 0.95
