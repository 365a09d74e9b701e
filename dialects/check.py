"""Conditions that a running model must meet. Scalar bodies state them at the tensor landing; they stand in loops and
vector code below it, and become reports to the run time in machine code."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepwell.dialects.arith import with_element
from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attrkinds import STRING
from stepwell.ir.constraints import BOOL_LIKE, INT_LIKE
from stepwell.ir.core import Value
from stepwell.ir.opdef import Op, Trait, attr, operand
from stepwell.ir.registry import Dialect
from stepwell.ir.types import I1


class RequireOp(Op):
    """Ends the run with an error where the condition fails (in any lane): the message, the op's location, and the value
    that belongs to it, of the first lane that fails.

    What comes behind runs as well before the run ends: it must not rely on the condition to stay in memory.

    ```mlir
    %c = "test.value"() : () -> i1
    %i = "test.value"() : () -> index
    check.require %c, %i {message = "index out of range for axis 0 of size 5"} : i1, index
    ```
    """

    name = "check.require"
    traits = frozenset({Trait.IDEMPOTENT})
    assembly = "$condition `,` $value attr-dict `:` type($condition) `,` type($value)"
    condition: Value = operand(BOOL_LIKE)
    value: Value = operand(INT_LIKE)
    message: str = attr(STRING)

    def verify_op(self) -> None:
        if with_element(self.value.type, I1) is not self.condition.type:
            raise IRError(f"a condition of type {self.condition.type} for values of type {self.value.type}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        holds, value = np.broadcast_arrays(*args)
        if not holds.all():
            raise RuntimeError(self.message, int(value[~holds].flat[0]), self.loc.label or "an operation")
        return ()


DIALECT = Dialect.of_module("check", globals().values(), __doc__)
