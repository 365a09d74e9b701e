"""The ops of the heap: they stand in a program, which alone has one."""

from __future__ import annotations

from stepwell.dialects import heap
from stepwell.ir.core import Value

from .function import FunctionEmitter, emits
from .memory import Memory, displaced, element_terms

WORD = 8
ALL = -1  # bytes, as an unsigned number


def descriptor(e: FunctionEmitter, table: Value, segment: Value) -> str:
    """A pointer to the two words of a segment."""
    memory = e.memory[table]
    return displaced(e, memory, element_terms(e, memory, [segment]))


@emits(heap.ReserveOp)
def reserve(e: FunctionEmitter, op: heap.ReserveOp) -> None:
    """sw_reserve or sw_grow; where that answers 0, an error is reported: the program ends at the next `cpu.poll`."""
    words, size = descriptor(e, op.heap, op.segment), e.value(op.bytes)
    function, kept = ("sw_grow", f", i64 {ALL}") if op.keeps else ("sw_reserve", "")
    made = e.emit(f"call i64 @{function}(ptr {words}, i64 {size}{kept})")
    failed = e.emit(f"icmp eq i64 {made}, 0")
    bad, done = e.start_block("full"), e.start_block("reserved")
    e.line(f"br i1 {failed}, label %{bad.name}, label %{done.name}")
    e.move_to(bad)
    e.report(op.message, op, size)
    e.line(f"br label %{done.name}")
    e.move_to(done)


@emits(heap.SegmentOp)
def segment(e: FunctionEmitter, op: heap.SegmentOp) -> None:
    """The pointer as the table has it now."""
    pointer = e.emit(f"load ptr, ptr {descriptor(e, op.heap, op.segment)}")
    e.memory[op.result] = Memory.dense(heap.SEGMENT_TYPE, pointer, [e.value(op.bytes)])


@emits(heap.PublishOp)
def publish(e: FunctionEmitter, op: heap.PublishOp) -> None:
    """Address and dims, one word after the other."""
    memory, target = e.memory[op.memory], e.memory[op.descriptor].base
    e.line(f"store ptr {displaced(e, memory, memory.origin)}, ptr {target}")
    for axis, size in enumerate(memory.sizes, start=1):
        place = e.emit(f"getelementptr i8, ptr {target}, i64 {axis * WORD}")
        e.line(f"store i64 {size}, ptr {place}")
