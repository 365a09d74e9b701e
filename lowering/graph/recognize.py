"""Recognition of ops that exporters wrote out: layer norms, GELU, attention and others become single ops again."""

from __future__ import annotations

from typing import ClassVar

import attrs

from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.rewrite import apply_greedily
from stepwell.lowering.graph import idioms, simplify
from stepwell.lowering.graph.canonicalize import count_rewrites


@attrs.frozen
class Recognize(Pass):
    """Put decomposed ops together again: norms, activations, softmax, rotary embedding, attention."""

    name: ClassVar[str] = "recognize"

    def run(self, module: Operation, context: PassContext) -> None:
        patterns = [*idioms.all_patterns(), *simplify.all_patterns()]
        count_rewrites(context, apply_greedily(module, patterns, remark=context.remark))
