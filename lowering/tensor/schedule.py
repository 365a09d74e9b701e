"""Writes the `#tensor.schedule` of every kernel from the target's description.

The choices are counted, not guessed: for each register tile that fits the registers, the cycles of all full and partial
tiles of the iteration space, where a tile's step costs the larger of its multiply-adds and its loads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import attrs

from stepwell.dialects.schedule import LoopSpec, ScheduleAttr
from stepwell.dialects.tensor import ConstantOp, GenericOp, KernelOp
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import dim
from stepwell.ir.core import BlockArgument, Operation, Value
from stepwell.ir.dims import Dim
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import bit_width
from stepwell.lowering.tensor.machine import Machine

TYPICAL = 128  # the size assumed for a symbolic dim
GRAIN_ELEMENTS = 16384  # elements of a map in one grain
GRAIN_STEPS = 1 << 18  # multiply-adds in one grain, at least
MAX_GRAINS = 64  # grains wanted of a large kernel: enough for any team the target is assumed to have


@attrs.frozen
class Schedule(Pass):
    """Decide how every kernel's loops are cut."""

    name: ClassVar[str] = "schedule"

    def run(self, module: Operation, context: PassContext) -> None:
        machine = Machine.of(context.target)
        for kernel in module.walk_of(KernelOp):
            if kernel.schedule is None:
                kernel.schedule = schedule_of(root_of(kernel), machine)


def root_of(kernel: KernelOp) -> GenericOp:
    """The op whose loops the kernel has: its reduction, or its last map."""
    generics = [op for op in kernel.body.block if isinstance(op, GenericOp)]
    return next((op for op in generics if op.has_reduction), generics[-1])


@attrs.frozen(eq=False)
class Space:
    """A generic's iteration space as the cost model sees it."""

    op: GenericOp
    names: Sequence[str]
    sizes: Sequence[int]
    parallel: Sequence[int]
    reduction: Sequence[int]

    @staticmethod
    def of(op: GenericOp) -> Space:
        """Symbolic sizes count as TYPICAL."""
        kinds = list(enumerate(op.iterators))
        return Space(
            op, op.names, [size_of(d) for d in op.sizes.dims],
            [d for d, kind in kinds if kind == "parallel"], [d for d, kind in kinds if kind != "parallel"],
        )  # fmt: skip

    def vector_dim(self, lanes: int) -> int | None:
        """The dim whose neighbours fill a vector: a parallel dim along which all results are contiguous, or a reduction
        dim of at least two vectors along which an input is. The one along which fewest inputs are read in strides wins,
        and among equals a parallel one, which needs no sum across lanes."""
        found = [d for d in self.parallel if self.sizes[d] > 1 and all(runs_along(m, d) for m in self.op.output_maps)]
        for d in reversed(self.reduction):
            ending = any(m.results[-1:] == (dim(d),) for m in self.op.input_maps)
            if (self.sizes[d] >= 2 * lanes and self.has_neighbours(d)) or (ending and not found):
                found.append(d)
        return min(found, key=self.strided_inputs, default=None)

    def has_neighbours(self, d: int) -> bool:
        """Whether some input is contiguous along a dim."""
        return any(d in m.used_dims() and not moves_in_strides(m, d) for m in self.op.input_maps)

    def strided_inputs(self, d: int) -> int:
        """How many inputs one step along a dim leads to anything but the next element; constants are not counted, since
        they can be laid out as they are read."""
        return sum(
            moves_in_strides(map_, d)
            for value, map_ in zip(self.op.inputs, self.op.input_maps, strict=True)
            if not is_constant(value)
        )

    def row_dim(self, vector: int) -> int | None:
        """The parallel dim whose rows share the vectors loaded along `vector`: the largest that those inputs lack."""
        shared: set[int] = set(self.parallel) - {vector}
        for map_ in self.op.input_maps:
            if vector in map_.used_dims() and len(self.op.inputs) > 1:
                shared -= map_.used_dims()
        candidates = shared or set(self.parallel) - {vector}
        return max(candidates, key=lambda d: (self.sizes[d] > 1, d), default=None)


