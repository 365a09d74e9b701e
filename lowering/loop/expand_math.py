"""Expands elementary functions into plain arithmetic, which every target has for scalars and vectors alike."""

from __future__ import annotations

import attrs

from stepwell.dialects import arith
from stepwell.dialects.math import NONPOSITIVE
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Value
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import F32, FloatType, element_of
from stepwell.lowering.loop.math.exponential import exp_of_negative
from stepwell.lowering.loop.math.ir_builder import IrMath, SharedConstants
from stepwell.lowering.loop.math.recipes import FUNCTIONS, Recipe
from stepwell.lowering.precision import is_strict


@attrs.frozen
class ExpandMath(Pass):
    """Elementary functions become arithmetic on floats and their bits.

        %y = math.exp %x : f32  ->  %t = math.fma %x, %c0, %c1 : f32 ... %y = arith.bitcast ...

    Left are the functions that targets have: `absf`, `sqrt`, `floor`, `ceil`, `trunc`, `roundeven`, `fma`, `copysign`
    and those on integers. Narrow floats are computed in f32 and rounded. The error bounds are those of the recipes.

    `has_fma`: whether `fma` ops may be used; None asks the target, and takes FMA for granted without one; strict
    arithmetic has none. `has_tables`: whether `isa.lookup` and `isa.scale` may be used as well; None asks the target.
    `branches`: huge angles, which need a longer reduction, are behind a `loop.if`; else they are selected."""

    name = "expand-math"
    has_fma: bool | None = None
    has_tables: bool | None = None
    branches: bool = True

    def run(self, module: Operation, context: PassContext) -> None:
        has_fma = self.has_fma
        if has_fma is None:
            has_fma = bool(getattr(context.target, "has_fma", True)) and not is_strict(module)
        has_tables = self.has_tables
        if has_tables is None:
            has_tables = has_fma and bool(getattr(context.target, "has_tables", False))
        constants: dict[Block, SharedConstants] = {}
        for op in module.walk():
            function = FUNCTIONS.get(op.op_name.removeprefix("math.")) if op.dialect == "math" else None
            if function is not None and op.parent is not None:
                shared = constants.get(op.parent)
                if shared is None:
                    shared = constants[op.parent] = SharedConstants(op.parent)
                recipe = exp_of_negative if NONPOSITIVE in op.attributes else function.recipe
                self._expand(op, recipe, shared, has_fma, has_tables)
                context.count("functions expanded")

    def _expand(
        self, op: Operation, recipe: Recipe, constants: SharedConstants, has_fma: bool, has_tables: bool
    ) -> None:
        builder = Builder.before(op)
        type_ = op.first_result.type
        element = element_of(type_)
        narrow = isinstance(element, FloatType) and element.width < 32
        wide = arith.with_element(type_, F32) if narrow else type_
        operands: list[Value] = list(op.operands)
        if narrow:
            operands = [builder.insert(arith.ExtFOp(value, result_types=[wide])).result for value in operands]
        math = IrMath(builder, constants, wide, has_fma=has_fma, has_tables=has_tables, branches=self.branches)
        made = recipe(math, *operands)
        if narrow:
            made = builder.insert(arith.TruncFOp(made, result_types=[type_])).result
        op.replace_with([made])
