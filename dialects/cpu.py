"""The program as it runs with a team of threads: grains that are shared out, error reports, clocks.

These ops stand in the program and in kernels after the last passes of the CPU backend. The interpreter runs them as a
team of one thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.errors import RuntimeError
from stepwell.ir.attrkinds import STRING, SYMBOL
from stepwell.ir.constraints import INDEX_TYPE
from stepwell.ir.core import Value
from stepwell.ir.opdef import Op, attr, operand, operands, result
from stepwell.ir.registry import Dialect

SHARED = "cpu.shared"
"""The attribute of a kernel whose grains are shared out: the last argument is the grain."""


class ClockOp(Op):
    """Nanoseconds of a clock that never goes back, from any beginning.

    ```mlir
    %t = cpu.clock : index
    ```
    """

    name = "cpu.clock"
    assembly = "attr-dict `:` type($result)"
    result: Value = result(INDEX_TYPE)

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.int64(time.perf_counter_ns())


class ShareOp(Op):
    """Puts the grains of a kernel on the list of what `cpu.join` runs; each call of the kernel gets the number of its
    grain as its last argument. Nothing but `cpu.share` may stand between this and the join that ends the interval.

    ```mlir
    %n = "test.value"() : () -> index
    %m = "test.value"() : () -> memref<8xf32>
    cpu.share @relu[%n](%m, %m) : memref<8xf32>, memref<8xf32>
    ```
    """

    name = "cpu.share"
    assembly = "$callee `[` $grains `]` `(` $inputs `)` attr-dict `:` type($inputs)"
    callee: str = attr(SYMBOL)
    grains: Value = operand(INDEX_TYPE)
    inputs: Sequence[Value] = operands()

    def interpret(self, frame: Any, *args: Any) -> Any:
        total, *given = args
        for grain in range(int(total)):
            frame.call(self, self.callee, [*given, np.int64(grain)])
        return ()


class JoinOp(Op):
    """Runs all grains on the list, in any order and on any threads, and goes on when the last one is finished. Where an
    error has been reported or Ctrl-C was hit, the program ends here.

    ```mlir
    cpu.join
    ```
    """

    name = "cpu.join"
    assembly = "attr-dict"

    def interpret(self, frame: Any, *args: Any) -> Any:
        return ()


class PollOp(Op):
    """Ends the program where an error has been reported or Ctrl-C was hit.

    ```mlir
    cpu.poll
    ```
    """

    name = "cpu.poll"
    assembly = "attr-dict"

    def interpret(self, frame: Any, *args: Any) -> Any:
        return ()


class ReportOp(Op):
    """Reports a run-time error with a value that says more; the program ends behind the interval.

    ```mlir
    %i = "test.value"() : () -> index
    cpu.report %i {message = "the index is out of range"} : index
    ```
    """

    name = "cpu.report"
    assembly = "$value attr-dict `:` type($value)"
    value: Value = operand(INDEX_TYPE)
    message: str = attr(STRING)

    def interpret(self, frame: Any, *args: Any) -> Any:
        raise RuntimeError(self.message, int(args[0]), self.loc.label or "an operation")


DIALECT = Dialect.of_module("cpu", globals().values(), __doc__, landing="target")
