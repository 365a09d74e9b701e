"""The kernels' models run, and their operation and byte counts are right."""

from __future__ import annotations

import numpy as np
import pytest

import stepwell
from benchmarks import kernels
from benchmarks.harness import Outcome, Spread

COUNTS = {
    "matmul_256": (2 * 256**3, 4 * 3 * 256**2),
    "matmul_512_inputs": (2 * 512**3, 4 * 3 * 512**2),
    "conv3x3_64_56": (2 * 64 * 64 * 9 * 56**2, 4 * (2 * 64 * 56**2 + 64 * 64 * 9 + 64)),
    "depthwise_144_56": (2 * 144 * 9 * 56**2, 4 * (2 * 144 * 56**2 + 144 * 9 + 144)),
    "transposed3x3_64_56": (2 * 64 * 32 * 9 * 56**2, 4 * (64 * 56**2 + 32 * 112**2 + 64 * 32 * 9 + 32)),
    "softmax_1536x128": (0, 4 * 2 * 1536 * 128),
    "cost_volume_64x32x128": (2 * 64 * 32 * 128 * 64, 4 * 3 * 64 * 32 * 128),
    "lstm_256": (2 * 64 * 4 * 256 * 512, 4 * (2 * 64 * 256 + 65 * 4 * 256 * 256 + 8 * 256)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_operations_and_bytes(name: str) -> None:
    kernel = kernels.KERNELS[name]()
    assert (kernel.flops, kernel.bytes) == COUNTS[name]


ONNX = [name for name, make in kernels.KERNELS.items() if make().plugin is None]


@pytest.mark.parametrize("name", ONNX)
def test_kernels_run_and_give_finite_values(name: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    model, feeds = kernels._build(name)
    (y,) = ort.InferenceSession(model.SerializeToString()).run(None, dict(feeds))
    assert np.isfinite(y).all() and y.std() > 0


@pytest.mark.parametrize("name", sorted(set(kernels.KERNELS) - set(ONNX)))
def test_kernels_of_plugins_run(name: str) -> None:
    model, feeds = kernels._build(name)
    y = stepwell.compile(model)(*feeds.values())
    assert np.isfinite(y).all() and y.std() > 0


@pytest.mark.parametrize(
    ("flops", "streams", "seconds", "expected"),
    [
        (10**9, False, 0.1, "10 GFLOP/s (5%)"), (10**9, True, 0.001, "1000 GFLOP/s (500%), 4.0 GB/s"),
        (0, False, 0.001, "4.0 GB/s"), (10**9, False, None, "-"),
    ],
)  # fmt: skip
def test_speed(flops: int, streams: bool, seconds: float | None, expected: str) -> None:
    model = kernels.KERNELS["softmax_1536x128"]().model
    outcome = Outcome("e", latency=None if seconds is None else Spread(seconds, seconds, seconds))
    assert kernels.speed(outcome, kernels.Kernel(model, flops, 4_000_000, streams), 200.0) == expected
