"""Measure every distinct kernel of models alone, and set the time against what the cost model predicts.

    python -m benchmarks.schedules resnet50 bert_base --json kernels.json --svg docs/cost-model.svg
    python -m benchmarks.schedules --from kernels.json --svg docs/cost-model.svg
    python -m benchmarks.schedules resnet50 --candidates 6       # several schedules of each kernel

A kernel runs on one thread, on memory of its own that it has just used. Cycles become seconds by the clock that the
multiply-add peak shows, measured in the same run."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import onnx

from benchmarks import materialize, peak, svg

ROUNDS, SECONDS = 5, 0.01  # of each schedule


@attrs.frozen
class Measured:
    """One schedule of one kernel. `predicted` and `measured` are seconds, `limit` the model's largest term, `rank` the
    schedule's place among the candidates (0: the cost model's choice)."""

    model: str
    label: str
    launches: int
    rank: int
    schedule: str
    predicted: float
    measured: float
    limit: str


def measured(name: str, model: Any, clock: float, candidates: int) -> Iterator[Measured]:
    """The kernels of a model, each under some of its candidates; one that cannot run alone is left out."""
    from stepwell.backends.cpu import target
    from stepwell.compiler import Options
    from stepwell.errors import StepwellError
    from stepwell.lowering.tensor import candidates as choice
    from stepwell.lowering.tensor.machine import Machine
    from stepwell.sources import load_source
    from stepwell.tune.kernels import Timed, lone_kernels

    machine = Machine.of(target.host())
    sizes = materialize.symbols(model)
    module, hints = load_source(model, {symbol: (1, usual, max(1, usual)) for symbol, usual in sizes.items()})
    options = Options(threads=1, hints=hints)
    for lone in lone_kernels(module, options):
        ranking = choice.candidates(lone.kernel, machine, candidates)[:candidates]
        try:
            timed = [Timed(lone, each.schedule, options) for each in ranking]
        except StepwellError as error:
            print(f"{name}: {lone.label}: {error}", file=sys.stderr)
            continue
        runs = [[each.seconds(SECONDS) for each in timed] for _ in range(ROUNDS)]
        for rank, (each, times) in enumerate(zip(ranking, zip(*runs, strict=True), strict=True)):
            predicted = each.terms.cycles / clock
            yield Measured(name, lone.label, lone.launches, rank, str(each.schedule), predicted, min(times),
                           each.terms.limit)  # fmt: skip


def summary(rows: Sequence[Measured]) -> str:
    """How far the prediction is from what was measured: over kernels, and over the time that they take."""
    chosen = [row for row in rows if row.rank == 0 and row.measured > 0]
    ratios = sorted(row.measured / row.predicted for row in chosen)
    total = sum(row.measured * row.launches for row in chosen)
    lines = [f"{len(chosen)} kernels; measured / predicted: median {statistics.median(ratios):.2f}, "
             f"8 of 10 between {_at(ratios, 0.1):.2f} and {_at(ratios, 0.9):.2f}"]  # fmt: skip
    for limit in sorted({row.limit for row in chosen}):
        of = [row for row in chosen if row.limit == limit]
        share = sum(row.measured * row.launches for row in of) / total
        middle = statistics.median(row.measured / row.predicted for row in of)
        lines.append(f"  limited by {limit}: {len(of)} kernels, {share:.1%} of the time, median {middle:.2f}")
    whole = sum(row.predicted * row.launches for row in chosen)
    lines.append(f"  all launches: {total * 1e3:.1f} ms measured, {whole * 1e3:.1f} ms predicted")
    return "\n".join(lines)


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))]


def picture(rows: Sequence[Measured]) -> str:
    """A point for each kernel under the schedule that the model chose, in microseconds, by its limit."""
    series: dict[str, list[tuple[float, float, str]]] = {}
    for row in rows:
        if row.rank == 0 and row.measured > 0:
            point = (row.predicted * 1e6, row.measured * 1e6, f"{row.model}: {row.label}")
            series.setdefault(row.limit, []).append(point)
    return svg.scatter("Kernels, each alone on one thread", "predicted, us", "measured, us", series)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in benchmarks/models/, or paths")
    parser.add_argument("--candidates", type=int, default=1, metavar="N", help="schedules of each kernel (default: 1)")
    parser.add_argument("--from", dest="source", type=Path, metavar="JSON", help="use what --json has written")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw it")
    args = parser.parse_args(argv)
    if args.source is not None:
        rows = [Measured(**row) for row in json.loads(args.source.read_text())]
    elif not args.models:
        parser.error("no models given")
    else:
        clock = peak.clock()
        rows = []
        for name in args.models:
            path = materialize.MODELS / f"{name}.onnx"
            model = materialize.load(path) if path.exists() else onnx.load(name)
            for row in measured(Path(name).stem, model, clock, max(1, args.candidates)):
                rows.append(row)
                print(f"{row.measured * 1e6:9.1f} us, predicted {row.predicted * 1e6:9.1f} ({row.limit}): {row.model} "
                      f"{row.label[:48]}", flush=True)  # fmt: skip
    print(summary(rows))
    if args.json is not None:
        args.json.write_text(json.dumps([attrs.asdict(row) for row in rows], indent=1) + "\n")
    if args.svg is not None:
        args.svg.write_text(picture(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
