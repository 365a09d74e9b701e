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
    ("flops", "steps", "least", "seconds", "expected"),
    [
        (10**9, 0, None, 0.1, "10 GFLOP/s (5%)"), (0, 0, None, 0.001, "4.0 GB/s"), (10**9, 0, None, None, "-"),
        (10**9, 4, None, 0.001, "1000 GFLOP/s (500%), 4.0 GB/s"),
        (10**9, 4, 0.0009, 0.001, "1000 GFLOP/s (500%), 4.0 GB/s (90% of the limit)"),
    ],
)  # fmt: skip
def test_speed(flops: int, steps: int, least: float | None, seconds: float | None, expected: str) -> None:
    model = kernels.KERNELS["softmax_1536x128"]().model
    outcome = Outcome("e", latency=None if seconds is None else Spread(seconds, seconds, seconds))
    kernel = kernels.Kernel(model, flops, 4_000_000, steps, 1_000_000)
    assert kernels.speed(outcome, kernel, 200.0, least) == expected


@pytest.mark.parametrize(
    ("threads", "read_gbs", "expected"),
    [(1, 100.0, 10 / 100 + 40 / 100), (2, 100.0, 5 / 100 + 20 / 100), (1, 400.0, 10 / 100 + 20 / 100)],
)
def test_least_time_of_a_kernel_in_steps(threads: int, read_gbs: float, expected: float) -> None:
    """40 bytes of weights in all, 20 flops with them and 10 others: 100 GFLOP/s, reading faster or slower than that."""
    kernel = kernels.Kernel(kernels.KERNELS["softmax_1536x128"]().model, 30, 80, steps=4, streamed=10)
    assert kernels.least_seconds(kernel, threads, 100.0, read_gbs) == pytest.approx(expected * 1e-9)


def test_only_kernels_in_steps_have_limits() -> None:
    found = kernels.limits_of(["softmax_1536x128", "lstm_256"], [1, 2], 100.0)
    assert list(found) == ["lstm_256"]
    assert 0 < found["lstm_256"]["2"] < found["lstm_256"]["1"] < 0.1
