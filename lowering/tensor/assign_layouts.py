"""Chooses the layouts of convolutions and of what lies between them: those that cost least in sum.

Every op that may work in blocks is a node with an option for each of its layouts, which costs the cycles that the cost
model predicts for it. Where one op makes what another one reads, an edge has the cycles of the copy between their
layouts, none where they agree. A value of several readers is a node too, since one copy serves all who want it: its
options are the sets of layouts in which it is kept.

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
from stepwell.lowering.tensor.layout import PATTERNS, Cut, Layout, Variant, take
from stepwell.lowering.tensor.layout_cost import Predictions, border_of, follows, is_free
from stepwell.lowering.tensor.layout_variants import Cuts, channel_dim, is_convolution, reachable_cuts, variants_of
from stepwell.lowering.tensor.machine import Machine

ROUNDS = 8  # of solutions for which copies are counted
IN_STRIDES = 1.5  # of a convolution's cycles in planes by 2, whose rows join no other kernel's (docs/performance.md)
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
        graph = LayoutGraph(module, block, Predictions(context.target))
        for op, variant in graph.solve().items():
            graph.say(op, variant, context)
            if not variant.is_plain:
                take(op, variant)
                context.count("layouts blocked", is_convolution(op))
        apply_greedily(module, PATTERNS)


class LayoutGraph:
    """The program whose solution are the layouts.

    Copies are first thought of as kernels of their own, but for those of values whose one reader wants them plain. What
    one takes that becomes a part of the kernel before it is asked for where the solution has one, and then it is solved
    again."""

    def __init__(self, module: Operation, block: int, predictions: Predictions) -> None:
        self.predictions = predictions
        self.block = block
        self.cuts: Cuts = reachable_cuts(module, block)
        self.variants = {op: found for op in module.walk() if (found := variants_of(op, self.cuts, block))}
        self.costs = {op: [self.cost(op, variant) for variant in found] for op, found in self.variants.items()}
        self.fused: dict[tuple[Value, Layout, Layout], float] = {}  # cycles of copies that join the kernel before

    def solve(self) -> dict[Operation, Variant]:
        """The layouts of every op that has a choice, in program order."""
        self.ask_for_plain_results()
        found = self.solve_once()
        for _ in range(ROUNDS):
            if not self.ask_for_copies(found):
                break
            found = self.solve_once()
        return found

    def solve_once(self) -> dict[Operation, Variant]:
        """The best layouts for what is known of copies."""
        self.problem = Problem()
        self.nodes = {op: self.problem.add(costs) for op, costs in self.costs.items()}
        for value in self.cuts:
            self.connect(value)
        choice = self.problem.solve().choice
        return {op: self.variants[op][choice[node]] for op, node in self.nodes.items()}

    def ask_for_plain_results(self) -> None:
        """Count the copies of values that are plain in the end: they join the kernels before them, if anything does."""
        for value in self.cuts:
            root = root_of(value)
            if root not in self.variants or not isinstance(root, GenericOp) or not root.has_reduction:
                continue
            if len(value.uses) != 1 or self.layouts_read(*value.uses[0]) != [None]:
                continue
            layouts = (variant.result for variant in self.variants[root] if variant.result is not None)
            for source in dict.fromkeys(layouts):
                pairs = zip(self.variants[root], self.costs[root], strict=True)
                variant, cycles = min((pair for pair in pairs if pair[0].result == source), key=lambda pair: pair[1])
                at_once = self.predictions.of_op(root, variant, None)
                self.fused[value, source, None] = max(0.0, at_once - cycles)

    def ask_for_copies(self, found: dict[Operation, Variant]) -> bool:
        """Count the copies of a solution that join the kernels before them; returns whether one was new."""
        new = False
        for value in self.cuts:
            root = root_of(value)
            source = found[value.defining_op].result if value.defining_op in found else None
            wanted = {found[op].operands[index] if op in found else None for op, index in value.uses}
            (target,) = wanted if len(wanted) == 1 else {source}
            key = (value, source, target)
            if root in found and found[root].result == source != target and key not in self.fused:
                assert isinstance(root, GenericOp)
                at_once = self.predictions.of_op(root, found[root], target)
                self.fused[key] = max(0.0, at_once - self.cost(root, found[root]))
                new = True
        return new

    def cost(self, op: Operation, variant: Variant) -> float:
        """The cycles of an op alone."""
        if isinstance(op, PackOp):
            return self.predictions.of_copy(tensor_type(op.x), variant.operands[0], Cut(op.axis, op.block))
        if isinstance(op, UnpackOp):
            return self.predictions.of_copy(tensor_type(op.result), Cut(op.axis, op.block), variant.result)
        if not isinstance(op, GenericOp) or any(follows(op, value) for value in op.inputs):
            return 0.0  # done where its operands are made
        if is_free(op, variant):
            return 0.0
        cycles = self.predictions.of_op(op, variant, variant.result)
        return cycles * (IN_STRIDES if is_convolution(op) and reads_in_strides(op, variant) else 1.0)

    def connect(self, value: Value) -> None:
        """The edges between what makes a value and its readers."""
        made, uses = value.defining_op, value.uses
        if len(uses) == 1:
            ((reader, index),) = uses
            wanted = self.layouts_read(reader, index)
            matrix = [[self.copy(value, a, b, alone=True) for b in wanted] for a in self.layouts_made(value)]
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
        layouts: Kept = (None, *self.cuts[value])
        return [kept for count in range(1, len(layouts) + 1) for kept in itertools.combinations(layouts, count)]

    def keep(self, value: Value, source: Layout, kept: Kept) -> float:
        """The cycles to have a value, made in one layout, in some."""
        return sum(self.copy(value, source, layout, alone=len(kept) == 1) for layout in kept)

    def copy(self, value: Value, source: Layout, target: Layout, alone: bool) -> float:
        """The cycles to have a value in another layout, or to give it the border that its reader wants where no kernel
        makes it; the copy may be `alone` in reading it."""
        known = self.fused.get((value, source, target)) if alone else None
        if known is not None:
            return known
        has_border = root_of(value) is None and border_of(value) is not None
        return self.predictions.of_copy(tensor_type(value), source, target, has_border)

    def say(self, op: Operation, variant: Variant, context: PassContext) -> None:
        """What was chosen for a convolution, and what the other layouts would have cost."""
        if not isinstance(op, GenericOp) or channel_dim(op) is None:
            return
        costs: dict[str, float] = {}
        for other, cycles in zip(self.variants[op], self.costs[op], strict=True):
            text = described(other, self.block)
            costs[text] = min(cycles, costs.get(text, math.inf))
        chosen = described(variant, self.block)
        rest = ", ".join(f"{cycles:.3g} {text}" for text, cycles in costs.items() if text != chosen)
        context.remark(op, f"channels {chosen}: {costs[chosen]:.3g} cycles; {rest}")


def root_of(value: Value) -> Operation | None:
    """The generic in whose kernel a value is made."""
    op = value.defining_op
    if not isinstance(op, GenericOp):
        return None
    return next((root_of(x) for x in op.inputs if follows(op, x)), op)


def reads_in_strides(op: GenericOp, variant: Variant) -> bool:
    """Whether vectors along the result's last axis, where a variant leaves data and result in planes, take every second
    element of the data or fewer."""
    if variant.operands[0] is not None or variant.result is not None:
        return False
    last, form = op.output_maps[0].results[-1].dim_index, op.input_maps[0].results[-1].linear_form()
    return last is not None and form is not None and abs(form[0].get(last, 0)) > 1


def described(variant: Variant, block: int) -> str:
    """A variant in words: "in blocks", "in planes", "last", "in planes to blocks"."""
    read = {in_words(cut, block) for cut in variant.operands if cut is not None} or {in_words(None, block)}
    words, result = " and ".join(sorted(read)), in_words(variant.result, block)
    return words if words == result else f"{words} to {result.removeprefix('in ')}"


def in_words(cut: Layout, block: int) -> str:
    """A layout of channels in words."""
    return "in planes" if cut is None else "in blocks" if cut.block == block else "last"
