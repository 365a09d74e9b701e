"""Layouts, and how ops take them.

Channels that are neither innermost nor contiguous are cut into blocks of one vector that run innermost (NCHW ->
NCHW16c). A layout is nothing but `tensor.pack` and `tensor.unpack` around an op, until they are folded into the affine
maps of the generics on both sides or cancel:

conv(x, w)                    ->  unpack(conv'(pack(x), w))
pack(unpack(z))               ->  z
pad(x)                        ->  unpack(pad'(pack(x)))
generic(x at c)               ->  generic'(pack(x) at (c floordiv 16, c mod 16))
map(x) -> y                   ->  unpack(map'(pack(x)))

Which ops take which layouts is decided by `assign-layouts` (lowering/tensor/assign_layouts.py).
"""

from __future__ import annotations

import math

import attrs

from stepwell.dialects.tensor import (
    ConcatOp,
    ConstantOp,
    DimsAttr,
    GenericOp,
    IndexOp,
    PackOp,
    PadOp,
    UnpackOp,
    tensor_type,
)
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, dim
from stepwell.ir.attributes import AffineMapAttr, ArrayAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Value
from stepwell.ir.rewrite import Pattern, Rewriter, pattern

Layout = int | None  # the axis that is cut into blocks; None: no axis is


@attrs.frozen
class Variant:
    """The layouts in which an op takes its operands and gives its result."""

    operands: tuple[Layout, ...]
    result: Layout

    @property
    def is_plain(self) -> bool:
        """Whether nothing is in blocks."""
        return self.result is None and not any(axis is not None for axis in self.operands)


def take(op: Operation, variant: Variant, block: int) -> None:
    """Let an op work in other layouts, with packs before it and an unpack behind it."""
    if isinstance(op, GenericOp):
        for index, axis in enumerate(variant.operands):
            if axis is not None:
                read_blocks(op, index, axis, block)
        if variant.result is not None:
            write_blocks(op, variant.result, block)
    elif isinstance(op, (PadOp, ConcatOp)) and variant.result is not None:
        move_blocks(op, variant.result, block)


def packed(value: Value, axis: int, block: int) -> Value:
    """A value in blocks: what it was unpacked from, or a copy right behind what makes it."""
    made = value.defining_op
    if isinstance(made, UnpackOp) and made.axis == axis and made.block == block:
        return made.x
    if made is not None:
        return Builder.after(made).insert(PackOp(value, axis=axis, block=block)).result
    assert value.owner_block is not None
    return Builder.at_start(value.owner_block).insert(PackOp(value, axis=axis, block=block)).result


def read_blocks(op: GenericOp, index: int, axis: int, block: int) -> None:
    """generic(x at c)  ->  generic'(pack(x) at (c floordiv block, c mod block))"""
    channel = blocked_dim(op.input_maps[index].results[axis], block)
    op.set_operand(index, packed(op.inputs[index], axis, block))
    maps = list(op.maps)
    maps[index] = split_index(maps[index], axis, block)
    set_maps(op, maps)
    if channel is not None and op.iterators[channel] != "parallel":
        split_reduction(op, channel, block)


def write_blocks(op: GenericOp, axis: int, block: int) -> UnpackOp:
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


def move_blocks(op: PadOp | ConcatOp, axis: int, block: int) -> None:
    """pad(x) -> unpack(pad'(pack(x))); concat(x, y) -> unpack(concat'(pack(x), pack(y)))"""
    size = tensor_type(op.result).shape[axis]
    assert isinstance(size, int)
    operands = [packed(x, axis, block) for x in op.operands]
    builder = Builder.before(op)
    made: PadOp | ConcatOp
    if isinstance(op, PadOp):
        made = PadOp(operands[0], low=[*op.low, 0], high=[*op.high, 0], value=op.value)
    else:
        made = ConcatOp(operands, axis=op.axis)
    made.loc = op.loc
    builder.insert(made)
    op.replace_with([builder.insert(UnpackOp(made.result, axis=axis, size=size)).result])


def may_move_blocks(op: PadOp | ConcatOp, axis: int, block: int) -> bool:
    """Whether a pad or a concatenation moves whole blocks: it leaves that axis alone, or no part begins in a block."""
    if isinstance(op, PadOp):
        return not op.low[axis] and not op.high[axis]
    sizes = [tensor_type(x).shape[axis] for x in op.xs]
    return op.axis != axis or all(isinstance(size, int) and size % block == 0 for size in sizes[:-1])


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


PATTERNS: list[Pattern] = [read_through_copy_of_constant, cancel_pack_of_unpack]
