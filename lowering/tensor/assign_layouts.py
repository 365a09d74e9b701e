"""Chooses the layouts of convolutions and of what lies between them: those that cost least in sum.

Every op that may work in blocks is a node with an option for each of its layouts, which costs the cycles that the cost
model predicts for it. Where one op makes what another one reads, an edge has the cycles of the copy between their
layouts: none where they agree, and what scattered stores take where the op that makes the value can write the other
layout at once. A value of several readers is a node too, since one copy serves all who want it: its options are the
sets of layouts in which it is kept.

The sum is minimised as a partitioned boolean quadratic program (A. Anderson and D. Gregg, Optimal DNN Primitive
Selection with Partitioned Boolean Quadratic Programming, 2018; lowering/pbqp.py)."""

from __future__ import annotations

import itertools
import math
from typing import ClassVar

import attrs

from stepwell.dialects.tensor import GenericOp, PackOp, UnpackOp, tensor_type
from stepwell.ir.core import Operation, Value
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.rewrite import apply_greedily
from stepwell.lowering.pbqp import Problem
from stepwell.lowering.precision import is_strict
from stepwell.lowering.tensor.layout import PATTERNS, Layout, Variant, take
from stepwell.lowering.tensor.layout_cost import Predictions, follows
from stepwell.lowering.tensor.layout_variants import Axes, channel_dim, is_convolution, reachable_axes, variants_of
from stepwell.lowering.tensor.machine import Machine

Kept = tuple[Layout, ...]  # the layouts in which a value is there


@attrs.frozen
class AssignLayouts(Pass):
    """Choose the layouts that cost least over the whole graph: channels in blocks, or in planes."""

    name: ClassVar[str] = "assign-layouts"
    enabled: bool = True

    def run(self, module: Operation, context: PassContext) -> None:
        if not self.enabled:
            return
        apply_greedily(module, PATTERNS)
        if is_strict(module):  # a reduced dim in blocks is gone through in another order
            return
        block = Machine.of(context.target).vector_bytes // 4
        graph = LayoutGraph(module, block, Predictions(context.target, block))
        for op, variant in graph.solve().items():
            graph.say(op, variant, context)
            if not variant.is_plain:
                take(op, variant, block)
                context.count("layouts blocked", is_convolution(op))
        apply_greedily(module, PATTERNS)


