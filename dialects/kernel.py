"""Launching kernels: the program's side of the border between program and kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepwell.ir.attrkinds import SYMBOL
from stepwell.ir.core import Value
from stepwell.ir.opdef import Op, attr, operands
from stepwell.ir.registry import Dialect

PARTS = "sw.parts"
"""The attribute of a launch with the numbers of its operands of which it writes a part: a box of a joined tensor, which
no other launch with this attribute writes."""


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


DIALECT = Dialect.of_module("kernel", globals().values(), __doc__, landing="loop")
