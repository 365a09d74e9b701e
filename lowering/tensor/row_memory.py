"""What the stages of a kernel keep for a row, and what they read again for every one."""

from __future__ import annotations

import math

from stepwell.ir.affine import AffineMap
from stepwell.ir.core import Value
from stepwell.ir.types import bit_width
from stepwell.lowering.tensor.common_rows import Rows
from stepwell.lowering.tensor.machine import size_of
from stepwell.lowering.tensor.stages import Stage


def row_bytes(rows: Rows, block: int = 1) -> int:
    """Bytes of what passes between the stages for so many rows, one behind the other along the innermost dim; a map may
    write where it has read."""
    last = rows.in_order()[-1:]
    total = 0
    for stage in rows.stages:
        if stage is not rows.root and not _overwrites(stage, rows):
            inner = [size_of(stage.root.sizes.dims[d]) for d in rows.inner(stage)
                     if stage.root.iterators[d] == "parallel"]  # fmt: skip
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


def element_bytes(value: Value) -> int:
    """Bytes of an element, at least 1."""
    return max(1, bit_width(value.type) // 8)
