"""Chooses blocked layouts for convolution-like reductions and carries them through the ops between.

Channels that are neither innermost nor contiguous waste vectors: they are cut into blocks of one vector that run
innermost (NCHW -> NCHW16c). A layout is nothing but `tensor.pack` and `tensor.unpack` around an op, until they are
folded into the affine maps of the generics on both sides or cancel:

conv(x, w)                    ->  unpack(conv'(pack(x), w))
pack(unpack(z))               ->  z
pack(pad(x))                  ->  pad'(pack(x))
generic(unpack(z)) at c       ->  generic'(z) at (c floordiv 16, c mod 16)
map(unpack(z)) -> y           ->  unpack(map'(z))
"""

from __future__ import annotations

import math
from collections.abc import Set
from typing import ClassVar

import attrs

from stepwell.dialects.tensor import (
    ConcatOp,
    ConstantOp,
    DimsAttr,
    GenericOp,
    IndexOp,
    KernelOp,
    PackOp,
    PadOp,
    UnpackOp,
    tensor_type,
)
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, dim
from stepwell.ir.attributes import AffineMapAttr, ArrayAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.rewrite import Pattern, Rewriter, apply_greedily, pattern
from stepwell.ir.types import F32, bit_width
from stepwell.lowering.precision import is_strict
from stepwell.lowering.tensor.machine import Machine, size_of

TURNING = 24
"""Multiply-adds that take as long as an element's change of layout: by measuring 1x1 convolutions of 7x7 pixels, which
leave a quarter of the lanes idle. Blocks lose with 64 channels, win with 256."""


@attrs.frozen
class AssignLayouts(Pass):
    """Block the channels of convolutions, and keep them blocked as far as possible."""

    name: ClassVar[str] = "assign-layouts"
    enabled: bool = True

    def run(self, module: Operation, context: PassContext) -> None:
        if not self.enabled:
            return
        lanes = Machine.of(context.target).vector_bytes // 4
        if not is_strict(module):  # a reduced dim in blocks is gone through in another order
            # A kernel has its layouts already.
            ops = [op for op in module.walk_of(GenericOp) if not isinstance(op.parent_op, KernelOp)]
            pointwise = {op for op in ops if is_pointwise(op, lanes)}
            for op in ops:
                if op not in pointwise:
                    block_channels(op, lanes, context)
            # Without a window, channels in planes are as good: neighbouring pixels fill the vectors.
            near = beside_blocks(module, pointwise)
            for op in ops:
                if op in near:
                    block_channels(op, lanes, context)
        apply_greedily(module, PATTERNS)


def channel_dim(op: GenericOp) -> int | None:
    """The parallel dim of a contraction's result that is followed by dims along which its weights do not change.

    Where no channels are summed up, as in depthwise convolutions, the layout is that of the neighbours."""
    if not op.has_reduction or len(op.results) != 1 or bit_width(op.results[0].type) != F32.width:
        return None
    places = op.output_maps[0].results
    if len(places) < 3 or len(op.inputs) != 2:
        return None
    weights = op.input_maps[1].used_dims()
    summed = {d for d, kind in enumerate(op.iterators) if kind != "parallel"}
    if not summed & weights & op.input_maps[0].results[1].dims:
        return None
    for channel in sorted(places[1].dims):
        if places[1].coefficient(channel) == 1 and channel in weights and not places[-1].dims <= weights:
            return channel
    return None


def is_pointwise(op: GenericOp, lanes: int) -> bool:
    """Whether channels could be blocked, but have no need of it: each place of the data depends on one dim, without a
    window, and the pixels fill vectors well enough."""
    if channel_dim(op) is None or has_window(op):
        return False
    pixels = _extent(op, {d for place in op.output_maps[0].results[2:] for d in place.dims})
    return pixels >= 2 * lanes and not _pays_to_turn(op, pixels, lanes)


def _pays_to_turn(op: GenericOp, pixels: int, lanes: int) -> bool:
    """Whether the lanes that blocks keep from idling are worth data and result changing their layout for this op alone.
    Weights that only a call brings would have to change theirs as well."""
    if not isinstance(op.inputs[1].defining_op, ConstantOp):
        return False
    idle = -pixels % lanes
    channels, filters = (_extent(op, map_.results[1].dims) for map_ in (op.input_maps[0], op.output_maps[0]))
    return idle * channels * filters >= TURNING * pixels * (channels + filters)


