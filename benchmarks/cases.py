"""The figures that goals are judged by, each as the part of its goal that it reaches.

Every function takes the results of one or two benchmark commands apart.
"""

from __future__ import annotations

import fnmatch
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

import attrs

from benchmarks import report
from benchmarks.decode import Step
from benchmarks.harness import DISTURBED, Comparison, Outcome, ratios
from benchmarks.loading import Figures
from benchmarks.memory import MEBI, Peaks
from benchmarks.programs import Program

ARITHMETIC = 0.75  # of a call's time in kernels that arithmetic limits: a compute-bound model


@attrs.frozen
class Case:
    """One figure that a goal is judged by, as a part of the goal (1: reached) and in words, with what else is known of
    it. `disturbed` says during how much of it other processes were busy."""

    name: str
    reached: float
    text: str
    note: str = ""
    disturbed: str = ""

    @property
    def is_met(self) -> bool:
        """Whether all of the goal is reached."""
        return self.reached >= 1

    def __str__(self) -> str:
        more = "; ".join(filter(None, (self.note, self.disturbed and f"disturbed {self.disturbed}")))
        return f"{self.name}: {self.text}" + (f" ({more})" if more else "")


def at_least(value: float, goal: float) -> float:
    """The part that a value reaches of a goal which it should not be below."""
    return value / goal


def at_most(value: float, goal: float) -> float:
    """The part that a value reaches of a goal which it should not be above."""
    return goal / value if value > 0 else math.inf


def _name(comparison: Comparison) -> str:
    return f"{comparison.case}, threads {comparison.threads}"


def _disturbed(*outcomes: Outcome) -> str:
    """Of several outcomes the one that was disturbed most, in words."""
    worst = max(outcomes, key=lambda outcome: outcome.disturbed)
    return f"{worst.disturbed} of {len(worst.blocks)} blocks" if worst.disturbed else ""


def _chosen(
    comparisons: Sequence[Comparison], names: Sequence[str], but: Sequence[str] = (), threads: int | None = None
) -> Iterator[Comparison]:
    """Those that a pattern among `names` fits and none among `but`."""
    for c in comparisons:
        fits, not_ = (any(fnmatch.fnmatch(c.case, pattern) for pattern in patterns) for patterns in (names, but))
        if fits and not not_ and threads in (None, c.threads):
            yield c


def against(
    comparisons: Sequence[Comparison], peer: str, least: float, names: Sequence[str] = ("*",),
    but: Sequence[str] = report.IN_INTEGERS, threads: int | None = None,
) -> Iterator[Case]:  # fmt: skip
    """The peer's time by ours; a case that fails here reaches nothing, one that fails there says nothing."""
    for c in _chosen(comparisons, names, but, threads):
        ours = c.outcomes[0]
        for theirs in c.outcomes[1:]:
            if theirs.engine != peer or not theirs.blocks:
                continue
            ratio = theirs.ratio
            if ratio is None:
                yield Case(_name(c), 0, "failed")
            else:
                yield Case(_name(c), at_least(ratio.median, least), report.ratio(theirs),
                           disturbed=_disturbed(ours, theirs))  # fmt: skip


def mean_against(comparisons: Sequence[Comparison], peer: str, least: float) -> Iterator[Case]:
    """The geometric mean of the peer's times by ours, at each number of threads."""
    for threads in sorted({c.threads for c in comparisons}):
        if found := report.mean(comparisons, peer, threads):
            value, count = found
            yield Case(f"threads {threads}", at_least(value, least), f"{value:.2f} ({count} models)")


def share_of_limit(comparison: Comparison) -> float | None:
    """How near the first engine comes to the machine's limit, timed in the same rounds."""
    share = ratios(comparison.limit.blocks, comparison.outcomes[0].blocks) if comparison.limit else None
    return share.median if share else None


def _share(share: float | None) -> str:
    return "an unknown part" if share is None else f"{share:.1%}"


def near_peak(
    comparisons: Sequence[Comparison], least: float, names: Sequence[str], but: Sequence[str] = ()
) -> Iterator[Case]:
    """The share of the multiply-adds that one core could do."""
    for c in _chosen(comparisons, names, but, threads=1):
        share = share_of_limit(c)
        reached = 0 if share is None else at_least(share, least)
        yield Case(_name(c), reached, _share(share), disturbed=_disturbed(c.outcomes[0]))


def ahead_or_near_limit(
    comparisons: Sequence[Comparison], least: float, near: float, names: Sequence[str]
) -> Iterator[Case]:
    """The better peer's time by ours, or the share of the machine's limit: what reaches more."""
    for c in _chosen(comparisons, names):
        peers = [o.ratio.median for o in c.outcomes[1:] if o.ratio]
        share, better = share_of_limit(c), min(peers, default=0.0)
        text = f"{better:.2f} times the better peer, {_share(share)} of its limit"
        reached = max(at_least(better, least), at_least(share or 0, near))
        yield Case(_name(c), reached, text, disturbed=_disturbed(*c.outcomes))


