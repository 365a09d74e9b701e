"""What the layouts of an op are predicted to cost.

The op is lowered alone, in those layouts, down to scheduled kernels, and the cost model (lowering/tensor/cost.py)
counts their cycles."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.func import FuncOp, ReturnOp
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import ConstantOp, GenericOp, KernelOp, PadOp, UnpackOp, tensor_type
from stepwell.ir.attributes import Attribute, lazy_elements
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.dims import Dim
from stepwell.ir.passes import PassContext
from stepwell.ir.types import TensorType, numpy_dtype
from stepwell.lowering.graph.dce import DeadCode
from stepwell.lowering.tensor.affine_reads import plain_copy
from stepwell.lowering.tensor.candidates import candidates
from stepwell.lowering.tensor.canonical import structure
from stepwell.lowering.tensor.collapse import CollapseDims
from stepwell.lowering.tensor.cost import estimate
from stepwell.lowering.tensor.decompose import DecomposeLayouts
from stepwell.lowering.tensor.fuse import Fuse
from stepwell.lowering.tensor.layout import (
    Layout,
    Variant,
    in_blocks,
    is_copy,
    order_of,
    packed,
    set_maps,
    simplified,
    split_index,
    take,
)
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.place import shifted
from stepwell.lowering.tensor.split import SplitDims
from stepwell.lowering.tensor.stages import stages_of
from stepwell.lowering.tensor.winograd import PRODUCTS, Rewrite, Window, chosen_windows

PASSES = (DeadCode(), DecomposeLayouts(), Fuse(), CollapseDims(), SplitDims())
BEST = 4  # schedules of a kernel that are tried for one that differs in its layouts


@attrs.frozen
class Border:
    """What lies around a value where it is kept, along each axis."""

    low: tuple[int, ...]
    high: tuple[int, ...]
    value: Attribute


@attrs.define(eq=False)
class Predictions:
    """Predicted cycles for a target, of equal ops once."""

    target: Any
    _ops: dict[Hashable, float] = attrs.Factory(dict)
    _forms: dict[GenericOp, Hashable] = attrs.Factory(dict)
    _tried: dict[Hashable, list[ScheduleAttr]] = attrs.Factory(dict)  # the best schedules of ops, by where vectors run

    def of_op(self, op: GenericOp, variant: Variant, written: Layout) -> float:
        """Cycles of a generic in some layouts, whose kernel writes the result in the layout `written`."""
        if op not in self._forms:
            self._forms[op] = (structure(op), *(border_of(value) for value in (*op.inputs, *op.results)))
        key = (self._forms[op], variant, written)
        if key not in self._ops:
            kernels = self._lowered(self._alone(op, variant, written))
            self._ops[key] = sum(
                self._of_kernel(kernel, (self._forms[op], variant.result, n)) for n, kernel in enumerate(kernels)
            )
        return self._ops[key]

    def of_copy(self, type_: TensorType, source: Layout, target: Layout, has_border: bool = False) -> float:
        """Cycles of the kernels that bring a value from one layout into another, or to a place with a border."""
        if source == target and not has_border:
            return 0.0
        key = (type_, source, target)
        if key not in self._ops:
            function = FuncOp.declare("main", [in_blocks(type_, source)])
            builder = Builder.at_end(function.entry)
            (x,) = function.arguments
            if source == target:
                module = _returning(function, builder.insert(plain_copy(x)).results[0])
            else:
                module = _returning(function, packed(as_plain(builder, x, type_, source), target))
            self._ops[key] = sum(map(self._of_kernel, self._lowered(module)))
        return self._ops[key]

    def _alone(self, op: GenericOp, variant: Variant, written: Layout) -> Operation:
        """A module in which a generic stands alone in some layouts. Its inputs are arguments, but for constants; they
        and the result have the borders that others want around them."""
        types = [tensor_type(value) for value in op.operands]
        kept = [in_blocks(type_, cut) for type_, cut in zip(types, variant.operands, strict=True)]
        function = FuncOp.declare("main", kept)
        builder = Builder.at_end(function.entry)
        clone = op.clone()
        assert isinstance(clone, GenericOp)
        for index, (value, cut) in enumerate(zip(op.operands, variant.operands, strict=True)):
            if isinstance(value.defining_op, ConstantOp):
                clone.set_operand(index, builder.insert(blank(types[index])).result)
            else:
                clone.set_operand(index, as_plain(builder, function.arguments[index], types[index], cut))
        builder.insert(clone)
        take(clone, variant)
        unpack = clone.results[0].users[0] if variant.result is not None else clone
        result = packed(unpack.results[0], written)
        border = border_of(op.results[0])
        if border is not None:
            more = [0] * (written is not None)
            pad = PadOp(result, low=[*border.low, *more], high=[*border.high, *more], value=border.value)
            result = builder.insert(pad).result
        module = _returning(function, result)
        windows = chosen_windows(clone, Machine.of(self.target))
        if windows:
            Sketch(clone, windows, isinstance(op.inputs[0].defining_op, PadOp)).build()
        else:
            _keep_borders(clone, [border_of(value) for value in op.inputs])
        return module

    def _lowered(self, module: Operation) -> list[KernelOp]:
        """The kernels of a module."""
        context = PassContext(self.target)
        for pass_ in PASSES:
            pass_.run(module, context)
        return list(module.walk_of(KernelOp))

    def _of_kernel(self, kernel: KernelOp, of: Hashable = None) -> float:
        """The cycles of a kernel, one of those of an op in some layouts. Where it differs from one that is known in the
        places that it reads and writes alone, it is looked at under the schedules that are best for that one."""
        machine, shape = Machine.of(self.target), _shape_of(kernel, of)
        tried = [schedule for schedule in self._tried.get(shape, ()) if is_for(schedule, kernel)]
        if tried:
            return min(estimate(kernel, schedule, machine).cycles for schedule in tried)
        ranking = candidates(kernel, machine)
        self._tried[shape] = [each.schedule for each in ranking[:BEST]]
        return ranking[0].terms.cycles


def _shape_of(kernel: KernelOp, of: Hashable) -> Hashable:
    """What the kernels of one op have in common that have the same register tiles: a reduction's parallel dims."""
    stages = stages_of(kernel)
    root = stages[-1].root
    if len(stages) > 1 or not root.has_reduction:
        return kernel
    kinds = zip(root.names, root.iterators, strict=True)
    return (of, tuple(name for name, kind in kinds if kind == "parallel"))


