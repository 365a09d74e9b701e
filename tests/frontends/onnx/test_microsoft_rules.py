"""Operators of com.microsoft, compared with onnxruntime."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.rule_harness import (
    assert_matches,
    given,
    imported,
    node_model,
    onnxruntime_outputs,
    refused,
)

Array = np.ndarray[Any, Any]


def floats(*shape: int) -> Array:
    """Numbers that differ from shape to shape."""
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def check(
    op_type: str, inputs: list[Array | None], outputs: list[str] | None = None, domain: str = "com.microsoft",
    constants: Collection[int] = (), **fields: Any,
) -> None:  # fmt: skip
    model = node_model(op_type, inputs, outputs=outputs or ["y"], constants=constants, domain=domain, **fields)
    arrays = given(inputs, constants)
    assert_matches(imported(model).run(arrays), onnxruntime_outputs(model, arrays), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("a", "b", "fields"),
    [
        ((2, 3), (3, 4), {"alpha": 0.5}),
        ((5, 3, 2), (5, 3, 4), {"transA": 1}),
        ((5, 2, 3), (5, 4, 3), {"transB": 1, "alpha": 2.0}),
        ((2, 5, 3), (5, 3, 4), {"transBatchA": 1}),
    ],
)
def test_fused_matmul(a: tuple[int, ...], b: tuple[int, ...], fields: dict[str, Any]) -> None:
    check("FusedMatMul", [floats(*a), floats(*b)], **fields)


def test_gelus() -> None:
    check("BiasGelu", [floats(3, 8), floats(8)])
    check("Gelu", [floats(3, 8)])
    check("FastGelu", [floats(3, 8), floats(8)])
    check("FastGelu", [floats(3, 8)])
    check("QuickGelu", [floats(3, 8)], alpha=1.5)


def test_skip_normalizations() -> None:
    x, skip, row = floats(2, 3, 8), floats(2, 3, 8) * 2, floats(8)
    check("SkipLayerNormalization", [x, skip, row, row, row], ["y", "", "", "sum"], epsilon=1e-5)
    check("SkipLayerNormalization", [x, skip, row], epsilon=1e-5)
    check("SkipSimplifiedLayerNormalization", [x, skip, row, row], ["y", "", "", "sum"], epsilon=1e-5)
    check("SimplifiedLayerNormalization", [x, row], domain="", epsilon=1e-5, axis=-1)


@pytest.mark.parametrize(("bits", "k", "points"), [(4, 32, False), (4, 40, True), (8, 32, False), (2, 32, True)])
def test_matmul_of_packed_weights(bits: int, k: int, points: bool) -> None:
    n, block = 6, 16
    blocks = -(-k // block)
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 256, (n, blocks, block * bits // 8), np.uint8)
    inputs: list[Array | None] = [floats(3, k), weights, rng.uniform(0.5, 1, n * blocks).astype(np.float32)]
    if points:
        inputs.append(rng.integers(0, 256, n * -(-blocks * bits // 8), np.uint8))
    check("MatMulNBits", inputs, constants=[1, 2, 3], N=n, K=k, bits=bits, block_size=block)


def test_multi_head_attention() -> None:
    q, k = floats(2, 3, 8), floats(2, 5, 8)
    check("MultiHeadAttention", [q, k, k * 2], num_heads=2)
    check("MultiHeadAttention", [q, k, k * 2, floats(24)], constants=[3], num_heads=2, scale=0.3)
    check("MultiHeadAttention", [q, k, k * 2, None, None, floats(2, 2, 3, 5)], num_heads=2)
    check("MultiHeadAttention", [q, q * 2, q * 3], num_heads=4, unidirectional=1)
    past = floats(2, 2, 4, 4)
    inputs = [q, q * 2, q * 3, None, None, None, past, past * 2]
    check("MultiHeadAttention", inputs, ["y", "key", "value"], num_heads=2)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    check("MultiHeadAttention", [q, k, k * 2, None, mask], num_heads=2)


def test_packed_attention_inputs_are_refused() -> None:
    model = node_model("MultiHeadAttention", [floats(2, 3, 2, 3, 4)], domain="com.microsoft", num_heads=2)
    with refused("packed queries", Unsupported):
        imported(model)


def test_rotary_embedding() -> None:
    positions = np.array([[0, 1, 5], [3, 2, 4]], np.int64)
    tables = [floats(6, 4), floats(6, 4) * 2]
    check("RotaryEmbedding", [floats(2, 3, 16), positions, *tables])
    check("RotaryEmbedding", [floats(2, 3, 16), positions, *tables], interleaved=1)
    check("RotaryEmbedding", [floats(2, 2, 3, 8), positions, *tables])
    half = [floats(6, 2), floats(6, 2)]
    check("RotaryEmbedding", [floats(2, 3, 16), positions, *half], num_heads=2, rotary_embedding_dim=4)
