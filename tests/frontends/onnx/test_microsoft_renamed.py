"""Operators of com.microsoft that ONNX has as well, compared with onnxruntime, or with NumPy where it has no kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.microsoft_harness import Array, check, floats
from tests.frontends.onnx.rule_harness import i32, imported, node_model, refused

X = floats(2, 3, 4)
SHAPES: dict[int, Sequence[int | str]] = {0: ["b", "n", "m"]}


def test_movement() -> None:
    check("Trilu", [X], shapes=SHAPES)
    check("Trilu", [X, np.array(1)], shapes=SHAPES, upper=0)
    check("ExpandDims", [X, i32(-1)], constants=[1], shapes=SHAPES)
    check("ExpandDims", [X, i32(1)], constants=[1], shapes=SHAPES)
    check("Pad", [X, np.array([0, 1, 2, 1, 0, 0])], constants=[1], shapes=SHAPES)
    check("Pad", [X, np.array([[0, 1, 2, 1, 0, 0]]), np.array([3], np.float32)], constants=[1])
    check("Pad", [X, np.array([0, 1, 2, 0, 0, 0])], mode="reflect", constants=[1], shapes=SHAPES)
    check("GatherND", [X, np.array([[1, 2], [0, 0]])], shapes=SHAPES)
    check("TorchEmbedding", [floats(5, 3), np.array([[1, 4], [0, 0]])], expected=[floats(5, 3)[[[1, 4], [0, 0]]]])


@pytest.mark.parametrize(("axis", "size", "step"), [(-1, 2, 1), (1, 3, 2), (0, 2, 2)])
def test_windows(axis: int, size: int, step: int) -> None:
    check("UnfoldTensor", [floats(4, 7, 5)], shapes={0: ["a", "b", "c"]}, dim=axis, size=size, step=step)


def test_ranges() -> None:
    check("Range", [i32([2]), i32([9]), i32([3])])
    check("Range", [np.array(1.0, np.float32), np.array(4.0, np.float32)])
    check("Range", [i32(0), i32(4)], constants=[0, 1])


def test_unique() -> None:
    check("Unique", [np.array([2, 1, 1, 3, 4, 3], np.float32)], ["y", "index", "counts"], shapes={0: ["n"]})


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_sums_of_bytes(dtype: Any) -> None:
    x = np.random.default_rng(2).integers(0, 100, (3, 4, 5)).astype(dtype)
    wide = x.astype(np.int32 if dtype is np.int8 else np.uint32)
    for axes, keep in (([1], 1), ([0, 2], 0)):
        expected = [wide.sum(tuple(axes), keepdims=bool(keep), dtype=wide.dtype)]
        check("ReduceSumInteger", [x], shapes=SHAPES, expected=expected, axes=axes, keepdims=keep)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sample(mode: str, padding: str) -> None:
    inputs = [floats(1, 2, 4, 5), floats(1, 3, 2, 2)]
    check("GridSample", inputs, mode=mode, padding_mode=padding)
    check("GridSample", inputs, mode=mode, padding_mode=padding, align_corners=1)


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
def test_linear_attention(rule: str) -> None:
    q, k, v, state = floats(2, 3, 16), floats(2, 3, 8) / 4, floats(2, 3, 6), floats(2, 2, 4, 3)
    decay = -np.abs(floats(2, 3, 2)) if "gated" in rule else None
    beta = 1 / (1 + np.exp(-floats(2, 3, 2))) if "delta" in rule else None
    inputs = [q, k, v, state, decay, beta]
    check("LinearAttention", inputs, ["y", "state"], update_rule=rule, q_num_heads=4, kv_num_heads=2)


def test_causal_convolution() -> None:
    x, weight, past = floats(2, 4, 5), floats(4, 1, 3), floats(2, 4, 2)
    check("CausalConvWithState", [x, weight, floats(4)], ["y", "state"], activation="silu")
    check("CausalConvWithState", [x, weight, None, past], ["y", "state"], shapes={0: ["b", 4, "s"], 3: ["b", 4, 2]})


@pytest.mark.parametrize(
    ("op_type", "inputs", "fields", "words"),
    [
        ("ExpandDims", [X, i32(1)], {}, "known when the model is compiled"),
        ("CausalConvWithState", [floats(2, 4, 5), floats(4, 1, 3)], {"dilation": 2}, "dilation = 2"),
        ("LinearAttention", [X, X, X], {"state_window": 2, "q_num_heads": 2, "kv_num_heads": 2}, "state_window = 2"),
    ],
)
def test_refusals(op_type: str, inputs: Sequence[Array], fields: dict[str, Any], words: str) -> None:
    with refused(words, Unsupported):
        imported(node_model(op_type, inputs, domain="com.microsoft", **fields))
