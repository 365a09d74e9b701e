"""Schedules of reductions that read a window at many displacements: correlations, cost volumes.

The register tile runs over any dims, and is counted: loads that fall on one place are one load. For an operand read at
w - 16 * do - di, tiles over `do` and vectors of w share loads; for one read at (h + dy, w + dx), tiles over h and dy
do. Around the tile, the displacements that it leaves run innermost, over a part of the reduction so short that what
they all read stays in the first-level cache."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from stepwell.dialects.schedule import LoopSpec, ScheduleAttr
from stepwell.ir.affine import AffineMap
from stepwell.ir.types import bit_width
from stepwell.lowering.precision import is_strict
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.maps import window_dims
from stepwell.lowering.tensor.space import Space
from stepwell.lowering.tensor.stages import holds_partial_sums
from stepwell.lowering.tensor.tile_cost import LINE, Tile, crosses_lines

WHOLE = 1.2  # of a dim, at most, in whole tiles: small tails of several dims are more code than work
MOST_STEPS = 8  # of a window along which a tile slides: they are unrolled
ENOUGH_GRAINS = 16  # grains of a large kernel beyond which its inner loops are left to one thread


def window_schedules(space: Space, vector: int, lanes: int, machine: Machine) -> Iterator[ScheduleAttr]:
    """The schedules of a reduction whose vectors run along a window, those of few accumulators first."""
    names = space.names
    unroll = 2 if space.sizes[space.reduction[-1]] > 1 else 1
    for tile in sorted(tiles(space, vector, lanes, machine), key=lambda tile: tile.accumulators):
        register = tuple((names[d], size) for d, size in tile.sizes.items())
        made = tuple(loops(space, tile, machine))
        yield ScheduleAttr(made, register, names[vector], lanes, unroll, slide=slide_of(space, tile))


def slide_of(space: Space, tile: Tile) -> str:
    """The name of the reduced dim along which a tile slides over vectors of its operands: the longest one; "" for none.
    It runs innermost, which strict sums do not allow."""
    sizes = {d: n for d in space.reduction if isinstance(n := space.op.sizes.dims[d], int) and 1 < n <= MOST_STEPS}
    found = [d for d in sizes if any(tile.slides(map_, d) for map_ in space.op.input_maps)]
    return space.names[max(found, key=sizes.__getitem__)] if found and not is_strict(space.op) else ""


def tiles(space: Space, vector: int, lanes: int, machine: Machine) -> Iterator[Tile]:
    """Register tiles over the vector dim and up to two others."""
    others = [d for d in space.parallel if d != vector and space.sizes[d] > 1]
    fitting = {d: [n for n in range(2, space.sizes[d] + 1) if -(-space.sizes[d] // n) * n <= WHOLE * space.sizes[d]]
               for d in others}  # fmt: skip
    columns = -(-space.sizes[vector] // lanes)
    most = machine.vector_registers - 2
    for vectors in (n for n in range(1, min(columns, 8) + 1) if -(-columns // n) * n <= WHOLE * columns):
        yield Tile({vector: vectors * lanes}, vector, lanes)
        for d in others:
            for n in (n for n in fitting[d] if n <= most // vectors):
                yield Tile({d: n, vector: vectors * lanes}, vector, lanes)
        for a, b in itertools.combinations(others, 2):
            for n in (n for n in fitting[a] if n <= most // vectors):
                for m in (m for m in fitting[b] if m <= most // vectors // n):
                    yield Tile({a: n, b: m, vector: vectors * lanes}, vector, lanes)


def loops(space: Space, tile: Tile, machine: Machine) -> Iterator[LoopSpec]:
    """What all operands share in parallel, then the register tile's dims, then a part of the reduction, then the
    displacements."""
    names, op = space.names, space.op
    inside = [d for d in space.parallel if d not in tile.sizes]
    common = [d for d in inside if all(d in map_.used_dims() for map_ in op.input_maps) and d not in window_dims(op)]
    few = math.prod(space.sizes[d] for d in common) < ENOUGH_GRAINS
    yield from (LoopSpec(f"{names[d]}0", names[d], 1, True) for d in common)
    yield LoopSpec(f"{names[tile.vector]}0", names[tile.vector], tile.sizes[tile.vector], few)
    tiled = [d for d in tile.sizes if d != tile.vector]
    yield from (LoopSpec(f"{names[d]}0", names[d], tile.sizes[d]) for d in tiled)
    part = reduction_part(space, tile, machine)
    if part is not None:
        (reduced,) = space.reduction
        yield LoopSpec(f"{names[reduced]}0", names[reduced], part)
    yield from (LoopSpec(f"{names[d]}0", names[d], 1) for d in inside if d not in common)


def reduction_part(space: Space, tile: Tile, machine: Machine) -> int | None:
    """How many steps of the reduction read as much as the first-level cache holds; None for all of them, and where
    partial sums cannot stand in the results."""
    if len(space.reduction) != 1 or not holds_partial_sums(space.op):
        return None
    bytes_ = sum(step_bytes(space, map_, tile) for map_ in space.op.input_maps if tile.vector in map_.used_dims())
    depth = space.sizes[space.reduction[0]]
    fitting = max(8, machine.l1_bytes * 3 // 4 // max(1, bytes_))
    if depth <= fitting:
        return None
    return -(-depth // -(-depth // fitting))


def step_bytes(space: Space, map_: AffineMap, tile: Tile) -> int:
    """Bytes of the lines that one step of the reduction reads of an operand, for the tile and for all displacements
    that run within a part of the reduction."""
    last = map_.results[-1].linear_form()
    assert last is not None
    rows = AffineMap(map_.num_dims, 0, map_.results[:-1])
    reach = 1
    for d, factor in last[0].items():
        if d in tile.sizes or space.op.iterators[d] == "parallel":
            reach += abs(factor) * (tile.sizes.get(d, space.sizes[d]) - 1)
    lines = -(-reach * element_bytes(space) // LINE) + crosses_lines(map_, tile)
    return tile.places(rows) * lines * LINE


def element_bytes(space: Space) -> int:
    """Bytes of an element of the widest operand."""
    return max(bit_width(value.type) // 8 for value in space.op.inputs)
