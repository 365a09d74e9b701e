"""Groups tileable ops into kernels: a reduction takes the maps behind it along, chains of maps become one.

%a = generic matmul; %b = generic (%a + bias); %c = generic max(%b, 0)
->  %c = tensor.kernel { matmul; + bias; max }

A map behind that turns the result is taken along where that is counted to be faster than a kernel of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, TypeAlias

import attrs

from stepwell.dialects import func
from stepwell.dialects.tensor import GenericOp, KernelOp
from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass, PassContext
from stepwell.lowering.tensor.grouped import outline_kernel
from stepwell.lowering.tensor.layout import is_copy
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.maps import dims_through, turns
from stepwell.lowering.tensor.rows import COUNTED, estimated, join_rows, name_beside
from stepwell.lowering.tensor.separate import separate_results

Said: TypeAlias = dict[tuple[GenericOp, GenericOp], tuple[str | None, str]]
"""Of a map and the op that makes an input of it, why they do not become one kernel, and what was counted."""


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
            said: Said = {}
            for op in list(function.walk()):
                if isinstance(op, GenericOp) and not isinstance(op.parent_op, KernelOp):
                    self._place(op, groups, said, context)
            kernels: Sequence[Sequence[GenericOp]] = [group.ops for op, group in groups.items() if group.last is op]
            explained: set[GenericOp] = set()
            if self.enabled and self.rows:
                kernels, explained = join_rows(kernels, context, self.windows)
            _remark(said, kernels, explained, context)
            for ops in kernels:
                outline_kernel(ops)
                context.count("kernels")

    def _place(self, op: GenericOp, groups: dict[GenericOp, Group], said: Said, context: PassContext) -> None:
        if self.enabled:
            for index, value in enumerate(op.inputs):
                producer = value.defining_op
                if not isinstance(producer, GenericOp):
                    continue
                refusal, counted = why_not_fused(op, index, producer, groups), ""
                if refusal is None and turns(op, index, producer) and not all(map(is_copy, groups[producer].ops)):
                    refusal, counted = why_apart(op, groups[producer], Machine.of(context.target))
                said[op, producer] = refusal, counted
                if refusal is None:
                    group = groups[producer]
                    group.ops.append(op)
                    groups[op] = group
                    return
        groups[op] = Group([op])


def _remark(
    said: Said, kernels: Sequence[Sequence[GenericOp]], explained: set[GenericOp], context: PassContext
) -> None:
    """Remarks on what stays apart, and on what was counted; not on what is one kernel after all, or was asked again."""
    place = {op: number for number, ops in enumerate(kernels) for op in ops}
    told: set[tuple[str, str]] = set()
    for (op, producer), (refusal, counted) in said.items():
        if refusal is not None and (place[op] == place[producer] or producer in explained):
            continue
        why = ", ".join(filter(None, (refusal, counted)))
        words = f"{'not ' if refusal is not None else ''}fused with {name_beside(producer, op)}: {why}"
        if why and (op.loc.label, words) not in told:
            told.add((op.loc.label, words))
            context.remark(op, words)


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


def why_apart(op: GenericOp, group: Group, machine: Machine) -> tuple[str | None, str]:
    """Why a map that turns a kernel's result is not a part of it: each lane of a vector would be stored alone; and what
    was counted."""
    together = estimated([*group.ops, op], machine)
    apart = estimated(group.ops, machine) + estimated([op], machine)
    refusal = None if together.cycles <= apart.cycles else "its stores would take longer"
    return refusal, f"{together}; apart: {apart}"