def _extent(op: GenericOp, dims: Set[int]) -> int:
    return math.prod(size_of(op.sizes.dims[d]) for d in dims)


def has_window(op: GenericOp) -> bool:
    """Whether a place of the data depends on several dims, those of one element set aside."""
    many = {d for d, size in enumerate(op.sizes.dims) if size != 1}
    return any(len(place.dims & many) > 1 for place in op.maps[0].results)


def beside_blocks(module: Operation, pointwise: Set[Operation]) -> set[Operation]:
    """Those of some convolutions that blocks reach through their neighbours: through what keeps the blocks of its
    operands, and through one another."""
    pending = [op for op in module.walk() if isinstance(op, (PackOp, UnpackOp)) or takes_blocks(op)]
    reached = set(pending)
    while pending:
        op = pending.pop()
        data = op.operands if keeps_blocks(op) else op.operands[:1]  # weights have layouts of their own
        makers = [value.defining_op for value in data]
        users = [user for result in op.results for user in result.users]
        for other in (*makers, *users):
            if other is not None and other not in reached and (keeps_blocks(other) or other in pointwise):
                reached.add(other)
                pending.append(other)
    return reached & pointwise


def takes_blocks(op: Operation) -> bool:
    """Whether an op is rather computed in blocks, but leaves the choice to its neighbours: a depthwise convolution."""
    if not isinstance(op, GenericOp) or not op.has_reduction or len(op.inputs) != 2:
        return False
    return channel_dim(op) is None and has_window(op)


def keeps_blocks(op: Operation) -> bool:
    """Whether an op may work on blocks where its neighbours do: maps, pools, pads and concatenations."""
    return isinstance(op, (PadOp, ConcatOp)) or (
        isinstance(op, GenericOp) and (not op.has_reduction or len(op.inputs) == 1)
    )


def block_channels(op: GenericOp, lanes: int, context: PassContext) -> None:
    """conv(x, w) -> unpack(conv'(pack(x), w)), where the channels come in whole blocks."""
    channel = channel_dim(op)
    if channel is None:
        return
    size = op.sizes.dims[channel]
    if not isinstance(size, int) or not fills_blocks(size, lanes):
        context.remark(op, f"channels not blocked: {size} would fill its blocks of {lanes} badly")
        return
    if blocked_dim(op.output_maps[0].results[1], lanes) != channel:
        context.remark(op, f"channels not blocked: groups of {size} do not begin with a block of {lanes}")
        return
    data = op.inputs[0]
    source = tensor_type(data).shape[1] if tensor_type(data).rank > 1 else None
    blocks = isinstance(source, int) and fills_blocks(source, lanes)
    if blocks and blocked_dim(op.input_maps[0].results[1], lanes) is not None:
        builder = Builder.before(op)
        packed = builder.insert(PackOp(data, axis=1, block=lanes)).result
        op.set_operand(0, builder.insert(UnpackOp(packed, axis=1, size=source)).result)
    block_output(op, 1, lanes)
    context.count("layouts blocked")


