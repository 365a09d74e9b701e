"""Which layouts the ops of a module may take: what is legal, whatever it costs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from stepwell.dialects.tensor import (
    ConcatOp,
    ConstantOp,
    GenericOp,
    KernelOp,
    PackOp,
    PadOp,
    UnpackOp,
    tensor_type,
)
from stepwell.ir.core import Operation, Value
from stepwell.ir.types import F32, bit_width
from stepwell.lowering.tensor.layout import Layout, Variant, blocked_dim, may_move_blocks

Axes = dict[Value, dict[int, None]]  # of each value, the axes that may be in blocks
MOST = 3  # data operands of a reduction that take their layouts independently of one another


def channel_dim(op: GenericOp) -> int | None:
    """The parallel dim of a contraction's result that is followed by dims along which its weights do not change: the
    channels of a convolution."""
    if not op.has_reduction or len(op.results) != 1 or bit_width(op.results[0].type) != F32.width:
        return None
    places = op.output_maps[0].results
    if len(places) < 3 or len(op.inputs) != 2 or len(op.input_maps[0].results) < 2:
        return None
    weights = op.input_maps[1].used_dims()
    for channel in sorted(places[1].dims):
        if places[1].coefficient(channel) == 1 and channel in weights and not places[-1].dims <= weights:
            return channel
    return None


def reachable_axes(module: Operation, block: int) -> Axes:
    """The axes of values that blocks may reach: from the channels of convolutions, and from what is packed or unpacked
    already, through the ops between."""
    axes: Axes = {}
    pending: list[tuple[Value, int]] = []

    def reach(value: Value, axis: int) -> None:
        if axis not in axes.get(value, {}) and may_be_cut(value, axis):
            axes.setdefault(value, {})[axis] = None
            pending.append((value, axis))

    for op in module.walk():
        if isinstance(op, PackOp) and op.block == block:
            reach(op.x, op.axis)
        elif isinstance(op, UnpackOp) and op.block == block:
            reach(op.result, op.axis)
        elif is_convolution(op):
            assert isinstance(op, GenericOp)
            if blocked_dim(op.output_maps[0].results[1], block) == channel_dim(op):
                reach(op.results[0], 1)
            if tensor_type(op.inputs[0]).rank > 1 and blocked_dim(op.input_maps[0].results[1], block) is not None:
                reach(op.inputs[0], 1)
    while pending:
        value, axis = pending.pop()
        makers = [value.defining_op] if value.defining_op is not None else []
        for near in (*makers, *value.users):
            if not is_convolution(near):
                for other, place in _through(near, value, axis, block):
                    reach(other, place)
    return axes


def is_convolution(op: Operation) -> bool:
    """Whether an op has channels in the sense of `channel_dim`."""
    return isinstance(op, GenericOp) and not isinstance(op.parent_op, KernelOp) and channel_dim(op) is not None


def may_be_cut(value: Value, axis: int) -> bool:
    """Whether an axis of a value has a known size of more than one; constants are laid out for their readers anyway."""
    size = tensor_type(value).shape[axis]
    return isinstance(size, int) and size > 1 and not isinstance(value.defining_op, ConstantOp)


def _through(op: Operation, value: Value, axis: int, block: int) -> Iterator[tuple[Value, int]]:
    """The other values of an op, and the axes of theirs that run along an axis of one of its values."""
    if isinstance(op, (PadOp, ConcatOp)):
        if may_move_blocks(op, axis, block):
            yield from ((other, axis) for other in (*op.operands, op.result))
    elif isinstance(op, GenericOp) and not isinstance(op.parent_op, KernelOp) and len(op.results) == 1:
        values = (*op.inputs, *op.results)
        for mine, map_ in zip(values, op.maps, strict=True):
            channel = blocked_dim(map_.results[axis], block) if mine is value else None
            if channel is None or op.iterators[channel] != "parallel":
                continue
            for other, its in zip(values, op.maps, strict=True):
                if tensor_type(other).rank == tensor_type(value).rank:
                    yield from ((other, n) for n, e in enumerate(its.results) if blocked_dim(e, block) == channel)


def variants_of(op: Operation, axes: Axes, block: int) -> list[Variant]:
    """The layouts that an op may take, the plain one first; none for an op that has no choice."""
    if isinstance(op, PackOp):
        return [Variant((layout,), None) for layout in (None, op.axis)] if op.x in axes and op.block == block else []
    if isinstance(op, UnpackOp):
        reached = axes.get(op.result, {})
        return [Variant((None,), layout) for layout in (None, op.axis)] if op.axis in reached else []
    if isinstance(op, (PadOp, ConcatOp)):
        plain = Variant((None,) * len(op.operands), None)
        cut = [axis for axis in axes.get(op.result, {}) if may_move_blocks(op, axis, block)
               and all(axis in axes.get(x, {}) for x in op.operands)]  # fmt: skip
        return [plain, *(Variant((axis,) * len(op.operands), axis) for axis in cut)] if cut else []
    if isinstance(op, GenericOp) and not isinstance(op.parent_op, KernelOp):
        found = list(dict.fromkeys(_of_generic(op, axes, block)))
        return found if len(found) > 1 else []
    return []


def _of_generic(op: GenericOp, axes: Axes, block: int) -> Iterator[Variant]:
    """A reduction may read one layout and write another. A map keeps that of the dim that it runs along."""
    yield Variant((None,) * len(op.operands), None)
    results: list[Layout] = [None]
    if len(op.results) == 1:
        places = op.output_maps[0].results
        results += [axis for axis in axes.get(op.results[0], {}) if blocked_dim(places[axis], block) is not None]
    reads: list[list[Layout]] = [[None, *axes.get(value, {})] for value in op.inputs]
    whole: tuple[Layout, ...] = (None,) * len(op.sources)
    if op.has_reduction and sum(len(layouts) > 1 for layouts in reads) <= MOST:
        for result, *layouts in itertools.product(results, *reads):
            if result is not None or not any(gathers_blocks(op, n, axis) for n, axis in enumerate(layouts)):
                yield Variant((*layouts, *whole), result)
        return
    channels = {axis: blocked_dim(op.output_maps[0].results[axis], block) for axis in results if axis is not None}
    for result, channel in channels.items():
        along = [
            next((axis for axis in layouts if axis is not None and blocked_dim(map_.results[axis], block) == channel),
                 None)
            for layouts, map_ in zip(reads, op.input_maps, strict=True)
        ]  # fmt: skip
        yield Variant((*along, *whole), result)
    for index, layouts in enumerate(reads):
        for axis in layouts:
            channel = blocked_dim(op.input_maps[index].results[axis], block) if axis is not None else None
            if axis is not None and channel not in channels.values():  # what it reads in blocks it does not write
                yield Variant((*(axis if n == index else None for n in range(len(reads))), *whole), None)


def gathers_blocks(op: GenericOp, index: int, axis: Layout) -> bool:
    """Whether a contraction whose result is plain would read neighbours along the result's last dim from blocks: one by
    one, at least once for each, which is what a copy that unpacks takes."""
    places = op.output_maps[0].results
    if axis is None or len(op.inputs) < 2 or not places:
        return False
    return bool(places[-1].dims & op.input_maps[index].used_dims())