def runs_along(map_: AffineMap, d: int) -> bool:
    """Whether neighbours along a dim are neighbours in memory: its last index is `d` or `d mod block`."""
    if not map_.results:
        return False
    last = map_.results[-1]
    return last == dim(d) or any(last == dim(d) % block for block in (4, 8, 16, 32, 64))


def moves_in_strides(map_: AffineMap, d: int) -> bool:
    """Whether neighbours along a dim that reaches a tensor are neither one element nor neighbours there."""
    if d not in map_.used_dims() or runs_along(map_, d):
        return False
    return map_.results[-1].coefficient(d) != 1 or any(d in place.dims for place in map_.results[:-1])


def is_constant(value: Value) -> bool:
    """Whether a kernel's inside stands for a constant of the model."""
    if isinstance(value, BlockArgument) and isinstance(value.block.parent_op, KernelOp):
        value = value.block.parent_op.inputs[value.index]
    return isinstance(value.defining_op, ConstantOp)


def size_of(size: Dim) -> int:
    """A size for counting; an empty dim counts as 1."""
    return max(1, size) if isinstance(size, int) else TYPICAL


def lanes_of(op: GenericOp, machine: Machine, extent: int) -> int:
    """Lanes of a vector: as many of the widest element as fill a register, no more than the extent needs."""
    bits = max(bit_width(value.type) for value in (*op.inputs, *op.results))
    lanes = machine.vector_bytes * 8 // max(32, bits)
    while lanes > 1 and lanes // 2 >= extent:
        lanes //= 2
    return lanes


