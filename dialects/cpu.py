"""The program as every thread of a team runs it: thread numbers, grains, barriers, error reports.

These ops stand in the program and in kernels after the last passes of the CPU backend. The interpreter runs them as a
team of one thread."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from stepwell.errors import RuntimeError
from stepwell.ir.attrkinds import INT, STRING
from stepwell.ir.constraints import INDEX_TYPE
from stepwell.ir.core import Value
from stepwell.ir.opdef import Op, attr, operand, result
from stepwell.ir.registry import Dialect

_COUNTERS = "cpu.counters"


class ThreadOp(Op):
    """The number of the thread that runs the program, counted from 0.

    ```mlir
    %t = cpu.thread : index
    ```
    """

    name = "cpu.thread"
    assembly = "attr-dict `:` type($result)"
    result: Value = result(INDEX_TYPE)

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.int64(0)


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


class NextGrainOp(Op):
    """Takes the next grain off the counter `slot`, counted from 0; no two threads get the same one.

    ```mlir
    %g = cpu.next_grain {slot = 0} : index
    ```
    """

    name = "cpu.next_grain"
    assembly = "attr-dict `:` type($result)"
    slot: int = attr(INT)
    result: Value = result(INDEX_TYPE)

    def interpret(self, frame: Any, *args: Any) -> Any:
        counters = frame.state.setdefault(_COUNTERS, {})
        taken = counters.get(self.slot, 0)
        counters[self.slot] = taken + 1
        return np.int64(taken)


class BarrierOp(Op):
    """Waits for all threads and sets the counters 0 ... slots - 1 back to 0. Where a thread has reported an error, all
    threads leave the program here.

    ```mlir
    cpu.barrier {slots = 1}
    ```
    """

    name = "cpu.barrier"
    assembly = "attr-dict"
    slots: int = attr(INT, default=0)

    def interpret(self, frame: Any, *args: Any) -> Any:
        counters = frame.state.setdefault(_COUNTERS, {})
        for slot in range(self.slots):
            counters.pop(slot, None)
        return ()


class ReportOp(Op):
    """Reports a run-time error with a value that says more; the thread goes on to the next barrier.

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
