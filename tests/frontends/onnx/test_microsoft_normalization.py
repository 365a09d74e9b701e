"""Normalisations of com.microsoft, compared with onnxruntime, or with NumPy where it has no kernel for a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.microsoft_harness import Array, check, floats
from tests.frontends.onnx.rule_harness import i32, imported, node_model, refused

X, SKIP, ROW = floats(2, 3, 8), floats(2, 3, 8) * 2, floats(8)
SHAPES: dict[int, Sequence[int | str]] = {0: ["b", "s", 8], 1: ["b", "s", 8]}
F32_OUTPUTS = ["mean", "inverse"]


@pytest.mark.parametrize("skip", [SKIP, SKIP[:1], SKIP[0]], ids=["same", "one", "rank 2"])
def test_skip_normalizations(skip: Array) -> None:
    shapes = SHAPES | {1: ([1] if skip.shape[0] == 1 else ["b"] if skip.ndim == 3 else []) + ["s", 8]}
    outputs = ["y", "mean", "inverse", "sum"]
    check("SkipLayerNormalization", [X, skip, ROW, ROW, ROW], outputs, shapes=shapes, typed=F32_OUTPUTS, epsilon=1e-5)
    check("SkipLayerNormalization", [X, skip, ROW], shapes=shapes, epsilon=1e-3)
    outputs = ["y", "", "inverse", "sum"]
    check("SkipSimplifiedLayerNormalization", [X, skip, ROW, ROW], outputs, shapes=shapes, typed=F32_OUTPUTS)
    check("SkipSimplifiedLayerNormalization", [X, skip, ROW], shapes=shapes, epsilon=1e-3)


def test_skip_normalizations_of_tokens() -> None:
    check("SkipLayerNormalization", [X[0], SKIP[0], ROW, ROW], shapes={0: ["n", 8], 1: ["n", 8]}, native=True)
    check("SkipSimplifiedLayerNormalization", [X[0], SKIP[0], ROW], shapes={0: ["n", 8], 1: ["n", 8]}, native=True)


def test_skip_normalizations_of_narrow_floats() -> None:
    x, skip, row = (part.astype(np.float16) for part in (X, SKIP, ROW))
    for op_type in ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"):
        check(op_type, [x, skip, row], ["y", "", "", "sum"], shapes=SHAPES, tolerance=2e-3)


def test_simplified_layer_normalization() -> None:
    def simplified(x: Array, scale: Array, **fields: Any) -> None:
        check("SimplifiedLayerNormalization", [x, scale], ["y", "inverse"], domain="", typed=F32_OUTPUTS, **fields)

    simplified(X, ROW, shapes={0: ["b", "s", 8]}, epsilon=1e-3)
    simplified(X, floats(3, 8), axis=1)
    simplified(X.astype(np.float16), ROW.astype(np.float16), tolerance=2e-3)
    simplified(X.astype(np.float16), ROW, tolerance=2e-3)
    check("SimplifiedLayerNormalization", [X.astype(np.float64), ROW.astype(np.float64)], domain="", tolerance=1e-12)


def test_embed_layer_normalization() -> None:
    words, tables = i32([[1, 2, 0], [3, 1, 1]]), [floats(5, 8), floats(6, 8), floats(2, 8)]
    mask, places = i32([[1, 1, 0], [1, 0, 1]]), i32([[0, 1, 2], [3, 1, 0]])
    shapes: dict[int, Sequence[int | str]] = {n: ["b", "s"] for n in (0, 1, 7, 8)}
    outputs = ["y", "mask_index", "sum"]

    def embedded(segments: Array | None, more: Sequence[Array], **fields: Any) -> None:
        given = [words, segments, *tables[:2], tables[2] if segments is not None else None, ROW, 2 * ROW, *more]
        sizes = fields.pop("shapes", shapes)
        check("EmbedLayerNormalization", given, outputs, shapes=sizes, typed=["y", "sum"], **fields)

    embedded(words % 2, [])
    embedded(words % 2, [mask], native=True, epsilon=1e-3)
    embedded(None, [mask])
    embedded(words % 2, [mask, places])
    embedded(None, [mask, places[:1]], shapes=shapes | {8: [1, "s"]})


def group_normalized(x: Array, gamma: Array, beta: Array, groups: int) -> Array:
    """[n, h, w, c]"""
    rows = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups).astype(np.float64)
    centred = rows - rows.mean((1, 3), keepdims=True)
    made = centred / np.sqrt((centred**2).mean((1, 3), keepdims=True) + 1e-5)
    return np.asarray(made.reshape(x.shape) * gamma + beta)


def silu(x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-x)))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("activation", [0, 1])
def test_group_norms(activation: int, last: int, dtype: Any) -> None:
    gamma, beta, bias, tolerance = (
        floats(8),
        floats(8) * 2,
        floats(8).astype(dtype),
        2e-3 if dtype is np.float16 else 2e-5,
    )
    x, skip = floats(2, 4, 5, 8).astype(dtype), (floats(2, 4, 5, 8) * 3).astype(dtype)
    fields = {"groups": 2, "activation": activation, "channels_last": last, "tolerance": tolerance}
    sizes: dict[int, Sequence[int | str]] = {0: ["n", "h", "w", 8] if last else ["n", 8, "h", "w"]}

    def placed(array: Array) -> Array:
        return array if last or array.ndim != 4 else np.ascontiguousarray(np.moveaxis(array, -1, 1))

    def made(x: Array) -> Array:
        y = group_normalized(x, gamma, beta, 2)
        return placed((silu(y) if activation else y).astype(dtype))

    check("GroupNorm", [placed(x), gamma, beta], shapes=sizes, expected=[made(x)], **fields)
    for other in (skip, skip[:, 0, 0]):
        total = x.astype(np.float32) + (other if other.ndim == 4 else other[:, None, None]) + bias.astype(np.float32)
        shapes = sizes | {3: sizes[0] if other.ndim == 4 else ["n", 8]}
        inputs = [placed(x), gamma, beta, placed(other), bias]
        expected = [made(total), placed(total.astype(dtype))]
        check("SkipGroupNorm", inputs, ["y", "sum"], shapes=shapes, expected=expected, **fields)


def test_gated_rms_norm() -> None:
    x, gate = floats(2, 3, 8), floats(2, 3, 8) * 2
    for size, activation in ((8, "silu"), (4, "sigmoid"), (4, "swish")):
        check(
            "GatedRMSNorm", [x, floats(size), gate], shapes={0: ["b", "s", 8], 2: ["b", "s", 8]}, activation=activation
        )


@pytest.mark.parametrize(
    ("op_type", "inputs", "fields", "words"),
    [
        ("GroupNorm", [floats(1, 2, 2, 4), floats(4), floats(4)], {"groups": 2, "activation": 2}, "activation 2"),
        ("GatedRMSNorm", [X, floats(3), X], {}, "not a multiple of the 3"),
        ("GatedRMSNorm", [X, ROW, X], {"activation": "relu"}, "'relu' is not known"),
    ],
)
def test_refusals(op_type: str, inputs: Sequence[Array], fields: dict[str, Any], words: str) -> None:
    with refused(words, Unsupported):
        imported(node_model(op_type, inputs, domain="com.microsoft", **fields))
