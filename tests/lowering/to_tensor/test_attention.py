"""Attention with masks, windows and groups; rotary embedding: the graph's results at every landing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.attention import AttentionOp, RotaryEmbeddingOp
from tests.lowering.to_tensor.descent import descend

RANDOM = np.random.default_rng(7)


def normal(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


Q, K, V = normal(2, 4, 3, 8), normal(2, 2, 5, 8), normal(2, 2, 5, 6)


@pytest.mark.parametrize(
    "options",
    [{}, {"causal": True}, {"left": 1, "right": 0}, {"softcap": 2.0}, {"scores": "raw"}, {"scores": "probabilities"},
     {"scale": -0.5}],
    ids=str,
)  # fmt: skip
def test_options(options: dict[str, Any]) -> None:
    descend(lambda q, k, v: AttentionOp(q, k, v, **{"scale": 0.35, **options}), Q, K, V, loops=not options, native=True)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (1, 5), (2, 1, 3, 5), (3, 4)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_masks(shape: tuple[int, ...], dtype: Any) -> None:
    mask = normal(*shape) if dtype is np.float32 else RANDOM.integers(0, 2, shape).astype(np.bool_)
    descend(lambda q, k, v, m: AttentionOp(q, k, v, m, scale=0.5), Q, K, V, mask, native=True)


def test_rows_without_keys_are_zeros() -> None:
    mask = np.array([[False] * 5, [True] * 5, [False] * 5])
    results = descend(lambda q, k, v, m: AttentionOp(q, k, v, m, scale=0.5), Q, K, V, mask, native=True)
    assert not results[0][:, :, [0, 2]].any() and results[0][:, :, 1].all()


def test_lengths_and_offsets() -> None:
    lengths, offset = np.array([5, 2]), np.array([2, 0])
    descend(lambda q, k, v, n, o: AttentionOp(q, k, v, None, n, o, scale=0.5, causal=True), Q, K, V, lengths,
            offset, native=True)  # fmt: skip


def test_symbolic_sizes() -> None:
    descend(lambda q, k, v: AttentionOp(q, k, v, scale=0.5, causal=True), normal(2, 2, 3, 8), normal(2, 2, 5, 8),
            normal(2, 2, 5, 8), symbolic=True, native=True)  # fmt: skip


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("half", [4, 3])
def test_rotary_embedding(interleaved: bool, half: int) -> None:
    x, cos, sin = normal(2, 4, 3, 8), normal(2, 3, half), normal(2, 3, half)
    descend(lambda x, c, s: RotaryEmbeddingOp(x, c, s, interleaved=interleaved), x, cos, sin, loops=True, native=True)
    tables, positions = (normal(9, half), normal(9, half)), np.array([[0, 8, 1], [3, 2, 2]])
    descend(lambda x, c, s, p: RotaryEmbeddingOp(x, c, s, p, interleaved=interleaved), x, *tables, positions,
            symbolic=True, native=True)  # fmt: skip
