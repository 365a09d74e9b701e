"""Constant folding alone, without simplifications: what an op computes from constants becomes a constant."""

from __future__ import annotations

from typing import ClassVar

import attrs

from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.rewrite import apply_greedily
from stepwell.lowering.precision import folds_alike, is_strict


@attrs.frozen
class Fold(Pass):
    """Fold constants."""

    name: ClassVar[str] = "fold"

    def run(self, module: Operation, context: PassContext) -> None:
        apply_greedily(module, (), fold=folds_alike if is_strict(module) else True)
