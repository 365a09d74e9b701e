"""What the stages of a kernel keep for a row, and what they read again for every one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from stepwell.dialects.tensor import GenericOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.core import Value
from stepwell.ir.types import bit_width
from stepwell.lowering.tensor.common_rows import Rows
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.maps import window_dims
from stepwell.lowering.tensor.sizes import size_of
from stepwell.lowering.tensor.stages import Stage
from stepwell.lowering.tensor.streams import WRITTEN

FEWEST, MOST = 16, 64  # rows of a block that reads an operand which does not stay in the cache


def row_bytes(
    rows: Rows, block: int = 1, cut: Callable[[Stage, list[int]], list[int]] = lambda stage, sizes: sizes
) -> int:
    """Bytes of what passes between the stages for so many rows, one behind the other along the innermost dim, of sizes
    that may be `cut`; a map may write where it has read."""
    last = rows.in_order()[-1:]
    total = 0
    for stage in rows.stages:
        if stage is not rows.root and not _overwrites(stage, rows):
            sizes = cut(stage, list(map(size_of, stage.root.sizes.dims)))
            inner = [sizes[d] for d in rows.inner(stage) if stage.root.iterators[d] == "parallel"]
            each = math.prod(row.places(stage, block if row in last else 1) for row in rows.rows)
            total += each * math.prod(inner) * element_bytes(stage.results[0])
    return total


def _overwrites(stage: Stage, rows: Rows) -> bool:
    """Whether a map of a row reads another stage's result of the same form."""
    made = {other.results[0] for other in rows.stages}
    form = stage.results[0].type
    return not stage.root.has_reduction and any(v in made and v.type == form for v in stage.root.inputs)


def read_again(stage: Stage, map_: AffineMap, rows: Rows) -> int:
    """How many elements of an operand are read between two times that the same one is: those of the dims that run
    within the outermost loop over rows on which the operand does not depend. 0 where it is read once."""
    order = rows.in_order()
    used = map_.used_dims()
    for n, row in enumerate(order):
        if row.dims[stage] not in used and size_of(stage.root.sizes.dims[row.dims[stage]]) > 1:
            inside = {*rows.inner(stage), *(other.dims[stage] for other in order[n:])}
            return math.prod(size_of(stage.root.sizes.dims[d]) for d in used & inside)
    return 0


def outer_inputs(stage: Stage, rows: Rows) -> list[tuple[Value, AffineMap]]:
    """What a stage's root reads that no stage makes, and where."""
    inside = {op for other in rows.stages for op in other.ops}
    pairs = zip(stage.root.inputs, stage.root.input_maps, strict=True)
    return [(value, map_) for value, map_ in pairs if value.defining_op not in inside]


def stays(rows: Rows, machine: Machine) -> bool:
    """Whether what passes between the stages for a row stays in the cache."""
    return row_bytes(rows) <= cache_budget(rows, machine)


def cache_budget(rows: Rows, machine: Machine) -> int:
    """Bytes of the cache for a row, or for an operand that rows share. What is read at many displacements is read often
    enough to be worth more."""
    return machine.l2_bytes // (1 if rows.overlap_somewhere else 2 if window_dims(rows.root.root) else 4)


def bytes_again(rows: Rows, budget: int) -> list[int]:
    """Bytes of the operands that every block of rows reads again, of those with more than so many."""
    pairs = ((stage, *pair) for stage in rows.stages for pair in outer_inputs(stage, rows))
    found = (read_again(stage, map_, rows) * element_bytes(value) for stage, value, map_ in pairs)
    return [bytes_ for bytes_ in found if bytes_ > budget]


def reading_cycles(again: Sequence[int], machine: Machine) -> float:
    """Cycles in which a block of rows reads its operands again."""
    return sum(bytes_ / _bandwidth(bytes_, machine) for bytes_ in again)


def is_worth_reading(again: Sequence[int], rows: Rows, machine: Machine) -> bool:
    """Whether reading operands for every block of rows takes less than half of the time that what lies between the
    stages, and before them, would take through memory."""
    sizes = list(map(size_of, rows.sizes()))
    count = max(zip((row.dims[rows.root] for row in rows.rows), sizes, strict=True), default=(0, 1))[1]
    if count < FEWEST:
        return False
    block = MOST  # in parts, where whole rows do not stay
    if stays(rows, machine):
        block = max(FEWEST, min(MOST, machine.l2_bytes // 2 // max(1, row_bytes(rows))))
    blocks = math.prod(sizes) // count * (-(-count // block) - 1)
    values = {value for stage in rows.stages for value in stage.root.inputs if isinstance(value.defining_op, GenericOp)}
    bytes_ = [math.prod(map(size_of, tensor_type(value).shape)) * element_bytes(value) for value in values]
    between = (WRITTEN + 1) * reading_cycles(bytes_, machine)
    return 2 * blocks * reading_cycles(again, machine) < between


def _bandwidth(bytes_: int, machine: Machine) -> float:
    """Bytes in a cycle from where so many have room."""
    return machine.l3_bandwidth if bytes_ <= machine.l3_bytes // 2 else machine.memory_bandwidth


def element_bytes(value: Value) -> int:
    """Bytes of an element, at least 1."""
    return max(1, bit_width(value.type) // 8)
