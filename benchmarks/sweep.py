"""Random small graphs around a convolution, timed beside onnxruntime: schedules that no model has shown yet.

    python -m benchmarks.sweep --seconds 600 --seed 7      # those that are slower than by 10 %, or wrong
    python -m benchmarks.sweep --case 7/13                 # one of them again

Both engines run on one thread of one process, in turns. A line is worth a look, not a number to quote: time what it
shows with `lower --bench` or `--profile`.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import attrs
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks import peers
from benchmarks.compare import difference
from benchmarks.worker import Array, Rules, Run, cores, time_block

SLOW = 0.9  # of onnxruntime's time by ours
CHANNELS = (3, 8, 16, 17, 24, 32, 48, 64, 96, 128, 256)
OUTPUTS = (16, 32, 64, 100, 128, 256)
PIXELS = (7, 13, 14, 20, 28, 31, 56)
TAILS = ("nothing", "relu", "silu", "pool", "global pool", "another convolution")
TURNS, RULES = 3, Rules(seconds=0.02, dropped=2, calls=3)


@attrs.frozen
class Convolution:
    """`outputs` channels from `channels` of `pixels` x `pixels`, by `taps` x `taps`, and what reads them."""

    channels: int
    outputs: int
    pixels: int
    taps: int
    stride: int
    groups: int
    tail: str

    @classmethod
    def drawn(cls, seed: str) -> Convolution:
        """The case of a seed, the same one everywhere."""
        draw = random.Random(seed)
        channels = draw.choice(CHANNELS)
        groups = draw.choice((1, 1, 1, channels, 4))
        groups = groups if channels % groups == 0 else 1
        outputs = channels if groups == channels else draw.choice(OUTPUTS) // groups * groups
        pixels, taps, stride = draw.choice(PIXELS), draw.choice((1, 1, 3, 3, 5)), draw.choice((1, 1, 2))
        return cls(channels, outputs, pixels, taps, stride, groups, draw.choice(TAILS))

    def model(self) -> onnx.ModelProto:
        """The graph, with weights that keep results near 1."""
        rng = np.random.default_rng(0)

        def weight(name: str, *shape: int) -> onnx.TensorProto:
            values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
            return numpy_helper.from_array(values.astype(np.float32), name)

        weights = [weight("w", self.outputs, self.channels // self.groups, self.taps, self.taps)]
        convolution = helper.make_node("Conv", ["x", "w"], ["c"], group=self.groups, strides=[self.stride] * 2,
                                       pads=[self.taps // 2] * 4)  # fmt: skip
        if self.tail == "another convolution":
            weights.append(weight("v", 32, self.outputs, 1, 1))
        tail = {
            "nothing": [helper.make_node("Identity", ["c"], ["y"])],
            "relu": [helper.make_node("Relu", ["c"], ["y"])],
            "silu": [helper.make_node("Sigmoid", ["c"], ["s"]), helper.make_node("Mul", ["c", "s"], ["y"])],
            "pool": [helper.make_node("MaxPool", ["c"], ["y"], kernel_shape=[2, 2], strides=[2, 2])],
            "global pool": [helper.make_node("GlobalAveragePool", ["c"], ["y"])],
            "another convolution": [helper.make_node("Relu", ["c"], ["r"]),
                                    helper.make_node("Conv", ["r", "v"], ["y"])],
        }[self.tail]  # fmt: skip
        shape = [1, self.channels, self.pixels, self.pixels]
        result = [1, 32 if self.tail == "another convolution" else self.outputs, "h", "w"]
        graph = helper.make_graph(
            [convolution, *tail], "sweep", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)], weights,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    def __str__(self) -> str:
        taps = f"{self.taps}x{self.taps}" + (f" by {self.stride}" if self.stride > 1 else "")
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        return f"{self.channels} -> {self.outputs} of {self.pixels}x{self.pixels}, {taps}{groups}, {self.tail}"


@attrs.frozen
class Found:
    """Microseconds of both engines, and how the results differ, if they do."""

    ours: float
    theirs: float
    differs: str | None

    @property
    def ratio(self) -> float:
        """Above 1 Stepwell is faster."""
        return self.theirs / self.ours


def run(case: Convolution) -> Found:
    """Both engines on one case."""
    model = case.model()
    feeds = {"x": np.random.default_rng(1).standard_normal((1, case.channels, case.pixels, case.pixels), np.float32)}
    ours, theirs = peers.stepwell(model, 1), peers.onnxruntime(model, 1)
    differs = difference(_copied(theirs, feeds), _copied(ours, feeds))
    times: tuple[list[float], list[float]] = [], []
    for _ in range(TURNS):
        for engine, blocks in zip((ours, theirs), times, strict=True):
            blocks.append(statistics.median(time_block(_call(engine, feeds), RULES)) / 1e3)
    return Found(min(times[0]), min(times[1]), differs)


def _call(engine: Run, feeds: dict[str, Array]) -> Callable[[], object]:
    return lambda: engine(feeds)


def _copied(engine: Run, feeds: dict[str, Array]) -> list[Array]:
    return [np.array(array) for array in engine(feeds)]


def sweep(seeds: Sequence[str], seconds: float, show: Callable[[str], None]) -> tuple[list[float], int]:
    """The ratios of cases until the time is over, and how many were wrong; `show` gets a line for each that is slow or
    wrong, or of a single case."""
    ratios: list[float] = []
    wrong, end = 0, time.monotonic() + seconds
    for seed in seeds:
        if ratios and time.monotonic() > end:
            break
        case = Convolution.drawn(seed)
        found = run(case)
        ratios.append(found.ratio)
        wrong += found.differs is not None
        if found.ratio < SLOW or found.differs or len(seeds) == 1:
            verdict = f", WRONG: {found.differs}" if found.differs else ""
            show(f"{seed}: {case}: {found.ours:.1f} us, onnxruntime {found.theirs:.1f} us, {found.ratio:.2f}{verdict}")
    return ratios, wrong


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the first case (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=300, help="to spend (default: %(default)s)")
    parser.add_argument("--case", metavar="SEED/N", help="this one alone")
    args = parser.parse_args(argv)
    if cpus := cores(1):
        os.sched_setaffinity(0, cpus)
    seeds = [args.case] if args.case else [f"{args.seed}/{n}" for n in range(100_000)]
    ratios, wrong = sweep(seeds, args.seconds, lambda line: print(line, flush=True))
    slow = sum(ratio < SLOW for ratio in ratios)
    mean = statistics.geometric_mean(ratios)
    print(f"{len(ratios)} cases: geometric mean {mean:.2f}, {slow} below {SLOW}, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
