"""Turns what is left of layout ops into generics that copy.

tensor.pad %x      ->  generic { tensor.read %x[i - low] else value }
tensor.pack %x     ->  generic written at (.., c floordiv block, .., c mod block)
tensor.unpack %x   ->  generic read there
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from stepwell.dialects import arith
from stepwell.dialects.tensor import (
    ConcatOp,
    DimsAttr,
    GenericOp,
    IndexOp,
    PackOp,
    PadOp,
    ReadOp,
    ReshapeOp,
    UnpackOp,
    YieldOp,
    tensor_type,
)
from stepwell.ir.affine import AffineMap
from stepwell.ir.attributes import FloatAttr, IntegerAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.opdef import Trait, has_trait
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import INDEX
from stepwell.lowering.tensor.layout import split_index


@attrs.frozen
class DecomposeLayouts(Pass):
    """Turn the remaining pads, packs and unpacks into copies."""

    name: ClassVar[str] = "decompose-layouts"

    def run(self, module: Operation, context: PassContext) -> None:
        for op in list(module.walk()):
            if isinstance(op, (PadOp, PackOp, UnpackOp)):
                made = decomposed(op)
                made.loc = op.loc
                Builder.before(op).insert(made)
                op.replace_with(made.results)
                context.count("layout copies")
        context.count("parts copied", place_parts(module))


def place_parts(module: Operation) -> int:
    """concat(x, x, argument)  ->  concat(x, copy(x), copy(argument)): a part that is not made by a generic of its own,
    was made outside the loop, or has another place already, is copied to its place; returns how many were"""
    placed: set[Value] = set()
    copies = 0
    for op in list(module.walk_of(ConcatOp)):
        for index, part in enumerate(op.xs):
            made_here = isinstance(part.defining_op, (GenericOp, ConcatOp)) and part.owner_block is op.parent
            if made_here and part not in placed and not returned(part):
                placed.add(part)
                continue
            copy = identity_copy(part)
            copy.loc = op.loc
            op.set_operand(index, Builder.before(op).insert(copy).outputs[0])
            copies += 1
    return copies


def identity_copy(value: Value) -> GenericOp:
    """The generic that copies a tensor as it is."""
    type_ = tensor_type(value)
    identity = AffineMap.identity(type_.rank)
    block = Block([type_.element])
    Builder.at_end(block).insert(YieldOp([block.arguments[0]]))
    return GenericOp(
        [value], (), result_types=[type_], regions=[Region([block])], sizes=DimsAttr(type_.shape),
        iterators=["parallel"] * type_.rank, names=[f"d{d}" for d in range(type_.rank)], maps=[identity, identity],
    )  # fmt: skip


def returned(value: Value) -> bool:
    """Whether a value, perhaps reshaped, is a result of its function or carried around a loop: it has a place then."""
    return any(
        has_trait(user, Trait.TERMINATOR) or (isinstance(user, ReshapeOp) and returned(user.result))
        for user in value.users
    )


def decomposed(op: PadOp | PackOp | UnpackOp) -> GenericOp:
    """The generic that copies."""
    if isinstance(op, PadOp):
        return _pad(op)
    plain = tensor_type(op.x if isinstance(op, PackOp) else op.result)
    identity = AffineMap.identity(plain.rank)
    blocked = split_index(identity, op.axis, op.block)
    block = Block([plain.element])
    Builder.at_end(block).insert(YieldOp([block.arguments[0]]))
    return GenericOp(
        [op.x], (), result_types=[op.result.type], regions=[Region([block])], sizes=DimsAttr(plain.shape),
        iterators=["parallel"] * plain.rank, names=[f"d{d}" for d in range(plain.rank)],
        maps=[identity, blocked] if isinstance(op, PackOp) else [blocked, identity],
    )  # fmt: skip


def _pad(op: PadOp) -> GenericOp:
    result = tensor_type(op.result)
    block = Block([op.x.type])
    builder = Builder.at_end(block)
    places = []
    for axis, low in enumerate(op.low):
        place = builder.insert(IndexOp(dim=axis)).result
        if low:
            shift = builder.insert(arith.ConstantOp(value=IntegerAttr(low, INDEX))).result
            place = builder.insert(arith.SubIOp(place, shift)).result
        places.append(place)
    value = op.value
    assert isinstance(value, (FloatAttr, IntegerAttr))
    border = builder.insert(arith.ConstantOp(value=value)).result
    read = builder.insert(ReadOp(block.arguments[0], places, border)).result
    builder.insert(YieldOp([read]))
    return GenericOp(
        (), [op.x], result_types=[result], regions=[Region([block])], sizes=DimsAttr(result.shape),
        iterators=["parallel"] * result.rank, names=[f"d{d}" for d in range(result.rank)],
        maps=[AffineMap.identity(result.rank)],
    )  # fmt: skip
