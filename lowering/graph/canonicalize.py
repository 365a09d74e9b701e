"""Canonicalisation: folding, dead code and the families' simplifications, to a fixpoint."""

from __future__ import annotations

from typing import ClassVar

import attrs

from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.rewrite import apply_greedily
from stepwell.lowering.graph.simplify import all_patterns


@attrs.frozen
class Canonicalize(Pass):
    """Fold constants, drop dead code and simplify algebra until nothing changes."""

    name: ClassVar[str] = "canonicalize"

    def run(self, module: Operation, context: PassContext) -> None:
        apply_greedily(module, all_patterns())
