"""Which part of a stage is needed inside a loop, and the local memory that holds it.

The stages of a kernel that are not its root are computed in a loop of the root, for the tile that the root needs there:

loop.for r { loop.stage sum [r, 0] [1, C] -> %t; loop.stage div [r, 0] [1, C] (%e, %t) }
->  %t: memref<R>  becomes  %l = buffer.local() : memref<1>, addressed as %t is: buffer.rebase %l[r]

What is read through windows is needed with an overlap, for 4 rows of a 3x3 convolution 6. Where a part reaches over the
first or the last element of a stage, there is its border: of the memory for rows r - 1 to r + 5 the rows below 0 and
from R on are filled with the border's value, and only those between are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from stepwell.dialects import arith, buffer
from stepwell.dialects.arith import constant_int
from stepwell.dialects.loop import StageOp, YieldOp
from stepwell.errors import PassError
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr
from stepwell.ir.attributes import Attribute
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.types import DYNAMIC, MemRefType
from stepwell.lowering.loop.index import IndexBuilder, known_multiple
from stepwell.lowering.loop.stage import StageParts
from stepwell.lowering.tensor.maps import dims_through


@attrs.frozen
class Extent:
    """The part of a dim that is still to be cut: [offset, offset + size), size constant or not.

    `whole` is the size of the dim as far as it is constant, `aligned` a number that divides every cut made so far,
    `most` a constant that the size does not exceed. A part that a loop cut is not empty, others may be."""

    offset: Value
    size: Value
    whole: int | None
    aligned: int = 0
    most: int | None = None
    may_be_empty: bool = False


def whole_extents(stage: StageOp) -> list[Extent]:
    """All of a stage's box."""
    pairs = zip(stage.offsets, stage.sizes, strict=True)
    return [Extent(o, s, constant_int(s), 0, constant_int(s), not constant_int(s)) for o, s in pairs]


@attrs.frozen
class Part:
    """What is needed of a stage: `inside` the part of its box that is computed, `around` that and as much of the border
    as is read, over the same dims."""

    inside: list[Extent]
    around: list[Extent]


def parts_of(
    stages: Sequence[StageOp], root: StageOp, extents: list[Extent], index: IndexBuilder,
    along: Mapping[StageOp, tuple[int, Extent]] | None = None,
) -> dict[StageOp, Part]:
    """The part of each stage that is read, directly or through other stages, by one part of the root.

    `stages` come in the order in which they run, without the root. Those in `along` are computed for that part of a
    dim, and no more."""
    found = {root: Part(extents, extents)}
    for stage in reversed(stages):
        whole = whole_extents(stage)
        most = whole if stage.border is None else _with_border(stage, whole, index)
        needed: list[Extent | None] = [None] * len(stage.iterators)
        for reader, part in found.items():
            for value, read in zip(reader.inputs, reader.input_maps, strict=True):
                for output, written in zip(stage.outputs, stage.output_maps, strict=True):
                    if value is output:
                        for d, place in _places_of_dims(written, read):
                            interval = _interval(place, part.inside, index) if place is not None else None
                            needed[d] = most[d] if interval is None else _union(needed[d], interval, index)
        around = [part or all_ for part, all_ in zip(needed, most, strict=True)]
        inside = [
            part if limit is all_ else _clipped(part, all_, index)
            for part, all_, limit in zip(around, whole, most, strict=True)
        ]
        if along is not None and stage in along:
            d, extent = along[stage]
            inside[d] = around[d] = extent
        found[stage] = Part(inside, around)
    return found


def _places_of_dims(written: AffineMap, read: AffineMap) -> Iterator[tuple[int, AffineExpr | None]]:
    """Where a reader's places lead along each dim that an output is written by: (i, e) says that dim i of the writer is
    at e, an expression of the reader's dims; None where that is not known.

    written (d0) -> (d0 + 1), read (e0) -> (e0 * 2): 0 at e0 * 2 - 1
    written (d0) -> (d0 floordiv 16, d0 mod 16), read (e0) -> (e0 floordiv 16, e0 mod 16): 0 at e0"""
    left = set(written.used_dims())
    for made, place in zip(written.results, read.results, strict=True):
        moved = shifted_dim(made)
        if moved is not None:
            left.discard(moved[0])
            yield moved[0], place - moved[1]
    through = dims_through(written, read) if left else None
    for d in sorted(left):
        yield d, None if through is None else through.results[d]


def shifted_dim(place: AffineExpr) -> tuple[int, int] | None:
    """(i, c) where a place is just `d<i> + c`, else None."""
    d = (place - place.constant).dim_index
    return None if d is None else (d, place.constant)


