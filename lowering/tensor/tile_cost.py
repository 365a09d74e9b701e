"""Cycles of register tiles: counted, not guessed.

A tile's step costs the largest of its arithmetic, its loads, its shuffles and the latency of too few accumulators.
Loads that fall on one place are one load: for an operand read at w - 16 * do - di, tiles over `do` and vectors of w
share loads; for one read at (h + dy, w + dx), tiles over h and dy do. Full and partial tiles are counted apart."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping

import attrs

from stepwell.dialects.schedule import ScheduleAttr
from stepwell.ir.affine import AffineMap
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.maps import most_vectors, stride_of_lanes
from stepwell.lowering.tensor.stage_work import Access, StageWork

LINE = 64  # bytes of a cache line
OPERANDS = 2  # registers that a step needs beside its accumulators, at least
TILE_CYCLES = 6.0  # to begin a tile: addresses, a branch
FLUSH_CYCLES, SPILL_CYCLES = 1.0, 3.0  # for each partial sum that is added to a sum, and more where that is in memory
CUT_CYCLES = 3.0  # for each sum that outputs hold between parts of a reduction
LOOP_CYCLES = 2.0  # to enter the innermost loop of a reduction once more
LANE_CYCLES = 0.7  # of the unit that moves lanes, for each that is loaded alone
STREAMS = 10  # places of an operand that are followed at once; beyond, lines are waited for
NEAR = 512  # bytes between places that are one stream
STREAM_CYCLES, NEAR_CYCLES = 0.3, 0.04  # of each further place, for each step
PAGE = 4096  # bytes: addresses so far apart fall on one set of the first cache
PAGES, PAGE_CYCLES = 4, 0.12  # places that lie so far apart and cost nothing, and what each further one costs
WAYS = 16  # lines that a set of the second cache keeps
KEPT_CYCLES, LOST_CYCLES = 10.0, 100.0  # for a line of a set that keeps it, or has to fetch it again
POINTS_OF_A_BLOCK = 1024  # vectors of outputs in one register tile, beyond any use
SCALARS_OF_A_BLOCK = 1024  # operations on places: LLVM takes more than twice as long for twice as many


@attrs.frozen
class Tile:
    """Elements of each dim in the register tile, those of the vector dim in whole vectors; dims of 1 left out. `vector`
    is -1 where nothing runs along the lanes. `slide` is a reduced dim, and its size, whose steps are taken as one."""

    sizes: Mapping[int, int]
    vector: int
    lanes: int
    slide: tuple[int, int] = (-1, 1)

    @property
    def accumulators(self) -> int:
        """Vectors of outputs."""
        return math.prod(self.counts().values())

    @property
    def vectors(self) -> int:
        """Vectors that lie next to each other."""
        return self.counts().get(self.vector, 1)

    def counts(self) -> dict[int, int]:
        """Steps along each dim: vectors along that of the lanes."""
        return {d: -(-size // self.lanes) if d == self.vector else size for d, size in self.sizes.items()}

    def slides(self, map_: AffineMap, d: int) -> bool:
        """Whether steps along a reduced dim lead to vectors of an operand that other steps read as well."""
        return self.vector in map_.used_dims() and any(
            d in place.dims and place.dims & self.sizes.keys() - {self.vector} for place in map_.results
        )

    def places(self, *maps: AffineMap) -> int:
        """How many different places of an operand the tile reads in one step of the reduction: vectors, or elements."""
        used = set().union(*(map_.used_dims() for map_ in maps))
        counts = {d: n for d, n in self.counts().items() if n > 1 and d in used}
        if len(maps) == 1 and all(len(place.dims & counts.keys()) < 2 for place in maps[0].results):
            return math.prod(counts.values())
        ranges = [range(0, self.sizes[d], self.lanes if d == self.vector else 1) for d in counts]
        found: set[tuple[object, ...]] = set()
        for point in itertools.product(*ranges):
            dims = [0] * maps[0].num_dims
            for d, at in zip(counts, point, strict=True):
                dims[d] = at
            found.update(map_.evaluate(dims, ()) for map_ in maps)
        return len(found)


def crosses_lines(map_: AffineMap, tile: Tile) -> bool:
    """Whether vectors of an operand start anywhere: dims move them by less than their length."""
    form = map_.results[-1].linear_form() if map_.results else None
    if form is None or tile.vector not in form[0]:
        return False
    return any(factor % tile.lanes for d, factor in form[0].items() if d != tile.vector)


@attrs.frozen
class Step:
    """What one step of a tile needs: vector instructions of each kind, and registers."""

    operations: float
    loads: float
    shuffles: float
    registers: int
    waiting: float  # cycles


def step_of(work: StageWork, tile: Tile, machine: Machine, turns: bool = False) -> Step:
    """One step of the reduction, or the whole of a map's tile, its stores left out; the mean of those along which the
    tile slides. `turns`: operands that are contiguous along another dim than the vectors are loaded in squares."""
    loads, shuffles, kept, waiting = 0.0, 0.0, 0, 0.0
    width = work.width(tile.lanes, machine.vector_bytes)
    along, steps = tile.slide
    for access in work.reads:
        if along in access.used:
            window = attrs.evolve(tile, sizes={**tile.sizes, along: steps})
            made, turned, held = _loads_of(access, window, machine, turns)
            made, turned = made / steps, turned / steps
        else:
            made, turned, held = _loads_of(access, tile, machine, turns)
        loads += made * (width if tile.vector in access.used else 1)
        shuffles += turned * width
        kept += held
        is_vector = tile.vector in access.used
        if is_vector and along not in access.used:
            continue
        far = max((access.step_bytes(d) for d in tile.sizes if d != tile.vector), default=0)
        each = STREAM_CYCLES if far >= NEAR else NEAR_CYCLES
        if is_vector:
            waiting += max(0.0, made * steps / tile.vectors - STREAMS) / steps * each
        else:
            waiting += max(0.0, made - STREAMS) * each
            if far and far % PAGE == 0:
                waiting += PAGE_CYCLES * max(0.0, made - PAGES)
    points = tile.accumulators
    gathered = work.gathers * points * tile.lanes
    return Step(work.operations * points * width, loads + gathered, shuffles + gathered, kept * width, waiting)


def _loads_of(access: Access, tile: Tile, machine: Machine, turns: bool) -> tuple[float, float, int]:
    """(loads, shuffles, registers held) of one operand in a step."""
    places = tile.places(*access.maps)
    if tile.vector not in access.used:
        return places, 0, max(1, tile.sizes.get(tile.slide[0], 1))
    held = min(places, tile.vectors + 1)
    if access.is_contiguous(tile.vector):
        crosses = not access.is_constant and crosses_lines(access.map, tile)
        return places * (1 + machine.vector_bytes / LINE if crosses else 1), 0, held
    if turns and _rows_of_squares(access, tile):
        return *_in_squares(access, tile, places), held
    return *_of_neighbours(access, tile, places, machine), held


def _in_squares(access: Access, tile: Tile, vectors: float) -> tuple[float, float]:
    """(loads or stores, shuffles) of vectors of an operand that is not contiguous along their dim: squares that are
    turned in registers, where it is so along another dim of the tile."""
    rows = _rows_of_squares(access, tile)
    if not rows:
        return _lane_by_lane(tile, vectors)
    lines = vectors / rows * -(-rows // tile.lanes) * tile.lanes
    return lines, lines * math.log2(tile.lanes)


def _of_neighbours(access: Access, tile: Tile, vectors: float, machine: Machine) -> tuple[float, float]:
    """(loads, shuffles) of vectors whose lanes lie a few elements apart: out of the vectors that hold them all, which
    places between two lanes share."""
    strides = [stride_of_lanes(map_, tile.vector) for map_ in access.maps]
    stride = max((n for n in strides if n is not None), default=0)
    if None in strides or stride > most_vectors(tile.lanes):
        return _lane_by_lane(tile, vectors)
    shared = [AffineMap(map_.num_dims, 0, (*map_.results[:-1], map_.results[-1] // stride)) for map_ in access.maps]
    loads = tile.places(*shared) * stride
    crosses = crosses_lines(access.map, tile)
    return loads * (1 + machine.vector_bytes / LINE if crosses else 1), vectors * max(1, stride - 1)


def _lane_by_lane(tile: Tile, vectors: float) -> tuple[float, float]:
    """(loads or stores, shuffles) of vectors whose lanes lie apart."""
    return vectors * tile.lanes, vectors * tile.lanes * LANE_CYCLES


def spills(work: StageWork, tile: Tile, machine: Machine) -> bool:
    """Whether the accumulators leave no registers for the operands, or places are computed for too many of them."""
    if tile.accumulators > 1 and tile.accumulators * tile.lanes * work.scalars > SCALARS_OF_A_BLOCK:
        return True
    if not work.space.reduction:
        return tile.accumulators > POINTS_OF_A_BLOCK
    width = work.width(tile.lanes, machine.vector_bytes)
    kept = max((_kept_for_the_next(access, work, tile) for access in work.reads), default=0)
    if tile.slide[1] > 1:  # one vector of each operand over which it slides, and what all of its steps multiply it with
        kept = tile.vectors + tile.slide[1]
    return tile.accumulators * work.sums * width + OPERANDS + kept > machine.vector_registers


def _kept_for_the_next(access: Access, work: StageWork, tile: Tile) -> int:
    """Elements or vectors that the next step of the innermost loop uses as well, one place further: x[w + k] at k and
    k + 1. Steps are unrolled, so that all of them stay in registers."""
    step = next((d for d in reversed(work.space.reduction) if work.space.sizes[d] > 1), None)
    if step not in access.used:
        return 0
    slides = any(step in place.dims and place.dims & tile.sizes.keys() for place in access.map.results)
    return tile.places(*access.maps) if slides else 0


def step_cycles(work: StageWork, tile: Tile, machine: Machine, copies: int = 1) -> float:
    """Cycles of one step: operations, loads, shuffles or the latency of too few accumulators, of each of which there
    are so many `copies`. Operands that do not fit the registers beside the accumulators are loaded again."""
    step = step_of(work, tile, machine)
    loads, latency = step.loads, 0.0
    if work.space.reduction:
        kept = tile.accumulators * work.sums + step.registers
        loads += 2 * max(0, kept - machine.vector_registers)
        latency = machine.fma_latency / copies
    # Units that wait for results are never quite busy: the nearer the two, the less.
    arithmetic = math.sqrt(math.hypot((step.operations / machine.fma_per_cycle) ** 2, latency**2))
    return step.waiting + max(
        arithmetic, loads / machine.loads_per_cycle, step.shuffles / machine.shuffles_per_cycle
    )


def finish_cycles(work: StageWork, tile: Tile, machine: Machine) -> float:
    """Cycles of a tile besides the steps of its reduction: what comes behind the sums, or the whole of a map, and the
    stores."""
    step = step_of(work.late if work.space.reduction else work, tile, machine, turns=True)
    stores, shuffles, waiting = 0.0, step.shuffles, 0.0
    for access in work.writes:
        if tile.vector not in access.used or access.is_contiguous(tile.vector):
            stores += tile.accumulators
            continue
        waiting += _set_cycles(access, tile)
        moved, shuffled = _in_squares(access, tile, tile.accumulators)
        stores += moved
        shuffles += shuffled
    return TILE_CYCLES + waiting + max(
        step.operations / machine.fma_per_cycle, step.loads / machine.loads_per_cycle,
        shuffles / machine.shuffles_per_cycle, stores / machine.stores_per_cycle,
    )  # fmt: skip


def _rows_of_squares(access: Access, tile: Tile) -> int:
    """How many elements of the tile are contiguous along another dim than that of the vectors; 0 for so few that lanes
    are stored alone."""
    if tile.lanes == 1 or not access.is_linear(tile.vector):
        return 0
    found = [n for d, n in tile.sizes.items() if d != tile.vector and access.is_contiguous(d)]
    return next((n for n in found if 4 * n >= tile.lanes), 0)


def _set_cycles(access: Access, tile: Tile) -> float:
    """What scattered stores wait for, where all lanes fall on one set of the caches, whose ways are few."""
    if access.step_bytes(tile.vector) % PAGE:
        return 0.0
    rows = math.prod(n for d, n in tile.counts().items() if d in access.used and d != tile.vector)
    near = any(access.is_contiguous(d) for d in tile.sizes if d != tile.vector)
    lines = max(1.0, rows * access.item / LINE) + (rows * access.item % LINE > 0) * 0.5 if near else rows
    planes = tile.lanes * tile.vectors
    return lines * planes * (LOST_CYCLES if planes > WAYS else KEPT_CYCLES)


@attrs.frozen
class TileCost:
    """Of one register tile: its vectors of outputs, and cycles, those that it takes `once`, for each step of its
    reduction, and to add its partial sums to its sums. `fits` the registers, or there is no more to know."""

    accumulators: int
    once: float = 0.0
    step: float = 0.0
    flush: float = 0.0
    fits: bool = True


def tile_cost(work: StageWork, tile: Tile, machine: Machine, copies: int = 1) -> TileCost:
    """What a register tile costs, with so many `copies` of each accumulator."""
    if spills(work, tile, machine):
        return TileCost(tile.accumulators, fits=False)
    once = finish_cycles(work, tile, machine)
    if not work.space.reduction:
        return TileCost(tile.accumulators, once)
    step = step_cycles(work, tile, machine, copies)
    return TileCost(tile.accumulators, once, step, flush_cycles(work, tile, machine))


@functools.lru_cache(maxsize=4096)
def leaf_sizes(size: int, tiles: tuple[int, ...]) -> Mapping[int, int]:
    """How often each size of a piece occurs where a dim is cut by tile after tile: {6: 21, 2: 1} of 128 by 6."""
    pieces = {size: 1}
    for tile in tiles:
        cut: dict[int, int] = {}
        for piece, count in pieces.items():
            for part, times in ((tile, piece // tile), (piece % tile, 1)):
                if part and times:
                    cut[part] = cut.get(part, 0) + times * count
        pieces = cut
    return pieces


def tile_cycles(work: StageWork, schedule: ScheduleAttr, machine: Machine) -> float:
    """Cycles of all tiles of a space that a schedule cuts, their data in the nearest cache; infinite where the
    accumulators do not fit the registers."""
    space = work.space
    vector = list(space.names).index(schedule.vector) if schedule.vector in space.names and schedule.lanes > 1 else -1
    along = vector in space.reduction
    slide = list(space.names).index(schedule.slide) if schedule.slide else -1
    window = (slide, space.sizes[slide]) if slide >= 0 else (-1, 1)
    copies = schedule.unroll if along else 1
    pieces = []
    register = dict(schedule.register)
    for d in space.parallel:
        name = space.names[d]
        tiles = [spec.tile for spec in schedule.loops if spec.dim == name]
        cut = leaf_sizes(space.sizes[d], (*tiles, register.get(name, 1)))
        pieces.append([(d, n, count) for n, count in cut.items()])
    steps, entries, cuts, flushes = _steps(work, schedule, vector if along else -1)
    total = 0.0
    for combination in itertools.product(*pieces):
        sizes = {d: size for d, size, _ in combination if size > 1}
        key = (*sizes.items(), vector, schedule.lanes, window, copies, machine)
        if key not in work.known:
            work.known[key] = tile_cost(work, Tile(sizes, vector, schedule.lanes, window), machine, copies)
        cost = work.known[key]
        if not cost.fits:
            return math.inf
        once = cost.once
        if space.reduction:
            once += steps * cost.step + entries * LOOP_CYCLES + flushes * cost.flush
            once += cuts * CUT_CYCLES * cost.accumulators * work.sums
        if along:  # sums across the lanes
            once += cost.accumulators * (math.log2(schedule.lanes) + schedule.unroll) * 2
        total += math.prod(count for _, _, count in combination) * once
    return total


def flush_cycles(work: StageWork, tile: Tile, machine: Machine) -> float:
    """What it costs to add the partial sums of a tile to its sums, and to begin new ones. Sums that find no registers
    beside them are in memory."""
    sums = tile.accumulators * work.sums * work.width(tile.lanes, machine.vector_bytes)
    spilled = max(0, 2 * sums + OPERANDS - machine.vector_registers)
    return sums * FLUSH_CYCLES + spilled * SPILL_CYCLES


def _steps(work: StageWork, schedule: ScheduleAttr, vector: int) -> tuple[float, float, int, int]:
    """(steps of a tile's reduction, entries into its innermost loop, how often the outputs hold its sums meanwhile, how
    often partial sums are added to others)."""
    sizes = {d: -(-work.space.sizes[d] // (schedule.lanes if d == vector else 1)) for d in work.space.reduction}
    steps = math.prod(sizes.values())
    names = work.space.names
    innermost = next((n for d, n in reversed(list(sizes.items())) if n > 1 and names[d] != schedule.slide), 1)
    innermost *= next((n for d, n in sizes.items() if names[d] == schedule.slide), 1)
    cuts = math.prod(-(-work.space.sizes[d] // spec.tile) for spec in schedule.loops
                     for d in work.space.reduction if work.space.names[d] == spec.dim)  # fmt: skip
    flushes = -(-steps // schedule.partial) - 1 if schedule.partial else 0
    return steps, steps / innermost * max(1, cuts), cuts - 1, flushes
