"""Engines side by side on one model: load each in a worker, compare outputs, time blocks in turns, take ratios.

The ratio of two engines is taken round by round, from the medians of neighbouring blocks, so that a machine that
slows down for a while slows both; its spread over the rounds is reported with it.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

import attrs

from benchmarks.compare import difference
from benchmarks.worker import Block, Case, Engine, Rules, Worker, WorkerError

T = TypeVar("T")
LIMIT = "limit"  # the name of what shows the machine's limit, beside those of the engines

# Blocks during which other processes took more of our CPUs than this share of one are counted as disturbed.
DISTURBED = 0.1


@attrs.frozen
class Spread:
    """The median of some values with the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of `values`, of which there is at least one."""
        return cls(statistics.median(values), min(values), max(values))


@attrs.frozen
class Outcome:
    """How one engine did on one case.

    `blocks` holds the median seconds of each block; `ratio` this engine's time over the first engine's, round by
    round; `disturbed` counts blocks during which other processes used our CPUs; `differs` says in words how the
    outputs differ from the first engine's; `error` why there are no times.
    """

    engine: str
    load_seconds: float | None = None
    blocks: tuple[float, ...] = ()
    latency: Spread | None = None
    ratio: Spread | None = None
    disturbed: int = 0
    differs: str | None = None
    error: str | None = None


@attrs.frozen
class Comparison:
    """All engines on one case at one number of threads; `outcomes` in the order of the engines. `limit`: what the
    machine can do, timed in the same rounds."""

    case: str
    threads: int
    outcomes: tuple[Outcome, ...]
    limit: Outcome | None = None


def ratios(blocks: Sequence[float], reference: Sequence[float]) -> Spread | None:
    """Seconds of `blocks` over those of `reference`, pair by pair; None when a round is missing on either side."""
    if not blocks or len(blocks) != len(reference):
        return None
    return Spread.of([own / other for own, other in zip(blocks, reference, strict=True)])


def turns(items: Sequence[T], rounds: int) -> list[list[T]]:
    """The order in which items take their turns: every second round runs backwards, which cancels a steady drift."""
    return [list(items) if number % 2 == 0 else list(reversed(items)) for number in range(rounds)]


def _load(
    engines: Mapping[str, Engine], case: Case, threads: int, rules: Rules, stack: contextlib.ExitStack
) -> tuple[dict[str, Worker], dict[str, str]]:
    """A paused worker for each engine that could load the case, and the errors of the others."""
    workers: dict[str, Worker] = {}
    errors: dict[str, str] = {}
    for name, engine in engines.items():
        try:
            worker = stack.enter_context(Worker(engine, case, threads, rules.load_timeout))
        except WorkerError as error:
            errors[name] = str(error)
        else:
            worker.pause()
            workers[name] = worker
    return workers, errors


def _timed(workers: Mapping[str, Worker], errors: dict[str, str], rules: Rules) -> dict[str, list[Block]]:
    """The blocks of every worker; one that dies leaves the turns and enters `errors`."""
    blocks: dict[str, list[Block]] = {name: [] for name in workers}
    for order in turns(list(workers), rules.rounds):
        for name in order:
            if name in errors:
                continue
            time.sleep(rules.rest)
            try:
                with workers[name].awake():
                    blocks[name].append(workers[name].block(rules))
            except WorkerError as error:
                errors[name] = str(error)
    return blocks


def measure(
    engines: Mapping[str, Engine], case: Case, threads: int, rules: Rules, limit: Engine | None = None
) -> Comparison:
    """Time `engines`, the first of which the others are compared with, on `case` with `threads` threads each. `limit`
    takes turns with them; nothing is compared with what it gives."""
    with contextlib.ExitStack() as stack:
        everyone = {**engines, LIMIT: limit} if limit else engines
        workers, errors = _load(everyone, case, threads, rules, stack)
        blocks = _timed(workers, errors, rules)
    medians = {name: tuple(statistics.median(b.times) / 1e9 for b in own) for name, own in blocks.items()}
    first = next(iter(engines))
    outcomes = []
    for name in engines:
        if name not in workers:
            outcomes.append(Outcome(name, error=errors[name]))
            continue
        own, loaded = medians[name], workers[name].loaded
        compared = name != first and first in workers
        outcomes.append(
            Outcome(
                engine=name,
                load_seconds=loaded.seconds,
                blocks=own,
                latency=Spread.of(own) if own else None,
                ratio=ratios(own, medians[first]) if compared else None,
                disturbed=sum(block.foreign > DISTURBED for block in blocks[name]),
                differs=difference(workers[first].loaded.outputs, loaded.outputs) if compared else None,
                error=errors.get(name),
            )
        )
    own = medians.get(LIMIT, ())
    most = Outcome(LIMIT, None, own, Spread.of(own) if own else None, error=errors.get(LIMIT)) if limit else None
    return Comparison(case.name, threads, tuple(outcomes), most)
