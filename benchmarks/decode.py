"""How near a step of a decoder comes to the bandwidth at which its weights can be read.

    python -m benchmarks.decode                                    # the decoders of benchmarks/models, 1 and 2 threads
    python -m benchmarks.decode gpt2_decode_dyn --threads 1        # some
    python -m benchmarks.decode llama_decode_dyn --kernels 8       # and the kernels in which most time is lost

A step with one token uses every weight once, so it takes at least as long as reading so many bytes. That is measured in
turns with it, in the same process: as many threads that do nothing else read a buffer of the weights' size. Ratios are
taken round by round. Models whose past may grow are timed twice, called with the past as arrays, and with `state=` over
as many rows: then a step copies none of it, which the last columns show, all that is read and written beside weights,
and the bytes of the past.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks import materialize, options, peak, report
from benchmarks.contention import Watch
from benchmarks.harness import DISTURBED
from benchmarks.worker import Rules, in_child, time_block, use_cores

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
    for each round the median seconds of a step and of reading as many bytes as the weights have. Of a model whose past
    may grow, `past` are the bytes of it that a step is given. Other processes `disturbed` so many of the rounds."""

    model: str
    threads: int
    has_state: bool
    weights: int
    others: int
    rounds: tuple[tuple[float, float], ...]
    kernels: tuple[Lost, ...] = ()
    past: int = 0
    disturbed: int = 0

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

    use_cores(threads)
    proto = materialize.load(materialize.MODELS / f"{name}.onnx")
    feeds = materialize.inputs(proto)
    sizes = materialize.symbols(proto)
    model = stepwell.compile(proto, threads=threads, cache=False)
    growing, pairs = growing_pairs(model.inputs, model.outputs), {}
    if with_state:
        if not growing:
            return None
        pairs, capacity = growing, 2 * max(sizes.values())
        model = stepwell.compile(proto, threads=threads, cache=False, state=pairs, capacity=capacity)
    launches = _launches(model)
    weights, others = streamed(launches, sizes)
    step, reader = _call(model, feeds, pairs), peak.Reader(weights, threads)
    rounds, disturbed = [], 0
    for _ in range(ROUNDS):
        watch = Watch()
        read = reader.seconds()
        times = time_block(step, Rules(seconds=seconds / ROUNDS))
        rounds.append((statistics.median(times) * 1e-9, (read + reader.seconds()) / 2 * weights / reader.size))
        disturbed += watch.foreign() > DISTURBED
    kernels = () if with_state else _kernels(model, launches, sizes, feeds)
    past = sum(int(feeds[name].nbytes) for name in growing)
    return Step(name, threads, with_state, weights, others, tuple(rounds), kernels, past, disturbed)


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


HEADER = ["model", "threads", "past", "step ms", "weights MB", "GB/s", "read GB/s", "of it", "spread", "other MB",
          "past MB"]  # fmt: skip


def table(steps: Sequence[Step]) -> str:
    """The steps as a table in markdown."""
    return report.table(HEADER, map(_row, steps))


def _row(step: Step) -> list[str]:
    return [
        step.model, str(step.threads), "state" if step.has_state else "arrays", f"{step.seconds * 1e3:.3f}",
        f"{step.weights / MEGA:.1f}", f"{step.weights / step.seconds * 1e-9:.1f}", f"{step.bandwidth * 1e-9:.1f}",
        f"{statistics.median(step.shares):.0%}", f"{min(step.shares):.0%}-{max(step.shares):.0%}",
        f"{step.others / MEGA:.2f}", f"{step.past / MEGA:.2f}" if step.past else "-",
    ]  # fmt: skip


def remarks(steps: Sequence[Step]) -> list[str]:
    """A line for each step that other processes disturbed."""
    return [
        f"{step.model}, threads {step.threads}, {'state' if step.has_state else 'arrays'}: other processes were busy "
        f"during {step.disturbed} of {len(step.rounds)} rounds"
        for step in steps
        if step.disturbed
    ]


def steps(data: Mapping[str, Any]) -> list[Step]:
    """What `--json` wrote."""

    def step(found: Mapping[str, Any]) -> Step:
        kernels = tuple(Lost(**kernel) for kernel in found["kernels"])
        return Step(**{**found, "rounds": tuple(map(tuple, found["rounds"])), "kernels": kernels})

    return [step(found) for found in data["steps"]]


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
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    args = parser.parse_args(argv)
    found = []
    for name in options.models(parser, args) if args.models else MODELS:
        for threads in options.threads(parser, args):
            for with_state in (False, True):
                step = in_child(measured, name, threads, with_state, args.seconds)
                if step is None:
                    continue
                found.append(step)
                print(table([step]).splitlines()[-1], file=sys.stderr, flush=True)
                if args.kernels and step.kernels:
                    print(kernels_table(step, args.kernels), file=sys.stderr, flush=True)
    print(table(found))
    if lines := remarks(found):
        print("", *(f"- {line}" for line in lines), sep="\n")
    if args.json:
        report.write(args.json, {"steps": [attrs.asdict(step) for step in found]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
