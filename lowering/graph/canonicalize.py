"""Canonicalisation: folding, dead code and the families' simplifications, to a fixpoint."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import attrs

from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.rewrite import apply_greedily
from stepwell.lowering.graph.simplify import all_patterns

DRIVER = ("fold", "dead code")  # what the driver does without patterns


@attrs.frozen
class Canonicalize(Pass):
    """Fold constants, drop dead code and simplify algebra until nothing changes."""

    name: ClassVar[str] = "canonicalize"

    def run(self, module: Operation, context: PassContext) -> None:
        count_rewrites(context, apply_greedily(module, all_patterns(), remark=context.remark))


def count_rewrites(context: PassContext, applied: Counter[str]) -> None:
    """Tell how often each pattern was applied."""
    for name, times in applied.items():
        if name not in DRIVER:
            context.count(f"rewrites: {name.replace('_', ' ')}", times)
