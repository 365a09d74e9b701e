"""Memory that is asked for while the program runs: sizes that data decide, and what is as large as they say.

A program has one heap, an argument: a table of *segments*, each two words, where it lies and how many bytes it holds.
A segment is made larger when more is asked of it, and kept for the calls to come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.buffer import check_sizes, full_shape, memref_type
from stepwell.dialects.descriptors import SEGMENT_WORDS
from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attrkinds import BOOL, INT, STRING
from stepwell.ir.constraints import INDEX_TYPE, MEMREF
from stepwell.ir.core import Value
from stepwell.ir.opdef import Op, attr, operand, operands, result
from stepwell.ir.registry import Dialect
from stepwell.ir.types import DYNAMIC, I8, I64, INDEX, MemRefType, Type, numpy_dtype

MOST = 1 << 40
"""No size that data tell is larger: beyond, the number of a buffer's bytes might not be representable."""

SEGMENT_TYPE = MemRefType((DYNAMIC,), I8)


def heap_type(segments: int) -> MemRefType:
    """The type of a heap with so many segments."""
    return MemRefType((segments, SEGMENT_WORDS), I64)


def check_heap(value: Value) -> None:
    """Raise IRError where a value is no heap."""
    type_ = memref_type(value)
    if type_.rank != SEGMENT_WORDS or type_.shape[1] != SEGMENT_WORDS or type_.element is not I64:
        raise IRError(f"a heap is a memref<nx{SEGMENT_WORDS}xi64>, not {type_}")


class SizeOp(Op):
    """A number that data have told, from here on the size `of`. A run-time error where it is negative or more than the
    most, which `at_most` repeats as an expression over sizes where it is one.

    ```mlir
    %n = "test.value"() : () -> index
    %most = "test.value"() : () -> index
    %k = heap.size %n upto %most {at_most = "4*batch", of = "k"} : index
    ```
    """

    name = "heap.size"
    assembly = "$number `upto` $most attr-dict `:` type($number)"
    number: Value = operand(INDEX_TYPE)
    most: Value = operand(INDEX_TYPE)
    of: str = attr(STRING)
    at_most: str | None = attr(STRING, default=None)
    result: Value = result(INDEX_TYPE)

    @property
    def message(self) -> str:
        """What is said where the number is no size."""
        return size_message(self.of)

    def infer_types(self) -> Sequence[Type]:
        return [INDEX]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.int64(checked_size(self.loc.label, self.of, int(args[0]), int(args[1])))


class ReserveOp(Op):
    """Makes a segment of the heap hold at least so many bytes. Where it has to be made larger, it lies somewhere else
    and nothing may point there any more; what it held is lost, unless it `keeps` that. A run-time error where there is
    no memory.

    ```mlir
    %heap = "test.value"() : () -> memref<3x2xi64>
    %n = "test.value"() : () -> index
    heap.reserve %heap[%n], %n : memref<3x2xi64>
    ```
    """

    name = "heap.reserve"
    assembly = "$heap `[` $segment `]` `,` $bytes attr-dict `:` type($heap)"
    heap: Value = operand(MEMREF)
    segment: Value = operand(INDEX_TYPE)
    bytes: Value = operand(INDEX_TYPE)
    keeps: bool = attr(BOOL, default=False)

    message = "there is not enough memory for what data have made this large"

    def verify_op(self) -> None:
        check_heap(self.heap)

    def interpret(self, frame: Any, *args: Any) -> Any:
        heap, segment, size = args[0], int(args[1]), int(args[2])
        memory = frame.state.setdefault("heap", {})
        if heap[segment, 1] < size or segment not in memory:
            before = memory.get(segment) if self.keeps else None
            memory[segment] = np.zeros(size, np.int8)
            if before is not None:
                memory[segment][: before.size] = before
            heap[segment] = memory[segment].ctypes.data, size
        return ()


