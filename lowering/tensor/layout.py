"""Layouts, and how ops take them.

Channels that are neither innermost nor contiguous are cut into blocks of one vector that run innermost (NCHW ->
NCHW16c), or become innermost as a whole, as one block of all of them (NCHW -> N1HWC). A layout is nothing but
`tensor.pack` and `tensor.unpack` around an op, until they are folded into the affine maps of the generics on both sides
or cancel:

conv(x, w)                    ->  unpack(conv'(pack(x), w))
pack(unpack(z))               ->  z
pad(x)                        ->  unpack(pad'(pack(x)))
generic(x at c)               ->  generic'(pack(x) at (c floordiv 16, c mod 16))
map(x) -> y                   ->  unpack(map'(pack(x)))
transposition(x) -> y         ->  transposition'(pack(x)) -> y, which moves nothing where x is channels last
generic(transposition'(z))    ->  generic'(z)

Which ops take which layouts is decided by `assign-layouts` (lowering/tensor/assign_layouts.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from stepwell.dialects.tensor import (
    ConcatOp,
    ConstantOp,
    DimsAttr,
    GenericOp,
    IndexOp,
    PackOp,
    PadOp,
    ReshapeOp,
    UnpackOp,
    tensor_type,
)
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, dim
from stepwell.ir.attributes import AffineMapAttr, ArrayAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import Dim
from stepwell.ir.rewrite import Pattern, Rewriter, pattern
from stepwell.ir.types import TensorType


@attrs.frozen
class Cut:
    """An axis in blocks of so many elements, which run innermost. One block of all elements: the axis runs innermost
    as a whole, as the channels of NHWC do."""

    axis: int
    block: int


Layout = Cut | None  # None: the tensor as it is


@attrs.frozen
class Variant:
    """The layouts in which an op takes its operands and gives its result."""

    operands: tuple[Layout, ...]
    result: Layout

    @property
    def is_plain(self) -> bool:
        """Whether nothing is cut."""
        return self.result is None and not any(cut is not None for cut in self.operands)


def take(op: Operation, variant: Variant) -> None:
    """Let an op work in other layouts, with packs before it and an unpack behind it."""
    if isinstance(op, GenericOp):
        for index, cut in enumerate(variant.operands):
            if cut is not None:
                read_blocks(op, index, cut)
        if variant.result is not None:
            write_blocks(op, variant.result)
    elif variant.result is not None:
        move_blocks(op, variant)


def packed(value: Value, cut: Layout) -> Value:
    """A value in a layout: what it was unpacked from, or a copy right behind what makes it."""
    if cut is None:
        return value
    made = value.defining_op
    if isinstance(made, UnpackOp) and made.axis == cut.axis and made.block == cut.block:
        return made.x
    if made is not None:
        return Builder.after(made).insert(PackOp(value, axis=cut.axis, block=cut.block)).result
    assert value.owner_block is not None
    return Builder.at_start(value.owner_block).insert(PackOp(value, axis=cut.axis, block=cut.block)).result


def read_blocks(op: GenericOp, index: int, cut: Cut) -> None:
    """generic(x at c)  ->  generic'(pack(x) at (c floordiv block, c mod block))"""
    channel = step_dim(op.input_maps[index].results[cut.axis])
    op.set_operand(index, packed(op.inputs[index], cut))
    maps = list(op.maps)
    maps[index] = split_index(maps[index], cut.axis, cut.block)
    set_maps(op, maps)
    if channel is not None and op.iterators[channel] != "parallel":
        split_reduction(op, channel, cut.block)


def write_blocks(op: GenericOp, cut: Cut) -> UnpackOp:
    """y = generic  ->  y = unpack(generic'), the result written in blocks."""
    result = op.results[0]
    maps = list(op.maps)
    maps[-1] = split_index(maps[-1], cut.axis, cut.block)
    set_maps(op, maps)
    plain = tensor_type(result)
    size = plain.shape[cut.axis]
    assert isinstance(size, int)
    result.type = in_blocks(plain, cut)
    unpack = Builder.after(op).insert(UnpackOp(result, axis=cut.axis, size=size))
    unpack.result.name = result.name
    for user, index in result.uses:
        if user is not unpack:
            user.set_operand(index, unpack.result)
    return unpack


def in_blocks(type_: TensorType, cut: Layout) -> TensorType:
    """The type of a tensor in a layout."""
    if cut is None:
        return type_
    shape = list(type_.shape)
    shape[cut.axis] = (shape[cut.axis] + (cut.block - 1)) // cut.block
    return type_.with_shape([*shape, cut.block])


def move_blocks(op: Operation, variant: Variant) -> None:
    """pad(x) -> unpack(pad'(pack(x))); concat(x, y) -> unpack(concat'(pack(x), pack(y))), alike for a reshape

    Channels that are one block are padded, or put behind each other, inside of it: along the last axis."""
    cut, plain = variant.result, tensor_type(op.results[0])
    size = plain.shape[cut.axis] if cut is not None else None
    assert cut is not None and isinstance(size, int)
    operands = [packed(x, layout) for x, layout in zip(op.operands, variant.operands, strict=True)]
    inside = cut.block == size
    made: PadOp | ConcatOp | ReshapeOp
    if isinstance(op, PadOp):
        low, high = [*op.low, 0], [*op.high, 0]
        if inside:
            for widths in (low, high):
                widths[cut.axis], widths[-1] = 0, widths[cut.axis]
        made = PadOp(operands[0], low=low, high=high, value=op.value)
    elif isinstance(op, ConcatOp):
        made = ConcatOp(operands, axis=plain.rank if inside and op.axis == cut.axis else op.axis)
    else:
        made = ReshapeOp(operands[0], result_types=[in_blocks(plain, cut)])
    made.loc = op.loc
    builder = Builder.before(op)
    builder.insert(made)
    op.replace_with([builder.insert(UnpackOp(made.result, axis=cut.axis, size=size)).result])


