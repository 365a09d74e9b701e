"""Common subexpressions, at any landing: of two equal pure ops the dominating one does the work of both.

%a = graph.exp %x; %b = graph.exp %x; %c = graph.add %a, %b   ->   %a = graph.exp %x; %c = graph.add %a, %a"""

from __future__ import annotations

from collections.abc import Hashable
from typing import ClassVar

import attrs

from stepwell.ir.core import Operation
from stepwell.ir.dominance import Dominance
from stepwell.ir.location import fused
from stepwell.ir.opdef import Trait, has_trait, is_self_contained
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.structure import structure_of


@attrs.frozen
class CommonSubexpressions(Pass):
    """Compute equal things once."""

    name: ClassVar[str] = "cse"

    def run(self, module: Operation, context: PassContext) -> None:
        _Elimination(context).regions_of(module, [])


# Ops seen so far, by what they compute. A scope is one region; the outer ones enclose it.
_Scope = dict[Hashable, list[Operation]]


class _Elimination:
    def __init__(self, context: PassContext) -> None:
        self.context = context
        self.dominance = Dominance()

    def regions_of(self, op: Operation, scopes: list[_Scope]) -> None:
        """Merge inside the regions of an op; those of a self-contained one see nothing from outside."""
        outer = [] if is_self_contained(op) else scopes
        for region in op.regions:
            inner: list[_Scope] = [*outer, {}]
            for block in region.blocks:
                for inner_op in list(block):
                    self._visit(inner_op, inner)

    def _visit(self, op: Operation, scopes: list[_Scope]) -> None:
        if op.regions:
            self.regions_of(op, scopes)
        if not is_mergeable(op):
            return
        key = structure_of(op)
        for scope in scopes:
            for known in scope.get(key, ()):
                if self._dominates(known, op):
                    merge(op, known)
                    self.context.count("common subexpressions")
                    return
        scopes[-1].setdefault(key, []).append(op)

    def _dominates(self, known: Operation, op: Operation) -> bool:
        node: Operation | None = op
        assert known.parent is not None
        while node is not None and node.parent is not None and node.parent.parent is not known.parent.parent:
            node = node.parent_op
        if node is None or node.parent is None:
            return False
        return known.parent is node.parent or self.dominance.dominates(known.parent, node.parent)


def merge(op: Operation, known: Operation) -> None:
    """Let `known` do the work of an equal `op`: it keeps what is attached to either."""
    for key, attribute in op.attributes.items():
        known.attributes.setdefault(key, attribute)
    if not has_trait(known, Trait.CONSTANT):
        known.loc = fused(known.loc, op.loc)
    op.replace_with(list(known.results))


def is_mergeable(op: Operation) -> bool:
    """Whether equal ones of an op may be merged: it is idempotent, or it is pure and so is all inside it."""
    if has_trait(op, Trait.IDEMPOTENT):
        return True
    if not op.results or not has_trait(op, Trait.PURE):
        return False
    if not op.regions:
        return True
    inside = (inner for region in op.regions for block in region.blocks for outer in block for inner in outer.walk())
    return all(has_trait(inner, Trait.PURE) or has_trait(inner, Trait.TERMINATOR) for inner in inside)
