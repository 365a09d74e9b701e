"""Leaves the tensor landing: calls of functions on the host, numbered in the order of the program.

%sizes = tensor.host_call @f(%x)        ->  host.call @f(%x) -> %sizes {number = 0}
%y = tensor.host_result %sizes {number = 1}  ->  %y = buffer.alloc(); host.result %y {call = 0, number = 1}"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.dialects import host
from stepwell.dialects.tensor import HostCallOp, HostResultOp, JoinOp
from stepwell.errors import PassError

if TYPE_CHECKING:
    from stepwell.lowering.to_loop.outline import Program

HOST = (HostCallOp, HostResultOp)


class HostCalls:
    """Those of one program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.numbers: dict[HostCallOp, int] = {}

    def convert(self, op: HostCallOp | HostResultOp) -> None:
        """Insert what stands for a call, or for one of its results."""
        if isinstance(op, HostCallOp):
            self._call(op)
        else:
            self._result(op)

    def _call(self, op: HostCallOp) -> None:
        program = self.program
        number = self.numbers.setdefault(op, len(self.numbers))
        given = [program.buffers[value] for value in op.inputs]
        program.bind(op.sizes, program.destination(op.sizes))
        call = host.CallOp(given, program.buffers[op.sizes], callee=op.callee, config=op.config,
                           signature=op.signature, number=number, loc=op.loc)  # fmt: skip
        program.builder.insert(call)

    def _result(self, op: HostResultOp) -> None:
        program = self.program
        if any(isinstance(user, JoinOp) for user in op.result.users):
            raise PassError(f"{op.op_name} (from {op.loc.label}) is a part of a joined tensor, which kernels write")
        program.bind(op.result, program.destination(op.result))
        program.builder.insert(
            host.ResultOp(program.buffers[op.result], call=self.numbers[op.call], number=op.number, loc=op.loc)
        )
