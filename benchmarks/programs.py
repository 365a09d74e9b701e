"""What compiled programs are made of: kernels, barriers, the arena beside its lower bound, and what idle threads do.

    python -m benchmarks.programs                      # all models
    python -m benchmarks.programs unet_dyn --threads 1

kernels, launches   distinct kernels, and how often a run starts one
barriers            how often a run makes all threads wait for each other
arithmetic          the part of a call's time that its kernels spend where arithmetic is their limit, by the profile
idle ms             CPU time that the team's threads spin away after a call, before they sleep
arena               MiB, and by what lives at once, at which symbols have their typical size, 1, and four times the
                    typical one; in brackets the same where every buffer begins at a multiple of 64 bytes
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks import materialize, options, report
from benchmarks.memory import MEBI
from benchmarks.worker import in_child, use_cores

WORDS = {"typical": "", "least": " at least sizes", "largest": " at largest sizes"}
TIMES = 4  # the typical size of a symbol: its largest
PAUSES, PAUSE = 9, 0.02  # calls after which idle threads are watched, and for how many seconds


@attrs.frozen
class Arena:
    """The bytes of an arena with symbols `at` some sizes, the most that lives at once, and that of aligned buffers."""

    at: str
    size: int
    bound: int
    aligned: int

    @property
    def factor(self) -> float:
        """The size by the lower bound."""
        return self.size / self.bound if self.bound else 1.0

    @property
    def aligned_factor(self) -> float:
        """The size by the lower bound of aligned buffers."""
        return self.size / self.aligned if self.aligned else 1.0


@attrs.frozen
class Program:
    """One model compiled for so many threads. `arithmetic` is a part of 1, `idle` in seconds; `rounds` says whether
    data decide how often some launches and barriers come, which then count once."""

    model: str
    threads: int
    kernels: int
    launches: int
    barriers: int
    rounds: bool
    arithmetic: float
    idle: float
    arenas: tuple[Arena, ...]


def measured(name: str, threads: int, seconds: float) -> Program:
    """Compile a model of benchmarks/models and look at it; in a process of its own."""
    import stepwell
    from stepwell.backends.cpu.waits import Count, count_waits
    from stepwell.dialects.kernel import LaunchOp

    use_cores(threads)
    proto = materialize.load(materialize.MODELS / f"{name}.onnx")
    feeds = materialize.inputs(proto)
    hints = {symbol: (1, usual, TIMES * usual) for symbol, usual in materialize.symbols(proto).items()}
    model = stepwell.compile(proto, shapes=hints, threads=threads, cache=False)
    lowered = model._way.lowered
    assert lowered is not None
    waits = count_waits(lowered)
    count = waits.run + waits.rounds
    return Program(
        name, threads, len({op.callee for op in lowered.walk_of(LaunchOp)}), count.launches, count.barriers,
        waits.rounds != Count(), _arithmetic(model.profile(feeds, seconds)), idle_seconds(model, feeds),
        arenas(model.context.statistics),
    )  # fmt: skip


def arenas(found: Mapping[str, int]) -> tuple[Arena, ...]:
    """The arena at all sizes that a compilation's statistics have; empty where no buffer is needed."""
    return tuple(
        Arena(at, found[f"arena bytes{words}"], found[f"arena lower bound bytes{words}"],
              found[f"arena lower bound bytes, aligned{words}"])
        for at, words in WORDS.items()
        if f"arena bytes{words}" in found
    )  # fmt: skip


def _arithmetic(profile: Any) -> float:
    bound = sum(row.seconds for row in profile.rows if row.limit == "compute")
    return float(bound / max(profile.seconds, 1e-9))


def idle_seconds(model: Any, feeds: Mapping[str, Any]) -> float:
    """The median CPU time that this process takes while it sleeps after a call."""
    found = []
    for _ in range(PAUSES):
        model.run(feeds)
        start = time.process_time()
        time.sleep(PAUSE)
        found.append(time.process_time() - start)
    return statistics.median(found)


HEADER = ["model", "threads", "kernels", "launches", "barriers", "arithmetic", "idle ms"]


def table(programs: Sequence[Program]) -> str:
    """A line for each program, with its arena at all sizes."""
    return report.table([*HEADER, *(f"arena, {at}" for at in WORDS)], map(_row, programs))


def _row(program: Program) -> list[str]:
    sizes = {arena.at: f"{arena.size / MEBI:.2f} {arena.factor:.2f} ({arena.aligned_factor:.2f})"
             for arena in program.arenas}  # fmt: skip
    more = "+" if program.rounds else ""
    return [program.model, str(program.threads), str(program.kernels), f"{program.launches}{more}",
            f"{program.barriers}{more}", f"{program.arithmetic:.0%}", f"{program.idle * 1e3:.2f}",
            *(sizes.get(at, "-") for at in WORDS)]  # fmt: skip


def programs(data: Mapping[str, Any]) -> list[Program]:
    """What `--json` wrote."""
    return [Program(**{**found, "arenas": tuple(Arena(**arena) for arena in found["arenas"])})
            for found in data["programs"]]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in benchmarks/models (default: all)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a profile (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    args = parser.parse_args(argv)
    found = []
    for name in options.models(parser, args):
        found.append(in_child(measured, name, args.threads, args.seconds))
        print(table(found[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(found))
    if args.json:
        report.write(args.json, {"programs": [attrs.asdict(program) for program in found]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