class LayoutGraph:
    """The program whose solution are the layouts."""

    def __init__(self, module: Operation, block: int, predictions: Predictions) -> None:
        self.predictions = predictions
        self.axes: Axes = reachable_axes(module, block)
        self.problem = Problem()
        self.variants = {op: found for op in module.walk() if (found := variants_of(op, self.axes, block))}
        self.costs = {op: [self.cost(op, variant) for variant in found] for op, found in self.variants.items()}
        self.nodes = {op: self.problem.add(costs) for op, costs in self.costs.items()}
        for value in self.axes:
            self.connect(value)

    def solve(self) -> dict[Operation, Variant]:
        """The layouts of every op that has a choice, in program order."""
        choice = self.problem.solve().choice
        return {op: self.variants[op][choice[node]] for op, node in self.nodes.items()}

    def cost(self, op: Operation, variant: Variant) -> float:
        """The cycles of an op alone."""
        if isinstance(op, PackOp):
            return self.predictions.of_copy(tensor_type(op.x), variant.operands[0], op.axis)
        if isinstance(op, UnpackOp):
            return self.predictions.of_copy(tensor_type(op.result), op.axis, variant.result)
        if not isinstance(op, GenericOp) or any(follows(op, value) for value in op.inputs):
            return 0.0  # done where its operands are made
        return self.predictions.of_op(op, variant, variant.result)

    def connect(self, value: Value) -> None:
        """The edges between what makes a value and its readers."""
        made, uses = value.defining_op, value.uses
        if len(uses) == 1:
            ((reader, index),) = uses
            wanted = self.layouts_read(reader, index)
            # Maps that are computed where the value is made have its layout; what they make may be written in another.
            last = not (isinstance(reader, GenericOp) and follows(reader, value))
            matrix = [[self.copy(value, a, b, alone=last) for b in wanted] for a in self.layouts_made(value)]
            self.join(made, reader, matrix)
            return
        kept = self.kept_sets(value)
        node = self.problem.add([0.0] * len(kept))
        matrix = [[self.keep(value, a, layouts) for layouts in kept] for a in self.layouts_made(value)]
        self.join(made, node, matrix)
        for reader, index in uses:
            wanted = self.layouts_read(reader, index)
            self.join(node, reader, [[0.0 if b in layouts else math.inf for b in wanted] for layouts in kept])

    def join(self, first: Operation | int | None, second: Operation | int | None, matrix: list[list[float]]) -> None:
        """An edge; costs of one op where the other has no choice."""
        a, b = (self.nodes.get(op) if isinstance(op, Operation) else op for op in (first, second))
        if a is not None and b is not None:
            self.problem.join(a, b, matrix)
        elif a is not None:
            self.problem.add_cost(a, [row[0] for row in matrix])
        elif b is not None:
            self.problem.add_cost(b, matrix[0])

    def layouts_made(self, value: Value) -> list[Layout]:
        """The layout of a value under each option of what makes it."""
        made = value.defining_op
        return [variant.result for variant in self.variants[made]] if made in self.variants else [None]

    def layouts_read(self, op: Operation, index: int) -> list[Layout]:
        """The layout in which an op reads an operand under each of its options."""
        return [variant.operands[index] for variant in self.variants[op]] if op in self.variants else [None]

    def kept_sets(self, value: Value) -> list[Kept]:
        """The sets of layouts in which a value may be there."""
        layouts: Kept = (None, *self.axes[value])
        return [kept for count in range(1, len(layouts) + 1) for kept in itertools.combinations(layouts, count)]

    def keep(self, value: Value, source: Layout, kept: Kept) -> float:
        """The cycles to have a value, made in one layout, in some."""
        return sum(self.copy(value, source, layout, alone=len(kept) == 1) for layout in kept)

    def copy(self, value: Value, source: Layout, target: Layout, alone: bool) -> float:
        """The cycles to have a value in another layout; the copy may be `alone` in reading it."""
        if source == target:
            return 0.0
        root = self.root(value) if alone else None
        known = [variant for variant in self.variants.get(root, ()) if variant.result == source] if root else []
        if root is None or not known:
            return self.predictions.of_copy(tensor_type(value), source, target)
        cheapest = min(known, key=lambda variant: self.cost(root, variant))
        at_once = self.predictions.of_op(root, cheapest, target)
        return max(0.0, at_once - self.predictions.of_op(root, cheapest, source))

    def root(self, value: Value) -> GenericOp | None:
        """The generic in whose kernel a value is made, where its axes are that one's."""
        op = value.defining_op
        if not isinstance(op, GenericOp):
            return None
        for x in op.inputs:
            if follows(op, x):
                return self.root(x)
        return op

    def say(self, op: Operation, variant: Variant, context: PassContext) -> None:
        """What was chosen for a convolution, and what the other layouts would have cost."""
        if not isinstance(op, GenericOp) or channel_dim(op) is None:
            return
        costs: dict[str, float] = {}
        for other, cycles in zip(self.variants[op], self.costs[op], strict=True):
            costs[described(other)] = min(cycles, costs.get(described(other), math.inf))
        chosen = described(variant)
        rest = ", ".join(f"{cycles:.3g} {text}" for text, cycles in costs.items() if text != chosen)
        context.remark(op, f"channels {chosen}: {costs[chosen]:.3g} cycles; {rest}")


def described(variant: Variant) -> str:
    """A variant in words: "in blocks", "in planes", "in planes to blocks"."""
    words = ["in planes" if all(axis is None for axis in variant.operands) else "in blocks"]
    result = "planes" if variant.result is None else "blocks"
    return words[0] if words[0].endswith(result) else f"{words[0]} to {result}"
