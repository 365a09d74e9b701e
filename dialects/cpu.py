"""The program as it runs with a team of threads: grains that are shared out, error reports, clocks.

These ops stand in the program and in kernels after the last passes of the CPU backend. The interpreter runs them as a
team of one thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attrkinds import INT, STRING, SYMBOL
from stepwell.ir.constraints import INDEX_TYPE, MEMREF
from stepwell.ir.core import Value
from stepwell.ir.opdef import Op, attr, operand, operands, result
from stepwell.ir.registry import Dialect
from stepwell.ir.types import I64, MemRefType

SHARED = "cpu.shared"
"""The attribute of a kernel whose grains are shared out: the last argument is the grain."""

RECORD_WORDS = 5
"""What `cpu.traced_share` notes of a grain."""


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


class TracedShareOp(Op):
    """As `cpu.share`; each grain leaves a record in a row of its own, from a row on: the number of the launch, the
    grain, the thread that ran it, and the clock before and after. Records behind the last row are dropped.

    ```mlir
    %n = "test.value"() : () -> index
    %m = "test.value"() : () -> memref<8xf32>
    %r = "test.value"() : () -> memref<100x5xi64>
    cpu.traced_share @relu[%n](%m, %m) into %r[%n] {launch = 3} : (memref<8xf32>, memref<8xf32>) into memref<100x5xi64>
    ```
    """

    name = "cpu.traced_share"
    assembly = (
        "$callee `[` $grains `]` `(` $inputs `)` `into` $records `[` $row `]` attr-dict "
        "`:` `(` type($inputs) `)` `into` type($records)"
    )
    callee: str = attr(SYMBOL)
    launch: int = attr(INT)
    grains: Value = operand(INDEX_TYPE)
    records: Value = operand(MEMREF)
    row: Value = operand(INDEX_TYPE)
    inputs: Sequence[Value] = operands()

    def verify_op(self) -> None:
        type_ = self.records.type
        if not (isinstance(type_, MemRefType) and type_.shape[1:] == (RECORD_WORDS,) and type_.element == I64):
            raise IRError(f"records are rows of {RECORD_WORDS} x i64, not {type_}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        total, records, row, *given = args
        for grain in range(int(total)):
            start = time.perf_counter_ns()
            frame.call(self, self.callee, [*given, np.int64(grain)])
            if row + grain < len(records):
                records[row + grain] = (self.launch, grain, 0, start, time.perf_counter_ns())
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
