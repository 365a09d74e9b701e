"""Joins kernels that work on the same rows, so that what passes between them is a row that stays in the cache.

max kernel, exp kernel, sum kernel, division kernel   ->  one kernel of four stages, computed row by row   (softmax)
QK kernel, softmax kernels, PV kernel                 ->  one kernel, computed by blocks of rows           (attention)

The root is the last kernel; the ones before join it from the back, each where all readers of its result have joined.
What is given up must be worth less than the memory traffic that is saved: there have to be rows enough for all threads,
a row's values have to fit the cache, and an operand that every row reads again has to stay in it too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cmp_to_key

from stepwell.dialects import math as math_dialect
from stepwell.dialects.tensor import GenericOp, ReadOp
from stepwell.ir.affine import AffineMap
from stepwell.ir.core import Operation, Value
from stepwell.ir.passes import PassContext
from stepwell.ir.types import bit_width
from stepwell.lowering.tensor.common_rows import Rows
from stepwell.lowering.tensor.machine import Machine, size_of
from stepwell.lowering.tensor.maps import dims_through, window_dims
from stepwell.lowering.tensor.stages import INLINE, Stage

LEAST_GRAINS = 16  # rows that a kernel of more than SMALL points has at least
SMALL = 1 << 16
CHEAP = 4  # operations of a map that is rather computed again than stored


def join_rows(kernels: Sequence[Sequence[GenericOp]], context: PassContext) -> list[list[GenericOp]]:
    """The ops of kernels, in program order, with those joined that share rows; their ops name their stages."""
    machine = Machine.of(context.target)
    stages = [Stage(ops) for ops in kernels]
    owner = {op: stage for stage in stages for op in stage.ops}
    joined: set[Stage] = set()
    made: list[list[GenericOp]] = []
    for root in reversed(stages):
        if root in joined or len(root.results) != 1:
            if root not in joined:
                made.append(list(root.ops))
            continue
        rows = Rows.of_root(root)
        grown = True
        while grown:
            grown = False
            for stage in _producers(rows, owner):
                answer = _try(rows, stage, machine)
                if isinstance(answer, Rows):
                    rows, grown = answer, True
                    joined.add(stage)
                    break
                context.remark(root.root, f"{stage.root.loc.label or stage.root.op_name} is not computed in its rows: "
                                          f"{answer}")  # fmt: skip
        made.append(_named(rows))
    return made[::-1]


def _producers(rows: Rows, owner: dict[GenericOp, Stage]) -> list[Stage]:
    """The stages that make inputs of these, the last first, and that nothing else reads."""
    found: dict[Stage, None] = {}
    inside = {op for stage in rows.stages for op in stage.ops}
    for stage in rows.stages:
        for op in reversed(stage.ops):
            for value in reversed(op.inputs):
                producer = value.defining_op
                if isinstance(producer, GenericOp) and producer in owner and producer not in inside:
                    found[owner[producer]] = None
    return [stage for stage in found if all(_reads(user, result, inside) for result in stage.results
                                            for user in result.users)]  # fmt: skip


def _reads(user: Operation, value: Value, inside: set[GenericOp]) -> bool:
    return isinstance(user, GenericOp) and user in inside and value not in user.sources


def _try(rows: Rows, stage: Stage, machine: Machine) -> Rows | str:
    """The rows with a stage more, or why not."""
    if stage.ops[-1].parent is not rows.root.ops[-1].parent:
        return "it runs at another time, outside a loop or a branch"
    if len(stage.results) != 1:
        return "it has several results"
    joined = rows.joined(stage)
    if isinstance(joined, str):
        return joined
    return why_not_by_rows(joined, machine) or joined


def why_not_by_rows(rows: Rows, machine: Machine) -> str | None:
    """Why working row by row would cost more than it saves; None where it would not."""
    grains = math.prod(map(size_of, rows.sizes()))
    static = all(isinstance(size, int) for stage in rows.stages for size in stage.root.sizes.dims)
    points = max(math.prod(map(size_of, stage.root.sizes.dims)) for stage in rows.stages)
    if grains < LEAST_GRAINS and (points > SMALL or not (static or rows.rows)):
        return f"{grains} rows are too few for a team of threads"
    # What is read at many displacements is read often enough to be worth more of the cache.
    budget = machine.l2_bytes // (2 if window_dims(rows.root.root) else 4)
    if (row := row_bytes(rows)) > budget:
        return f"{row} bytes of a row do not stay in the cache"
    for stage in rows.stages:
        for value, map_ in _outer_inputs(stage, rows):
            again = read_again(stage, map_, rows) * _bytes(value)
            if again > budget:
                return f"{again} bytes of an operand would be read for every block of rows"
    return None


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


def row_bytes(rows: Rows) -> int:
    """Bytes of what passes between the stages for one row; a map may write where it has read."""
    total = 0
    for stage in rows.stages:
        if stage is not rows.root and not _overwrites(stage, rows):
            inner = [size_of(stage.root.sizes.dims[d]) for d in rows.inner(stage)
                     if stage.root.iterators[d] == "parallel"]  # fmt: skip
            each = math.prod(row.units[stage] for row in rows.rows)
            total += each * math.prod(inner) * _bytes(stage.results[0])
    return total


def _overwrites(stage: Stage, rows: Rows) -> bool:
    """Whether a map of a row reads another stage's result of the same form."""
    made = {other.results[0] for other in rows.stages}
    form = stage.results[0].type
    return not stage.root.has_reduction and any(v in made and v.type == form for v in stage.root.inputs)


def _outer_inputs(stage: Stage, rows: Rows) -> list[tuple[Value, AffineMap]]:
    """What a stage's root reads that no stage makes, and where."""
    inside = {op for other in rows.stages for op in other.ops}
    pairs = zip(stage.root.inputs, stage.root.input_maps, strict=True)
    return [(value, map_) for value, map_ in pairs if value.defining_op not in inside]


def _named(rows: Rows) -> list[GenericOp]:
    """All ops, in program order, each naming its stage where there are several."""
    if len(rows.stages) == 1:
        return list(rows.root.ops)
    in_order = sorted({op for stage in rows.stages for op in stage.ops}, key=cmp_to_key(_earlier))
    stages = sorted(rows.stages, key=lambda stage: in_order.index(stage.ops[-1]))
    number = 0
    for stage in stages:
        name = INLINE if stage is not rows.root and is_cheap(stage, rows) else f"s{number}"
        number += name != INLINE
        for op in stage.ops:
            op.stage = name
    return in_order


def _earlier(a: Operation, b: Operation) -> int:
    return -1 if a.is_before(b) else 1


def is_cheap(stage: Stage, rows: Rows) -> bool:
    """Whether a map takes so few operations that its readers, none of which reads an element twice, rather compute it
    again."""
    if stage.root.has_reduction or len(stage.ops) != 1:
        return False
    ops = list(stage.root.body.block)
    if len(ops) > CHEAP + 1 or any(isinstance(op, ReadOp) or op.dialect == math_dialect.DIALECT.name for op in ops):
        return False
    for reader in rows.stages:
        for op in reader.ops:
            for value, read in zip(op.inputs, op.input_maps, strict=True):
                if value is stage.results[0]:
                    once = len(read.used_dims()) == len(op.iterators)
                    if not once or dims_through(stage.root.output_maps[0], read) is None:
                        return False
    return True


def _bytes(value: Value) -> int:
    return max(1, bit_width(value.type) // 8)
