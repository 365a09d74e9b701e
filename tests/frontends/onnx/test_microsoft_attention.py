"""Attention of com.microsoft, compared with onnxruntime."""

from __future__ import annotations

import numpy as np

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.microsoft_harness import check, floats
from tests.frontends.onnx.rule_harness import imported, node_model, refused


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