class AllocOp(Op):
    """A buffer whose size is known only now, in a round of a loop, and which outlives the round. It lies in a segment
    of the op's own: in turn number `turn` of so many `turns`, where it stays until the turn comes again. Planning says
    which segments of the heap these are.

    Where it `keeps`, what the turn's buffer held before, in row-major order, is the beginning of what it holds now.

    ```mlir
    %n = "test.value"() : () -> index
    %turn = "test.value"() : () -> index
    %b = heap.alloc %turn(%n) {turns = 2} : memref<?x4xf32>
    ```
    """

    name = "heap.alloc"
    assembly = "$turn `(` $sizes `)` attr-dict `:` type($result)"
    turn: Value = operand(INDEX_TYPE)
    sizes: Sequence[Value] = operands(INDEX_TYPE)
    turns: int = attr(INT)
    keeps: bool = attr(BOOL, default=False)
    result: Value = result(MEMREF)

    def verify_op(self) -> None:
        check_sizes(self.result, self.sizes)
        if self.turns < 1:
            raise IRError(f"at least one turn, not {self.turns}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        turn, *sizes = (int(arg) for arg in args)
        if not 0 <= turn < self.turns:
            raise IRError(f"turn {turn} of {self.turns}")
        made = np.zeros(full_shape(memref_type(self.result), sizes), numpy_dtype(self.result.type))
        held = frame.state.setdefault("turns", {})
        if self.keeps and (self, turn) in held:
            before = held[self, turn].reshape(-1)[: made.size]
            made.reshape(-1)[: before.size] = before
        held[self, turn] = made
        return made


class SegmentOp(Op):
    """Where a segment of the heap lies now.

    ```mlir
    %heap = "test.value"() : () -> memref<3x2xi64>
    %n = "test.value"() : () -> index
    %s = heap.segment %heap[%n](%n) : memref<3x2xi64> to memref<?xi8>
    ```
    """

    name = "heap.segment"
    assembly = "$heap `[` $segment `]` `(` $bytes `)` attr-dict `:` type($heap) `to` type($result)"
    heap: Value = operand(MEMREF)
    segment: Value = operand(INDEX_TYPE)
    bytes: Value = operand(INDEX_TYPE)
    result: Value = result(MEMREF)

    def verify_op(self) -> None:
        check_heap(self.heap)
        if self.result.type is not SEGMENT_TYPE:
            raise IRError(f"a segment is a {SEGMENT_TYPE}, not a {self.result.type}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        size = int(args[2])
        return frame.state["heap"][int(args[1])][:size] if size else np.zeros(0, np.int8)


class PublishOp(Op):
    """Writes where a dense buffer lies and its dims into a descriptor, for the caller: address, then one word per dim.

    ```mlir
    %m = "test.value"() : () -> memref<?x4xf32>
    %d = "test.value"() : () -> memref<3xi64>
    heap.publish %m, %d : memref<?x4xf32>, memref<3xi64>
    ```
    """

    name = "heap.publish"
    assembly = "$memory `,` $descriptor attr-dict `:` type($memory) `,` type($descriptor)"
    memory: Value = operand(MEMREF)
    descriptor: Value = operand(MEMREF)

    def verify_op(self) -> None:
        wanted = descriptor_type(memref_type(self.memory).rank)
        if self.descriptor.type is not wanted:
            raise IRError(f"the descriptor of {self.memory.type} is a {wanted}, not a {self.descriptor.type}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        memory, descriptor = args
        frame.state.setdefault("published", []).append(memory)
        descriptor[:] = [memory.ctypes.data, *memory.shape]
        return ()


def descriptor_type(rank: int) -> MemRefType:
    """The type of the descriptor of a buffer of so many dims."""
    return MemRefType((1 + rank,), I64)


def checked_size(label: str, symbol: str, size: int, most: int = MOST) -> int:
    """A size that data tell. Raises RuntimeError where it is negative or more than the most."""
    if not 0 <= size <= most:
        raise RuntimeError(f"{label or 'an operation'}: {size_message(symbol)} (value {size})")
    return size


def size_message(symbol: str) -> str:
    """What is said of a number that is no size."""
    return f"the size {symbol!r}, which is decided by data, is negative or too large"


DIALECT = Dialect.of_module("heap", globals().values(), __doc__, landing="loop")
