"""Lays constant operands of reductions out in the order in which the innermost loops read them.

%w: tensor<768x3072xf32> read at (k, n)  ->  tensor<48x768x64xf32> read at (n floordiv 64, k, n mod 64)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import attrs
import numpy as np

from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import ConstantOp, GenericOp, KernelOp, ReshapeOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.attributes import AffineMapAttr, ArrayAttr, DenseResourceAttr, ElementsAttr
from stepwell.ir.blobs import Blob
from stepwell.ir.builder import Builder
from stepwell.ir.core import BlockArgument, Operation, Value
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import TensorType
from stepwell.lowering.tensor.stages import stages_of
from stepwell.memory import Array, aligned_empty, copy, forget

Packed = dict[ElementsAttr, dict[object, Value]]
"""The packed forms of constants that have readers left, by what they depend on."""


@attrs.frozen
class PackConstants(Pass):
    """Pack constant operands of contractions for their schedules."""

    name: ClassVar[str] = "pack-constants"

    def run(self, module: Operation, context: PassContext) -> None:
        packed: Packed = {}
        for kernel in module.walk_of(KernelOp):
            for root, schedule in scheduled_roots(kernel):
                if root.has_reduction and schedule.vector in root.names:
                    for index in range(len(root.inputs)):
                        if pack_operand(kernel, root, index, schedule, packed):
                            context.count("constants packed")


def scheduled_roots(kernel: KernelOp) -> Iterator[tuple[GenericOp, ScheduleAttr]]:
    """The op that gives each stage of a kernel its loops, and how they are cut."""
    schedule = kernel.schedule
    if schedule is not None:
        stages = stages_of(kernel)
        yield stages[-1].root, schedule
        by_name = {spec.name: spec.schedule for spec in schedule.stages}
        yield from ((stage.root, by_name[stage.name]) for stage in stages[:-1] if stage.name in by_name)


def pack_operand(
    kernel: KernelOp, root: GenericOp, index: int, schedule: ScheduleAttr, packed: Packed
) -> bool:
    """Pack one input of the root if it is a constant, perhaps reshaped, that varies along the vector dim; returns
    whether it was."""
    seen = root.inputs[index]
    view = seen.defining_op if isinstance(seen.defining_op, ReshapeOp) else None
    argument = view.x if view is not None else seen
    map_ = root.input_maps[index]
    vector = list(root.names).index(schedule.vector)
    used = sorted(map_.used_dims())
    if not isinstance(argument, BlockArgument) or argument.block is not kernel.body.block or vector not in used:
        return False
    if root.iterators[vector] != "parallel" or len(argument.uses) != 1 or len(seen.uses) != 1 or len(used) < 2:
        return False
    sizes = [root.sizes.dims[d] for d in used]
    constant = kernel.inputs[argument.index].defining_op
    if not isinstance(constant, ConstantOp) or not all(isinstance(size, int) for size in sizes):
        return False
    panel = schedule.register_size(schedule.vector)
    if map_.results[-1] == dim(vector) % panel:
        return False  # packed before
    parallel = [d for d in used if d != vector and root.iterators[d] == "parallel"]
    reduced = [d for d in used if root.iterators[d] != "parallel"]
    order = [*parallel, vector, *reduced]
    shape = tuple(int(root.sizes.dims[d]) for d in order)  # type: ignore[arg-type]
    reading = map_.replace_dims([_position(d, order) for d in range(map_.num_dims)], len(order))
    seen_shape = tuple(int(n) for n in tensor_type(seen).shape)  # type: ignore[arg-type]
    key = (seen_shape, reading, shape, len(parallel), panel)
    made = packed.setdefault(constant.value, {})
    if key not in made:
        value = packed_elements(constant.value, seen_shape, reading, shape, len(parallel), panel)
        made[key] = Builder.before(constant).insert(ConstantOp(value=value)).result
        made[key].name = f"{constant.result.name or 'w'}_packed"
    results = [dim(d) for d in order]
    results[len(parallel)] = dim(vector) // panel
    results.append(dim(vector) % panel)
    maps = list(root.maps)
    maps[index] = AffineMap(map_.num_dims, 0, results)
    root.properties["maps"] = ArrayAttr(tuple(AffineMapAttr(m) for m in maps))
    kernel.set_operand(argument.index, made[key])
    argument.type = made[key].type
    if view is not None:
        view.replace_with([argument])
    if not constant.result.has_uses:
        del packed[constant.value]
        constant.erase()
        constant.properties.clear()  # frees its memory before the next one is packed, and not when cycles are collected
    return True


def _position(d: int, order: list[int]) -> AffineExpr:
    """A dim of the iteration space as a dim of the packed order; dims that are not read do not matter."""
    return dim(order.index(d)) if d in order else const(0)


def packed_elements(
    value: ElementsAttr, seen: tuple[int, ...], reading: AffineMap, shape: tuple[int, ...], position: int, panel: int
) -> ElementsAttr:
    """The elements, seen in a shape, in reading order; the dim at `position` is cut into zero-padded panels that run
    innermost."""
    places = reading.dim_results()
    source = value.view().reshape(seen)
    if None not in places and len(set(places)) == len(places) == len(shape):
        array = source.transpose([places.index(d) for d in range(len(shape))])
    else:
        grids = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True)
        array = np.broadcast_to(source[tuple(reading.evaluate(grids, ()))], shape)
    made = in_panels(array, position, panel)
    forget(source)
    name = value.blob.name if isinstance(value, DenseResourceAttr) else "w"
    type_ = TensorType(tuple(int(n) for n in made.shape), value.tensor_type.element)
    return DenseResourceAttr(Blob(f"{name}_packed", made), type_)


def in_panels(array: Array, position: int, panel: int) -> Array:
    """A copy in which the dim at `position` is cut into zero-padded panels that run innermost: [4, 10, 3] in panels of
    8 at 1 is [4, 2, 3, 8]. It lies as machine code reads it, and is not copied again."""
    before, size, behind = array.shape[:position], array.shape[position], array.shape[position + 1 :]
    made = aligned_empty((*before, -(-size // panel), *behind, panel), array.dtype)
    target, source = np.moveaxis(made, (position, -1), (0, 1)), np.moveaxis(array, position, 0)
    whole, rest = divmod(size, panel)
    copy(target[:whole], source[: whole * panel].reshape(whole, panel, *before, *behind))
    if rest:
        copy(target[whole, :rest], source[whole * panel :])
        target[whole, rest:] = 0
    return made
