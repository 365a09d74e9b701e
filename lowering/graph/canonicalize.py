"""Canonicalisation: folding, dead code and the families' simplifications, to a fixpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import attrs

from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.rewrite import Pattern, apply_greedily
from stepwell.lowering.graph.simplify import all_patterns
from stepwell.lowering.precision import folds_alike, is_strict

DRIVER = ("fold", "dead code")  # what the driver does without patterns


@attrs.frozen
class Canonicalize(Pass):
    """Fold constants, drop dead code and simplify algebra until nothing changes."""

    name: ClassVar[str] = "canonicalize"

    def run(self, module: Operation, context: PassContext) -> None:
        rewrite(module, context)


def rewrite(module: Operation, context: PassContext, patterns: Sequence[Pattern] = ()) -> None:
    """Apply patterns and the families' simplifications, such of them as the module's precision allows."""
    strict = is_strict(module)
    allowed = [*patterns, *all_patterns(strict=strict)]
    fold = folds_alike if strict else True
    count_rewrites(context, apply_greedily(module, allowed, fold=fold, remark=context.remark))


def count_rewrites(context: PassContext, applied: Counter[str]) -> None:
    """Tell how often each pattern was applied."""
    for name, times in applied.items():
        if name not in DRIVER:
            context.count(f"rewrites: {name.replace('_', ' ')}", times)
