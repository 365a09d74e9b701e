"""Writes the schedule of a kernel whose stages share rows: loops over rows, and in them a block of rows in which one
stage is computed after the other."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import attrs

from stepwell.dialects.schedule import WHOLE_KERNEL, LoopSpec, ScheduleAttr, StageSpec
from stepwell.lowering.tensor.choose import Ranked
from stepwell.lowering.tensor.common_rows import Row, Rows
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.maps import window_dims
from stepwell.lowering.tensor.row_memory import MOST, bytes_again, reading_cycles, row_bytes
from stepwell.lowering.tensor.running import Running
from stepwell.lowering.tensor.sizes import size_of
from stepwell.lowering.tensor.space import Space
from stepwell.lowering.tensor.stage_work import StageWork
from stepwell.lowering.tensor.stages import Stage, shares_loads
from stepwell.lowering.tensor.tiles import GRAIN_ELEMENTS, ROWS_AT_ONCE, candidates_of, schedule_of, sliding_dims

LEAST_BLOCK = 16  # rows of a contraction computed together although what is between the stages leaves the L1 cache
FEW_GRAINS = 8  # that a kernel has at least where blocks are larger than that
SLIDING_GRAINS = 7  # of rows along which windows slide: the fewer there are, the less is computed or read again
SLIDING_BLOCKS = 2  # sizes of blocks of such rows that are compared


@attrs.frozen
class Parts:
    """A root's sum, and the stages before it, in parts of so many steps."""

    running: Running
    steps: int

    def cut(self, stage: Stage, sizes: list[int]) -> list[int]:
        """A stage's sizes where one part of it is computed."""
        d = self.running.along.get(stage)
        return [min(size, self.steps) if n == d else size for n, size in enumerate(sizes)]

    def whole_steps(self, made: Mapping[Stage, ScheduleAttr]) -> int:
        """As many steps as fill the register tiles of contractions, whose operands lie in panels of a tile's width."""
        pairs = ((stage, made[stage], d) for stage, d in self.running.along.items() if stage.root.has_reduction)
        unit = math.lcm(*(schedule.register_size(stage.root.names[d]) for stage, schedule, d in pairs))
        return max(1, self.steps // unit) * unit


def one_row_schedule(rows: Rows, machine: Machine) -> ScheduleAttr:
    """One stage after the other, all of it at once."""
    made = {stage: schedule_of(Space.of(stage.root), machine).with_loops() for stage in rows.stages}
    return made[rows.root].with_loops(
        stages=[StageSpec(stage.name, WHOLE_KERNEL, made[stage]) for stage in rows.stages[:0:-1]]
    )


def row_schedule(
    rows: Rows, machine: Machine, block: int | None = None, parts: Parts | None = None
) -> ScheduleAttr:
    """Loops over rows, outermost first, down to a block of rows in which every stage is computed; of the best size,
    where none is given. With `parts`, a loop over parts of the root's sum comes inside."""
    root = rows.root.root
    in_order = rows.in_order()
    dims = [row.dims[rows.root] for row in in_order]
    units = {row.dims[rows.root]: row.units[rows.root] for row in in_order}
    last = in_order[-1]
    sizes = {d: -(-size_of(root.sizes.dims[d]) // units[d]) for d in dims}
    block = min(sizes[dims[-1]], row_block(rows, last, machine, parts) if block is None else block)
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
    made = {stage: _stage_schedule(stage, rows, last, block, machine, parts) for stage in rows.stages}
    row_loop = loops[-1].label
    if parts is not None:
        summed = names[parts.running.dim]
        loops.append(LoopSpec(f"{summed}0", summed, parts.whole_steps(made)))
    inner = [_placed(stage, made[stage], row_loop, loops[-1].label, parts) for stage in rows.stages[:0:-1]]
    rows_cut = {spec.dim for spec in loops}
    within = [spec for spec in made[rows.root].loops if spec.dim not in rows_cut]
    loops.extend(LoopSpec(spec.label, spec.dim, spec.tile) for spec in within)
    return made[rows.root].with_loops(loops, inner)


def _placed(stage: Stage, made: ScheduleAttr, row_loop: str, part_loop: str, parts: Parts | None) -> StageSpec:
    """A stage in the loop over rows, or over parts of the sum if it has such parts."""
    if parts is None or stage not in parts.running.along:
        return StageSpec(stage.name, row_loop, made)
    role = parts.running.roles.get(stage, "")
    along = stage.root.names[parts.running.along[stage]] if role else ""
    return StageSpec(stage.name, part_loop, made, role, along)


def row_block(rows: Rows, last: Row, machine: Machine, parts: Parts | None = None) -> int:
    """How many rows are computed together: as many as fill vectors where neighbouring rows are neighbours in memory, as
    many as share the loads of a contraction's other operand, else one."""
    lanes = machine.vector_bytes // 4
    if any(Space.of(stage.root).vector_dim(lanes) == last.dims[stage] for stage in rows.stages if stage.root.inputs):
        return lanes * (4 if row_bytes(rows) * 4 * lanes <= machine.l1_bytes else 1)
    contractions = [s for s in rows.stages if s.root.has_reduction and shares_loads(s, last.dims[s])]
    if not contractions:
        return ROWS_AT_ONCE if row_bytes(rows) * ROWS_AT_ONCE <= machine.l1_bytes else 1
    cut = (lambda stage, sizes: sizes) if parts is None else parts.cut
    bytes_ = max(1, row_bytes(rows, cut=cut))
    again = bytes_again(rows, machine.l2_bytes // 4)
    wanted = LEAST_BLOCK
    if again:
        wanted = max(wanted, min(MOST, math.prod(map(size_of, rows.sizes())) // FEW_GRAINS))
    most = max(machine.l1_bytes // 2 // bytes_, min(machine.l2_bytes // 4 // bytes_, wanted))

    works = {stage: StageWork.of_stage(stage, rows.stages) for stage in contractions}

    @functools.cache
    def tiled(stage: Stage, block: int) -> Ranked:
        sizes = _block_sizes(works[stage].space, rows, stage, last, block, parts)
        return candidates_of(works[stage].at(sizes), machine)[0]

    @functools.cache
    def cycles(block: int) -> float:
        return sum(tiled(stage, block).terms.compute for stage in contractions)

    count = size_of(rows.sizes()[rows.rows.index(last)])

    def all_cycles(block: int) -> float:
        reading = -(-count // block) * reading_cycles(again, machine)
        return reading + count // block * cycles(block) + (cycles(count % block) if count % block else 0)

    def is_whole(block: int, tiled_for: int) -> bool:
        """Whether a block is a multiple of the register tiles for so many rows."""
        tiles = (tiled(s, tiled_for).schedule.register_size(s.root.names[last.dims[s]]) for s in contractions)
        return all(block % rows == 0 for rows in tiles)

    # A block that is no multiple of the register tile has to divide the rows, or else its tail is cut in small pieces:
    # of the tile for all rows, or, where no such block is small enough, of the tile for the block.
    sizes = range(1, min(MOST, max(1, most)) + 1)
    whole = [n for n in sizes if count % n == 0 or is_whole(n, count)]
    if len(whole) == 1:
        whole = [n for n in sizes if count % n == 0 or is_whole(n, n)]
    return min(whole, key=lambda n: (all_cycles(n), -n))


def rows_that_slide(rows: Rows) -> Rows | None:
    """The rows down to the outermost along which a stage reads through windows, whose neighbours read some of the same
    elements, be they of another stage or from outside. Those within are none then, so that the blocks are of rows that
    have these in common. None where there are no such rows."""
    for row in rows.in_order():
        if row.overlaps or any(row.dims[stage] in sliding_dims(Space.of(stage.root)) for stage in rows.stages):
            return rows.down_to(row)
    return None


def sliding_blocks(rows: Rows, machine: Machine) -> list[int]:
    """How many rows along which windows slide are computed together: so many that little is computed or read again, as
    long as there are grains for a team and what is between the stages stays in the second-level cache. Those of the
    least work."""
    last = rows.in_order()[-1]
    counts = [size_of(size) for size in rows.sizes()]
    count = counts[rows.rows.index(last)]
    others = math.prod(counts) // count
    blocks = {
        block: row_bytes(rows, block) for block in {-(-count // pieces) for pieces in range(1, count + 1)}
        if others * -(-count // block) >= min(SLIDING_GRAINS, others * count)
    }  # fmt: skip
    fitting = [block for block, bytes_ in blocks.items() if bytes_ <= machine.l2_bytes // 2]
    fitting = fitting or [block for block, bytes_ in blocks.items() if bytes_ <= machine.l2_bytes]

    def computed(block: int) -> int:
        """Places of all stages, in blocks of which the last may be a part."""
        whole, rest = divmod(count, block)
        return sum(whole * last.places(stage, block) + (last.places(stage, rest) if rest else 0) for stage in last.dims)

    return sorted(fitting, key=lambda block: (computed(block), -block))[:SLIDING_BLOCKS] or [1]


def _stage_schedule(
    stage: Stage, rows: Rows, last: Row, block: int, machine: Machine, parts: Parts | None
) -> ScheduleAttr:
    """How one stage's part of a block of rows is cut."""
    space = Space.of(stage.root)
    made = schedule_of(attrs.evolve(space, sizes=_block_sizes(space, rows, stage, last, block, parts)), machine)
    if window_dims(stage.root):
        return made
    return made.with_loops(_line_by_line(space, rows.inner(stage), made))


def _block_sizes(
    space: Space, rows: Rows, stage: Stage, last: Row, block: int, parts: Parts | None
) -> list[int]:
    """The sizes of one stage's part of a block of rows."""
    sizes = list(space.sizes)
    for row in rows.rows:
        sizes[row.dims[stage]] = min(sizes[row.dims[stage]], row.places(stage, block if row is last else 1))
    return sizes if parts is None else parts.cut(stage, sizes)


def _line_by_line(space: Space, inner: Sequence[int], made: ScheduleAttr) -> list[LoopSpec]:
    """The loops of a map over the inside of a row, such that contiguous lines are gone through to their end."""
    names = space.names
    if space.reduction or made.vector not in names or space.strided_inputs(names.index(made.vector)):
        return []
    tiled = {name for name, _ in made.register} | {made.vector}
    return [LoopSpec(f"{names[d]}0", names[d], 1) for d in inner if names[d] not in tiled and space.sizes[d] > 1]
