"""Splits dims that shift a window by single elements, so that whole vectors of the window are shared.

generic over (d, w), an operand read at w - d  ->  generic over (do, di, w), the operand read at w - 16 * do - di

Vectors that start at w and at w + 16 read, at displacements di and di + 16, the same elements: a register tile over
several `do` and several vectors of w loads each vector of the operand once and uses it in several multiply-adds. Over
neighbouring displacements every multiply-add would need a load of its own.
"""

from __future__ import annotations

import math
from typing import ClassVar

import attrs

from stepwell.dialects.tensor import DimsAttr, GenericOp, IndexOp, KernelOp
from stepwell.ir.affine_expr import AffineExpr, dim
from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass, PassContext
from stepwell.lowering.tensor.layout import set_maps
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.maps import window_dims
from stepwell.lowering.tensor.space import Space
from stepwell.lowering.tensor.stages import INLINE, Stage, stages_of


@attrs.frozen
class SplitDims(Pass):
    """Split the displacements of windows by the vector."""

    name: ClassVar[str] = "split-dims"

    def run(self, module: Operation, context: PassContext) -> None:
        lanes = Machine.of(context.target).vector_bytes // 4
        for kernel in module.walk_of(KernelOp):
            if kernel.schedule is None:
                for stage in stages_of(kernel):
                    for d, block in displacements(stage.root, lanes):
                        if split_dim(stage, d, block):
                            context.count("dims split")


def displacements(op: GenericOp, lanes: int) -> list[tuple[int, int]]:
    """(dim, block) of the dims that shift vectors by less than their length, the last first: a step of `block` along
    the dim is a whole vector, or half of one where the dim's size allows no more."""
    vector = Space.of(op).vector_dim(lanes)
    windows = window_dims(op)
    if vector not in windows:
        return []
    found: dict[int, int] = {}
    for map_ in op.input_maps:
        last = map_.results[-1] if map_.results else None
        if last is not None and last.dims <= windows and last.coefficient(vector) in (1, -1):
            for d in last.dims - {vector}:
                whole = lanes // math.gcd(lanes, last.coefficient(d) or lanes)
                size = op.sizes.dims[d]
                if isinstance(size, int):
                    block = math.gcd(whole, size)
                    if block >= whole // 2 and 1 < block < size:
                        found[d] = block
    return sorted(found.items(), reverse=True)


def split_dim(stage: Stage, d: int, block: int) -> bool:
    """Split a dim of a stage's root, and what it is in the maps behind, in two; returns whether that was possible."""
    in_root = stage.in_root_dims()
    chosen: dict[GenericOp, int] = {}
    for op in stage.ops:
        map_ = in_root.get(op)
        own = [e for e, expr in enumerate(map_.results) if expr == dim(d)] if map_ is not None else []
        if op.stage == INLINE or len(own) != 1 or any(index.dim == own[0] for index in op.walk_of(IndexOp)):
            return False
        chosen[op] = own[0]
    for op, position in chosen.items():
        _split(op, position, block)
    return True


def _split(op: GenericOp, position: int, block: int) -> None:
    """dim d of size n  ->  dims do of size n / block and di of size block, d = block * do + di"""
    rank = len(op.iterators)
    exprs: list[AffineExpr] = [dim(d + (d > position)) for d in range(rank)]
    exprs[position] = dim(position) * block + dim(position + 1)
    set_maps(op, [map_.replace_dims(exprs, rank + 1) for map_ in op.maps])
    sizes, names = list(op.sizes.dims), list(op.names)
    sizes[position : position + 1] = [sizes[position] // block, block]
    names[position : position + 1] = [f"{names[position]}o", f"{names[position]}i"]
    op.sizes = DimsAttr(tuple(sizes))
    op.iterators = [*op.iterators[:position], op.iterators[position], *op.iterators[position:]]
    op.names = names
    for index in op.walk_of(IndexOp):
        if index.dim > position:
            index.dim = index.dim + 1