def is_for(schedule: ScheduleAttr, kernel: KernelOp) -> bool:
    """Whether a kernel has the dims that a schedule cuts."""
    names = stages_of(kernel)[-1].root.names
    return all(spec.dim in names for spec in schedule.loops)


class Sketch(Rewrite):
    """A convolution with fewer products whose weights are not computed, and whose data, an argument, may have a border
    that only grows."""

    def __init__(self, op: GenericOp, windows: Sequence[Window], has_border: bool) -> None:
        super().__init__(op, windows)
        self.has_border = has_border

    def covering_data(self, tiles: dict[int, Dim]) -> Value:
        """x, as large as the tiles"""
        if not self.has_border:
            return super().covering_data(tiles)
        (x, _), type_ = self.op.inputs, tensor_type(self.op.inputs[0])
        x.type = type_.with_shape([size + more for size, more in zip(type_.shape, self.missing(tiles), strict=True)])
        return x

    def weights(self) -> Value:
        """u, without its elements"""
        type_ = tensor_type(self.op.inputs[1])
        taps = {window.weights_axis for window in self.windows}
        left = [size for axis, size in enumerate(type_.shape) if axis not in taps]
        return self.builder.insert(blank(type_.with_shape([*[PRODUCTS] * len(taps), *left]))).result


def border_of(value: Value) -> Border | None:
    """The border that a reader of a value wants around it, or of what maps make of it where it is made."""
    for user in value.users:
        if isinstance(user, PadOp):
            return Border(tuple(user.low), tuple(user.high), user.value)
        if isinstance(user, GenericOp) and follows(user, value):
            return border_of(user.results[0])
    return None


def follows(op: GenericOp, value: Value) -> bool:
    """Whether a map gives, place by place, what becomes of a generic's result that nothing else reads."""
    if op.has_reduction or len(op.results) != 1 or not value.has_one_use or value in op.sources:
        return False
    same = tensor_type(op.results[0]).shape == tensor_type(value).shape
    place = op.input_maps[list(op.inputs).index(value)] if same else None
    return isinstance(value.defining_op, GenericOp) and place == op.output_maps[0]


def is_free(op: GenericOp, variant: Variant) -> bool:
    """Whether a copy takes no time in some layouts: nothing changes its place, or what is neighboured stays so, and the
    kernel before it writes it where it belongs."""
    if not is_copy(op):
        return False
    maps = [map_ if cut is None else split_index(map_, cut.axis, cut.block)
            for map_, cut in zip(op.maps, (*variant.operands, variant.result), strict=True)]  # fmt: skip
    types = [in_blocks(tensor_type(value), cut) for value, cut in
             ((op.inputs[0], variant.operands[0]), (op.results[0], variant.result))]  # fmt: skip
    read, written = map(order_of, simplified(op, maps), types)
    if read == written:
        return True
    x = op.inputs[0]
    near = read and written and read[-1][0].dims & written[-1][0].dims
    return bool(near) and isinstance(x.defining_op, GenericOp) and x.has_one_use


def as_plain(builder: Builder, value: Value, type_: TensorType, cut: Layout) -> Value:
    """A value in a layout, unpacked."""
    size = type_.shape[cut.axis] if cut is not None else None
    return builder.insert(UnpackOp(value, axis=cut.axis, size=size)).result if cut is not None else value


def blank(type_: TensorType) -> ConstantOp:
    """A constant of a type for which no memory is needed."""
    return ConstantOp(value=lazy_elements(lambda: np.zeros(type_.static_shape, numpy_dtype(type_)), (), type_, "blank"))


def _returning(function: FuncOp, result: Value) -> Operation:
    Builder.at_end(function.entry).insert(ReturnOp([result]))
    function.update_type()
    return ModuleOp.make(regions=[Region([Block((), [function])])])


def _keep_borders(op: GenericOp, borders: list[Border | None]) -> None:
    """generic(x at e)  ->  generic(x' at e + low), where x' is x with its border"""
    maps = list(op.maps)
    for index, border in enumerate(borders):
        value = op.inputs[index]
        if border is None or value.defining_op is not None:
            continue
        type_ = tensor_type(value)
        more = [0] * (type_.rank - len(border.low))
        low, high = [*border.low, *more], [*border.high, *more]
        maps[index] = shifted(maps[index], low)
        value.type = type_.with_shape([a + size + b for a, size, b in zip(low, type_.shape, high, strict=True)])
    set_maps(op, maps)
