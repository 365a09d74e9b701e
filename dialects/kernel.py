"""Launching kernels: the program's side of the border between program and kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.random_streams import INTERPRETED_ENTROPY
from stepwell.ir.attrkinds import SYMBOL
from stepwell.ir.constraints import INDEX_TYPE
from stepwell.ir.core import Value
from stepwell.ir.opdef import Op, attr, operands, result
from stepwell.ir.registry import Dialect

PARTS = "sw.parts"
"""The attribute of a launch with the numbers of its operands of which it writes a part: a box of a joined tensor, which
no other launch with this attribute writes."""
CONSTANTS = "sw.constants"
"""The attribute of a kernel's function with the numbers of its arguments that are constants wherever it is launched."""


class LaunchOp(Op):
    """Runs a kernel function over all its grains; what it reads was written by launches before it.

    ```mlir
    %m = "test.value"() : () -> memref<8xf32>
    kernel.launch @relu(%m, %m) : (memref<8xf32>, memref<8xf32>) -> ()
    ```
    """

    name = "kernel.launch"
    assembly = "$callee `(` $operands `)` attr-dict `:` functional-type"
    callee: str = attr(SYMBOL)
    inputs: Sequence[Value] = operands()

    def interpret(self, frame: Any, *args: Any) -> Any:
        return frame.launch(self, args, lambda: frame.call(self, self.callee, args))


class EntropyOp(Op):
    """A number, not negative, that no two runs share. The interpreter always takes the same one.

    ```mlir
    %n = kernel.entropy : index
    ```
    """

    name = "kernel.entropy"
    assembly = "attr-dict `:` type($result)"
    result: Value = result(INDEX_TYPE)

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.int64(INTERPRETED_ENTROPY)


DIALECT = Dialect.of_module("kernel", globals().values(), __doc__, landing="loop")
