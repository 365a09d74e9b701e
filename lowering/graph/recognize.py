"""Recognition of ops that exporters wrote out: layer norms, GELU, attention and others become single ops again."""

from __future__ import annotations

from typing import ClassVar

import attrs

from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass, PassContext
from stepwell.lowering.graph import idioms
from stepwell.lowering.graph.canonicalize import rewrite
from stepwell.lowering.precision import is_strict


@attrs.frozen
class Recognize(Pass):
    """Put decomposed ops together again: norms, activations, softmax, rotary embedding, attention. In strict arithmetic
    they stay as they are written."""

    name: ClassVar[str] = "recognize"

    def run(self, module: Operation, context: PassContext) -> None:
        rewrite(module, context, () if is_strict(module) else idioms.all_patterns())
