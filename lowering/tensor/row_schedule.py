"""Writes the schedule of a kernel whose stages share rows: loops over rows, and in them a block of rows in which one
stage is computed after the other."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import attrs

from stepwell.dialects.schedule import WHOLE_KERNEL, LoopSpec, ScheduleAttr, StageSpec
from stepwell.lowering.tensor.choose import Ranked
from stepwell.lowering.tensor.common_rows import Row, Rows
from stepwell.lowering.tensor.machine import Machine, size_of
from stepwell.lowering.tensor.maps import window_dims
from stepwell.lowering.tensor.rows import row_bytes
from stepwell.lowering.tensor.space import Space
from stepwell.lowering.tensor.stage_work import StageWork
from stepwell.lowering.tensor.stages import Stage
from stepwell.lowering.tensor.tiles import GRAIN_ELEMENTS, ROWS_AT_ONCE, candidates_of, schedule_of

LEAST_BLOCK = 16  # rows of a contraction computed together although what is between the stages leaves the L1 cache


def one_row_schedule(rows: Rows, machine: Machine) -> ScheduleAttr:
    """One stage after the other, all of it at once."""
    made = {stage: schedule_of(Space.of(stage.root), machine).with_loops() for stage in rows.stages}
    return made[rows.root].with_loops(
        stages=[StageSpec(stage.name, WHOLE_KERNEL, made[stage]) for stage in rows.stages[:0:-1]]
    )


def row_schedule(rows: Rows, machine: Machine, block: int | None = None) -> ScheduleAttr:
    """Loops over rows, outermost first, down to a block of rows in which every stage is computed; of the best size,
    where none is given."""
    root = rows.root.root
    in_order = rows.in_order()
    dims = [row.dims[rows.root] for row in in_order]
    units = {row.dims[rows.root]: row.units[rows.root] for row in in_order}
    last = in_order[-1]
    sizes = {d: -(-size_of(root.sizes.dims[d]) // units[d]) for d in dims}
    block = min(sizes[dims[-1]], row_block(rows, last, machine) if block is None else block)
    grain = block
    if block <= ROWS_AT_ONCE:  # small grains
        work = max(math.prod(map(size_of, s.root.sizes.dims)) for s in rows.stages) // math.prod(sizes.values())
        grain = max(1, GRAIN_ELEMENTS // (work * block)) * block
    names = root.names
    loops = [LoopSpec(f"{names[d]}0", names[d], units[d], True) for d in dims[:-1]]
    unit = units[dims[-1]]
    loops.append(LoopSpec(f"{names[dims[-1]]}0", names[dims[-1]], grain * unit, True))
    if grain > block:
        loops.append(LoopSpec(f"{names[dims[-1]]}1", names[dims[-1]], block * unit))
    made = {stage: _stage_schedule(stage, rows, last, block, machine) for stage in rows.stages}
    inner = [StageSpec(stage.name, loops[-1].label, made[stage]) for stage in rows.stages[:0:-1]]
    rows_cut = {spec.dim for spec in loops}
    within = [spec for spec in made[rows.root].loops if spec.dim not in rows_cut]
    loops.extend(LoopSpec(spec.label, spec.dim, spec.tile) for spec in within)
    return made[rows.root].with_loops(loops, inner)


def row_block(rows: Rows, last: Row, machine: Machine) -> int:
    """How many rows are computed together: as many as fill vectors where neighbouring rows are neighbours in memory, as
    many as share the loads of a contraction's other operand, else one."""
    lanes = machine.vector_bytes // 4
    if any(Space.of(stage.root).vector_dim(lanes) == last.dims[stage] for stage in rows.stages if stage.root.inputs):
        return lanes * (4 if row_bytes(rows) * 4 * lanes <= machine.l1_bytes else 1)
    contractions = [s for s in rows.stages if s.root.has_reduction and shares_loads(s, last.dims[s])]
    if not contractions:
        return ROWS_AT_ONCE if row_bytes(rows) * ROWS_AT_ONCE <= machine.l1_bytes else 1
    bytes_ = max(1, row_bytes(rows))
    most = max(machine.l1_bytes // 2 // bytes_, min(machine.l2_bytes // 4 // bytes_, LEAST_BLOCK))

    works = {stage: StageWork.of_stage(stage, rows.stages) for stage in contractions}

    @functools.cache
    def tiled(stage: Stage, block: int) -> Ranked:
        return candidates_of(works[stage].at(_block_sizes(works[stage].space, rows, stage, last, block)), machine)[0]

    @functools.cache
    def cycles(block: int) -> float:
        return sum(tiled(stage, block).terms.compute for stage in contractions)

    count = size_of(rows.sizes()[rows.rows.index(last)])

    def all_cycles(block: int) -> float:
        return count // block * cycles(block) + (cycles(count % block) if count % block else 0)

    # A block that is no multiple of the register tile has to divide the rows, or else its tail is cut in small pieces.
    tiles = {tiled(stage, count).schedule.register_size(stage.root.names[last.dims[stage]]) for stage in contractions}
    whole = [n for n in range(1, 65) if count % n == 0 or all(n % rows == 0 for rows in tiles)]
    return min((n for n in whole if n <= max(1, most)), key=lambda n: (all_cycles(n), -n))


def shares_loads(stage: Stage, row: int) -> bool:
    """Whether neighbouring rows read the same elements of an operand."""
    return any(row not in map_.used_dims() for map_ in stage.root.input_maps)


def _stage_schedule(stage: Stage, rows: Rows, last: Row, block: int, machine: Machine) -> ScheduleAttr:
    """How one stage's part of a block of rows is cut."""
    space = Space.of(stage.root)
    made = schedule_of(attrs.evolve(space, sizes=_block_sizes(space, rows, stage, last, block)), machine)
    if window_dims(stage.root):
        return made
    return made.with_loops(_line_by_line(space, rows.inner(stage), made))


def _block_sizes(space: Space, rows: Rows, stage: Stage, last: Row, block: int) -> list[int]:
    """The sizes of one stage's part of a block of rows."""
    sizes = list(space.sizes)
    for row in rows.rows:
        sizes[row.dims[stage]] = row.units[stage] * (block if row is last else 1)
    return sizes


def _line_by_line(space: Space, inner: Sequence[int], made: ScheduleAttr) -> list[LoopSpec]:
    """The loops of a map over the inside of a row, such that contiguous lines are gone through to their end."""
    names = space.names
    if space.reduction or made.vector not in names or space.strided_inputs(names.index(made.vector)):
        return []
    tiled = {name for name, _ in made.register} | {made.vector}
    return [LoopSpec(f"{names[d]}0", names[d], 1) for d in inner if names[d] not in tiled and space.sizes[d] > 1]