def fills_blocks(size: int, block: int) -> bool:
    """Whether at most a third of the blocks stays empty."""
    return 3 * size >= 2 * block * -(-size // block)


def blocked_dim(expr: AffineExpr, block: int) -> int | None:
    """The dim that runs through whole blocks of an index: it has factor 1 and the others are multiples of the block."""
    form = expr.linear_form()
    if form is None or form[1] % block:
        return None
    ones = [d for d, factor in form[0].items() if factor == 1]
    rest = [factor for factor in form[0].values() if factor != 1]
    return ones[0] if len(ones) == 1 and not any(factor % block for factor in rest) else None


def split_index(map_: AffineMap, axis: int, block: int) -> AffineMap:
    """(.., c, ..) -> (.., c floordiv block, .., c mod block)"""
    results: list[AffineExpr] = list(map_.results)
    expr = results[axis]
    results[axis] = expr // block
    return AffineMap(map_.num_dims, map_.num_symbols, [*results, expr % block])


def set_maps(op: GenericOp, maps: list[AffineMap]) -> None:
    """Replace a generic's maps, quotients and rests of dims with few places simplified."""
    ranges = [(0, max(0, n - 1) if isinstance(n, int) else None) for n in op.sizes.dims]
    maps = [
        AffineMap(m.num_dims, m.num_symbols, [
            old if old.dim_index is not None else new
            for old, new in zip(m.results, m.simplify(ranges).results, strict=True)
        ])
        for m in maps
    ]  # fmt: skip
    op.properties["maps"] = ArrayAttr(tuple(AffineMapAttr(m) for m in maps))


def block_output(op: GenericOp, axis: int, block: int) -> UnpackOp:
    """y = generic  ->  y = unpack(generic'), the result written in blocks."""
    result = op.results[0]
    maps = list(op.maps)
    maps[-1] = split_index(maps[-1], axis, block)
    set_maps(op, maps)
    plain = tensor_type(result)
    shape = list(plain.shape)
    size = shape[axis]
    assert isinstance(size, int)
    shape[axis] = -(-size // block)
    result.type = plain.with_shape([*shape, block])
    unpack = Builder.after(op).insert(UnpackOp(result, axis=axis, size=size))
    unpack.result.name = result.name
    for user, index in result.uses:
        if user is not unpack:
            user.set_operand(index, unpack.result)
    return unpack


@pattern
def cancel_pack_of_unpack(op: PackOp, rewriter: Rewriter) -> bool:
    """pack(unpack(z)) -> z"""
    inner = op.x.defining_op
    if isinstance(inner, UnpackOp) and inner.axis == op.axis and inner.block == op.block:
        rewriter.replace(op, inner.x)
        return True
    return False


@pattern
def pack_before_pad(op: PackOp, rewriter: Rewriter) -> bool:
    """pack(pad(x)) -> pad'(pack(x)), where the packed axis is not padded"""
    pad = op.x.defining_op
    if not isinstance(pad, PadOp) or pad.low[op.axis] or pad.high[op.axis]:
        return False
    packed = rewriter.insert(PackOp(pad.x, axis=op.axis, block=op.block)).result
    made = rewriter.insert(PadOp(packed, low=[*pad.low, 0], high=[*pad.high, 0], value=pad.value))
    rewriter.replace(op, made.result)
    return True


@pattern
def pad_before_unpack(op: PadOp, rewriter: Rewriter) -> bool:
    """pad(unpack(z)) -> unpack(pad'(z)), where the packed axis is not padded"""
    unpack = op.x.defining_op
    if not isinstance(unpack, UnpackOp) or op.low[unpack.axis] or op.high[unpack.axis]:
        return False
    made = rewriter.insert(PadOp(unpack.x, low=[*op.low, 0], high=[*op.high, 0], value=op.value)).result
    rewriter.replace(op, rewriter.insert(UnpackOp(made, axis=unpack.axis, size=unpack.size)).result)
    return True


@pattern
def concat_before_unpack(op: ConcatOp, rewriter: Rewriter) -> bool:
    """concat(unpack(a), unpack(b))  ->  unpack(concat'(a, b)); parts that are not in blocks yet are packed"""
    unpacks = [x.defining_op for x in op.xs if isinstance(x.defining_op, UnpackOp)]
    if not unpacks:
        return False
    axis, block = unpacks[0].axis, unpacks[0].block
    total = tensor_type(op.result).shape[axis]
    assert isinstance(total, int)
    parts = []
    for n, x in enumerate(op.xs, 1):
        made = x.defining_op
        same = isinstance(made, UnpackOp) and made.axis == axis and made.block == block
        size = tensor_type(x).shape[axis]
        if not isinstance(size, int) or (size % block and op.axis == axis and n < len(op.xs)):
            return False  # the next part would begin inside a block
        parts.append(made.x if same and isinstance(made, UnpackOp) else None)
    blocks = [
        part if part is not None else rewriter.insert(PackOp(x, axis=axis, block=block)).result
        for part, x in zip(parts, op.xs, strict=True)
    ]
    joined = rewriter.insert(ConcatOp(blocks, axis=op.axis)).result
    rewriter.replace(op, rewriter.insert(UnpackOp(joined, axis=axis, size=total)).result)
    return True


@pattern
def read_blocks(op: GenericOp, rewriter: Rewriter) -> bool:
    """generic(unpack(z)) -> generic'(z); a result along the same dim is written in blocks as well"""
    for index, value in enumerate(op.inputs):
        unpack = value.defining_op
        if not isinstance(unpack, UnpackOp):
            continue
        axis, block = unpack.axis, unpack.block
        channel = blocked_dim(op.input_maps[index].results[axis], block)
        if gathers_blocks(op, index, channel):
            continue
        maps = list(op.maps)
        maps[index] = split_index(maps[index], axis, block)
        set_maps(op, maps)
        op.set_operand(index, unpack.x)
        if channel is not None:
            if op.iterators[channel] == "parallel":
                _write_blocks(op, channel, block)
            else:
                split_reduction(op, channel, block)
        rewriter.modified(op)
        return True
    return False


def gathers_blocks(op: GenericOp, index: int, channel: int | None) -> bool:
    """Whether a contraction would read neighbours along its result's last dim block by block, again for each result
    that they are part of: one copy that unpacks costs less."""
    if len(op.inputs) < 2 or not op.has_reduction or len(op.results) != 1:
        return False
    if channel is not None and op.iterators[channel] == "parallel":
        return False  # the result gets blocks as well
    places = op.output_maps[0].results
    return bool(places) and bool(places[-1].dims & op.input_maps[index].used_dims())


def _write_blocks(op: GenericOp, channel: int, block: int) -> None:
    """Block the result along a dim that an input has in blocks, unless it is blocked already."""
    if len(op.results) != 1:
        return
    places = op.output_maps[0].results
    for axis, expr in enumerate(places):
        size = tensor_type(op.results[0]).shape[axis]
        if blocked_dim(expr, block) == channel and isinstance(size, int):
            block_output(op, axis, block)
            return


def split_reduction(op: GenericOp, position: int, block: int) -> None:
    """reduction dim ic  ->  icb and, innermost, ici with ic = block * icb + ici: no division is left in the loops.
    Where the last block is not full, the step is what divides both a block and the size."""
    size = op.sizes.dims[position]
    if not isinstance(size, int):
        return
    block = math.gcd(block, size)
    if block == 1 or (size == block and position == len(op.iterators) - 1):
        return
    if any(index.dim == position for index in op.walk_of(IndexOp)):
        return
    rank = len(op.iterators)
    exprs: list[AffineExpr] = [dim(d) for d in range(rank)]
    exprs[position] = dim(position) * block + dim(rank)
    maps = [m.replace_dims(exprs, rank + 1) for m in op.maps]
    names = list(op.names)
    sizes = list(op.sizes.dims)
    sizes[position] = size // block
    op.sizes = DimsAttr((*sizes, block))
    op.iterators = [*op.iterators, "reduction"]
    op.names = [*names[:position], f"{names[position]}b", *names[position + 1 :], f"{names[position]}i"]
    set_maps(op, maps)


@pattern
def read_through_copy_of_constant(op: GenericOp, rewriter: Rewriter) -> bool:
    """generic(copy(constant)) -> generic'(constant), the copy's map composed into the reader's: a transposed or
    repeated weight is read where it is, and packed for its reader later"""
    for index, value in enumerate(op.inputs):
        copy = value.defining_op
        if not isinstance(copy, GenericOp) or not is_copy(copy) or copy.inputs[0].defining_op is None:
            continue
        if not isinstance(copy.inputs[0].defining_op, ConstantOp):
            continue
        inverse = copy.output_maps[0].inverse_permutation()
        if inverse is None:
            continue
        maps = list(op.maps)
        maps[index] = copy.input_maps[0].compose(inverse).compose(maps[index])
        set_maps(op, maps)
        op.set_operand(index, copy.inputs[0])
        rewriter.modified(op)
        rewriter.modified(copy)
        return True
    return False


def is_copy(op: GenericOp) -> bool:
    """Whether a generic yields its one input as it is."""
    block = op.body.block
    return (
        not op.has_reduction
        and len(op.inputs) == 1
        and not op.sources
        and list(block.terminator.operands) == block.arguments
    )


PATTERNS: list[Pattern] = [
    read_through_copy_of_constant, concat_before_unpack, cancel_pack_of_unpack, pack_before_pad, pad_before_unpack,
    read_blocks,
]  # fmt: skip
