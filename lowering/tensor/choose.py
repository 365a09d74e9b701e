"""The choice among schedules of one stage: what the cost model gives the fewest cycles."""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs

from stepwell.dialects.schedule import ScheduleAttr
from stepwell.lowering.tensor.cost import Terms, space_terms
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.stage_work import StageWork
from stepwell.lowering.tensor.tile_cost import tile_cycles


@attrs.frozen
class Ranked:
    """A schedule and what it costs."""

    schedule: ScheduleAttr
    terms: Terms


def ranked(
    schedules: Iterable[ScheduleAttr], work: StageWork, machine: Machine, count: int = 2
) -> list[Ranked]:
    """The schedules that may be the best, and so many at least, the best first; among equals, the first given.

    The cycles of the register tiles alone are a lower bound: one that is above the best whole is not looked at."""
    bounds = [(tile_cycles(work, schedule, machine), schedule) for schedule in schedules]
    found: list[Ranked] = []
    best = math.inf
    for least, schedule in sorted(bounds, key=lambda pair: pair[0]):
        if len(found) >= count and least > best:
            break
        found.append(Ranked(schedule, space_terms(work, schedule, machine)))
        best = min(best, found[-1].terms.cycles)
    return sorted(found, key=lambda each: each.terms.cycles)


def why_lost(loser: Ranked, best: Ranked) -> str:
    """How much dearer a schedule is, and the term that makes it so."""
    names = ("compute", "l2", "l3", "memory", "overhead")
    worst = max(names, key=lambda name: getattr(loser.terms, name) - getattr(best.terms, name))
    if getattr(loser.terms, worst) <= getattr(best.terms, worst) or best.terms.cycles == 0:
        return "no better"
    share = loser.terms.cycles / best.terms.cycles - 1
    return f"{share:+.1%}, for {worst.upper() if worst in ('l2', 'l3') else worst}"
