"""Turns register-tile stages into straight vector code inside reduction loops.

loop.stage [m, n, 0] [6, 64, K]
->  %acc:24 = loop.for %k iter(24 vectors) { 4 vector.load, 6 buffer.load + broadcast, 24 vector.fma }; finalize; store

Every point of the tile (a vector of outputs) becomes values of its own; loads that fall on one place are made once;
what does not vary along the vector dim stays scalar until it meets a vector.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import attrs

from stepwell.dialects import arith, loop
from stepwell.dialects.arith import constant_int
from stepwell.dialects.generic_meaning import is_sum_of_products
from stepwell.dialects.loop import REDUCTION, ForOp, IfOp, StageOp
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.errors import PassError
from stepwell.ir.affine import AffineMap
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Value
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import Type, VectorType, element_of
from stepwell.lowering.loop.access import Memory
from stepwell.lowering.loop.body import ScalarCode
from stepwell.lowering.loop.index import IndexBuilder, Lane, LinearIndex
from stepwell.lowering.loop.stage import StageParts, kernel_functions
from stepwell.lowering.loop.transpose import Indices, load_turned, store_turned, turned_dim
from stepwell.lowering.precision import is_strict


@attrs.frozen
class Vectorize(Pass):
    """Turn register tiles into vector code."""

    name: ClassVar[str] = "vectorize"

    def run(self, module: Operation, context: PassContext) -> None:
        for function in kernel_functions(module):
            for stage in list(function.walk_of(StageOp)):
                schedule = stage.attributes.get("schedule")
                plain = ScheduleAttr((), (), "", 1)
                RegisterTile(stage, schedule if isinstance(schedule, ScheduleAttr) else plain).emit()


@attrs.frozen
class Point:
    """One vector (or scalar) of outputs: its dims' positions within the tile; `mask` tells the lanes that exist."""

    place: tuple[int, ...]
    mask: Value | int | None = None  # a number of leading lanes, constant or not; None: all


