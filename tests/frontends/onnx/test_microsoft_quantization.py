"""Quantised operators of com.microsoft, compared with onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from tests.frontends.onnx.microsoft_harness import Array, check, floats


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