def may_move_blocks(op: PadOp | ConcatOp, axis: int, block: int) -> bool:
    """Whether a pad or a concatenation moves whole blocks: it leaves that axis alone, or no part begins in a block."""
    if isinstance(op, PadOp):
        return not op.low[axis] and not op.high[axis]
    sizes = [tensor_type(x).shape[axis] for x in op.xs]
    return op.axis != axis or all(isinstance(size, int) and size % block == 0 for size in sizes[:-1])


def same_axis(source: TensorType, axis: int, target: TensorType) -> int | None:
    """The axis of what a reshape makes that runs along an axis of what it reads; None where there is none.

    [n, 64, 7, 7], axis 1, as [n, 64, 49]: 1"""
    before: Dim = math.prod(source.shape[:axis])
    product: Dim = 1
    for place, size in enumerate(target.shape):
        if product == before and size == source.shape[axis]:
            return place
        product = product * size
    return None


def step_dim(expr: AffineExpr) -> int | None:
    """The one dim along which an index grows by single elements."""
    form = expr.linear_form()
    ones = [d for d, factor in form[0].items() if factor == 1] if form is not None else []
    return ones[0] if len(ones) == 1 else None


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


def set_maps(op: GenericOp, maps: Sequence[AffineMap]) -> None:
    """Replace a generic's maps, simplified."""
    op.properties["maps"] = ArrayAttr(tuple(AffineMapAttr(m) for m in simplified(op, maps)))


def simplified(op: GenericOp, maps: Sequence[AffineMap]) -> list[AffineMap]:
    """Maps for a generic, quotients and rests of dims with few places simplified."""
    ranges = [(0, max(0, n - 1) if isinstance(n, int) else None) for n in op.sizes.dims]
    return [
        AffineMap(m.num_dims, m.num_symbols, [
            old if old.dim_index is not None else new
            for old, new in zip(m.results, m.simplify(ranges).results, strict=True)
        ])
        for m in maps
    ]  # fmt: skip


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
def cancel_pack_of_unpack(op: PackOp, rewriter: Rewriter) -> bool:
    """pack(unpack(z)) -> z"""
    inner = op.x.defining_op
    if isinstance(inner, UnpackOp) and inner.axis == op.axis and inner.block == op.block:
        rewriter.replace(op, inner.x)
        return True
    return False


@pattern
def read_through_copy(op: GenericOp, rewriter: Rewriter) -> bool:
    """generic(copy(x)) -> generic'(x), the copy's map composed into the reader's, where x is a constant, which is
    packed for its reader later (a transposed or repeated weight), or where all elements stay in their places"""
    for index, value in enumerate(op.inputs):
        copy = value.defining_op
        if not isinstance(copy, GenericOp) or not is_copy(copy):
            continue
        if not isinstance(copy.inputs[0].defining_op, ConstantOp) and (is_view(copy) or not moves_nothing(copy)):
            continue
        source = _source_map(copy)
        if source is None:
            continue
        maps = list(op.maps)
        maps[index] = source.compose(maps[index])
        set_maps(op, maps)
        op.set_operand(index, copy.inputs[0])
        rewriter.modified(op)
        rewriter.modified(copy)
        return True
    return False


@pattern
def view_instead_of_copy(op: GenericOp, rewriter: Rewriter) -> bool:
    """copy(x : n x 1 x h x w x c -> n x h x w x c) -> reshape(x), where a reduction reads it"""
    if not is_copy(op) or not is_view(op):
        return False
    rewriter.replace_with(op, ReshapeOp(op.inputs[0], result_types=[op.results[0].type]))
    return True


def is_view(copy: GenericOp) -> bool:
    """Whether a copy that moves nothing leaves out axes of one element, and something reduces its result: dims on both
    sides of such an axis would not become one. Maps read through the copy, to become a part of the kernel before it."""
    x, result = tensor_type(copy.inputs[0]), tensor_type(copy.results[0])
    reduced = any(isinstance(user, GenericOp) and user.has_reduction for user in copy.results[0].users)
    return reduced and x.rank > result.rank and moves_nothing(copy)


def _source_map(copy: GenericOp) -> AffineMap | None:
    """Where a copy has read each element of its result; None where its writes are no inverse of a permutation."""
    inverse = copy.output_maps[0].inverse_permutation()
    return copy.input_maps[0].compose(inverse) if inverse is not None else None


def moves_nothing(copy: GenericOp) -> bool:
    """Whether the result of a copy has the elements of what it reads in the same order: a transposition of channels
    that are innermost already, whatever axes of one element lie between."""
    x, result = tensor_type(copy.inputs[0]), tensor_type(copy.results[0])
    return order_of(copy.input_maps[0], x) == order_of(copy.output_maps[0], result)


def order_of(map_: AffineMap, type_: TensorType) -> list[tuple[AffineExpr, Dim]]:
    """The places, and how many there are, along each axis of a tensor of more than one element."""
    return [(place, size) for place, size in zip(map_.results, type_.shape, strict=True) if size != 1]


def is_copy(op: GenericOp) -> bool:
    """Whether a generic yields its one input as it is."""
    block = op.body.block
    return (
        not op.has_reduction
        and len(op.inputs) == 1
        and not op.sources
        and list(block.terminator.operands) == block.arguments
    )


PATTERNS: list[Pattern] = [view_instead_of_copy, read_through_copy, cancel_pack_of_unpack]
