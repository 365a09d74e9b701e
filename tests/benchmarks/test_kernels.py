"""The kernels' models run, and their operation and byte counts are right."""

from __future__ import annotations

import numpy as np
import pytest

import stepwell
from benchmarks import kernels, peak
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


def took(*seconds: float) -> Outcome:
    return Outcome("e", blocks=seconds, latency=Spread.of(seconds) if seconds else None)


@pytest.mark.parametrize(
    ("flops", "steps", "limit", "seconds", "expected"),
    [
        (10**9, 0, None, [0.1], "10 GFLOP/s"), (10**9, 0, took(0.05), [0.1], "10 GFLOP/s (50%)"),
        (0, 0, None, [0.001], "4.0 GB/s"), (10**9, 0, took(0.1), [], "-"),
        (10**9, 4, took(0.0009, 0.004, 0.0007), [0.001, 0.005, 0.001], "1000 GFLOP/s, 4.0 GB/s (80%)"),
    ],
)  # fmt: skip
def test_speed(flops: int, steps: int, limit: Outcome | None, seconds: list[float], expected: str) -> None:
    """The share of the limit is the median of those of the rounds."""
    kernel = kernels.Kernel(kernels.KERNELS["softmax_1536x128"]().model, flops, 4_000_000, steps, 1_000_000)
    assert kernels.speed(took(*seconds), kernel, limit) == expected


@pytest.mark.parametrize(
    ("name", "threads", "flops", "read"),
    [
        ("matmul_256", 1, 2 * 256**3, 0), ("matmul_256", 2, 256**3, 0),
        ("lstm_256", 1, 2 * 64 * 4 * 256 * 256, 64 * 4 * 4 * 256 * 256),
        ("lstm_256", 2, 64 * 4 * 256 * 256, 32 * 4 * 4 * 256 * 256),
        ("softmax_1536x128", 1, 0, 4 * 2 * 1536 * 128), ("softmax_1536x128", 2, 0, 4 * 1536 * 128),
    ],
)  # fmt: skip
def test_the_limit_has_a_threads_share(
    name: str, threads: int, flops: int, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Work(peak.Work):
        def __call__(self) -> None:
            made.append(self)

    monkeypatch.setattr(peak, "Work", Work)
    assert kernels.limited(name, None, threads)({}) == ()
    (work,) = made
    assert work.flops == pytest.approx(flops, rel=1e-3)
    assert work.bytes == read
