"""Cuts stages into loops as their schedule says, down to register tiles whose parallel sizes are constants.

loop.stage [0, 0, 0] [M, N, K]
->  loop.parallel n0 { loop.parallel m0 { loop.for n { loop.for m { loop.stage [m, n, 0] [6, 64, K] } } } }

A register tile that does not divide its dim leaves a tail: of constant size where the dim is; else masked along the
vector dim, and in tiles of half the size each time along the others. A reduction dim cut by a loop makes partial sums
in the outputs. The stages that are not the root are cut where the schedule places them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import attrs

from stepwell.dialects import arith, func, loop
from stepwell.dialects.arith import constant_int
from stepwell.dialects.loop import REDUCTION, ForOp, ParallelOp, StageOp
from stepwell.dialects.schedule import PEAK, TOTAL, WHOLE_KERNEL, LoopSpec, ScheduleAttr
from stepwell.errors import PassError
from stepwell.ir.affine import AffineMap
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Value
from stepwell.ir.passes import Pass, PassContext
from stepwell.lowering.loop.attach import (
    Extent,
    Part,
    border_stages,
    given_memory,
    local_memory,
    parts_of,
    result_memory,
    whole_extents,
)
from stepwell.lowering.loop.index import IndexBuilder
from stepwell.lowering.loop.running import Attached, RunningState
from stepwell.lowering.loop.stage import StageParts, dim_names, kernel_functions


@attrs.frozen
class Tile(Pass):
    """Cut every kernel's stage into the loops of its schedule."""

    name: ClassVar[str] = "tile"

    def run(self, module: Operation, context: PassContext) -> None:
        for function in kernel_functions(module):
            schedule = function.attributes.pop("schedule", None)
            stages = list(function.walk_of(StageOp))
            if not isinstance(schedule, ScheduleAttr) or not stages:
                continue
            if not any(stage.inputs or stage.sources for stage in stages):  # the sides of a border
                for stage in stages:
                    Nest(stage, schedule).build()
            else:
                Nest(stages[-1], schedule, attached_stages(function, stages[:-1], schedule)).build()


def attached_stages(function: func.FuncOp, stages: Sequence[StageOp], schedule: ScheduleAttr) -> list[Attached]:
    """The stages before the root, each with its place. Raises PassError for a stage without one."""
    specs = {spec.name: spec for spec in schedule.stages}
    labels = [WHOLE_KERNEL, *(spec.label for spec in schedule.loops)]
    found = []
    for stage in stages:
        spec = specs.get(StageParts.of(stage).stage or "")
        if spec is None:
            raise PassError(f"@{function.sym_name}: the schedule has no place for the stage {stage.label or stage}")
        if spec.at not in labels:
            raise PassError(f"stage {spec.name} is placed at {spec.at!r}; the kernel's loops are {', '.join(labels)}")
        found.append(Attached(stage, spec))
    return found


