"""The contract between compiled models and the run time: argument slots, status codes, the functions kernels may call.

A compiled model is one or more LLVM modules of kernels and one *program* function

    define i64 @NAME(ptr %args, ptr %team)

that the calling thread runs from its first to its last instruction and that answers 0 or a status code. It hands work
to the team's other threads as *tasks*

    define void @TASK(ptr %team, ptr %scratch, ptr %arguments, i64 %grain)

which unpack the arguments of a kernel and run one grain of it, with the scratch memory of the thread they run on.
"""

from __future__ import annotations

from typing import NamedTuple

VERSION = 2
"""Goes up with every change of what this page says: code on disk is run by the version that it was made for."""

JOBS = 16
"""Launches that one interval has at most."""

INTERRUPTED = -1
"""Status code of a call that left because a Python signal handler raised (Ctrl-C). Codes below 0 are the run time's;
kernels report codes above 0."""

NO_OP = -1
"""The op index of reports that belong to no op."""

RUNTIME_FUNCTIONS = ("sw_share", "sw_join", "sw_poll", "sw_report", "sw_now", "sw_reserve", "sw_grow")

RUNTIME_DECLARATIONS = """\
declare void @sw_share(ptr, ptr, ptr, i64)
declare i64 @sw_join(ptr, ptr, i64)
declare i64 @sw_poll(ptr)
declare void @sw_report(ptr, i64, i64, i64) cold
declare i64 @sw_now()
declare i64 @sw_reserve(ptr, i64)
declare i64 @sw_grow(ptr, i64, i64)
declare i64 @sw_host(i64, i64, ptr)
"""
"""IR text that a module needs in order to call the run time.

`void @sw_share(ptr team, ptr task, ptr arguments, i64 grains)`: puts a launch on the list of the next interval, which
has at most JOBS. `arguments` must stay as it is up to the join.

`i64 @sw_join(ptr team, ptr scratch, i64 stride)`: runs all grains on the list, each once, on any thread and in any
order; thread t gets the scratch memory at scratch + t * stride. Returns when the last grain is finished. Everything
written before is visible in the grains, and what they wrote after. Answers the status; the program must return at once
when it is not 0.

`i64 @sw_poll(ptr team)`: lets Python's signal handlers run and answers the status, likewise.

`void @sw_report(ptr team, i64 code, i64 op, i64 value)`: reports a run-time error (code > 0) of the op with index `op`.
The first report of a call wins. The reporting thread goes on with its grain as if nothing had happened; grains that
nobody has begun are left out.

`i64 @sw_now()`: nanoseconds of a clock that never goes back.

`i64 @sw_reserve(ptr segment, i64 bytes)`: makes a segment of the heap (two words: address, capacity) hold at least so
many bytes, at a 64-byte boundary; what it held may be lost. Answers 0 where there is no memory.

`i64 @sw_grow(ptr segment, i64 bytes, i64 kept)`: likewise, and the first `kept` bytes of what it held stay.

`i64 @sw_host(i64 call, i64 what, ptr words)`: only in processes that run Python, for programs that call it. With `what`
HOST_RUNS, makes the program's call of a function on the host with that number; `words` has address and sizes of each
array that it is given, then those of the memory for the sizes of its results. Else copies result number `what` of that
call to the array of `words`. On the thread that called the program. Answers 0 where it failed.
"""

HOST_FUNCTION = "sw_host"
HOST_RUNS = -1


class Site(NamedTuple):
    """A place that may report a run-time error; the op index of a report counts these. `label` names the ONNX node."""

    message: str
    label: str


class ArgsLayout(NamedTuple):
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
