"""Groups tileable ops into kernels: a reduction takes the maps behind it along, chains of maps become one.

%a = generic matmul; %b = generic (%a + bias); %c = generic max(%b, 0)
->  %c = tensor.kernel { matmul; + bias; max }

A map behind that turns the result is taken along where that is counted to be faster than a kernel of its own."""

from __future__ import annotations

import math
from typing import ClassVar

import attrs

from stepwell.dialects import func
from stepwell.dialects.tensor import GenericOp, KernelOp
from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass, PassContext
from stepwell.lowering.tensor.grouped import outline_kernel
from stepwell.lowering.tensor.layout import is_copy
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.maps import dims_through, turns
from stepwell.lowering.tensor.rows import COUNTED, estimated, join_rows
from stepwell.lowering.tensor.separate import separate_results


@attrs.define(eq=False)
class Group:
    """Ops that become one kernel, in order."""

    ops: list[GenericOp]

    @property
    def last(self) -> GenericOp:
        """The op whose results leave the kernel."""
        return self.ops[-1]


@attrs.frozen
class Fuse(Pass):
    """Group tileable ops into kernels.

    `rows`: kernels that work on the same rows are joined. `windows`: so are those that are read through windows,
    "counted" where the cost model counts that to be faster, "always" or "never"; unless it is "always", the model is
    asked about convolutions, and about what is turned, too."""

    name: ClassVar[str] = "fuse"
    enabled: bool = True
    rows: bool = True
    windows: str = COUNTED

    def run(self, module: Operation, context: PassContext) -> None:
        for function in module.walk_of(func.FuncOp):
            separate_results(function)
            groups: dict[GenericOp, Group] = {}
            for op in list(function.walk()):
                if isinstance(op, GenericOp) and not isinstance(op.parent_op, KernelOp):
                    self._place(op, groups, context)
            kernels = [group.ops for op, group in groups.items() if group.last is op]
            for ops in join_rows(kernels, context, self.windows) if self.enabled and self.rows else kernels:
                outline_kernel(ops)
                context.count("kernels")

    def _place(self, op: GenericOp, groups: dict[GenericOp, Group], context: PassContext) -> None:
        if self.enabled:
            for index, value in enumerate(op.inputs):
                producer = value.defining_op
                if not isinstance(producer, GenericOp):
                    continue
                refusal = why_not_fused(op, index, producer, groups)
                if refusal is None and turns(op, index, producer) and not all(map(is_copy, groups[producer].ops)):
                    refusal = why_apart(op, groups[producer], Machine.of(context.target))
                if refusal is None:
                    group = groups[producer]
                    group.ops.append(op)
                    groups[op] = group
                    return
                context.remark(op, f"not fused with {producer.loc.label or producer.op_name}: {refusal}")
        groups[op] = Group([op])


def why_not_fused(op: GenericOp, index: int, producer: GenericOp, groups: dict[GenericOp, Group]) -> str | None:
    """Why a map cannot join the kernel that makes its input `index`; None where it can."""
    if op.has_reduction:
        return "it reduces"
    if producer.parent is not op.parent:
        return "the producer runs at another time, outside a loop or a branch"
    if groups[producer].last is not producer:
        return "the producer is not its kernel's last op"
    if any(value.defining_op in groups and groups[value.defining_op] is groups[producer] for value in op.sources):
        return "it reads the value at computed places"
    if len(producer.results) != 1 or any(user is not op for user in producer.results[0].users):
        return "the value has other readers"
    read = op.input_maps[index]
    if any(other != read for value, other in zip(op.inputs, op.input_maps, strict=True) if value is op.inputs[index]):
        return "it reads the value at two places"
    if len(read.used_dims()) != len(op.iterators):
        return "it reads elements of the value more than once"
    if dims_through(read, producer.output_maps[0]) is None or not covers(op, producer):
        return "it reads the value in another order"
    return None


def covers(reader: GenericOp, producer: GenericOp) -> bool:
    """Whether a map has as many points as the producer has results, so that each result belongs to one of them."""
    made = [n for n, kind in zip(producer.sizes.dims, producer.iterators, strict=True) if kind == "parallel"]
    return bool(math.prod(made, start=1) == math.prod(reader.sizes.dims, start=1))


def why_apart(op: GenericOp, group: Group, machine: Machine) -> str | None:
    """Why a map that turns a kernel's result is not a part of it: each lane of a vector would be stored alone."""
    together = estimated([*group.ops, op], machine)
    apart = estimated(group.ops, machine) + estimated([op], machine)
    return None if together.cycles <= apart.cycles else f"its stores would take longer, {together}; apart: {apart}"
