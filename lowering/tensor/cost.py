"""The cost model: what a schedule of a kernel costs on a machine, in cycles.

    terms = estimate(kernel, schedule, target)
    terms.cycles, terms.limit          # 1.3e6, "compute"

A stage takes as long as the largest of its terms and a small part of the others: the cycles of its register tiles with
all data near (lowering/tensor/tile_cost.py), and the bytes that its loops move into each level of the memory through
that level's bandwidth (lowering/tensor/streams.py). Stages follow one another; to their sum come the loops' own cycles.
Nothing depends on the number of threads. docs/cost-model.md has the formulas, and how far they are from what is
measured."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from stepwell.dialects.schedule import WHOLE_KERNEL, ScheduleAttr
from stepwell.dialects.tensor import KernelOp
from stepwell.lowering.tensor.common_rows import Rows
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.running import running
from stepwell.lowering.tensor.stage_work import StageWork
from stepwell.lowering.tensor.stages import Stage, stages_of
from stepwell.lowering.tensor.streams import WRITTEN, Level, nest_of, traffic
from stepwell.lowering.tensor.tile_cost import tile_cycles

GRAIN_CYCLES = 60.0  # to hand out a grain
LAUNCH_CYCLES = 100.0  # to launch a kernel
EXPOSED = (0.05, 0.05, 0.2, 0.2)  # of compute, L2, L3, memory, which should be hidden behind the largest


@attrs.frozen
class Terms:
    """Cycles of one core. `compute` is infinite where a register tile does not fit the registers; `l2`, `l3` and
    `memory` are for what comes from there. `bound` is the sum over the stages of their largest terms, and of a part of
    the others."""

    compute: float = 0
    l2: float = 0
    l3: float = 0
    memory: float = 0
    overhead: float = 0
    bound: float = 0

    @property
    def cycles(self) -> float:
        """The whole."""
        return self.bound + self.overhead

    @property
    def limit(self) -> str:
        """The largest term."""
        named = {"compute": self.compute, "L2": self.l2, "L3": self.l3, "memory": self.memory,
                 "overhead": self.overhead}  # fmt: skip
        return max(named, key=lambda name: named[name])

    def __add__(self, other: Terms) -> Terms:
        return Terms(*(a + b for a, b in zip(attrs.astuple(self), attrs.astuple(other), strict=True)))

    def __str__(self) -> str:
        parts = [f"compute {_short(self.compute)}"]
        named = {"L2": self.l2, "L3": self.l3, "memory": self.memory, "overhead": self.overhead}
        parts += [f"{name} {_short(value)}" for name, value in named.items() if value]
        return f"{_short(self.cycles)} cycles ({', '.join(parts)})"


def _short(value: float) -> str:
    return "too many registers" if math.isinf(value) else f"{value:.3g}"


def estimate(kernel: KernelOp, schedule: ScheduleAttr, target: Any = None) -> Terms:
    """What a kernel costs under a schedule on a target (a backend's description, or a `Machine`), warm: what fits a
    cache as a whole is there when the kernel starts. Sizes that are symbols count as TYPICAL."""
    machine = target if isinstance(target, Machine) else Machine.of(target)
    stages = stages_of(kernel)
    root = StageWork.of_stage(stages[-1], stages)
    labels = [WHOLE_KERNEL, *(spec.label for spec in schedule.loops)]
    local = max((labels.index(spec.at) for spec in schedule.stages if spec.at in labels), default=0)
    total = space_terms(root, schedule, machine, local=local)
    rows = Rows.of(stages)
    for stage in stages[:-1]:
        spec = next((spec for spec in schedule.stages if spec.name == stage.name), None)
        if spec is None:
            continue
        work = StageWork.of_stage(stage, stages)
        parts = running(rows) if rows is not None and schedule.cuts_a_softmax else None
        along = {parts.dim: parts.along[stage]} if parts is not None and stage in parts.along else {}
        outer = list(_levels_of_root(root, schedule, spec.at, rows, stage, work, along))
        inside = outer[-1].inside if outer else tuple(work.space.sizes)
        total = total + space_terms(work.at(inside), spec.schedule, machine, outer, work.space.sizes)
    return launched(total)


def launched(terms: Terms) -> Terms:
    """What the stages of a kernel cost, and its launch."""
    return attrs.evolve(terms, overhead=terms.overhead + LAUNCH_CYCLES)


def _levels_of_root(
    root: StageWork, schedule: ScheduleAttr, at: str, rows: Rows | None, stage: Stage, work: StageWork,
    along: Mapping[int, int],
) -> Iterator[Level]:  # fmt: skip
    """The root's loops down to the one in which a stage is computed, over the stage's dims: those of its rows, and
    those that it goes `along` with the root's."""
    if at == WHOLE_KERNEL:
        return
    names = list(root.space.names)
    left = list(root.space.sizes)
    sizes = list(work.space.sizes)
    shared = {row.dims[rows.root]: (row, row.units[rows.root]) for row in rows.rows} if rows is not None else {}
    for spec in schedule.loops:
        d = names.index(spec.dim)
        trips = max(1.0, left[d] / spec.tile)
        left[d] = min(left[d], spec.tile)
        row, unit = shared.get(d, (None, 1))
        own = along.get(d) if row is None else row.dims[stage]
        if own is not None:
            places = left[d] if row is None else row.places(stage, -(-left[d] // unit))
            sizes[own] = min(places, sizes[own])
        yield Level(own, trips, tuple(sizes))
        if spec.label == at:
            return


def space_terms(
    work: StageWork, schedule: ScheduleAttr, machine: Machine, outer: Sequence[Level] = (),
    whole: Sequence[int] | None = None, local: int = 0,
) -> Terms:  # fmt: skip
    """The terms of one stage, whose space is what is computed in the innermost of the `outer` loops, out of a `whole`.
    In the first `local` loops of a root other stages are computed."""
    times = math.prod(level.trips for level in outer)
    compute = tile_cycles(work, schedule, machine) * times
    nest = nest_of(work.space, schedule, outer)
    accesses = [*((a, 1.0) for a in (*work.reads, *work.late_reads)), *((a, WRITTEN) for a in work.writes)]
    sizes = work.space.sizes if whole is None else whole
    depth = max(local, len(outer))
    moved = traffic(nest, accesses, sizes, (machine.l1_bytes, machine.l2_bytes, machine.l3_bytes), depth)
    bandwidths = (machine.l2_bandwidth, machine.l3_bandwidth, machine.memory_bandwidth)
    l2, l3, memory = map(operator.truediv, moved, bandwidths)
    grains = math.prod(-(-work.space.sizes[list(work.space.names).index(spec.dim)] // spec.tile)
                       for spec in schedule.loops if spec.parallel)  # fmt: skip
    overhead = GRAIN_CYCLES * grains if not outer else 0.0
    terms = (compute, l2, l3, memory)
    exposed = [part * term for part, term in zip(EXPOSED, terms, strict=True)]
    # What stays of the largest term is counted once: which of two that are nearly equal is larger changes little.
    bound = math.inf if math.isinf(compute) else sum(exposed) + max(map(operator.sub, terms, exposed))
    return Terms(compute, l2, l3, memory, overhead, bound)
