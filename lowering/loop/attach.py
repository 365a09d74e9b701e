"""Which part of a stage is needed inside a loop, and the local memory that holds it.

The stages of a kernel that are not its root are computed in a loop of the root, for the tile that the root needs there:

loop.for r { loop.stage sum [r, 0] [1, C] -> %t; loop.stage div [r, 0] [1, C] (%e, %t) }
->  %t: memref<R>  becomes  %l = buffer.local() : memref<1>, addressed as %t is: buffer.rebase %l[r]
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from stepwell.dialects import buffer
from stepwell.dialects.arith import constant_int
from stepwell.dialects.loop import StageOp
from stepwell.errors import PassError
from stepwell.ir.affine_expr import AffineExpr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Value
from stepwell.ir.types import DYNAMIC, MemRefType
from stepwell.lowering.loop.index import IndexBuilder, known_multiple


@attrs.frozen
class Extent:
    """The part of a dim that is still to be cut: [offset, offset + size), size constant or not.

    `whole` is the size of the dim as far as it is constant, `aligned` a number that divides every cut made so far,
    `most` a constant that the size does not exceed."""

    offset: Value
    size: Value
    whole: int | None
    aligned: int = 0
    most: int | None = None


def whole_extents(stage: StageOp) -> list[Extent]:
    """All of a stage's box."""
    pairs = zip(stage.offsets, stage.sizes, strict=True)
    return [Extent(o, s, constant_int(s), 0, constant_int(s)) for o, s in pairs]


def boxes(
    stages: Sequence[StageOp], root: StageOp, extents: list[Extent], index: IndexBuilder
) -> dict[StageOp, list[Extent]]:
    """The part of each stage that is read, directly or through other stages, by one part of the root.

    `stages` come in the order in which they run, without the root."""
    found = {root: extents}
    for stage in reversed(stages):
        whole = whole_extents(stage)
        needed: list[Extent | None] = [None] * len(stage.iterators)
        for reader, box in found.items():
            for value, read in zip(reader.inputs, reader.input_maps, strict=True):
                for output, written in zip(stage.outputs, stage.output_maps, strict=True):
                    if value is output:
                        for made, place in zip(written.results, read.results, strict=True):
                            d = made.dim_index
                            if d is not None:
                                part = _interval(place, box, index) or whole[d]
                                needed[d] = whole[d] if part is whole[d] else _union(needed[d], part, index)
        found[stage] = [part or all_ for part, all_ in zip(needed, whole, strict=True)]
    return found


def _interval(place: AffineExpr, box: list[Extent], index: IndexBuilder) -> Extent | None:
    """Where an expression of a reader's dims leads while they go through its box; None: anywhere."""
    if place.dim_index is not None:
        return box[place.dim_index]
    if place.quotient is not None and (d := place.quotient[0].dim_index) is not None:
        return _quotients(box[d], place.quotient[1], index)
    form = place.linear_form()
    if form is None:
        return None
    factors, constant = form
    low, size, most = index.constant(constant), index.constant(1), 1
    bounded = True
    for d, factor in factors.items():
        extent = box[d]
        first = index.mul(extent.offset, index.constant(factor))
        spread = index.mul(index.sub(extent.size, index.constant(1)), index.constant(abs(factor)))
        low = index.add(low, first if factor > 0 else index.sub(first, spread))
        size = index.add(size, spread)
        bounded = bounded and extent.most is not None
        most += abs(factor) * ((extent.most or 1) - 1)
    return Extent(low, size, None, 0, most if bounded else None)


def _quotients(extent: Extent, divisor: int, index: IndexBuilder) -> Extent:
    """Where an interval's quotients lie."""
    by = index.constant(divisor)
    low = index.floordiv(extent.offset, by)
    starts_whole = known_multiple(extent.offset) % divisor == 0
    if starts_whole:
        size = index.floordiv(index.add(extent.size, index.constant(divisor - 1)), by)
    else:
        last = index.sub(index.add(extent.offset, extent.size), index.constant(1))
        size = index.sub(index.add(index.floordiv(last, by), index.constant(1)), low)
    most = None if extent.most is None else (extent.most + divisor - 1) // divisor + (not starts_whole)
    return Extent(low, size, None, 0, most)


def _union(known: Extent | None, new: Extent | None, index: IndexBuilder) -> Extent | None:
    """The smallest interval around two; None where there is none yet."""
    if known is None or new is None or known == new:
        return known or new
    low = index.minimum(known.offset, new.offset)
    ends = [index.add(extent.offset, extent.size) for extent in (known, new)]
    return Extent(low, index.sub(index.maximum(*ends), low), None)


def given_memory(stage: StageOp, parts: dict[StageOp, list[Extent]], later: Sequence[StageOp]) -> Value | None:
    """The input whose memory a map may write its result to: it reads each element where it writes, and last of all."""
    if stage.combine is not None or len(stage.outputs) != 1:
        return None
    for value, read in zip(stage.inputs, stage.input_maps, strict=True):
        fits = value.type == stage.outputs[0].type and read == stage.output_maps[0]
        others = [user for user in value.users if user in later]
        if fits and not others and list(stage.inputs).count(value) == 1 and _same_part(value, stage, parts):
            return value
    return None


def _same_part(value: Value, stage: StageOp, parts: dict[StageOp, list[Extent]]) -> bool:
    """Whether a buffer is kept for just the part of it that a stage reads at its own places."""
    writer = next((other for other in parts if value in other.outputs), None)
    if writer is None:
        return False
    places = writer.output_maps[list(writer.outputs).index(value)].dim_results()
    own = stage.output_maps[0].dim_results()
    if None in places or None in own:
        return False
    return all(parts[writer][a] == parts[stage][b] for a, b in zip(places, own, strict=True) if a is not None
               and b is not None)  # fmt: skip


def local_memory(stage: StageOp, box: list[Extent], builder: Builder) -> dict[Value, Value]:
    """Memory for the part of a stage's results that lies in a box, addressed by the indices of the whole."""
    index = IndexBuilder(builder)
    made: dict[Value, Value] = {}
    for output, written in zip(stage.outputs, stage.output_maps, strict=True):
        local = output.defining_op
        if not isinstance(local, buffer.LocalOp):
            raise PassError(f"stage {stage.label}: it writes to memory that is not the kernel's own")
        type_ = buffer.memref_type(output)
        rest = iter(local.sizes)
        all_sizes = [next(rest) if n == DYNAMIC else index.constant(n) for n in type_.shape]
        shape, sizes, base = [], [], []
        for size, place in zip(all_sizes, written.results, strict=True):
            extent = box[place.dim_index] if place.dim_index is not None else None
            most = constant_int(size) if extent is None else extent.most
            shape.append(DYNAMIC if most is None else most)
            if most is None:
                sizes.append(size if extent is None else extent.size)
            base.append(index.constant(0) if extent is None else extent.offset)
        memory = buffer.LocalOp(sizes, result_types=[MemRefType(tuple(shape), type_.element)], loc=local.loc)
        made[output] = builder.insert(memory).result
        made[output].name = output.name
        if any(constant_int(place) != 0 for place in base):
            made[output] = builder.insert(buffer.RebaseOp(made[output], base)).result
    return made