def _with_border(stage: StageOp, whole: list[Extent], index: IndexBuilder) -> list[Extent]:
    """All of a stage's box, and its border: as much as its output has axes for."""
    found = list(whole)
    for output, written in zip(stage.outputs, stage.output_maps, strict=True):
        for size, place in zip(axis_sizes(output, index), written.results, strict=True):
            moved = shifted_dim(place)
            if moved is not None and (moved[1] or not _are_equal(size, whole[moved[0]].size)):
                known = constant_int(size)
                found[moved[0]] = Extent(index.constant(-moved[1]), size, None, 0, known, not known)
    return found


def _are_equal(a: Value, b: Value) -> bool:
    return a is b or (constant_int(a) is not None and constant_int(a) == constant_int(b))


def _clipped(part: Extent, whole: Extent, index: IndexBuilder) -> Extent:
    """What a part has in common with the whole; of size 0, and at one of the part's ends, where that is nothing."""
    end = index.add(part.offset, part.size)
    low = index.minimum(index.maximum(part.offset, whole.offset), end)
    high = index.maximum(index.minimum(end, index.add(whole.offset, whole.size)), low)
    return Extent(low, index.sub(high, low), None, 0, part.most, True)


def _interval(place: AffineExpr, box: list[Extent], index: IndexBuilder) -> Extent | None:
    """Where an expression of a reader's dims leads while they go through its box: nowhere if that is empty. None:
    anywhere."""
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
    used = [box[d] for d in factors]
    if [abs(factor) for factor in factors.values()] != [1]:
        size = _none_of_none(size, used, index)
    return Extent(low, size, None, 0, most if bounded else None, any(extent.may_be_empty for extent in used))


def _none_of_none(size: Value, used: Sequence[Extent], index: IndexBuilder) -> Value:
    """A size that was computed for extents of one element at least: 0 if any of them is empty."""
    for extent in used:
        if extent.may_be_empty:
            size = index.mul(size, index.minimum(extent.size, index.constant(1)))
    return size


def _quotients(extent: Extent, divisor: int, index: IndexBuilder) -> Extent:
    """Where an interval's quotients lie."""
    by = index.constant(divisor)
    low = index.floordiv(extent.offset, by)
    starts_whole = known_multiple(extent.offset) % divisor == 0
    if starts_whole:
        size = index.floordiv(index.add(extent.size, index.constant(divisor - 1)), by)
    else:
        last = index.sub(index.add(extent.offset, extent.size), index.constant(1))
        size = _none_of_none(index.sub(index.add(index.floordiv(last, by), index.constant(1)), low), [extent], index)
    most = None if extent.most is None else (extent.most + divisor - 1) // divisor + (not starts_whole)
    return Extent(low, size, None, 0, most, extent.may_be_empty)


def _union(known: Extent | None, new: Extent | None, index: IndexBuilder) -> Extent | None:
    """The smallest interval around two; None where there is none yet."""
    if known is None or new is None or known == new:
        return known or new
    low = index.minimum(known.offset, new.offset)
    ends = [index.add(extent.offset, extent.size) for extent in (known, new)]
    return Extent(low, index.sub(index.maximum(*ends), low), None, 0, None, known.may_be_empty and new.may_be_empty)


def given_memory(stage: StageOp, parts: dict[StageOp, Part], later: Sequence[StageOp]) -> Value | None:
    """The input whose memory a map may write its result to: it reads each element where it writes, and last of all."""
    if stage.combine is not None or stage.border is not None or len(stage.outputs) != 1:
        return None
    for value, read in zip(stage.inputs, stage.input_maps, strict=True):
        fits = value.type == stage.outputs[0].type and read == stage.output_maps[0]
        others = [user for user in value.users if user in later]
        if fits and not others and list(stage.inputs).count(value) == 1 and _same_part(value, stage, parts):
            return value
    return None


def result_memory(stage: StageOp, root: StageOp, parts: dict[StageOp, Part]) -> Value | None:
    """The memory of the root's result, where a stage may write what the root, a map, reads at the place that it writes
    and nowhere else: it is fetched into the cache while the stage computes."""
    if root.combine is not None or stage.border is not None or root.sources:
        return None
    if len(root.outputs) != 1 or len(stage.outputs) != 1:
        return None
    (memory,), (target,) = stage.outputs, root.outputs
    reads = [read for value, read in zip(root.inputs, root.input_maps, strict=True) if value is memory]
    if reads != [root.output_maps[0]] or memory.type != target.type or target in _read_anywhere(parts):
        return None
    written, places = stage.output_maps[0].dim_results(), root.output_maps[0].dim_results()
    if None in written or None in places or len(set(places)) != len(root.iterators):
        return None
    own, whole = parts[stage].around, parts[root].around
    same = all(own[a] == whole[b] for a, b in zip(written, places, strict=True) if a is not None and b is not None)
    return target if same else None


def _read_anywhere(parts: dict[StageOp, Part]) -> set[Value]:
    return {value for stage in parts for value in (*stage.inputs, *stage.sources)}


