"""Fuses stages element by element, so that what passes between them stays in registers.

Map into reader:     t[i] = exp(x[i]); y[i] = t[i] + b[i]        ->  y[i] = exp(x[i]) + b[i]
Map behind a sum:    t[m,n] = sum_k a*b; y[m,n] = relu(t[m,n])   ->  one stage whose `finalize` is relu

In a kernel of several stages, only what is of one stage, and maps of the stage `inline`, which have many readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from stepwell.dialects import buffer, func
from stepwell.dialects.arith import constant_int
from stepwell.dialects.loop import StageOp
from stepwell.ir.affine import AffineMap
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Region, Value
from stepwell.ir.location import fused
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import element_of
from stepwell.lowering.loop.stage import StageParts, clone_body, joined_region, kernel_functions, stage_name
from stepwell.lowering.tensor.maps import dims_through
from stepwell.lowering.tensor.stages import INLINE


@attrs.frozen
class InlineStages(Pass):
    """Fuse maps into the stages that read them, and into the end of the reductions before them."""

    name: ClassVar[str] = "inline-stages"

    def run(self, module: Operation, context: PassContext) -> None:
        for function in kernel_functions(module):
            while self._inline_one(function):
                context.count("stages inlined")

    def _inline_one(self, function: func.FuncOp) -> bool:
        for local in function.walk_of(buffer.LocalOp):
            writers, readers = stages_of(local.result)
            if len(writers) != 1 or not readers or len(writers[0].outputs) != 1:
                continue
            producer = writers[0]
            if producer.border is not None:
                continue  # it is read where no element is computed
            name = stage_name(producer)
            if name != INLINE and any(stage_name(reader) != name for reader in readers):
                continue
            if producer.combine is None:
                if all(reading_dims(producer, reader, local.result) is not None for reader in readers):
                    for reader in readers:
                        inline_map(producer, reader, local.result)
                    producer.erase()
                    local.erase()
                    return True
            elif len(readers) == 1 and can_finalize(producer, readers[0], local.result):
                finalize_with(producer, readers[0], local.result)
                local.erase()
                return True
        return False


def stages_of(memory: Value) -> tuple[list[StageOp], list[StageOp]]:
    """(stages that write a buffer, stages that read it)."""
    writers, readers = [], []
    for user in memory.users:
        if isinstance(user, StageOp):
            if memory in user.outputs:
                writers.append(user)
            if memory in user.inputs:
                readers.append(user)
    return writers, readers


def inline_map(producer: StageOp, reader: StageOp, memory: Value) -> None:
    """Compute the producer's element where the reader reads it."""
    parts = StageParts.of(reader)
    while memory in parts.inputs:
        position = parts.inputs.index(memory)
        to_producer = dims_through(
            producer.output_maps[0], parts.input_maps[position], sizes_of(producer), sizes_of(reader)
        )
        assert to_producer is not None
        new_maps = [m.compose(to_producer) for m in producer.input_maps]
        in_body = position < len(parts.body_inputs)
        region = parts.body if in_body else parts.finalize
        assert region is not None
        leading = 0 if in_body else len(region.block.arguments) - parts.epilogue_inputs - len(parts.sources)
        at = position if in_body else leading + position - len(parts.body_inputs)
        types = [a.type for a in region.block.arguments]
        count = len(producer.inputs)
        types[at : at + 1] = [element_of(v.type) for v in producer.inputs]
        types.extend(v.type for v in producer.sources)

        def build(
            builder: Builder, *args: Value, at: int = at, region: Region = region, count: int = count,
            dims: AffineMap = to_producer,
        ) -> list[Value]:  # fmt: skip
            borrowed = len(args) - len(producer.sources)
            made = clone_body(producer.body, [*args[at : at + count], *args[borrowed:]], builder, dims)
            return clone_body(region, [*args[:at], *made, *args[at + count : borrowed]], builder)

        joined = joined_region(types, build)
        if in_body:
            parts.body = joined
            if parts.finalize is not None:
                parts.finalize = _with_sources(parts.finalize, producer.sources)
        else:
            parts.finalize = joined
            parts.body = _with_sources(parts.body, producer.sources)
            parts.epilogue_inputs += count - 1
        parts.sources.extend(producer.sources)
        parts.inputs[position : position + 1] = list(producer.inputs)
        parts.input_maps[position : position + 1] = new_maps
    parts.loc = fused(producer.loc, reader.loc)
    parts.build(Builder.before(reader))
    reader.erase()