def schedule_of(op: GenericOp, machine: Machine) -> ScheduleAttr:
    """The schedule of a kernel whose root is `op`."""
    space = Space.of(op)
    vector = space.vector_dim(machine.vector_bytes // 4)
    if vector is None:
        return _plain(space)
    lanes = lanes_of(op, machine, space.sizes[vector])
    if vector in space.reduction:
        return _along_reduction(space, vector, lanes)
    if space.reduction:
        return _contraction(space, vector, lanes, machine)
    return _map(space, vector, lanes)


def _plain(space: Space) -> ScheduleAttr:
    return ScheduleAttr(tuple(_outer_loops(space, GRAIN_ELEMENTS)), (), "none", 1)


def _map(space: Space, vector: int, lanes: int) -> ScheduleAttr:
    vectors = max(1, min(4, space.sizes[vector] // lanes))
    register = ((space.names[vector], vectors * lanes),)
    loops = _outer_loops(space, GRAIN_ELEMENTS, {vector: vectors * lanes})
    return ScheduleAttr(tuple(loops), register, space.names[vector], lanes)


def _along_reduction(space: Space, vector: int, lanes: int) -> ScheduleAttr:
    work = math.prod(space.sizes[d] for d in space.reduction)
    loops = _outer_loops(space, max(1, GRAIN_ELEMENTS // max(1, work)))
    unroll = max(1, min(4, space.sizes[vector] // lanes))
    return ScheduleAttr(tuple(loops), (), space.names[vector], lanes, unroll)


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


@attrs.frozen
class RegisterTile:
    """Rows times vectors of accumulators."""

    rows: int
    vectors: int


def register_tiles(machine: Machine) -> Iterator[RegisterTile]:
    """Tiles whose accumulators, one step's vectors and one broadcast fit the registers."""
    for vectors in range(1, 9):
        for rows in range(1, 25):
            if rows * vectors + vectors + 1 < machine.vector_registers:
                yield RegisterTile(rows, vectors)


def tile_cycles(tile: RegisterTile, machine: Machine) -> float:
    """Cycles of one reduction step of a tile: multiply-adds, loads, or the latency of too few accumulators."""
    fmas = tile.rows * tile.vectors / machine.fma_per_cycle
    loads = (tile.rows + tile.vectors) / machine.loads_per_cycle
    latency = machine.fma_latency
    return max(fmas, loads, latency)


def space_cycles(tile: RegisterTile, rows: int, columns: int, lanes: int, machine: Machine) -> float:
    """Cycles per reduction step over the whole rows x columns of outputs, partial tiles included."""
    vectors = -(-columns // lanes)
    total = 0.0
    for row_count, row_tiles in _parts(rows, tile.rows):
        for vector_count, vector_tiles in _parts(vectors, tile.vectors):
            total += row_tiles * vector_tiles * tile_cycles(RegisterTile(row_count, vector_count), machine)
    return total


def _parts(total: int, tile: int) -> Iterator[tuple[int, int]]:
    """(size, count) of full and partial tiles."""
    if total >= tile:
        yield tile, total // tile
    if total % tile:
        yield total % tile, 1


def _contraction(space: Space, vector: int, lanes: int, machine: Machine) -> ScheduleAttr:
    row = space.row_dim(vector)
    rows, columns = space.sizes[row] if row is not None else 1, space.sizes[vector]
    best = min(
        (tile for tile in register_tiles(machine) if tile.rows <= rows and (tile.vectors - 1) * lanes < columns),
        key=lambda tile: (space_cycles(tile, rows, columns, lanes, machine), -tile.rows * tile.vectors),
    )
    names = space.names
    register = [(names[row], best.rows)] if row is not None else []
    register.append((names[vector], best.vectors * lanes))
    loops = list(_contraction_loops(space, vector, row, best, lanes, machine))
    unroll = 2 if space.sizes[space.reduction[-1]] > 1 else 1
    return ScheduleAttr(tuple(loops), tuple(register), names[vector], lanes, unroll)


def _contraction_loops(
    space: Space, vector: int, row: int | None, tile: RegisterTile, lanes: int, machine: Machine
) -> Iterator[LoopSpec]:
    """Parallel tiles sized for the caches and for enough grains, then the long reduction in parts."""
    depth = math.prod(space.sizes[d] for d in space.reduction)
    panel = tile.vectors * lanes
    columns = max(panel, 256 // panel * panel)
    rows = max(tile.rows, 120 // tile.rows * tile.rows)
    row_size = space.sizes[row] if row is not None else 1
    outer = [d for d in space.parallel if d not in (vector, row)]
    others = math.prod(space.sizes[d] for d in outer)
    if min(rows, row_size) < 64:  # few rows pass before the panels are read again: they have to stay in L2
        columns = max(panel, min(columns, machine.l2_bytes // 2 // (4 * depth) // panel * panel))
    wanted = min(MAX_GRAINS, max(1, row_size * space.sizes[vector] * others * depth // GRAIN_STEPS))

    def grains() -> int:
        return others * -(-space.sizes[vector] // columns) * -(-row_size // rows)

    while grains() < wanted and (rows > tile.rows or columns > panel):
        if rows > tile.rows and (rows // tile.rows >= columns // panel or columns == panel):
            rows = max(tile.rows, rows // 2 // tile.rows * tile.rows)
        else:
            columns = max(panel, columns // 2 // panel * panel)
    streamed = {d for m in space.op.input_maps if vector in m.used_dims() for d in m.used_dims()}
    first = [d for d in outer if d in streamed]
    # A kernel that one thread ends before another has woken up is not shared out.
    shared = wanted > 1 or not all(isinstance(size, int) for size in space.op.sizes.dims)
    yield from (LoopSpec(f"{space.names[d]}0", space.names[d], 1, shared) for d in first)
    yield LoopSpec(f"{space.names[vector]}0", space.names[vector], columns, shared)
    yield from (LoopSpec(f"{space.names[d]}0", space.names[d], 1, shared) for d in outer if d not in first)
    if row is not None:
        yield LoopSpec(f"{space.names[row]}0", space.names[row], rows, shared)
    if len(space.reduction) == 1 and depth * panel * 4 > machine.l2_bytes // 2 and row_size > tile.rows:
        yield LoopSpec(f"{space.names[space.reduction[0]]}0", space.names[space.reduction[0]], 512)
