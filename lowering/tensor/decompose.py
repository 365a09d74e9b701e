"""Writes layout ops as generics, where no neighbour took them in.

tensor.pad %x    ->  out[i] = x[i - low], or the border's value
tensor.pack %x   ->  out[.., c floordiv b, .., c mod b] = x[.., c, ..]
tensor.unpack %x ->  out[.., c, ..] = x[.., c floordiv b, .., c mod b]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from stepwell.dialects import arith
from stepwell.dialects.tensor import (
    DimsAttr,
    GenericOp,
    IndexOp,
    PackOp,
    PadOp,
    ReadOp,
    UnpackOp,
    YieldOp,
    tensor_type,
)
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import dim
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.passes import Pass, PassContext

@attrs.frozen
class DecomposeLayouts(Pass):
    """Turn the packs, unpacks and pads that are left into generics."""

    name: ClassVar[str] = "decompose-layouts"

    def run(self, module: Operation, context: PassContext) -> None:
        context.count("layout ops decomposed", decompose_layout_ops(module))

def decompose_layout_ops(root: Operation) -> int:
    """Replace every pack, unpack and pad inside `root` by a generic of its own; returns how many there were."""
    count = 0
    for op in list(root.walk()):
        if isinstance(op, (PadOp, PackOp, UnpackOp)):
            generic = _pad(op) if isinstance(op, PadOp) else _pack(op) if isinstance(op, PackOp) else _unpack(op)
            Builder.before(op).insert(generic)
            op.replace_with(generic.results)
            count += 1
    return count

def _pad(op: PadOp) -> GenericOp:
    block = Block([op.x.type])
    builder = Builder.at_end(block)
    places: list[Value] = []
    for axis, low in enumerate(op.low):
        place = builder.insert(IndexOp(dim=axis)).result
        if low:
            place = builder.insert(arith.SubIOp(place, builder.insert(arith.index_constant(low)).result)).result
        places.append(place)
    border = builder.insert(arith.ConstantOp(value=op.value)).result
    read = builder.insert(ReadOp(block.arguments[0], places, border))
    builder.insert(YieldOp([read.result]))
    rank = len(op.low)
    return _generic(op, [], [op.x], block, op.result, [AffineMap.identity(rank)])

def _pack(op: PackOp) -> GenericOp:
    """The iteration space is the operand's, so that producers fuse into it."""
    rank = tensor_type(op.x).rank
    results = [dim(axis) for axis in range(rank)]
    results[op.axis] = dim(op.axis) // op.block
    maps = [AffineMap.identity(rank), AffineMap(rank, 0, [*results, dim(op.axis) % op.block])]
    return _generic(op, [op.x], [], _copy(op.x), op.x, maps)

def _unpack(op: UnpackOp) -> GenericOp:
    rank = tensor_type(op.result).rank
    results = [dim(axis) for axis in range(rank)]
    results[op.axis] = dim(op.axis) // op.block
    maps = [AffineMap(rank, 0, [*results, dim(op.axis) % op.block]), AffineMap.identity(rank)]
    return _generic(op, [op.x], [], _copy(op.x), op.result, maps)

def _copy(value: Value) -> Block:
    """A body that yields what it is given."""
    block = Block([tensor_type(value).element])
    block.append(YieldOp([block.arguments[0]]))
    return block

def _generic(
    op: Operation, inputs: Sequence[Value], sources: Sequence[Value], body: Block, space: Value,
    maps: Sequence[AffineMap],
) -> GenericOp:  # fmt: skip
    """A generic over the places of `space` with the result of `op`."""
    sizes = tensor_type(space).shape
    return GenericOp(
        inputs, sources, result_types=[op.results[0].type], regions=[Region([body])], sizes=DimsAttr(sizes),
        iterators=["parallel"] * len(sizes), maps=maps, names=[f"d{axis}" for axis in range(len(sizes))], loc=op.loc,
    )  # fmt: skip
