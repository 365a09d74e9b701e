"""Turns what is left of layout ops into generics that copy.

tensor.pack %x     ->  generic written at (.., c floordiv block, .., c mod block)
tensor.unpack %x   ->  generic read there

Pads and concatenations become places in larger tensors (see `place`).
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from stepwell.dialects.tensor import DimsAttr, GenericOp, PackOp, UnpackOp, YieldOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region
from stepwell.ir.passes import Pass, PassContext
from stepwell.lowering.tensor.layout import set_maps, split_index
from stepwell.lowering.tensor.place import place_parts


@attrs.frozen
class DecomposeLayouts(Pass):
    """Turn the remaining packs and unpacks into copies, and place the parts of pads and concatenations."""

    name: ClassVar[str] = "decompose-layouts"

    def run(self, module: Operation, context: PassContext) -> None:
        for op in list(module.walk()):
            if isinstance(op, (PackOp, UnpackOp)):
                made = decomposed(op)
                made.loc = op.loc
                Builder.before(op).insert(made)
                op.replace_with(made.results)
                context.count("layout copies")
        place_parts(module, context)


def decomposed(op: PackOp | UnpackOp) -> GenericOp:
    """The generic that copies."""
    plain = tensor_type(op.x if isinstance(op, PackOp) else op.result)
    identity = AffineMap.identity(plain.rank)
    blocked = split_index(identity, op.axis, op.block)
    block = Block([plain.element])
    Builder.at_end(block).insert(YieldOp([block.arguments[0]]))
    made = GenericOp(
        [op.x], (), result_types=[op.result.type], regions=[Region([block])], sizes=DimsAttr(plain.shape),
        iterators=["parallel"] * plain.rank, names=[f"d{d}" for d in range(plain.rank)],
        maps=[identity, blocked] if isinstance(op, PackOp) else [blocked, identity],
    )  # fmt: skip
    set_maps(made, list(made.maps))  # as others write and read it: channels of one block have no quotient
    return made