def _with_sources(region: Region, sources: Sequence[Value]) -> Region:
    """The region with arguments added for further sources."""
    for value in sources:
        region.block.add_argument(value.type)
    return region


def reading_dims(producer: StageOp, reader: StageOp, memory: Value) -> AffineMap | None:
    """`dims_through` for every place where a stage reads the memory; None where one does not match."""
    made = None
    for value, map_ in zip(reader.inputs, reader.input_maps, strict=True):
        if value is memory:
            made = dims_through(producer.output_maps[0], map_, sizes_of(producer), sizes_of(reader))
            if made is None:
                return None
    return made if memory not in reader.sources else None


def sizes_of(stage: StageOp) -> list[int | None]:
    """The sizes of a stage's dims, as far as they are constant."""
    return [constant_int(size) for size in stage.sizes]


def can_finalize(producer: StageOp, reader: StageOp, memory: Value) -> bool:
    """Whether a map reads each result of a reduction at one place alone, that where it was made."""
    places = {map_ for value, map_ in zip(reader.inputs, reader.input_maps, strict=True) if value is memory}
    if reader.combine is not None or len(places) != 1 or memory in reader.sources:
        return False
    return to_reader_dims(producer, reader, memory) is not None


def to_reader_dims(producer: StageOp, reader: StageOp, memory: Value) -> AffineMap | None:
    """The reader's dims as expressions of the producer's parallel dims, one to one."""
    read = reader.input_maps[list(reader.inputs).index(memory)]
    if len(read.used_dims()) != len(reader.iterators):
        return None
    return dims_through(read, producer.output_maps[0], sizes_of(reader), sizes_of(producer))


def finalize_with(producer: StageOp, reader: StageOp, memory: Value) -> None:
    """Make the reader's body the end of the producer."""
    parts = StageParts.of(producer)
    to_reader = to_reader_dims(producer, reader, memory)
    assert to_reader is not None
    others = [n for n in range(len(reader.inputs)) if reader.inputs[n] is not memory]
    assert parts.combine is not None
    accumulators = [argument.type for argument in parts.combine.block.arguments[: len(parts.identities)]]
    extra = parts.inputs[len(parts.body_inputs) :]
    previous = parts.finalize
    types = [*accumulators, *(element_of(v.type) for v in extra), *(element_of(reader.inputs[n].type) for n in others)]
    types.extend(v.type for v in (*producer.sources, *reader.sources))

    def build(builder: Builder, *args: Value) -> list[Value]:
        count = len(accumulators) + len(extra)
        own, theirs = args[count + len(others) :][: len(producer.sources)], args[len(args) - len(reader.sources) :]
        value = clone_body(previous, [*args[:count], *own], builder)[0] if previous is not None else args[0]
        rest = dict(zip(others, args[count : count + len(others)], strict=True))
        read = [rest.get(n, value) for n in range(len(reader.inputs))]
        return clone_body(reader.body, [*read, *theirs], builder, to_reader)

    parts.body = _with_sources(parts.body, reader.sources)
    parts.sources.extend(reader.sources)
    parts.finalize = joined_region(types, build)
    parts.inputs.extend(reader.inputs[n] for n in others)
    parts.input_maps.extend(reader.input_maps[n].compose(to_reader) for n in others)
    parts.epilogue_inputs += len(others)
    parts.outputs = list(reader.outputs)
    parts.border = reader.border
    parts.output_maps = [m.compose(to_reader) for m in reader.output_maps]
    parts.loc = fused(producer.loc, reader.loc)
    parts.build(Builder.before(reader))
    reader.erase()
    producer.erase()


