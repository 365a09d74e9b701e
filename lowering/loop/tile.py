"""Cuts stages into loops as their schedule says, down to register tiles whose parallel sizes are constants.

loop.stage [0, 0, 0] [M, N, K]
->  loop.parallel n0 { loop.parallel m0 { loop.for n { loop.for m { loop.stage [m, n, 0] [6, 64, K] } } } }

A register tile that does not divide its dim leaves a tail: of constant size where the dim is, masked along the vector
dim and one by one along the others where it is not. A reduction dim cut by a loop makes partial sums in the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import attrs

from stepwell.dialects import arith, loop
from stepwell.dialects.arith import constant_int
from stepwell.dialects.loop import REDUCTION, ForOp, ParallelOp, StageOp
from stepwell.dialects.schedule import LoopSpec, ScheduleAttr
from stepwell.errors import PassError
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Value
from stepwell.ir.passes import Pass, PassContext
from stepwell.lowering.loop.index import IndexBuilder
from stepwell.lowering.loop.stage import StageParts, kernel_functions


@attrs.frozen
class Tile(Pass):
    """Cut every kernel's stage into the loops of its schedule."""

    name: ClassVar[str] = "tile"

    def run(self, module: Operation, context: PassContext) -> None:
        for function in kernel_functions(module):
            schedule = function.attributes.get("schedule")
            stages = list(function.walk_of(StageOp))
            if not isinstance(schedule, ScheduleAttr) or not stages:
                continue
            if any(stage.parent_op is not function for stage in stages):
                continue  # cut before
            if len(stages) != 1 and any(stage.inputs or stage.sources for stage in stages):
                raise PassError(f"@{function.sym_name}: {len(stages)} stages are left and only one can be tiled")
            for stage in stages:  # several are boxes of one border, and do not depend on each other
                Nest(stage, schedule).build()


@attrs.frozen
class Extent:
    """The part of a dim that is still to be cut: [offset, offset + size), size constant or not.

    `whole` is the size of the dim as far as it is constant, `aligned` a number that divides every cut made so far."""

    offset: Value
    size: Value
    whole: int | None
    aligned: int = 0


class Nest:
    """Builds the loops around copies of one stage."""

    def __init__(self, stage: StageOp, schedule: ScheduleAttr) -> None:
        self.stage = stage
        self.schedule = schedule
        self.parts = StageParts.of(stage)
        self.dims = {name: position for position, name in enumerate(self.parts.names)}
        for spec in schedule.loops:
            if spec.dim not in self.dims:
                raise PassError(f"the schedule cuts {spec.dim!r}; the kernel's dims are {', '.join(self.dims)}")

    def build(self) -> None:
        """Replace the stage by its nest."""
        zero_based = [Extent(o, s, constant_int(s)) for o, s in zip(self.parts.offsets, self.parts.sizes, strict=True)]
        self._loops(list(self.schedule.loops), zero_based, Builder.before(self.stage), None, None)
        self.stage.erase()

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
            self._loops(rest, extents, builder, first, last)
            return
        upper = index.add(extent.offset, extent.size)
        step = index.constant(spec.tile)
        reduces = self.parts.iterators[position] == REDUCTION
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
        extents[position] = Extent(iv, tile, extent.whole, math.gcd(extent.aligned, spec.tile))
        if reduces:
            first = _both(inner, first, inner.insert(arith.CmpIOp(iv, extent.offset, predicate="eq")).result)
            end = inside.add(iv, step)
            last = _both(inner, last, inner.insert(arith.CmpIOp(end, upper, predicate="sge")).result)
        self._loops(rest, extents, inner, first, last)
        loop.yield_values(inner)

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
        aligned = extent.aligned % tile == 0 if extent.aligned else True
        upper = index.add(extent.offset, extent.size)
        if tile == 1 or (extent.whole is not None and aligned and extent.whole % tile == 0):
            self._run(builder, extent.offset, upper, tile, tile, body, position)
            return
        tiles = index.floordiv(extent.size, index.constant(tile))
        middle = index.add(extent.offset, index.mul(tiles, index.constant(tile)))
        self._run(builder, extent.offset, middle, tile, tile, body, position)
        if extent.whole is not None and aligned:
            rest_size = extent.whole % tile
            self._run(builder, middle, upper, tile, rest_size, body, position)
        elif is_vector:
            self._masked_tail(builder, middle, upper, tile, body, position)
        else:
            self._halved_tail(builder, middle, upper, tile, body, position)

    def _halved_tail(
        self, builder: Builder, lower: Value, upper: Value, tile: int, body: Callable[[Builder, Value, Value], None],
        position: int,
    ) -> None:  # fmt: skip
        """A tail of fewer than `tile` places, known at run time, in tiles of 2^k, .., 4, 2, 1 places: few rows alone
        leave too few independent sums to hide the latency of a multiply-add."""
        index = IndexBuilder(builder)
        height = 1 << (tile - 1).bit_length() - 1
        while height:
            count = index.floordiv(index.sub(upper, lower), index.constant(height))
            end = index.add(lower, index.mul(count, index.constant(height)))
            self._run(builder, lower, end, height, height, body, position)
            lower, height = end, height // 2

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
        parts.first, parts.last = first, last
        parts.build(builder)


def _sequential(lower: Value, upper: Value, step: Value, label: str | None = None) -> ForOp:
    return ForOp.build(lower, upper, step, label=label)


def _both(builder: Builder, a: Value | None, b: Value) -> Value:
    return b if a is None else builder.insert(arith.AndIOp(a, b)).result


