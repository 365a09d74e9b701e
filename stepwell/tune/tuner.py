"""The search for schedules that are faster than the cost model's choice, by measuring.

    Tuner(lone_kernels(module, options), options, TuneFile.read(path, must_exist=False)).run(60)

Kernels are taken by their share of the time, as the cost model expects it. Of each, the model's best schedules are
timed in turns, then those near the fastest one, until nothing near is faster. A schedule replaces another only
where the ratios of runs next to each other are below 1 by more than they differ among themselves. The
file is written after every kernel. A search that the end of the time cuts short is marked as not finished: the next one
takes the kernels that the file lacks, then goes on with these.

Nothing is begun that would last beyond the end of the time, as far as what was done before tells: no kernel, no
schedule of one, no round of runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import attrs

from stepwell import __version__
from stepwell.compiler import Options, machine_of
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.errors import StepwellError
from stepwell.lowering.tensor.candidates import candidates, neighbours
from stepwell.lowering.tensor.choose import Ranked
from stepwell.lowering.tensor.cost import estimate
from stepwell.lowering.tensor.machine import Machine
from stepwell.tune.files import Entry, TuneFile, target_key
from stepwell.tune.kernels import LoneKernel, Timed

SECONDS = 60.0  # for a whole model
FIRST = 8  # of the cost model's best schedules
NEAR = 6  # neighbours that are timed at once
ROUNDS = 7  # of the decision; odd, so that a median is one of the runs
GLANCES = 2  # rounds that tell who takes part in it
RUN_SECONDS = 0.006  # of one run of one schedule
LEAST_CALLS = 7  # in a run, however long they take
MOST_TRIED = 48  # schedules of one kernel
MARGIN = 0.02  # that a schedule must be faster, at least


class Contender(Protocol):
    """A schedule that can be timed."""

    def seconds(self, budget: float) -> float:
        """The time of one call, in calls for about so many seconds."""


Compile = Callable[[LoneKernel, ScheduleAttr], Contender]


@attrs.frozen
class Found:
    """What came out for a kernel: its entry, or why there is none."""

    label: str
    launches: int
    entry: Entry | None = None
    problem: str = ""

    def __str__(self) -> str:
        if self.entry is None:
            return f"{self.label or 'a kernel'}: not tuned: {self.problem}"
        entry = self.entry
        gain = entry.usual_seconds / max(entry.seconds, 1e-12) - 1
        said = "as usual" if entry.schedule == entry.usual else f"{gain:+.0%}: {entry.schedule}"
        return f"{self.label or 'a kernel'}: {entry.seconds * 1e6:.1f} us, {entry.tried} tried, {said}"


@attrs.define
class Tuner:
    """One search over the kernels of a model. `compile_` and `clock` are what tests replace."""

    kernels: Sequence[LoneKernel]
    options: Options
    file: TuneFile
    compile_: Compile | None = None
    clock: Callable[[], float] = time.monotonic
    machine_name: str = ""

    def run(self, seconds: float = SECONDS) -> Iterator[Found]:
        """Search for about so long. What is found is in the file before it is given."""
        target = machine_of(self.options)
        machine = Machine.of(target)
        end = self.clock() + seconds
        pace = _Pace()
        for lone, cycles in self._in_order(machine, target_key(target)):
            self.file.refresh()  # others may search as well
            known = self.file.entries.get((lone.key, target_key(target)))
            if (known is not None and known.finished) or self.clock() + pace.search(cycles) >= end:
                continue
            try:
                entry = self._search(lone, machine, target, end, pace)
            except StepwellError as error:
                yield Found(lone.label, lone.launches, problem=str(error).partition("\n")[0])
                continue
            self.file.add(entry, target)
            self.file.write()
            yield Found(lone.label, lone.launches, entry)

    def _in_order(self, machine: Machine, target: str) -> list[tuple[LoneKernel, float]]:
        """The kernels to search and the cycles that the cost model expects of each: those that the file lacks, then
        those whose search was cut short, by their share of the time."""
        waiting = []
        for lone in self.kernels:
            known = self.file.entries.get((lone.key, target))
            if known is None or not known.finished:
                cycles = candidates(lone.kernel, machine, 1)[0].terms.cycles
                waiting.append((known is not None, -cycles * lone.launches, lone, cycles))
        return [(lone, cycles) for _, _, lone, cycles in sorted(waiting, key=lambda each: each[:2])]

    def missing(self) -> int:
        """How many kernels have not been searched to the end."""
        key = target_key(machine_of(self.options))
        known = [self.file.entries.get((lone.key, key)) for lone in self.kernels]
        return sum(entry is None or not entry.finished for entry in known)

    def _search(self, lone: LoneKernel, machine: Machine, target: Any, end: float, pace: _Pace) -> Entry:
        ranking: list[Ranked] = candidates(lone.kernel, machine, FIRST)
        usual = ranking[0].schedule
        race = _Race(lone, self.compile_ or self._compiled, self.clock, end, pace.compiling)
        race.begin(usual)
        known = self.file.entries.get((lone.key, target_key(target)))
        first = [usual, *([known.schedule] if known is not None else []), *(each.schedule for each in ranking[1:FIRST])]
        best, winner = usual, race.fastest(first, usual)
        while race.goes_on():
            best, before = winner, len(race.tried)
            near = [each for each in neighbours(lone.kernel, best) if each not in race.tried]
            near.sort(key=lambda each: estimate(lone.kernel, each, machine).cycles)
            winner = race.fastest([best, *near[:NEAR]], best)
            if len(race.tried) == before:
                break
        best, seconds, usual_seconds = race.confirmed(winner, usual)
        pace.learn(race.compiling, usual_seconds / max(ranking[0].terms.cycles, 1.0))
        return Entry(
            lone.key, target_key(target), lone.label, best, seconds, usual, usual_seconds,
            estimate(lone.kernel, best, machine).cycles, len(race.tried), self.options.threads or 0,
            not race.is_cut, self.machine_name or target.cpu, __version__,
        )  # fmt: skip

    def _compiled(self, lone: LoneKernel, schedule: ScheduleAttr) -> Contender:
        return Timed(lone, schedule, self.options)


@attrs.define
class _Pace:
    """What searches took so far: seconds of the slowest compilation, and of a kernel's call for each cycle that the
    cost model expects, at most."""

    compiling: float = 0.0
    per_cycle: float = 0.0

    def learn(self, compiling: float, per_cycle: float) -> None:
        """Take in a search."""
        self.compiling, self.per_cycle = max(self.compiling, compiling), max(self.per_cycle, per_cycle)

    def search(self, cycles: float) -> float:
        """Seconds that the search for a kernel takes at least: two schedules, a glance at each, and the decision."""
        run = max(RUN_SECONDS, LEAST_CALLS * cycles * self.per_cycle)
        return 2 * self.compiling + (2 * GLANCES + 2 * ROUNDS) * run


@attrs.define
class _Race:
    """Timing of the schedules of one kernel; `tried` are those that were compiled, or that cannot be."""

    lone: LoneKernel
    compile_: Compile
    clock: Callable[[], float]
    end: float
    compiling: float = 0.0  # seconds of the slowest compilation
    running: float = RUN_SECONDS  # of the longest run
    is_cut: bool = False  # something was not begun for lack of time
    tried: dict[ScheduleAttr, Contender | None] = attrs.Factory(dict)

    def begins(self, compiles: int = 0, runs: int = 0) -> bool:
        """Whether so much more is begun: it, and the confirmation of what is found, will be done before the end."""
        fits = self.clock() + compiles * self.compiling + (runs + 2 * ROUNDS) * self.running < self.end
        self.is_cut |= not fits
        return fits

    def goes_on(self) -> bool:
        """Whether another schedule is tried."""
        return len(self.tried) < MOST_TRIED and self.begins(compiles=1)

    def begin(self, usual: ScheduleAttr) -> None:
        """Compile the usual schedule and run it once, which tells what more takes. Raises StepwellError."""
        self.compile(usual, needed=True)
        self._rounds([usual], 1)

    def compile(self, schedule: ScheduleAttr, needed: bool = False) -> Contender | None:
        """Make a schedule ready; None where it does not suit the kernel. Raises StepwellError for one that is
        needed."""
        if schedule not in self.tried:
            began = self.clock()
            try:
                self.tried[schedule] = self.compile_(self.lone, schedule)
            except StepwellError:
                if needed:
                    raise
                self.tried[schedule] = None
            self.compiling = max(self.compiling, self.clock() - began)
        return self.tried[schedule]

    def fastest(self, schedules: Sequence[ScheduleAttr], holder: ScheduleAttr) -> ScheduleAttr:
        """The one among them that is surely faster than the holder, or the holder."""
        ready = []
        for schedule in dict.fromkeys(schedules):
            if schedule not in self.tried and not self.goes_on():
                break
            if self.compile(schedule) is not None:
                ready.append(schedule)
        if not self.begins(runs=GLANCES * len(ready)):
            return holder
        glances = self._rounds(ready, GLANCES)
        rivals = sorted((s for s in ready if s != holder), key=lambda s: min(glances[s]))[:2]
        if not rivals or min(glances[rivals[0]]) >= min(glances[holder]):
            return holder
        if not self.begins(runs=ROUNDS * (1 + len(rivals))):
            return holder
        times = self._rounds([holder, *rivals], ROUNDS)
        ratios = {rival: _ratios(times[rival], times[holder]) for rival in rivals}
        winner = min(rivals, key=lambda rival: statistics.median(ratios[rival]))
        return winner if is_surely_less(ratios[winner]) else holder

    def confirmed(self, best: ScheduleAttr, usual: ScheduleAttr) -> tuple[ScheduleAttr, float, float]:
        """What is left of the two when they are timed once more, its time, and that of the usual one: of many that are
        tried, one is always lucky. Where there is nothing to confirm and no time, fewer runs tell what it takes."""
        rounds = GLANCES if self.is_cut and best == usual else ROUNDS
        times = self._rounds(list(dict.fromkeys((best, usual))), rounds)
        if best != usual and not is_surely_less(_ratios(times[best], times[usual])):
            best = usual
        return best, statistics.median(times[best]), statistics.median(times[usual])

    def _rounds(self, schedules: Sequence[ScheduleAttr], rounds: int) -> dict[ScheduleAttr, list[float]]:
        """Rounds in which each is timed once, every second one backwards, so that a machine that slows down slows all
        of them."""
        found: dict[ScheduleAttr, list[float]] = {schedule: [] for schedule in schedules}
        for number in range(rounds):
            for schedule in schedules if number % 2 == 0 else reversed(schedules):
                contender = self.tried[schedule]
                assert contender is not None
                found[schedule].append(contender.seconds(RUN_SECONDS))
                self.running = max(self.running, LEAST_CALLS * found[schedule][-1])
        return found


def _ratios(times: Sequence[float], others: Sequence[float]) -> list[float]:
    return [a / max(b, 1e-12) for a, b in zip(times, others, strict=True)]


def is_surely_less(ratios: Sequence[float]) -> bool:
    """Whether ratios are below 1 by more than the margin and than the middle half of them lies apart, all but one of
    them at least."""
    ordered = sorted(ratios)
    quarter = len(ordered) // 4
    spread = (ordered[-1 - quarter] - ordered[quarter]) / 2
    return statistics.median(ordered) < 1 - max(MARGIN, spread) and sum(ratio >= 1 for ratio in ratios) <= 1