def streaming(steps: Sequence[Step], least: float) -> Iterator[Case]:
    """The rate at which a step reads weights, as a part of that at which threads can that do nothing else."""
    for step in steps:
        share = statistics.median(step.shares)
        disturbed = f"{step.disturbed} of {len(step.rounds)} rounds" if step.disturbed else ""
        yield Case(_step(step), at_least(share, least), f"{share:.0%}", disturbed=disturbed)


def no_copy_of_past(steps: Sequence[Step]) -> Iterator[Case]:
    """The bytes that a step with state reads and writes less than one with arrays: at least those of the past, which
    the latter writes anew."""
    given = {(step.model, step.threads): step for step in steps if not step.has_state}
    for kept in steps:
        step = given.get((kept.model, kept.threads))
        if kept.has_state and step and kept.past:
            saved = step.others - kept.others
            text = f"{saved / 1e6:.2f} MB less than with arrays, the past has {kept.past / 1e6:.2f} MB"
            yield Case(f"{kept.model}, threads {kept.threads}", at_least(saved, kept.past), text)


def _step(step: Step) -> str:
    return f"{step.model}, threads {step.threads}, {'state' if step.has_state else 'arrays'}"


def ready(models: Mapping[str, Mapping[str, Figures]], step: str, most: float, names: Sequence[str]) -> Iterator[Case]:
    """The seconds of a step of getting ready."""
    for name in names:
        if name in models:
            figures = models[name][step]
            took, foreign = figures["seconds"], figures["foreign"]
            more = f"{figures['again'] * 1e3:.0f} ms once more" if "again" in figures else ""
            text = f"{took * 1e3:.0f} ms" if most < 1 else f"{took:.2f} s"
            yield Case(name, at_most(took, most), text, more, f"by {foreign:.1f} CPUs" if foreign > DISTURBED else "")


def growth(models: Mapping[str, Mapping[str, Figures]], most: float) -> Iterator[Case]:
    """The exponent of the power law nearest to the seconds of cold compilations by the number of distinct kernels."""
    points = [(found["cold"]["kernels"], found["cold"]["seconds"]) for found in models.values()]
    logarithms = [(math.log(kernels), math.log(seconds)) for kernels, seconds in points]
    if len({kernels for kernels, _ in points}) > 2:
        slope = statistics.linear_regression(*zip(*logarithms, strict=True)).slope
        yield Case(f"{len(points)} models", at_most(slope, most), f"exponent {slope:.2f}")


def running_memory(peaks: Sequence[Peaks]) -> Iterator[Case]:
    """The peak of a run by onnxruntime's."""
    for found in peaks:
        factor, compiled = found.running / found.peer, found.compiling / found.peer
        yield Case(found.model, at_most(factor, 1), f"{factor:.2f}", f"{compiled:.2f} if it compiles as well")


def compiling_memory(peaks: Sequence[Peaks], most: float) -> Iterator[Case]:
    """The peak of a compilation above the baseline, by the weights."""
    for found in peaks:
        above, weights = (found.compiling - found.baseline) / MEBI, found.weights / MEBI
        yield Case(found.model, at_most(found.factor, most), f"{found.factor:.1f}",
                   f"{above:.0f} MiB, weights {weights:.3g} MiB")  # fmt: skip


def tight_arenas(programs: Sequence[Program], most: float) -> Iterator[Case]:
    """The arena by what lives at once."""
    for program in programs:
        for arena in program.arenas:
            yield Case(f"{program.model}, {arena.at} sizes", at_most(arena.factor, most), f"{arena.factor:.2f}",
                       f"{arena.aligned_factor:.2f} by that of aligned buffers")  # fmt: skip


def scaling(programs: Sequence[Program], comparisons: Sequence[Comparison], least: float) -> Iterator[Case]:
    """The time of one thread by that of two, of models that arithmetic limits."""
    arithmetic = {program.model: program.arithmetic for program in programs}
    outcomes = {(c.case, c.threads): c.outcomes[0] for c in comparisons}
    for (name, threads), two in outcomes.items():
        one, share = outcomes.get((name, 1)), arithmetic.get(name, 0.0)
        if threads == 2 and share >= ARITHMETIC and one and one.latency and two.latency:
            factor = one.latency.median / two.latency.median
            yield Case(name, at_least(factor, least), f"{factor:.2f}", f"arithmetic {share:.0%}", _disturbed(one, two))


def sleeping(programs: Sequence[Program], most: float) -> Iterator[Case]:
    """The seconds that idle threads spin after a call."""
    for program in programs:
        yield Case(program.model, at_most(program.idle, most), f"{program.idle * 1e3:.2f} ms")


def few_barriers(programs: Sequence[Program]) -> Iterator[Case]:
    """Barriers by launches."""
    for program in programs:
        yield Case(program.model, at_most(program.barriers, program.launches),
                   f"{program.barriers} for {program.launches} launches")  # fmt: skip