def _same_part(value: Value, stage: StageOp, parts: dict[StageOp, Part]) -> bool:
    """Whether a buffer is kept for just the part of it that a stage reads at its own places."""
    writer = next((other for other in parts if value in other.outputs), None)
    if writer is None:
        return False
    places = writer.output_maps[list(writer.outputs).index(value)].dim_results()
    own = stage.output_maps[0].dim_results()
    if None in places or None in own:
        return False
    kept, made = parts[writer].around, parts[stage].around
    return all(kept[a] == made[b] for a, b in zip(places, own, strict=True) if a is not None and b is not None)


def axis_sizes(output: Value, index: IndexBuilder) -> list[Value]:
    """The sizes of a kernel's own memory. Raises PassError for other memory."""
    local = output.defining_op
    if not isinstance(local, buffer.LocalOp):
        raise PassError(f"{output.name or 'a stage'}: memory that is written before the last stage is not the kernel's")
    rest = iter(local.sizes)
    return [next(rest) if n == DYNAMIC else index.constant(n) for n in buffer.memref_type(output).shape]


def box_of(output: Value, written: AffineMap, extents: list[Extent], index: IndexBuilder) -> list[Extent]:
    """Where a part of a stage lies in its output: an extent for each axis."""
    found = []
    for size, place in zip(axis_sizes(output, index), written.results, strict=True):
        moved = shifted_dim(place)
        if moved is not None:
            extent = extents[moved[0]]
            low = index.add(extent.offset, index.constant(moved[1])) if moved[1] else extent.offset
            found.append(attrs.evolve(extent, offset=low))
        elif place.quotient is not None and (d := place.quotient[0].dim_index) is not None:
            found.append(_quotients(extents[d], place.quotient[1], index))
        else:
            found.append(Extent(index.constant(0), size, None, 0, constant_int(size)))
    return found


def local_memory(stage: StageOp, part: Part, builder: Builder) -> dict[Value, Value]:
    """Memory for the part of a stage's results that is needed, addressed by the indices of the whole."""
    index = IndexBuilder(builder)
    made: dict[Value, Value] = {}
    for output, written in zip(stage.outputs, stage.output_maps, strict=True):
        box = box_of(output, written, part.around, index)
        shape = tuple(DYNAMIC if extent.most is None else extent.most for extent in box)
        # The sizes of local memory have to be known where the kernel starts.
        whole = axis_sizes(output, index)
        sizes = [size for extent, size in zip(box, whole, strict=True) if extent.most is None]
        base = [extent.offset for extent in box]
        type_ = MemRefType(shape, buffer.memref_type(output).element)
        made[output] = builder.insert(buffer.LocalOp(sizes, result_types=[type_], loc=stage.loc)).result
        made[output].name = output.name
        if any(constant_int(place) != 0 for place in base):
            made[output] = builder.insert(buffer.RebaseOp(made[output], base)).result
    return made


def border_stages(stage: StageOp, part: Part, memory: Mapping[Value, Value], builder: Builder) -> list[StageOp]:
    """The stages that fill what is needed of a stage's border: for each axis what is before and behind the elements
    that are computed. The ends of the axes before belong to these."""
    if stage.border is None:
        return []
    index = IndexBuilder(builder)
    made = []
    for output, written in zip(stage.outputs, stage.output_maps, strict=True):
        inside, around = (box_of(output, written, extents, index) for extents in (part.inside, part.around))
        for axis, place in enumerate(written.results):
            if place.is_constant:  # a dim of one element
                inside[axis] = Extent(index.constant(place.constant), index.constant(1), None)
        for axis, (inner, outer) in enumerate(zip(inside, around, strict=True)):
            end = index.add(inner.offset, inner.size)
            behind = index.sub(index.add(outer.offset, outer.size), end)
            for offset, size in ((outer.offset, index.sub(inner.offset, outer.offset)), (end, behind)):
                if constant_int(size) != 0:
                    side = Extent(offset, size, None)
                    box = [*inside[:axis], side, *around[axis + 1 :]]
                    made.append(fill(memory[output], stage.border, box, builder, stage))
    return made


def fill(memory: Value, value: Attribute, box: Sequence[Extent], builder: Builder, stage: StageOp) -> StageOp:
    """A stage that writes one value to a box of some memory, for another stage."""
    block = Block()
    yielded = Builder.at_end(block, stage.loc).insert(arith.ConstantOp(value=value)).result
    block.append(YieldOp([yielded]))
    rank = len(box)
    parts = StageParts(
        [extent.offset for extent in box], [extent.size for extent in box], [], [], [memory], ["parallel"] * rank, [],
        [AffineMap.identity(rank)], [f"d{axis}" for axis in range(rank)], [], 0, Region([block]), None, None, None,
        None, stage.label, None, None, stage.loc,
    )  # fmt: skip
    return parts.build(builder)
