"""How near a step of a decoder comes to the bandwidth at which its weights can be read.

    python -m benchmarks.decode                                    # the decoders of benchmarks/models, 1 and 2 threads
    python -m benchmarks.decode gpt2_decode_dyn --threads 1        # some
    python -m benchmarks.decode llama_decode_dyn --kernels 8       # and the kernels in which most time is lost

A step with one token uses every weight once, so it takes at least as long as reading so many bytes. That is measured in
turns with it, in the same process: as many threads that do nothing else read a buffer of the weights' size. Ratios are
taken round by round. Models whose past may grow are timed twice, called with the past as arrays, and with `state=` over
as many rows: then a step copies none of it, which the last column shows, all that is read and written beside weights.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from benchmarks import materialize, options, peak
from benchmarks.worker import Rules, cores, time_block

MODELS = ("gpt2_decode_p128", "gpt2_decode_dyn", "llama_decode_dyn")
MEGA = 1e6
ROUNDS = 7


@attrs.frozen
class Lost:
    """A kernel, what all its launches of a step read of weights and in all, and how long they take."""

    name: str
    launches: int
    weights: int
    bytes: int
    seconds: float
    threads: float


@attrs.frozen
class Step:
    """One decoder at one number of threads: the bytes of weights that a step reads and of all else that it streams, and
    for each round the median seconds of a step and of reading as many bytes as the weights have."""

    model: str
    threads: int
    has_state: bool
    weights: int
    others: int
    rounds: tuple[tuple[float, float], ...]
    kernels: tuple[Lost, ...]

    @property
    def seconds(self) -> float:
        """Of a step."""
        return statistics.median(step for step, _ in self.rounds)

    @property
    def bandwidth(self) -> float:
        """Bytes read in a second, at most."""
        return self.weights / statistics.median(read for _, read in self.rounds)

    @property
    def shares(self) -> list[float]:
        """The rate of a step as a part of the bandwidth, in each round."""
        return [read / step for step, read in self.rounds]


def growing_pairs(inputs: Sequence[Any], outputs: Sequence[Any]) -> dict[str, str]:
    """The inputs that get a row in a step, and the outputs that they become: the same shape but for `past + 1`."""
    left, pairs = list(outputs), {}
    for port in inputs:
        shapes = [tuple(map(str, other.type.shape)) for other in left]
        grown = tuple(f"{dim} + 1" if not isinstance(dim, int) else str(dim) for dim in port.type.shape)
        if any(not isinstance(dim, int) for dim in port.type.shape) and grown in shapes:
            pairs[port.name] = left.pop(shapes.index(grown)).name
    return pairs


def measured(name: str, threads: int, with_state: bool, seconds: float) -> Step | None:
    """Time one decoder, in a process of its own; None where nothing of it can be kept."""
    import stepwell

    os.environ["OMP_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores(threads) or os.sched_getaffinity(0))
    proto = materialize.load(materialize.MODELS / f"{name}.onnx")
    feeds = materialize.inputs(proto)
    pairs: dict[str, str] = {}
    if with_state:
        plain = stepwell.compile(proto, threads=threads)
        pairs = growing_pairs(plain.inputs, plain.outputs)
        if not pairs:
            return None
    sizes = materialize.symbols(proto)
    capacity = 2 * max(sizes.values()) if pairs else None
    model = stepwell.compile(proto, threads=threads, cache=False, state=pairs or None, capacity=capacity)
    launches = _launches(model)
    weights, others = streamed(launches, sizes)
    step, reader = _call(model, feeds, pairs), peak.Reader(weights, threads)
    rounds = []
    for _ in range(ROUNDS):
        read = reader.seconds()
        times = time_block(step, Rules(seconds=seconds / ROUNDS))
        rounds.append((statistics.median(times) * 1e-9, (read + reader.seconds()) / 2 * weights / reader.size))
    kernels = () if with_state else _kernels(model, launches, sizes, feeds)
    return Step(name, threads, with_state, weights, others, tuple(rounds), kernels)


def _call(model: Any, feeds: Mapping[str, Any], pairs: Mapping[str, str]) -> Callable[[], object]:
    """A step, again and again the same one."""
    arrays = [feeds[port.name] for port in model.inputs]
    if not pairs:
        return lambda: model(*arrays)
    state = model.new_state({name: feeds[name] for name in pairs})

    def step() -> None:
        with state.trial():
            model(*arrays, state=state)

    return step


def _launches(model: Any) -> list[Any]:
    from stepwell.backends.cpu.launches import launches_of
    from stepwell.backends.cpu.model import program_of
    from stepwell.dialects.func import FuncOp

    lowered = model._way.lowered
    kernels = {op.sym_name: op for op in lowered.walk_of(FuncOp) if "kernel" in op.attributes}
    return launches_of(program_of(lowered), kernels)


def streamed(launches: Sequence[Any], sizes: Mapping[str, int]) -> tuple[int, int]:
    """(bytes of weights, bytes of all else) that launches read and write."""
    weights = sum(launch.weights(sizes) for launch in launches)
    return weights, sum(launch.streamed(sizes) for launch in launches) - weights


def _kernels(
    model: Any, launches: Sequence[Any], sizes: Mapping[str, int], feeds: Mapping[str, Any]
) -> tuple[Lost, ...]:
    rows = model.profile(feeds).rows
    found = []
    for row in rows:
        own = [launch for launch in launches if launch.kernel == row.kernel]
        weights, others = streamed(own, sizes)
        found.append(Lost(row.kernel, row.launches, weights, weights + others, row.seconds, row.threads))
    return tuple(found)


def table(steps: Sequence[Step]) -> str:
    """The steps as a table in markdown."""
    lines = ["| model | threads | past | step ms | weights MB | GB/s | read GB/s | of it | spread | other MB |",
             "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    return "\n".join([*lines, *map(_row, steps)])


def _row(step: Step) -> str:
    return (
        f"| {step.model} | {step.threads} | {'state' if step.has_state else 'arrays'} | {step.seconds * 1e3:.3f} | "
        f"{step.weights / MEGA:.1f} | {step.weights / step.seconds * 1e-9:.1f} | {step.bandwidth * 1e-9:.1f} | "
        f"{statistics.median(step.shares):.0%} | {min(step.shares):.0%}-{max(step.shares):.0%} | "
        f"{step.others / MEGA:.2f} |"
    )


def kernels_table(step: Step, count: int) -> str:
    """The kernels of a step that are farthest from the bandwidth, in seconds."""
    head = f"{step.model}, {step.threads} threads: launches, ms, ms beyond the bandwidth, weights MB, GB/s, busy"
    beyond = {kernel: kernel.seconds - kernel.bytes / step.bandwidth for kernel in step.kernels}
    lines = [
        f"  {kernel.name:<44} x{kernel.launches:<3} {kernel.seconds * 1e3:8.3f} {beyond[kernel] * 1e3:8.3f} "
        f"{kernel.weights / MEGA:8.2f} {kernel.bytes / max(kernel.seconds, 1e-9) * 1e-9:7.1f} {kernel.threads:5.2f}"
        for kernel in sorted(beyond, key=lambda kernel: -beyond[kernel])[:count]
    ]
    return "\n".join([head, *lines])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of benchmarks/models ({', '.join(MODELS)})")
    parser.add_argument("--threads", default=["1", "2"], metavar="N,M", type=lambda text: text.split(","))
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--kernels", type=int, default=0, metavar="N", help="show N kernels of each model")
    args = parser.parse_args(argv)
    steps = []
    for name in args.models or MODELS:
        for threads in options.threads(parser, args):
            for with_state in (False, True):
                context = multiprocessing.get_context("spawn")
                with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
                    step = pool.submit(measured, name, threads, with_state, args.seconds).result()
                if step is None:
                    continue
                steps.append(step)
                print(table([step]).splitlines()[-1], file=sys.stderr, flush=True)
                if args.kernels and step.kernels:
                    print(kernels_table(step, args.kernels), file=sys.stderr, flush=True)
    print(table(steps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
