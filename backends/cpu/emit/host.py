"""Calls of functions on the host: they stand in a program, on the thread that called it."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.backends.cpu.abi import HOST_RUNS
from stepwell.dialects import host
from stepwell.errors import TargetError
from stepwell.ir.core import Value

from .function import FunctionEmitter, emits
from .memory import Memory, displaced


@emits(host.CallOp)
def call(e: FunctionEmitter, op: host.CallOp) -> None:
    """sw_host, given address and sizes of each operand; where that answers 0, an error is reported, and the program
    ends at the next `cpu.poll`."""
    _ask(e, op, op.number, HOST_RUNS, [*op.inputs, op.sizes])


@emits(host.ResultOp)
def result(e: FunctionEmitter, op: host.ResultOp) -> None:
    """sw_host with the number of the result."""
    _ask(e, op, op.call, op.number, [op.memory])


def _ask(e: FunctionEmitter, op: host.CallOp | host.ResultOp, call: int, what: int, memory: Sequence[Value]) -> None:
    words = e.packed([word for value in memory for word in _words(e, op, value)])
    done = e.emit(f"call i64 @sw_host(i64 {call}, i64 {what}, ptr {words})")
    failed = e.emit(f"icmp eq i64 {done}, 0")
    bad, good = e.start_block("host.failed"), e.start_block("host.done")
    e.line(f"br i1 {failed}, label %{bad.name}, label %{good.name}")
    e.move_to(bad)
    e.report(op.message, op, str(call))
    e.line(f"br label %{good.name}")
    e.move_to(good)


def _words(e: FunctionEmitter, op: host.CallOp | host.ResultOp, value: Value) -> list[tuple[str, str]]:
    memory = e.memory[value]
    if memory.strides != Memory.dense(memory.type, memory.base, memory.sizes).strides or None in memory.sizes:
        raise TargetError(f"{op.op_name} (from {op.loc.label or 'unknown'}) reads memory that is not dense")
    pointer = displaced(e, memory, memory.origin)
    return [("ptr", pointer), *(("i64", str(size)) for size in memory.sizes)]
