"""Which layouts the ops of a module may take: what is legal, whatever it costs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs

from stepwell.dialects.tensor import (
    ConcatOp,
    ConstantOp,
    GenericOp,
    KernelOp,
    PackOp,
    PadOp,
    ReshapeOp,
    UnpackOp,
    tensor_type,
)
from stepwell.ir.affine_expr import AffineExpr
from stepwell.ir.core import Operation, Value
from stepwell.ir.types import F32, bit_width
from stepwell.lowering.tensor.layout import Cut, Layout, Variant, blocked_dim, may_move_blocks, same_axis

Kind = str
BLOCKS, WHOLE = KINDS = ("blocks", "whole")  # channels in blocks of one vector, or innermost as a whole
Cuts = dict[Value, dict[Cut, None]]  # of each value, the layouts that it may have
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


def reachable_cuts(module: Operation, block: int) -> Cuts:
    """The layouts that values may have: blocks reach them from the channels of convolutions, and from what is packed or
    unpacked already, through the ops between; channels that are innermost as a whole from where an op has them
    innermost anyway."""
    reach = _Reach(block)
    for op in module.walk():
        if isinstance(op, PackOp) and op.block == block:
            reach.add(op.x, op.axis, BLOCKS)
        elif isinstance(op, UnpackOp) and op.block == block:
            reach.add(op.result, op.axis, BLOCKS)
        elif is_convolution(op):
            assert isinstance(op, GenericOp)
            if blocked_dim(op.output_maps[0].results[1], block) == channel_dim(op):
                reach.add(op.results[0], 1, BLOCKS)
            if tensor_type(op.inputs[0]).rank > 1 and blocked_dim(op.input_maps[0].results[1], block) is not None:
                reach.add(op.inputs[0], 1, BLOCKS)
    reach.spread()
    for value, axis in [(value, cut.axis) for value, cuts in reach.found.items() for cut in cuts]:
        if any(_has_last(op, value, axis) for op in (value.defining_op, *value.users)):
            reach.add(value, axis, WHOLE)
    reach.spread()
    return reach.found


@attrs.define
class _Reach:
    """Spreads layouts from value to value through the ops between convolutions."""

    block: int
    found: Cuts = attrs.Factory(dict)
    pending: list[tuple[Value, int, Kind]] = attrs.Factory(list)

    def add(self, value: Value, axis: int, kind: Kind) -> None:
        """A layout of a value, where it may have that."""
        cut = cut_of(value, axis, kind, self.block)
        if cut is not None and cut not in self.found.get(value, {}):
            self.found.setdefault(value, {})[cut] = None
            self.pending.append((value, axis, kind))

    def spread(self) -> None:
        """The same layouts for the values next to those found."""
        while self.pending:
            value, axis, kind = self.pending.pop()
            makers = [value.defining_op] if value.defining_op is not None else []
            for near in (*makers, *value.users):
                if not is_convolution(near):
                    for other, place in _through(near, value, axis, kind, self.block):
                        self.add(other, place, kind)


def cut_of(value: Value, axis: int, kind: Kind, block: int) -> Layout:
    """The layout of a value with an axis in blocks, or innermost as a whole; None where it may not have that, or has it
    as it is. The axis has a known size of more than one; constants are laid out for their readers anyway."""
    shape = tensor_type(value).shape
    size = shape[axis]
    if not isinstance(size, int) or size <= 1 or isinstance(value.defining_op, ConstantOp):
        return None
    if kind == BLOCKS:
        return Cut(axis, block)
    return None if all(n == 1 for n in shape[axis + 1 :]) else Cut(axis, size)


def _has_last(op: Operation | None, value: Value, axis: int) -> bool:
    """Whether a map that runs along an axis of a value runs along the last axis of another one: a transposition."""
    if not isinstance(op, GenericOp) or op.has_reduction:
        return False
    return any(
        place == tensor_type(other).rank - 1 and not isinstance(other.defining_op, ConstantOp)
        for other, place in _through(op, value, axis, WHOLE, 1)
    )


def is_convolution(op: Operation) -> bool:
    """Whether an op has channels in the sense of `channel_dim`."""
    return isinstance(op, GenericOp) and not isinstance(op.parent_op, KernelOp) and channel_dim(op) is not None


def _through(op: Operation, value: Value, axis: int, kind: Kind, block: int) -> Iterator[tuple[Value, int]]:
    """The other values of an op, and the axes of theirs that run along an axis of one of its values."""
    if isinstance(op, (PadOp, ConcatOp)):
        if kind == WHOLE or may_move_blocks(op, axis, block):
            yield from ((other, axis) for other in (*op.operands, op.result))
    elif isinstance(op, ReshapeOp):
        for source, target in ((op.x, op.result), (op.result, op.x)):
            if value is source and (place := same_axis(tensor_type(source), axis, tensor_type(target))) is not None:
                yield target, place
    elif isinstance(op, GenericOp) and not isinstance(op.parent_op, KernelOp) and len(op.results) == 1:
        values = (*op.inputs, *op.results)
        for mine, map_ in zip(values, op.maps, strict=True):
            channel = runs_along(map_.results[axis], kind, block) if mine is value else None
            if channel is None or op.iterators[channel] != "parallel":
                continue
            for other, its in zip(values, op.maps, strict=True):
                if tensor_type(other).rank == tensor_type(value).rank:
                    yield from (
                        (other, n) for n, e in enumerate(its.results) if runs_along(e, kind, block) == channel
                    )


def runs_along(expr: AffineExpr, kind: Kind, block: int) -> int | None:
    """The dim that runs along a whole axis, through whole blocks of it."""
    return blocked_dim(expr, block) if kind == BLOCKS else expr.dim_index


def variants_of(op: Operation, cuts: Cuts, block: int) -> list[Variant]:
    """The layouts that an op may take, the plain one first; none for an op that has no choice."""
    if isinstance(op, PackOp):
        cut = Cut(op.axis, op.block)
        return [Variant((layout,), None) for layout in (None, cut)] if cut in cuts.get(op.x, {}) else []
    if isinstance(op, UnpackOp):
        cut = Cut(op.axis, op.block)
        return [Variant((None,), layout) for layout in (None, cut)] if cut in cuts.get(op.result, {}) else []
    if isinstance(op, (PadOp, ConcatOp, ReshapeOp)):
        plain = Variant((None,) * len(op.operands), None)
        found = [variant for kind in KINDS for variant in _of_movement(op, cuts, kind, block)]
        return [plain, *dict.fromkeys(found)] if found else []
    if isinstance(op, GenericOp) and not isinstance(op.parent_op, KernelOp):
        found = list(dict.fromkeys(_of_generic(op, cuts, block)))
        return found if len(found) > 1 else []
    return []


def _of_movement(op: PadOp | ConcatOp | ReshapeOp, cuts: Cuts, kind: Kind, block: int) -> Iterator[Variant]:
    """The layouts of one kind in which a pad, a concatenation or a reshape moves whole blocks."""
    for cut in cuts.get(op.result, {}):
        place: int | None = cut.axis
        if isinstance(op, ReshapeOp):
            place = same_axis(tensor_type(op.result), cut.axis, tensor_type(op.x))
        elif kind == BLOCKS and not may_move_blocks(op, cut.axis, block):
            place = None
        if place is None or cut != cut_of(op.result, cut.axis, kind, block):
            continue
        layouts = [cut_of(x, place, kind, block) for x in op.operands]
        if all(layout in cuts.get(x, {}) for x, layout in zip(op.operands, layouts, strict=True)):
            yield Variant(tuple(layouts), cut)


def _of_generic(op: GenericOp, cuts: Cuts, block: int) -> Iterator[Variant]:
    """A reduction may read one layout and write another. A map keeps that of the dim that it runs along."""
    yield Variant((None,) * len(op.operands), None)
    values = (*op.inputs, *op.results)
    reads: list[list[Layout]] = [[None, *cuts.get(value, {})] for value in op.inputs]
    results: list[Layout] = [None]
    if len(op.results) == 1:
        places = op.output_maps[0].results
        results += [cut for cut in cuts.get(op.results[0], {}) if may_write(op.results[0], places[cut.axis], cut)]
    whole: tuple[Layout, ...] = (None,) * len(op.sources)
    if op.has_reduction and sum(len(layouts) > 1 for layouts in reads) <= MOST:
        for result, *layouts in itertools.product(results, *reads):
            if result is not None or not any(gathers_blocks(op, n, cut) for n, cut in enumerate(layouts)):
                yield Variant((*layouts, *whole), result)
        return
    legal = list(zip([*reads, results], values, op.maps, strict=False))
    along = {
        (kind, runs_along(map_.results[cut.axis], kind, block))
        for layouts, value, map_ in legal for cut in layouts if cut is not None
        for kind in KINDS if cut == cut_of(value, cut.axis, kind, block)
    }  # fmt: skip
    for kind, channel in sorted((kind, channel) for kind, channel in along if channel is not None):
        *taken, result = (
            next((cut for cut in layouts if cut is not None and cut == cut_of(value, cut.axis, kind, block)
                  and runs_along(map_.results[cut.axis], kind, block) == channel), None)
            for layouts, value, map_ in legal
        )  # fmt: skip
        yield Variant((*taken, *whole), result)


def may_write(value: Value, index: AffineExpr, cut: Cut) -> bool:
    """Whether an op that writes a value at an index may write it in a layout: through whole blocks of it."""
    return cut.block == tensor_type(value).shape[cut.axis] or blocked_dim(index, cut.block) is not None


def gathers_blocks(op: GenericOp, index: int, cut: Layout) -> bool:
    """Whether a contraction whose result is plain would read neighbours along the result's last dim from blocks: one by
    one, at least once for each, which is what a copy that unpacks takes."""
    places = op.output_maps[0].results
    if cut is None or len(op.inputs) < 2 or not places:
        return False
    return bool(places[-1].dims & op.input_maps[index].used_dims())
