"""Copies operands of large products into the order in which the innermost loops read them, at run time.

%w: tensor<1024x1024xf32> read at (k, n)
->  %p = kernel: copy to tensor<11x1024x96xf32>, read at (n floordiv 96, k, n mod 96)

A step of the reduction that leads to another page, or to the same set of the cache as the step before, costs more than
its multiply-adds (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008). The copy costs one
pass over the operand, so that there have to be rows enough that read it."""

from __future__ import annotations

import math
from typing import ClassVar

import attrs

from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import ConstantOp, DimsAttr, GenericOp, KernelOp, ReshapeOp, YieldOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import const, dim
from stepwell.ir.attributes import AffineMapAttr, ArrayAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, BlockArgument, Operation, Region, Value
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import bit_width
from stepwell.lowering.tensor.grouped import outline_kernel
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.pack import scheduled_roots
from stepwell.lowering.tensor.sizes import size_of
from stepwell.lowering.tensor.space import Space
from stepwell.lowering.tensor.tiles import schedule_of

PAGE = 4096  # bytes
LEAST_STEPS = 512  # of a reduction: with fewer, the pages and the sets of the cache suffice
LEAST_ROWS = 256  # that read an operand again


@attrs.frozen
class PackInputs(Pass):
    """Copy operands of large products that are read in strides of a page or more into panels."""

    name: ClassVar[str] = "pack-inputs"

    def run(self, module: Operation, context: PassContext) -> None:
        machine = Machine.of(context.target)
        for kernel in list(module.walk_of(KernelOp)):
            for root, schedule in scheduled_roots(kernel):
                for index in range(len(root.inputs)):
                    if strides_over_pages(kernel, root, index, schedule):
                        pack_input(kernel, root, index, schedule, machine)
                        context.count("operands packed")


def strides_over_pages(kernel: KernelOp, root: GenericOp, index: int, schedule: ScheduleAttr) -> bool:
    """Whether an input is contiguous along the vectors, and each step of a long reduction leads to another page of it,
    for many rows."""
    space, map_ = Space.of(root), root.input_maps[index]
    if schedule.vector not in root.names or not root.has_reduction or _argument(kernel, root, index) is None:
        return False
    vector = list(root.names).index(schedule.vector)
    used = map_.used_dims()
    plain = map_.dim_results()
    if root.iterators[vector] != "parallel" or None in plain or len(set(plain)) != len(plain):
        return False
    if plain[-1:] != (vector,):
        return False
    rows = math.prod(space.sizes[d] for d in space.parallel if d not in used)
    if rows < LEAST_ROWS:
        return False
    shape = [size_of(size) for size in tensor_type(root.inputs[index]).shape]
    item = bit_width(tensor_type(root.inputs[index]).element) // 8
    strides = {d: math.prod(shape[axis + 1 :]) * item for axis, d in enumerate(plain)}
    return any(strides.get(d, 0) >= PAGE and space.sizes[d] >= LEAST_STEPS for d in space.reduction)


def _argument(kernel: KernelOp, root: GenericOp, index: int) -> BlockArgument | None:
    """The kernel's argument that an input is, perhaps reshaped, where nothing else reads it and it is no constant."""
    seen = root.inputs[index]
    argument = seen.defining_op.x if isinstance(seen.defining_op, ReshapeOp) else seen
    if not isinstance(argument, BlockArgument) or argument.block is not kernel.body.block:
        return None
    alone = len(argument.uses) == len(seen.uses) == 1
    return argument if alone and not isinstance(kernel.inputs[argument.index].defining_op, ConstantOp) else None


def pack_input(kernel: KernelOp, root: GenericOp, index: int, schedule: ScheduleAttr, machine: Machine) -> None:
    """Put the kernel that copies in front of this one."""
    argument, seen, map_ = _argument(kernel, root, index), root.inputs[index], root.input_maps[index]
    assert argument is not None
    builder = Builder.before(kernel)
    value = kernel.inputs[argument.index]
    if seen is not argument:
        value = builder.insert(ReshapeOp(value, result_types=[seen.type])).result
    vector = list(root.names).index(schedule.vector)
    copy = panel_copy(root, value, map_, vector, schedule.register_size(schedule.vector))
    copy.loc = root.loc
    builder.insert(copy)
    packed = copy.results[0]
    maps = list(root.maps)
    order = _order(root, map_, vector)
    maps[index] = copy.output_maps[0].replace_dims([dim(d) for d in order], map_.num_dims)
    root.properties["maps"] = ArrayAttr(tuple(AffineMapAttr(m) for m in maps))
    argument.type = packed.type
    if seen.defining_op is not None:  # a reshape
        seen.defining_op.replace_with([argument])
    kernel.set_operand(argument.index, packed)
    made = outline_kernel([copy])
    made.schedule = schedule_of(Space.of(next(made.walk_of(GenericOp))), machine)


def panel_copy(root: GenericOp, value: Value, map_: AffineMap, vector: int, panel: int) -> GenericOp:
    """The generic that copies an operand of `root` into panels along the vectors: what is parallel besides, the panels,
    the steps of the reduction, the elements of a panel."""
    order = _order(root, map_, vector)
    sizes = [root.sizes.dims[d] for d in order]
    reading = map_.replace_dims([dim(order.index(d)) if d in order else const(0) for d in range(map_.num_dims)],
                                len(order))  # fmt: skip
    at = order.index(vector)
    outer = [d for d in range(at) if root.iterators[order[d]] == "parallel"]
    reduced = [d for d in range(at) if d not in outer]
    places = [*map(dim, outer), dim(at) // panel, *map(dim, reduced), dim(at) % panel]
    shape = [*(sizes[d] for d in outer), -(-sizes[at] // panel), *(sizes[d] for d in reduced), panel]
    block = Block([tensor_type(value).element])
    Builder.at_end(block).insert(YieldOp([block.arguments[0]]))
    return GenericOp(
        [value], (), result_types=[tensor_type(value).with_shape(shape)], regions=[Region([block])],
        sizes=DimsAttr(tuple(sizes)), iterators=["parallel"] * len(order), names=[root.names[d] for d in order],
        maps=[reading, AffineMap(len(order), 0, places)],
    )  # fmt: skip


def _order(root: GenericOp, map_: AffineMap, vector: int) -> list[int]:
    """The dims that an operand is read along, the parallel ones first and that of the vectors last."""
    used = sorted(map_.used_dims() - {vector}, key=lambda d: (root.iterators[d] != "parallel", d))
    return [*used, vector]