class Nest:
    """Builds the loops around copies of one stage."""

    def __init__(
        self, stage: StageOp, schedule: ScheduleAttr, attached: Sequence[Attached] = (),
        memory: dict[Value, Value] | None = None,
    ) -> None:  # fmt: skip
        self.stage = stage
        self.schedule = schedule
        self.attached = attached
        self.memory = {} if memory is None else memory  # the kernel's local buffers -> the parts that are kept
        self.parts = StageParts.of(stage)
        self.scale: tuple[Value, AffineMap] | None = None  # of what has been summed up before a part
        self.dims = {name: position for position, name in enumerate(self.parts.names)}
        for spec in schedule.loops:
            if spec.dim not in self.dims:
                raise PassError(f"the schedule cuts {spec.dim!r}; the kernel's dims are {', '.join(self.dims)}")

    def build(self) -> None:
        """Replace the stages by the nest. Raises PassError for a border, which only stages in a loop have."""
        if self.stage.border is not None:
            raise PassError(f"{self.stage.label or self.stage.op_name}: a kernel's result has no border of its own")
        self.cut(whole_extents(self.stage), Builder.before(self.stage))
        for stage in (self.stage, *(attached.stage for attached in reversed(self.attached))):
            stage.erase()
        for memory in self.memory:
            if memory.defining_op is not None and not memory.has_uses:
                memory.defining_op.erase()

    def cut(
        self, extents: list[Extent], builder: Builder, first: Value | None = None, last: Value | None = None
    ) -> None:
        """Insert the loops over a part of the stage, which is the first or the last one where these hold."""
        self._attach(WHOLE_KERNEL, extents, builder)
        self._loops(list(self.schedule.loops), extents, builder, first, last)

    def _loops(
        self, specs: list[LoopSpec], extents: list[Extent], builder: Builder, first: Value | None, last: Value | None
    ) -> None:
        index = IndexBuilder(builder)
        if not specs:
            self._register(self._register_dims(), extents, builder, first, last)
            return
        spec, rest = specs[0], specs[1:]
        position = self.dims[spec.dim]
        extent = extents[position]
        size = constant_int(extent.size)
        if size is not None and size <= spec.tile:
            self._attach(spec.label, extents, builder)
            self._loops(rest, extents, builder, first, last)
            return
        upper = index.add(extent.offset, extent.size)
        step = index.constant(spec.tile)
        reduces = self.parts.iterators[position] == REDUCTION
        state = self._running_state(spec.label, extents, builder) if reduces else None
        make = ParallelOp.build if spec.parallel and not reduces else _sequential
        made = builder.insert(make(extent.offset, upper, step, label=spec.label))
        inner = Builder.at_end(made.block, builder.loc)
        iv = made.induction
        inside = IndexBuilder(inner)
        if size is not None and size % spec.tile == 0:
            tile = inside.constant(spec.tile)
        else:
            tile = inside.minimum(inside.constant(spec.tile), inside.sub(upper, iv))
        extents = list(extents)
        extents[position] = Extent(iv, tile, extent.whole, math.gcd(extent.aligned, spec.tile), spec.tile)
        if reduces:
            first = _both(inner, first, inner.insert(arith.CmpIOp(iv, extent.offset, predicate="eq")).result)
            end = inside.add(iv, step)
            last = _both(inner, last, inner.insert(arith.CmpIOp(end, upper, predicate="sge")).result)
        if state is None:
            self._attach(spec.label, extents, inner)
        else:
            self._attach_part(spec.label, extents, extents[position], inner, state, (first, last))
        self._loops(rest, extents, inner, first, last)
        loop.yield_values(inner)

    def _attach(self, label: str, extents: list[Extent], builder: Builder) -> None:
        """Compute the stages that are placed in a loop, for the part of the root that its body covers."""
        if any(attached.spec.at == label for attached in self.attached):
            parts = self._boxes(extents, builder)
            for n, attached in enumerate(self.attached):
                if attached.spec.at == label:
                    self._compute(n, parts, builder)

    def _boxes(
        self, extents: list[Extent], builder: Builder, along: dict[StageOp, tuple[int, Extent]] | None = None
    ) -> dict[StageOp, Part]:
        stages = [attached.stage for attached in self.attached]
        return parts_of(stages, self.stage, extents, IndexBuilder(builder), along)

    def _compute(self, n: int, parts: dict[StageOp, Part], builder: Builder) -> None:
        """Compute the box of the n-th of the attached stages, in memory of its size."""
        stage, spec = self.attached[n].stage, self.attached[n].spec
        given = given_memory(stage, parts, [*(later.stage for later in self.attached[n + 1 :]), self.stage])
        result = result_memory(stage, self.stage, parts)
        if given in self.memory:
            self.memory[stage.outputs[0]] = self.memory[given]
        elif result is not None and not self._is_taken(result, stage):
            self.memory[stage.outputs[0]] = result
        else:
            self.memory.update(local_memory(stage, parts[stage], builder))
        for side in border_stages(stage, parts[stage], self.memory, builder):
            Nest(side, plain_rows(side, spec.schedule.lanes)).build()
        Nest(stage, spec.schedule, (), self.memory).cut(parts[stage].inside, builder)

    def _is_taken(self, memory: Value, stage: StageOp) -> bool:
        """Whether another stage keeps its result there."""
        return any(kept is memory and made is not stage.outputs[0] for made, kept in self.memory.items())

    def _running_state(self, label: str, extents: list[Extent], builder: Builder) -> RunningState | None:
        """Memory before a loop over parts of the root's sum, where stages have a role in it."""
        found = [attached for attached in self.attached if attached.spec.at == label and attached.spec.role]
        return RunningState.begin(found, self._boxes(extents, builder), self.memory, builder) if found else None

    def _attach_part(
        self, label: str, extents: list[Extent], extent: Extent, builder: Builder, state: RunningState,
        ends: tuple[Value | None, Value | None],
    ) -> None:  # fmt: skip
        """Compute stages for the part of the root's sum at `extent`; what was summed up before is brought to the new
        peak."""
        roles = [attached for attached in self.attached if attached.spec.at == label and attached.spec.role]
        parts = self._boxes(extents, builder, {attached.stage: (attached.along, extent) for attached in roles})
        self.scale = state.scale(self.stage)
        now = self.memory[state.peak.stage.outputs[0]]
        rows = state.row_extents(parts[state.power.stage].inside, builder)
        by_rows = state.row_schedule(state.power.spec.schedule.lanes)
        for n, attached in enumerate(self.attached):
            stage, spec = attached.stage, attached.spec
            if spec.at != label:
                continue
            if spec.role not in (PEAK, TOTAL):
                self._compute(n, parts, builder)
                continue
            nest = Nest(stage, spec.schedule, (), self.memory)
            if spec.role == PEAK:
                _once(state.kept_peak(now), by_rows, rows, builder)
            else:
                nest.scale = state.scale(stage)
            nest.cut(parts[stage].inside, builder, *ends)
            if spec.role == PEAK:
                _once(state.new_factor(now), by_rows, rows, builder)

    def _register_dims(self) -> list[tuple[int, int, bool]]:
        """(position, tile, is the vector dim) of every parallel dim: those of the register tile, vector dim first."""
        found = []
        for name, position in self.dims.items():
            if self.parts.iterators[position] != REDUCTION:
                found.append((position, self.schedule.register_size(name), name == self.schedule.vector))
        return sorted(found, key=lambda item: (item[1] == 1, not item[2]))

    def _register(
        self, dims: list[tuple[int, int, bool]], extents: list[Extent], builder: Builder, first: Value | None,
        last: Value | None,
    ) -> None:  # fmt: skip
        if not dims:
            self._leaf(extents, builder, first, last)
            return
        (position, tile, is_vector), rest = dims[0], dims[1:]
        extent = extents[position]
        size = constant_int(extent.size)
        if size is not None and size <= tile:
            self._register(rest, extents, builder, first, last)
            return

        def body(inner: Builder, iv: Value, count: Value) -> None:
            smaller = list(extents)
            smaller[position] = Extent(iv, count, extent.whole)
            self._register(rest, smaller, inner, first, last)

        index = IndexBuilder(builder)
        upper = index.add(extent.offset, extent.size)
        rest_size = size % tile if size is not None else self._known_rest(extent, tile)
        if tile == 1 or rest_size == 0:
            self._run(builder, extent.offset, upper, tile, tile, body, position)
            return
        tiles = index.floordiv(extent.size, index.constant(tile))
        middle = index.add(extent.offset, index.mul(tiles, index.constant(tile)))
        self._run(builder, extent.offset, middle, tile, tile, body, position)
        if rest_size is not None:
            self._run(builder, middle, upper, tile, rest_size, body, position)
        elif is_vector:
            self._masked_tail(builder, middle, upper, tile, body, position)
        else:
            self._halved_tails(builder, middle, upper, tile, body, position)

    @staticmethod
    def _known_rest(extent: Extent, tile: int) -> int | None:
        """What is left of the last tile, where it is the same wherever a part of the dim ends."""
        aligned = extent.aligned % tile == 0 if extent.aligned else True
        return extent.whole % tile if extent.whole is not None and aligned else None

    def _halved_tails(
        self, builder: Builder, lower: Value, upper: Value, tile: int, body: Callable[[Builder, Value, Value], None],
        position: int,
    ) -> None:  # fmt: skip
        """Smaller and smaller tiles of powers of two, each of which runs as often as it fits; a map's need no more than
        the smallest."""
        sizes = [1 << bit for bit in range(tile.bit_length()) if 1 << bit < tile]
        for size in reversed(sizes if self.parts.combine is not None else sizes[:1]):
            index = IndexBuilder(builder)
            count = index.mul(index.floordiv(index.sub(upper, lower), index.constant(size)), index.constant(size))
            middle = index.add(lower, count)
            self._run(builder, lower, middle if size > 1 else upper, size, size, body, position)
            lower = middle

    def _run(
        self, builder: Builder, lower: Value, upper: Value, step: int, count: int,
        body: Callable[[Builder, Value, Value], None], position: int,
    ) -> None:  # fmt: skip
        """for iv = lower to upper step: body on [iv, iv + count)"""
        index = IndexBuilder(builder)
        low, high = constant_int(lower), constant_int(upper)
        if low is not None and high is not None and high - low <= step:
            if high > low:
                body(builder, lower, index.constant(count))
            return
        made = builder.insert(ForOp.build(lower, upper, index.constant(step), label=self.parts.names[position]))
        inner = Builder.at_end(made.block, builder.loc)
        body(inner, made.induction, IndexBuilder(inner).constant(count))
        loop.yield_values(inner)

    def _masked_tail(
        self, builder: Builder, lower: Value, upper: Value, tile: int, body: Callable[[Builder, Value, Value], None],
        position: int,
    ) -> None:  # fmt: skip
        """One vector at a time, the last one masked by a size known at run time."""
        index = IndexBuilder(builder)
        width = self.schedule.lanes
        made = builder.insert(ForOp.build(lower, upper, index.constant(width), label=self.parts.names[position]))
        inner = Builder.at_end(made.block, builder.loc)
        inside = IndexBuilder(inner)
        count = inside.minimum(inside.constant(width), inside.sub(upper, made.induction))
        body(inner, made.induction, count)
        loop.yield_values(inner)

    def _leaf(self, extents: list[Extent], builder: Builder, first: Value | None, last: Value | None) -> None:
        parts = self.parts.copy()
        parts.offsets = [extent.offset for extent in extents]
        parts.sizes = [extent.size for extent in extents]
        parts.first, parts.last, parts.border = first, last, None
        parts.scale = self.scale if first is not None else None
        parts.inputs = [self.memory.get(value, value) for value in parts.inputs]
        parts.outputs = [self.memory.get(value, value) for value in parts.outputs]
        made = parts.build(builder)
        made.attributes["schedule"] = self.schedule.with_loops()


def _once(stage: StageOp, schedule: ScheduleAttr, extents: list[Extent], builder: Builder) -> None:
    """Compute a stage that is made for this one place."""
    Nest(stage, schedule).cut(extents, builder)
    stage.erase()


def plain_rows(stage: StageOp, lanes: int) -> ScheduleAttr:
    """The schedule of a stage whose last dim runs along the lanes."""
    last = dim_names(stage)[-1]
    return ScheduleAttr((), ((last, lanes),), last, lanes)


def _sequential(lower: Value, upper: Value, step: Value, label: str | None = None) -> ForOp:
    return ForOp.build(lower, upper, step, label=label)


def _both(builder: Builder, a: Value | None, b: Value) -> Value:
    return b if a is None else builder.insert(arith.AndIOp(a, b)).result


