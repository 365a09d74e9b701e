"""The contract between compiled models and the run time: argument slots, status codes, the functions kernels may call.

A compiled model is one or more LLVM modules of kernels and one *program* function

    define i64 @NAME(ptr %args, ptr %team, i64 %tid)

that every thread of the team runs from its first to its last instruction (SPMD) and that answers 0 or a status code.
All threads must meet the same barriers in the same order; that holds when each branch around a barrier depends only on
`%args`, on memory written before the last barrier, and on the values that barriers answer.
"""

from __future__ import annotations

from attrs import frozen

COUNTER_SLOTS = 64
"""Grain counters of a team: launches of one barrier interval use slots 0, 1, ... below this."""

INTERRUPTED = -1
"""Status code of a call that left because a Python signal handler raised (Ctrl-C). Codes below 0 are the run time's;
kernels report codes above 0."""

NO_OP = -1
"""The op index of reports that belong to no op."""

RUNTIME_DECLARATIONS = """\
declare i64 @sw_next(ptr, i64)
declare i64 @sw_barrier(ptr, i64, i64)
declare void @sw_report(ptr, i64, i64, i64) cold
declare i64 @sw_now()
declare i64 @sw_reserve(ptr, i64)
declare i64 @sw_grow(ptr, i64, i64)
"""
"""IR text that a module needs in order to call the run time.

`i64 @sw_next(ptr team, i64 slot)`: the next grain index of the launch that owns `slot`, counted from 0. Every thread
takes grains until the index is past the last one.

`i64 @sw_barrier(ptr team, i64 tid, i64 used_slots)`: waits for all threads; the last one to arrive resets counters
0 ... used_slots - 1. Everything written before is visible after. Answers the team's status: every thread gets the same
value and must return at once when it is not 0.

`void @sw_report(ptr team, i64 code, i64 op, i64 value)`: reports a run-time error (code > 0) of the op with index `op`.
The first report of a call wins. The reporting thread goes on as if nothing had happened, to the next barrier.

`i64 @sw_now()`: nanoseconds of a clock that never goes back.

`i64 @sw_reserve(ptr segment, i64 bytes)`: makes a segment of the heap (two words: address, capacity) hold at least so
many bytes, at a 64-byte boundary; what it held may be lost. Answers 0 where there is no memory. Thread 0 calls it while
nobody uses the segment.

`i64 @sw_grow(ptr segment, i64 bytes, i64 kept)`: likewise, and the first `kept` bytes of what it held stay.
"""


@frozen
class ArgsLayout:
    """Where a program finds its arguments: 64-bit slots of `%args`, in this order.

    Pointers to the inputs' data, pointers to the outputs' data, the arena, the constants table (an array of pointers),
    the scratch memory of this call, the scratch stride in bytes (thread t owns scratch + t * stride), then all
    dimensions of all inputs. `input_ranks` holds the rank of each input.
    """

    input_ranks: tuple[int, ...]
    outputs: int

    @property
    def inputs(self) -> int:
        """How many inputs there are."""
        return len(self.input_ranks)

    def input(self, index: int) -> int:
        """Slot of the data pointer of input `index`."""
        return index

    def output(self, index: int) -> int:
        """Slot of the data pointer of output `index`."""
        return self.inputs + index

    @property
    def arena(self) -> int:
        """Slot of the arena pointer; the arena is 64-byte aligned."""
        return self.inputs + self.outputs

    @property
    def constants(self) -> int:
        """Slot of the pointer to the constants table."""
        return self.arena + 1

    @property
    def scratch(self) -> int:
        """Slot of the pointer to thread 0's scratch memory, 64-byte aligned."""
        return self.arena + 2

    @property
    def scratch_stride(self) -> int:
        """Slot of the number of bytes between two threads' scratch memories."""
        return self.arena + 3

    def dim(self, input_index: int, axis: int) -> int:
        """Slot of one dimension of one input."""
        return self.arena + 4 + sum(self.input_ranks[:input_index]) + axis

    @property
    def slots(self) -> int:
        """How many slots there are in all."""
        return self.arena + 4 + sum(self.input_ranks)