class RegisterTile:
    """The code of one stage whose parallel sizes are constants (the vector dim's may not be)."""

    def __init__(self, stage: StageOp, schedule: ScheduleAttr) -> None:
        self.stage = stage
        self.parts = StageParts.of(stage)
        self.lanes = schedule.lanes
        self.unroll = schedule.unroll
        self.partial = schedule.partial
        names = self.parts.names
        self.vector_dim = names.index(schedule.vector) if schedule.vector in names and self.lanes > 1 else -1
        reductions = [d for d, kind in enumerate(self.parts.iterators) if kind == REDUCTION]
        self.slide = names.index(schedule.slide) if schedule.slide in names else -1
        self.reductions = sorted(reductions, key=lambda d: d == self.slide)
        self.builder = Builder.before(stage)
        self._indexers: dict[Builder, IndexBuilder] = {}
        self._turned: dict[tuple[int, tuple[int, ...]], Value] = {}  # by input and point
        sums = self.parts.combine is not None and is_sum_of_products(self.parts.body, self.parts.combine)
        self.fuses = sums and not is_strict(stage)

    def emit(self) -> None:
        """Replace the stage by its code: none where a size is 0."""
        points = self._points()
        if points and self.parts.combine is None:
            memory = Memory(self._indexer(self.builder), self.lanes)
            self._load_turned(memory, points, range(len(self.parts.body_inputs)))
            self._store(memory, points, (self._body_values(self.builder, memory, point, {}) for point in points))
        elif points:
            self._reduce(points)
        self.stage.erase()

    # Geometry

    @property
    def along_reduction(self) -> bool:
        """Whether the lanes hold parts of one reduction instead of different outputs."""
        return self.vector_dim in self.reductions

    def _points(self) -> list[Point]:
        ranges: list[list[tuple[int, Value | int | None]]] = []
        for d, size in enumerate(self.parts.sizes):
            constant = constant_int(size)
            if d in self.reductions:
                ranges.append([(0, None)])
            elif d == self.vector_dim:
                ranges.append(self._vectors(size, constant))
            elif constant is None:
                raise PassError(f"the register tile's size along {self.parts.names[d]!r} is not constant")
            else:
                ranges.append([(i, None) for i in range(constant)])
        points = []
        # Neighbouring vectors come last, so that a broadcast serves all of them while it is in a register.
        order = sorted(range(len(ranges)), key=lambda d: d == self.vector_dim)
        for picked in itertools.product(*(ranges[d] for d in order)):
            combination = [picked[order.index(d)] for d in range(len(ranges))]
            masks = [mask for _, mask in combination if mask is not None]
            points.append(Point(tuple(i for i, _ in combination), masks[0] if masks else None))
        return points

    def _vectors(self, size: Value, constant: int | None) -> list[tuple[int, Value | int | None]]:
        if constant is None:
            return [(0, size)]
        vectors: list[tuple[int, Value | int | None]] = [(i, None) for i in range(0, constant, self.lanes)]
        if constant % self.lanes:
            vectors[-1] = (vectors[-1][0], constant % self.lanes)
        return vectors

    def _indexer(self, builder: Builder) -> IndexBuilder:
        """The one index builder of an insertion point, so that equal indices are equal values."""
        if builder not in self._indexers:
            self._indexers[builder] = IndexBuilder(builder)
        return self._indexers[builder]

    def _place(self, builder: Builder, value: Value) -> LinearIndex:
        """An index that is a value, or a constant."""
        constant, index = constant_int(value), self._indexer(builder)
        return LinearIndex({value: 1}, 0, index) if constant is None else LinearIndex({}, constant, index)

    def _indices(
        self, builder: Builder, point: Point, steps: dict[int, LinearIndex], lane_dim: int | None = None
    ) -> list[LinearIndex]:
        """The index along each dim, the lane included; `steps` are the positions along the reduction dims, `lane_dim`
        the dim of the lanes where it is not that of the vectors."""
        lane_dim = self.vector_dim if lane_dim is None else lane_dim
        index = self._indexer(builder)
        found = []
        for d, offset in enumerate(self.parts.offsets):
            base = self._place(builder, offset) + point.place[d]
            if d in steps:
                base = base + steps[d]
            if d == lane_dim and (not self.along_reduction or d in steps):
                base = base + LinearIndex({Lane(self.lanes): 1}, 0, index)
            found.append(base)
        return found

    # Values

    @staticmethod
    def _mask(memory: Memory, point: Point) -> Value | None:
        """The lanes of a point that exist; None: all."""
        return None if point.mask is None else memory.mask(point.mask)

    def _body_values(
        self, builder: Builder, memory: Memory, point: Point, steps: dict[int, LinearIndex], *,
        skip_product: bool = False,
    ) -> list[Value]:
        """What the body yields at a point, or the two factors of its last product."""
        indices = self._indices(builder, point, steps)
        loaded = [
            self._turned.get((n, point.place)) or memory.load(value, map_, indices, point.mask)
            for n, (value, map_) in enumerate(zip(self.parts.body_inputs, self.parts.input_maps, strict=False))
        ]
        code = ScalarCode(self._indexer(builder), self.lanes, indices, self._mask(memory, point))
        loaded.extend(self.parts.sources)
        return code.factors(self.parts.body, loaded) if skip_product else code.run(self.parts.body, loaded)

    def _turned_dim(self, memory: Memory, points: Sequence[Point], value: Value, map_: AffineMap) -> int | None:
        """The dim of the tile along which a buffer is contiguous, where it is not so along the vectors' dim."""
        if self.vector_dim < 0 or self.along_reduction:
            return None
        if not all(point.mask is None or isinstance(point.mask, int) for point in points):
            return None
        sizes = [None if d in self.reductions else constant_int(size) for d, size in enumerate(self.parts.sizes)]
        return turned_dim(memory, value, map_, self._indices_at(memory), sizes, self.vector_dim)

    def _indices_at(self, memory: Memory) -> Indices:
        return lambda place, lane_dim: self._indices(memory.builder, Point(place), {}, lane_dim)

    def _load_turned(self, memory: Memory, points: Sequence[Point], inputs: Iterable[int]) -> None:
        """Load what is contiguous along another dim of the tile than the vectors in square tiles."""
        indices = self._indices_at(memory)
        for n in inputs:
            value, map_ = self.parts.inputs[n], self.parts.input_maps[n]
            row_dim = self._turned_dim(memory, points, value, map_)
            if row_dim is None:
                continue
            total = constant_int(self.parts.sizes[row_dim])
            assert total is not None
            for point in points:
                at = point.place[row_dim]
                if at % self.lanes:
                    continue
                height = point.mask if isinstance(point.mask, int) else self.lanes
                counts = height, min(self.lanes, total - at)
                found = load_turned(memory, value, map_, indices, point.place, (self.vector_dim, row_dim), counts)
                for step, vector in enumerate(found):
                    place = tuple(p + step if d == row_dim else p for d, p in enumerate(point.place))
                    self._turned[n, place] = vector

    def _store(self, memory: Memory, points: Sequence[Point], values: Iterable[Sequence[Value]]) -> None:
        """Store what each point gives; in square tiles where a result is contiguous along another dim of the tile than
        the vectors."""
        turned = [self._turned_dim(memory, points, target, map_)
                  for target, map_ in zip(self.parts.outputs, self.parts.output_maps, strict=True)]  # fmt: skip
        found: dict[tuple[int, ...], Sequence[Value]] = {}
        for point, given in zip(points, values, strict=True):
            found[point.place] = given
            indices = self._indices(memory.builder, point, {})
            for n, row_dim in enumerate(turned):
                if row_dim is None:
                    memory.store(given[n], self.parts.outputs[n], self.parts.output_maps[n], indices, point.mask)
        for n, row_dim in enumerate(turned):
            if row_dim is not None:
                self._store_turned(memory, points, {place: given[n] for place, given in found.items()}, n, row_dim)

    def _store_turned(
        self, memory: Memory, points: Sequence[Point], values: Mapping[tuple[int, ...], Value], n: int, row_dim: int
    ) -> None:
        for point in points:
            if point.place[row_dim] % self.lanes:
                continue
            steps = (tuple(p + step if d == row_dim else p for d, p in enumerate(point.place))
                     for step in range(self.lanes))  # fmt: skip
            square = [memory.in_lanes(values[place]) for place in steps if place in values]
            height = point.mask if isinstance(point.mask, int) else self.lanes
            store_turned(memory, square, self.parts.outputs[n], self.parts.output_maps[n], self._indices_at(memory),
                         point.place, (self.vector_dim, row_dim), height)  # fmt: skip

    # Reductions

    def _reduce(self, points: list[Point]) -> None:
        types = [self._accumulator_type(attribute_type(a)) for a in self.parts.identities]
        copies = self.unroll if self.along_reduction else 1
        if self.along_reduction:
            accumulators = self._identities(self.builder, types) * copies * len(points)
        else:
            accumulators = self._start(points, types)
        accumulators = self._loops(self.builder, self.reductions, {}, points, accumulators, copies)
        each = len(types) * copies
        parts = [accumulators[n * each : (n + 1) * each] for n in range(len(points))]
        memory = Memory(self._indexer(self.builder), self.lanes)
        if self.along_reduction:
            sums = (self._across_lanes(point, mine, len(types)) for point, mine in zip(points, parts, strict=True))
            self._finish(memory, points, sums)
        else:
            self._finish(memory, points, parts)

    def _accumulator_type(self, element: Type) -> Type:
        varies = self.vector_dim >= 0
        return VectorType((self.lanes,), element) if varies else element

    def _identities(self, builder: Builder, types: Sequence[Type]) -> list[Value]:
        made = []
        for attribute, type_ in zip(self.parts.identities, types, strict=True):
            made.append(builder.insert(arith.constant(attribute.value, type_)).result)  # type: ignore[attr-defined]
        return made

    def _start(self, points: Sequence[Point], types: Sequence[Type]) -> list[Value]:
        """The accumulators before the first step: identities, or the partial sums of the parts before."""
        if self.parts.first is None:
            return self._identities(self.builder, types) * len(points)
        choice = IfOp.build(self.parts.first, [*types] * len(points))
        self.builder.insert(choice)
        outer = self.builder
        self.builder = Builder.at_end(choice.then.block, outer.loc)
        loop.yield_values(self.builder, self._identities(self.builder, types) * len(points))
        self.builder = Builder.at_end(choice.otherwise.block, outer.loc)
        loop.yield_values(self.builder, [value for point in points for value in self._partial_sums(point)])
        self.builder = outer
        return list(choice.results)

    def _partial_sums(self, point: Point) -> list[Value]:
        memory = Memory(self._indexer(self.builder), self.lanes)
        indices = self._indices(self.builder, point, {})
        code = ScalarCode(self._indexer(self.builder), self.lanes, indices)
        found = []
        for target, map_, identity in zip(
            self.parts.outputs, self.parts.output_maps, self.parts.identities, strict=True
        ):
            if element_of(target.type) is not attribute_type(identity):
                raise PassError("partial sums need outputs of the accumulator's type")
            value = memory.load(target, map_, indices, point.mask)
            if self.parts.scale is not None:
                factor = memory.load(*self.parts.scale, indices, point.mask)
                if isinstance(value.type, VectorType):
                    factor = code.broadcast(factor)
                value = self.builder.insert(arith.MulFOp(value, factor)).result
            found.append(code.broadcast(value) if self.vector_dim >= 0 and not self.along_reduction else value)
        return found

    def _loops(
        self, builder: Builder, dims: Sequence[int], steps: dict[int, LinearIndex], points: list[Point],
        accumulators: list[Value], copies: int,
    ) -> list[Value]:  # fmt: skip
        if not dims:
            return self._step(builder, steps, points, accumulators, copies, 0)
        d, rest = dims[0], dims[1:]
        size = constant_int(self.parts.sizes[d])
        if size == 1 and d != self.vector_dim:
            return self._loops(builder, rest, {**steps, d: LinearIndex({}, 0, self._indexer(builder))}, points,
                               accumulators, copies)  # fmt: skip
        part = self._steps_of_part(dims)
        if part is None:
            zero = self._indexer(builder).constant(0)
            return self._span(builder, dims, zero, self.parts.sizes[d], steps, points, accumulators, copies)
        whole = self._indexer(builder).constant(size // part * part) if size is not None else self.parts.sizes[d]
        made = self._parts_of_span(builder, dims, part, whole, steps, points, accumulators, copies)
        if size is None or size % part == 0:
            return made
        rest_size = self._indexer(builder).constant(size % part)
        return self._part(builder, dims, whole, rest_size, steps, points, made, copies)

    def _steps_of_part(self, dims: Sequence[int]) -> int | None:
        """How many steps of the first dim make one partial sum; None where this dim is not cut: it is short, or a dim
        inside it is cut already, or empty."""
        sizes = [constant_int(self.parts.sizes[d]) for d in dims]
        inner = 1
        for size in sizes[1:]:
            if size is None:
                return None
            inner *= size
        if inner == 0:
            return None
        part = max(1, self.partial // inner)
        if not self.partial or inner > self.partial or (sizes[0] is not None and sizes[0] <= part):
            return None
        return part

    def _parts_of_span(
        self, builder: Builder, dims: Sequence[int], part: int, whole: Value, steps: dict[int, LinearIndex],
        points: list[Point], accumulators: list[Value], copies: int,
    ) -> list[Value]:  # fmt: skip
        """for p = 0 to whole step part iter(sums): sums + (the reduction over [p, p + part), from its identities)"""
        index = self._indexer(builder)
        label = f"{self.parts.names[dims[0]]}0"
        made = builder.insert(ForOp.build(index.constant(0), whole, index.constant(part), accumulators, label=label))
        made.induction.name = label
        inner = Builder.at_end(made.block, builder.loc)
        inside = self._indexer(inner)
        size = inside.constant(part)
        if constant_int(whole) is None:
            size = inside.minimum(size, inside.sub(whole, made.induction))
        sums = self._part(inner, dims, made.induction, size, steps, points, list(made.carried), copies)
        loop.yield_values(inner, sums)
        return list(made.results)

    def _part(
        self, builder: Builder, dims: Sequence[int], lower: Value, size: Value, steps: dict[int, LinearIndex],
        points: list[Point], sums: list[Value], copies: int,
    ) -> list[Value]:  # fmt: skip
        """The sums with one partial sum more."""
        assert self.parts.combine is not None
        count = len(self.parts.identities)
        start = self._identities(builder, [value.type for value in sums[:count]])
        partial = self._span(builder, dims, lower, size, steps, points, start * (len(sums) // count), copies)
        code = ScalarCode(self._indexer(builder), self.lanes, [])
        made: list[Value] = []
        for n in range(0, len(sums), count):
            made.extend(code.run(self.parts.combine, [*sums[n : n + count], *partial[n : n + count]]))
        return made

    def _span(
        self, builder: Builder, dims: Sequence[int], lower: Value, size: Value, steps: dict[int, LinearIndex],
        points: list[Point], accumulators: list[Value], copies: int,
    ) -> list[Value]:  # fmt: skip
        """The reduction over [lower, lower + size) of the first dim and all of the others: unrolled, then its rest."""
        d, rest = dims[0], dims[1:]
        index, known = self._indexer(builder), constant_int(size)
        if d == self.slide and known is not None:
            return self._slid(builder, lower, known, steps, points, accumulators)
        width = self.lanes if d == self.vector_dim else 1
        unroll = self.unroll if (not rest or d == self.vector_dim) else 1
        chunk = width * unroll
        if known == chunk:
            return self._copies(builder, d, lower, chunk, rest, steps, points, accumulators, copies, unroll)
        upper = index.add(lower, size)
        done = index.add(lower, index.mul(index.floordiv(size, index.constant(chunk)), index.constant(chunk)))
        accumulators = self._loop(builder, d, lower, done, chunk, rest, steps, points, accumulators, copies, unroll)
        if known is not None and known % chunk == 0:
            return accumulators
        return self._loop(builder, d, done, upper, width, rest, steps, points, accumulators, copies, 1, tail=width > 1)

    def _loop(
        self, builder: Builder, d: int, lower: Value, upper: Value, step: int, rest: Sequence[int],
        steps: dict[int, LinearIndex], points: list[Point], accumulators: list[Value], copies: int, unroll: int,
        *, tail: bool = False,
    ) -> list[Value]:  # fmt: skip
        low, high = constant_int(lower), constant_int(upper)
        if low is not None and low == high:
            return accumulators
        index = self._indexer(builder)
        made = builder.insert(ForOp.build(lower, upper, index.constant(step), accumulators, label=self.parts.names[d]))
        made.induction.name = self.parts.names[d]
        inner = Builder.at_end(made.block, builder.loc)
        if tail:
            inside = self._indexer(inner)
            left = inside.minimum(inside.constant(self.lanes), inside.sub(upper, made.induction))
            points = [attrs.evolve(point, mask=left) for point in points]
        carried = list(made.carried)
        carried = self._copies(inner, d, made.induction, step, rest, steps, points, carried, copies, unroll)
        loop.yield_values(inner, carried)
        return list(made.results)

    def _copies(
        self, builder: Builder, d: int, start: Value, step: int, rest: Sequence[int], steps: dict[int, LinearIndex],
        points: list[Point], carried: list[Value], copies: int, unroll: int,
    ) -> list[Value]:  # fmt: skip
        """The unrolled copies of one step along a dim."""
        for copy in range(unroll):
            place = self._place(builder, start) + copy * (step // unroll)
            if rest:
                carried = self._loops(builder, rest, {**steps, d: place}, points, carried, copies)
            else:
                target = copy if self.along_reduction and copies > 1 else 0
                carried = self._step(builder, {**steps, d: place}, points, carried, copies, target)
        return carried

    def _slid(
        self, builder: Builder, start: Value, size: int, steps: dict[int, LinearIndex], points: list[Point],
        accumulators: list[Value],
    ) -> list[Value]:  # fmt: skip
        """All steps of the dim along which the tile slides over its operands, in the order of the places that they
        read: what several steps read is loaded once, and needed no longer than until the next place."""
        memory, count, made = Memory(self._indexer(builder), self.lanes), len(self.parts.identities), list(accumulators)
        first = self._place(builder, start)
        order = itertools.product(range(size), range(len(points)))
        for step, n in sorted(order, key=lambda pair: self._places_read(points[pair[1]], pair[0])):
            at = {**steps, self.slide: first + step}
            made[n * count : (n + 1) * count] = self._at_point(memory, points[n], at, made[n * count : (n + 1) * count])
        return made

    def _places_read(self, point: Point, step: int) -> list[tuple[int, ...]]:
        """Where a point reads the operands over which the tile slides, as far as constants tell, in a step."""
        dims = [step if d == self.slide else place for d, place in enumerate(point.place)]
        return [map_.evaluate(dims, ()) for map_ in self.parts.input_maps
                if any(self.slide in place.dims and len(place.dims) > 1 for place in map_.results)]  # fmt: skip

    def _step(
        self, builder: Builder, steps: dict[int, LinearIndex], points: list[Point], accumulators: list[Value],
        copies: int, copy: int,
    ) -> list[Value]:  # fmt: skip
        """One step of the reduction at every point."""
        memory = Memory(self._indexer(builder), self.lanes)
        count = len(self.parts.identities)
        made = list(accumulators)
        for n, point in enumerate(points):
            start = (n * copies + copy) * count
            made[start : start + count] = self._at_point(memory, point, steps, made[start : start + count])
        return made

    def _at_point(
        self, memory: Memory, point: Point, steps: dict[int, LinearIndex], old: Sequence[Value]
    ) -> list[Value]:
        """The accumulators of a point with a step more."""
        builder = memory.builder
        indices = self._indices(builder, point, steps)
        code = ScalarCode(self._indexer(builder), self.lanes, indices, self._mask(memory, point))
        if self.fuses:
            a, b = self._body_values(builder, memory, point, steps, skip_product=True)
            new = [code.fma(a, b, old[0])]
        else:
            values = self._body_values(builder, memory, point, steps)
            assert self.parts.combine is not None
            new = code.run(self.parts.combine, [*old, *values])
        if self.along_reduction and point.mask is not None:
            mask = memory.mask(point.mask)
            return [builder.insert(arith.SelectOp(mask, x, y)).result for x, y in zip(new, old, strict=True)]
        return new

    def _across_lanes(self, point: Point, accumulators: list[Value], count: int) -> list[Value]:
        """The accumulators of all copies, then of all lanes, merged in a fixed order."""
        code = ScalarCode(self._indexer(self.builder), self.lanes, [])
        assert self.parts.combine is not None
        parts = [accumulators[i : i + count] for i in range(0, len(accumulators), count)]
        while len(parts) > 1:
            half = (len(parts) + 1) // 2
            parts = [
                code.run(self.parts.combine, [*parts[i], *parts[i + half]]) if i + half < len(parts) else parts[i]
                for i in range(half)
            ]
        merged = code.across_lanes(self.parts.combine, parts[0])
        if self.parts.first is None:
            return merged
        choice = IfOp.build(self.parts.first, [v.type for v in merged])
        self.builder.insert(choice)
        loop.yield_values(Builder.at_end(choice.then.block), merged)
        outer, self.builder = self.builder, Builder.at_end(choice.otherwise.block, self.builder.loc)
        before = ScalarCode(self._indexer(self.builder), self.lanes, []).run(
            self.parts.combine, [*self._partial_sums(point), *merged]
        )
        loop.yield_values(self.builder, before)
        self.builder = outer
        return list(choice.results)

    def _finish(self, memory: Memory, points: Sequence[Point], sums: Iterable[list[Value]]) -> None:
        if self.parts.finalize is None:
            self._store(memory, points, sums)
        elif self.parts.last is None:
            self._finalize(memory, points, sums)
        else:
            sums = list(sums)
            choice = IfOp.build(self.parts.last)
            memory.builder.insert(choice)
            then = Memory(self._indexer(Builder.at_end(choice.then.block, memory.builder.loc)), self.lanes)
            self._finalize(then, points, sums)
            loop.yield_values(then.builder)
            otherwise = Memory(self._indexer(Builder.at_end(choice.otherwise.block, memory.builder.loc)), self.lanes)
            self._store(otherwise, points, sums)
            loop.yield_values(otherwise.builder)

    def _finalize(self, memory: Memory, points: Sequence[Point], sums: Iterable[list[Value]]) -> None:
        """Store what the maps behind the sums make of them."""
        late = range(len(self.parts.body_inputs), len(self.parts.inputs))
        self._load_turned(memory, points, late)
        pairs = zip(points, sums, strict=True)
        self._store(memory, points, (self._finalized(memory, point, mine, late) for point, mine in pairs))

    def _finalized(self, memory: Memory, point: Point, sums: list[Value], late: Iterable[int]) -> list[Value]:
        assert self.parts.finalize is not None
        indices = self._indices(memory.builder, point, {})
        extra = [
            self._turned.get((n, point.place))
            or memory.load(self.parts.inputs[n], self.parts.input_maps[n], indices, point.mask)
            for n in late
        ]
        code = ScalarCode(memory.index, self.lanes, indices, self._mask(memory, point))
        return code.run(self.parts.finalize, [*sums, *extra, *self.parts.sources])


def attribute_type(attribute: object) -> Type:
    """The type of an integer or float attribute."""
    type_ = getattr(attribute, "type", None)
    assert isinstance(type_, Type)
    return type_
