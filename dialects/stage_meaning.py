"""The NumPy meaning of `loop.stage`: a walk over its box, one index at a time. Slow, and exact in its order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepwell.dialects.arith import typed_constant
from stepwell.ir.attributes import FloatAttr, IntegerAttr

if TYPE_CHECKING:
    from stepwell.dialects.loop import StageOp


def _identity(attribute: Any) -> Any:
    assert isinstance(attribute, (IntegerAttr, FloatAttr))
    return typed_constant(attribute)


def run_stage(stage: StageOp, frame: Any, args: Sequence[Any]) -> None:
    """Run a stage on arrays that stand for its memrefs."""
    dims = len(stage.iterators)
    offsets, sizes, arrays = args[:dims], args[dims : 2 * dims], list(args[2 * dims :])
    inputs, reads = len(stage.inputs), len(stage.sources)
    count = inputs + reads + len(stage.outputs)
    sources, flags = arrays[inputs : inputs + reads], arrays[count:]
    memory = arrays[:inputs] + arrays[inputs + reads : count]
    first, last = (bool(flags[0]), bool(flags[1])) if len(flags) == 2 else (True, True)
    if stage.border is not None:
        for array in memory[inputs:]:
            array[...] = _identity(stage.border)
    outer = [d for d in range(dims) if d not in stage.reduction_dims]
    with np.errstate(all="ignore"):
        for place in itertools.product(*(range(int(sizes[d])) for d in outer)):
            index = [int(offset) for offset in offsets]
            for d, step in zip(outer, place, strict=True):
                index[d] += step
            _run_point(stage, frame, index, sizes, memory, sources, first, last)


def _run_point(
    stage: StageOp, frame: Any, index: list[int], sizes: Sequence[Any], memory: list[Any], sources: list[Any],
    first: bool, last: bool,
) -> None:  # fmt: skip
    inputs, maps = memory[: len(stage.inputs)], stage.maps
    body_count = len(stage.body_inputs)
    frame.state["index grids"] = index
    if stage.combine is None:
        elements = [m[maps[i].evaluate(index, ())] for i, m in enumerate(inputs[:body_count])]
        _store(stage, memory, index, frame.run_region(stage.body, [*elements, *sources]))
        return
    if first:
        accumulators = tuple(_identity(a) for a in stage.identities)
    else:
        accumulators = tuple(m[stage.output_maps[i].evaluate(index, ())] for i, m in enumerate(memory[len(inputs) :]))
        if stage.scaled:
            factor = inputs[-1][maps[len(inputs) - 1].evaluate(index, ())]
            accumulators = tuple(a * factor for a in accumulators)
    base = list(index)
    for place in itertools.product(*(range(int(sizes[d])) for d in stage.reduction_dims)):
        for d, step in zip(stage.reduction_dims, place, strict=True):
            index[d] = base[d] + step
        elements = [m[maps[i].evaluate(index, ())] for i, m in enumerate(inputs[:body_count])]
        values = frame.run_region(stage.body, [*elements, *sources])
        accumulators = frame.run_region(stage.combine, [*accumulators, *values])
    index[:] = base
    if last and stage.finalize is not None:
        late = inputs[body_count : body_count + stage.epilogue_inputs]
        extra = [m[maps[body_count + i].evaluate(index, ())] for i, m in enumerate(late)]
        accumulators = frame.run_region(stage.finalize, [*accumulators, *extra, *sources])
    _store(stage, memory, index, accumulators)


def _store(stage: StageOp, memory: list[Any], index: list[int], values: Sequence[Any]) -> None:
    outputs = memory[len(stage.inputs) :]
    for array, map_, value in zip(outputs, stage.output_maps, values, strict=True):
        array[map_.evaluate(index, ())] = value
