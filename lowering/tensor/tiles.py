"""How one stage's iteration space is cut: the register tile, the vectors, and the loops around them.

The candidates are listed here, and the cost model (lowering/tensor/cost.py) chooses. The number of threads is no part
of it: it shares out grains, and never changes them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Set

import attrs

from stepwell.dialects.schedule import LoopSpec, ScheduleAttr
from stepwell.dialects.tensor import GenericOp, tensor_type
from stepwell.ir.affine_expr import DIM, FLOORDIV, MOD, AffineExpr
from stepwell.ir.types import FloatType
from stepwell.lowering.precision import is_strict
from stepwell.lowering.tensor.choose import Ranked, ranked
from stepwell.lowering.tensor.layout import is_copy
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.maps import window_dims
from stepwell.lowering.tensor.register import RegisterTile, register_tiles
from stepwell.lowering.tensor.space import Space, lanes_of, reads_of
from stepwell.lowering.tensor.stage_work import StageWork
from stepwell.lowering.tensor.stages import holds_partial_sums
from stepwell.lowering.tensor.tile_cost import Tile
from stepwell.lowering.tensor.windows import slide_of, window_schedules

GRAIN_ELEMENTS = 16384  # elements of a map in one grain
GRAIN_STEPS = 1 << 18  # multiply-adds in one grain, at least,
GRAIN_READS = 1 << 16  # or numbers that it reads of the operand along the vectors: with few rows, these take the time
PARTIAL = 128  # multiply-adds in one sum of the widest vectors: rounding errors grow with the root of the length
WIDEST = 64  # bytes; with narrower vectors a step takes longer, and shorter sums cost nothing
PARTIAL_ALONG = 256  # vectors in one sum along the lanes: there are as many sums as lanes and copies already
PARTIAL_PLAIN = 32  # plain numbers, at least: often of one sign, so that every rounding is that of a large sum
MAX_GRAINS = 64  # grains wanted of a large kernel: enough for any team the target is assumed to have
MOST_ALONG = 4  # points along one dim of a map that are computed together because they read the same elements,
MOST_POINTS = 16  # and in all
UNEVEN = 1.5  # of parts that are not whole: rows are rather not cut at all
MOST_SLIDING = 16  # places of a window in one grain: of 3 x 3 elements an eighth is then read again for the next
ROWS_AT_ONCE = 4  # rows whose sums across lanes overlap
SUMS_AT_ONCE = 8  # additions that are under way: two in each cycle, each of which takes four
STEPS_OF_A_SUM = 4  # vectors that one of several sums of a row has at least


def schedule_of(space: Space, machine: Machine) -> ScheduleAttr:
    """The schedule of one stage: the cheapest candidate."""
    return candidates_of(StageWork.of_op(space.op).at(space.sizes), machine)[0].schedule


def candidates_of(work: StageWork, machine: Machine, count: int = 1) -> list[Ranked]:
    """Schedules of one stage that may be the best, and so many at least where there are, the best first."""
    return ranked(schedules(work.space, machine), work, machine, count)


def schedules(space: Space, machine: Machine) -> Iterator[ScheduleAttr]:
    """The schedules among which the cost model chooses; of equally cheap ones it takes the first."""
    vector = space.vector_dim(machine.vector_bytes // 4)
    if vector is None:
        yield _plain(space)
        return
    lanes = lanes_of(space.op, machine, space.sizes[vector])
    if vector in space.reduction:
        yield _along_reduction(space, vector, lanes)
    elif vector in window_dims(space.op):
        yield from window_schedules(space, vector, lanes, machine)
    elif space.reduction:
        yield from _contractions(space, vector, lanes, machine)
    else:
        yield _map(space, vector, lanes)


def _plain(space: Space) -> ScheduleAttr:
    return ScheduleAttr(tuple(_outer_loops(space, GRAIN_ELEMENTS)), (), "none", 1)


def _map(space: Space, vector: int, lanes: int) -> ScheduleAttr:
    turned = space.turned_dim(vector, lanes)
    if turned is not None:
        tile = {vector: lanes, turned: lanes}
        loops = _outer_loops(space, GRAIN_ELEMENTS, tile)
        return ScheduleAttr(tuple(loops), tuple((space.names[d], lanes) for d in tile), space.names[vector], lanes)
    shared = shared_reads(space, vector)
    vectors = max(1, min(_vectors_of_a_map(space, shared), space.sizes[vector] // lanes))
    tile = {**shared, vector: vectors * lanes}
    loops = _outer_loops(space, GRAIN_ELEMENTS, tile)
    return ScheduleAttr(tuple(loops), tuple((space.names[d], n) for d, n in tile.items()), space.names[vector], lanes)


def _vectors_of_a_map(space: Space, shared: Mapping[int, int]) -> int:
    """Vectors next to each other, at most: several points of what shares its reads are as many, but for copies, which
    need no registers in between."""
    if not shared:
        return 4
    copies = is_copy(space.op) and not isinstance(space.op.inputs[0].defining_op, GenericOp)
    return min(4, MOST_POINTS // math.prod(shared.values())) if copies else 1


def shared_reads(space: Space, vector: int) -> dict[int, int]:
    """The part of a map's dims in which points read the same elements again, of at most MOST_POINTS points.

    y[i] = x[2 * (i floordiv 2)] + x[2 * (i floordiv 2) + 1]: 2 along i; v[k, t] = x[2 * t + k], k < 4: 4 along k"""
    tile: dict[int, int] = {}
    places = {place for map_ in reads_of(space.op) for place in map_.results if vector not in place.dims}
    for place in sorted(places, key=str):
        for d in sorted(place.dims):
            size = points_that_share(place, d, space.sizes[d])
            if size <= min(MOST_ALONG, space.sizes[d]) and size > tile.get(d, 1):
                others = math.prod(n for other, n in tile.items() if other != d)
                if others * size <= MOST_POINTS:
                    tile[d] = size
    return tile


def points_that_share(place: AffineExpr, d: int, size: int) -> int:
    """How many neighbours along a dim lead to one place or to places that overlap with those of other dims."""
    divisors = [a.divisor for a, _ in place.terms if a.kind in (FLOORDIV, MOD) and a.operand.dim_index == d]
    if divisors:
        return max(divisors)
    steps = {atom.index: abs(factor) for atom, factor in place.terms if atom.kind == DIM}
    others = [step for other, step in steps.items() if other != d]
    return size if d in steps and others and (size - 1) * steps[d] >= min(others) > steps[d] else 1


def _along_reduction(space: Space, vector: int, lanes: int) -> ScheduleAttr:
    """Several rows at once, so that the sums across the lanes of one overlap with the work of the others."""
    row = space.row_dim(vector)
    rows = min(ROWS_AT_ONCE, space.sizes[row]) if row is not None else 1
    work = math.prod(space.sizes[d] for d in space.reduction)
    names = space.names
    loops = _outer_loops(space, max(1, GRAIN_ELEMENTS // max(1, work)), {row: rows} if row is not None else None)
    unroll = max(1, min(SUMS_AT_ONCE // rows, space.sizes[vector] // lanes // STEPS_OF_A_SUM))
    register = ((names[row], rows),) if row is not None and rows > 1 else ()
    partial = _partial(space, PARTIAL_ALONG * lanes * unroll)
    return ScheduleAttr(tuple(loops), register, names[vector], lanes, unroll, partial=partial)


def _outer_loops(space: Space, elements: int, least: Mapping[int, int] | None = None) -> Iterator[LoopSpec]:
    """Parallel loops over the outer dims, so that one grain has about `elements` points; tiles are multiples of
    `least` where it names their dim."""
    tiles: dict[int, int] = {}
    block = 1
    for d in reversed(space.parallel):
        unit = (least or {}).get(d, 1)
        tiles[d] = max(1, min(space.sizes[d], -(-elements // block)))
        tiles[d] = -(-tiles[d] // unit) * unit
        block *= tiles[d]
    for d in space.parallel:
        if tiles[d] < space.sizes[d] or not isinstance(space.op.sizes.dims[d], int):
            yield LoopSpec(f"{space.names[d]}0", space.names[d], tiles[d], True)


def _contractions(space: Space, vector: int, lanes: int, machine: Machine) -> Iterator[ScheduleAttr]:
    row = space.row_dim(vector)
    rows, columns = space.sizes[row] if row is not None else 1, space.sizes[vector]
    tiles = register_tiles(machine, rows, -(-columns // lanes))
    names = space.names
    unroll = 2 if space.sizes[space.reduction[-1]] > 1 else 1
    known = [size for d in space.reduction if isinstance(size := space.op.sizes.dims[d], int)]
    even = 1 << (math.isqrt(math.prod(known)) - 1).bit_length()  # as many sums as numbers in each: errors are smallest
    length = space.op.partial or max(even, PARTIAL * min(machine.vector_bytes, WIDEST) // WIDEST)
    if len(space.op.inputs) == 1:
        length = min(length, max(PARTIAL_PLAIN, even))
    partial = _partial(space, length)
    contraction = Contraction(space, vector, row, lanes, machine)
    slides: Set[int] = sliding_dims(space) & contraction.streamed - {vector, row}
    none: Set[int] = frozenset()
    for tile in sorted(tiles, key=lambda tile: (rows % tile.rows != 0, -tile.rows * tile.vectors)):
        register = [(names[row], tile.rows)] if row is not None else []
        register.append((names[vector], tile.vectors * lanes))
        slide = slide_of(space, Tile({space.names.index(name): n for name, n in register if n > 1}, vector, lanes))
        for sliding in (none, slides) if slides else (none,):
            loops = tuple(contraction.loops(tile, sliding))
            yield ScheduleAttr(loops, tuple(register), names[vector], lanes, unroll, partial=partial, slide=slide)


def sliding_dims(space: Space) -> set[int]:
    """The parallel dims along which a window moves by less than its size: x[2 * h + k], k < 3, along h. Neighbours read
    some of the same elements."""
    found = set()
    for map_ in space.op.input_maps:
        for place in map_.results:
            factors = (place.linear_form() or ({}, 0))[0]
            window = sum(abs(factor) * (space.sizes[d] - 1) for d, factor in factors.items() if d in space.reduction)
            found |= {d for d in factors if d in space.parallel and abs(factors[d]) <= window}
    return found


def _partial(space: Space, length: int) -> int:
    """The length of a partial sum: none where the whole is no longer, or is exact, or strictly in order."""
    sizes = [space.op.sizes.dims[d] for d in space.reduction]
    known = [size for size in sizes if isinstance(size, int)]
    is_short = len(known) == len(sizes) and math.prod(known) <= length
    is_float = all(isinstance(tensor_type(value).element, FloatType) for value in space.op.results)
    return length if is_float and not is_short and not is_strict(space.op) else 0


@attrs.frozen
class Contraction:
    """A reduction whose vectors run along a parallel dim, and whose register tiles have rows along another."""

    space: Space
    vector: int
    row: int | None
    lanes: int
    machine: Machine
    streamed: Set[int] = attrs.field(init=False)  # the dims of the operands that vectors are loaded from
    is_static: bool = attrs.field(init=False)
    may_be_cut: bool = attrs.field(init=False)  # its reduction, into parts

    @streamed.default
    def _streamed(self) -> Set[int]:
        used = (map_.used_dims() for map_ in self.space.op.input_maps)
        return {d for dims in used if self.vector in dims for d in dims}

    @is_static.default
    def _is_static(self) -> bool:
        return all(isinstance(size, int) for size in self.space.op.sizes.dims)

    @may_be_cut.default
    def _may_be_cut(self) -> bool:
        return len(self.space.reduction) == 1 and holds_partial_sums(self.space.op)

    def loops(self, tile: RegisterTile, sliding: Set[int]) -> Iterator[LoopSpec]:
        """Parallel tiles sized for the caches and for enough grains, then the long reduction in parts. Along `sliding`
        dims a grain has several places, over which its register tiles move innermost."""
        space, vector, row = self.space, self.vector, self.row
        depth = math.prod(space.sizes[d] for d in space.reduction)
        panel = tile.vectors * self.lanes
        columns = max(panel, 256 // panel * panel)
        rows = max(tile.rows, 120 // tile.rows * tile.rows)
        row_size = space.sizes[row] if row is not None else 1
        outer = [d for d in space.parallel if d not in (vector, row)]
        others = math.prod(space.sizes[d] for d in outer)
        if min(rows, row_size) < 64:  # few rows pass before the panels are read again: they have to stay in L2
            columns = max(panel, min(columns, self.machine.l2_bytes // 2 // (4 * depth) // panel * panel))
        reads = space.sizes[vector] * others * depth
        wanted = min(MAX_GRAINS, max(1, row_size * reads // GRAIN_STEPS, reads // GRAIN_READS))
        blocks = dict.fromkeys(outer, 1)
        for d in sorted(sliding, reverse=True):
            pieces = -(-space.sizes[d] // min(MOST_SLIDING, max(1, others // wanted)))
            blocks[d] = -(-space.sizes[d] // pieces)
            others = others // space.sizes[d] * pieces

        def grains() -> int:
            return others * -(-space.sizes[vector] // columns) * -(-row_size // rows)

        while grains() < wanted and (rows > tile.rows or columns > panel):
            fewer = max(tile.rows, rows // 2 // tile.rows * tile.rows)
            uneven = fewer < row_size and -(-row_size // fewer) * fewer > UNEVEN * row_size
            if rows > tile.rows and ((rows // tile.rows >= columns // panel and not uneven) or columns == panel):
                rows = fewer
            else:
                columns = max(panel, columns // 2 // panel * panel)
        first = [d for d in outer if d in self.streamed]
        # A kernel that one thread ends before another has woken up is not shared out.
        shared = wanted > 1 or not self.is_static
        yield from (LoopSpec(f"{space.names[d]}0", space.names[d], blocks[d], shared) for d in first)
        yield LoopSpec(f"{space.names[vector]}0", space.names[vector], columns, shared)
        yield from (
            LoopSpec(f"{space.names[d]}0", space.names[d], 1, shared) for d in outer if d not in self.streamed
        )
        if row is not None:
            yield LoopSpec(f"{space.names[row]}0", space.names[row], rows, shared)
        if self.may_be_cut and depth * panel * 4 > self.machine.l2_bytes // 2 and row_size > tile.rows:
            yield LoopSpec(f"{space.names[space.reduction[0]]}0", space.names[space.reduction[0]], 512)
