"""Elementwise operators of com.microsoft and their like, compared with onnxruntime, or with NumPy where it has none of
them for a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.microsoft_harness import Array, check, floats
from tests.frontends.onnx.rule_harness import imported, node_model, refused

X, ROW = floats(2, 3, 8), floats(8)
SHAPES: dict[int, Sequence[int | str]] = {0: ["b", "s", 8]}


def softmax(x: Array, axis: int) -> Array:
    rows = x.reshape(*x.shape[:axis], -1)
    powers = np.exp(rows - rows.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True)).reshape(x.shape)


@pytest.mark.parametrize(
    ("axis", "inner", "bias"),
    [(3, 0, (3, 4)), (3, 0, (2, 1, 3, 4)), (3, 1, (2, 1, 1, 4)), (3, 1, (2, 4)), (2, 0, (2, 3, 4)), (2, 1, (2, 3, 4))],
)
def test_bias_softmax(axis: int, inner: int, bias: tuple[int, ...]) -> None:
    x, added = floats(2, 2, 3, 4), floats(*bias)
    wide = added
    if inner and len(bias) < 4:
        wide = added.reshape(*bias[: len(bias) - 4 + axis], *(1,) * (4 - len(bias)), *bias[len(bias) - 4 + axis :])
    expected = [softmax(x + wide, axis)]
    check("BiasSoftmax", [x, added], axis=axis, is_inner_broadcast=inner, expected=expected)


def test_sums() -> None:
    other = floats(2, 3, 8) * 2
    check("BiasDropout", [X, ROW, other], ["y", "mask"], shapes=SHAPES | {2: SHAPES[0]},
          expected=[X + ROW + other, np.ones(X.shape, np.bool_)])  # fmt: skip
    gate = floats(2, 3, 1)
    shapes = SHAPES | {1: SHAPES[0], 2: ["b", "s", 1]}
    check("GatedAdd", [X, other, gate], shapes=shapes)
    narrow = [part.astype(np.float16) for part in (X, other, gate)]
    check("GatedAdd", narrow, shapes=shapes)


def test_scaled_silu() -> None:
    check("ScaledSiLU", [X], shapes=SHAPES, alpha=1.5)
    check("ScaledSiLU", [X, np.array(0.5, np.float32)], shapes=SHAPES)
    check("ScaledSiLU", [X.astype(np.float16), np.array(0.5, np.float32)], shapes=SHAPES, tolerance=2e-3)


@pytest.mark.parametrize(("fields", "nan", "inf"), [({}, False, False), ({"isnan_only": 1}, False, True),
                                                    ({"isinf_only": 1}, True, False)])  # fmt: skip
def test_is_all_finite(fields: dict[str, Any], nan: bool, inf: bool) -> None:
    for element, finite in ((1.0, True), (np.nan, nan), (np.inf, inf), (-np.inf, inf)):
        other = np.array([0, element], np.float32)
        check("IsAllFinite", [X, other], shapes=SHAPES, expected=[np.array(finite)], **fields)


@pytest.mark.parametrize("op_type", ["ComplexMul", "ComplexMulConj"])
def test_complex_products(op_type: str) -> None:
    a, b = floats(3, 4, 2), floats(4, 2)
    left, right = (x[..., 0].astype(np.complex64) + 1j * x[..., 1] for x in (a, b))
    product = left * (np.conj(right) if op_type == "ComplexMulConj" else right)
    expected = [np.stack([product.real, product.imag], -1).astype(np.float32)]
    check(op_type, [a, b], shapes={0: ["n", "m", 2], 1: ["m", 2]}, expected=expected)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances(metric: str, dtype: Any) -> None:
    inputs = [floats(4, 3).astype(dtype), floats(5, 3).astype(dtype)]
    check("CDist", inputs, shapes={0: ["m", 3], 1: ["k", 3]}, metric=metric, native=dtype is np.float32)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float64, 1e-12), (np.float16, 4e-3)])
def test_inverses(dtype: Any, tolerance: float) -> None:
    x = (floats(2, 4, 4) + 3 * np.eye(4)).astype(dtype)
    check("Inverse", [x], shapes={0: ["b", "n", "n"]}, tolerance=tolerance)
    check("Inverse", [x[0]], tolerance=tolerance)


@pytest.mark.parametrize(
    ("op_type", "inputs", "constants", "fields", "words"),
    [
        ("CDist", [floats(4, 3), floats(5, 3)], [], {"metric": "cosine"}, "'cosine' is not supported"),
        ("BiasDropout", [X, ROW, None, None, np.array(True)], [4], {}, "dropping elements"),
    ],
)
def test_refusals(
    op_type: str, inputs: Sequence[Array | None], constants: Sequence[int], fields: dict[str, Any], words: str
) -> None:
    with refused(words, Unsupported):
        imported(node_model(op_type, inputs, domain="com.microsoft", constants=constants, **fields))
