"""Records of the grains of a program: what a trace is made of.

The program gets one more output, memref<ROWSx5xi64>. Row 0 has the number of the first row that is free, and the clock
at the program's begin and end; from row 1 on, each grain has what `cpu.traced_share` notes, the grains of a launch one
after the other. Grains behind the last row are run and counted, and leave no record.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from stepwell.dialects import arith, buffer, cpu, kernel
from stepwell.dialects.func import FuncOp
from stepwell.ir.builder import Builder
from stepwell.ir.core import Value
from stepwell.ir.types import I64, INDEX, MemRefType
from stepwell.lowering.loop.index import IndexBuilder

from .timer import add_output

TRACE = "sw.trace"
"""The name of the output."""
ROWS = 1 << 17
FREE, BEGIN, END = 0, 1, 2  # columns of row 0


@attrs.define(eq=False)
class Recorder:
    """Shares out the launches of one program so that their grains are recorded. Launches are numbered in the order of
    the text."""

    records: Value
    numbers: dict[kernel.LaunchOp, int]

    @staticmethod
    def of(function: FuncOp) -> Recorder:
        """Add the output, its first row written."""
        numbers = {op: number for number, op in enumerate(function.walk_of(kernel.LaunchOp))}
        records = add_output(function, MemRefType((ROWS, cpu.RECORD_WORDS), I64), TRACE)
        recorder = Recorder(records, numbers)
        start = Builder.at_start(function.body.block)
        recorder._store(start, FREE, IndexBuilder(start).constant(1))
        recorder._store(start, BEGIN, start.insert(cpu.ClockOp(result_types=[INDEX])).result)
        end = Builder.before(function.body.block.terminator)
        recorder._store(end, END, end.insert(cpu.ClockOp(result_types=[INDEX])).result)
        return recorder

    def share(self, builder: Builder, launches: Sequence[kernel.LaunchOp], totals: Sequence[Value]) -> None:
        """Put launches, of so many grains each, on the list of what the next join runs."""
        index = IndexBuilder(builder)
        place = [index.constant(0), index.constant(FREE)]
        free = builder.insert(buffer.LoadOp(self.records, place, result_types=[I64])).result
        row = builder.insert(arith.IndexCastOp(free, result_types=[INDEX])).result
        rows = []
        for total in totals:
            rows.append(row)
            row = index.add(row, total)
        self._store(builder, FREE, row)
        for op, total, first in zip(launches, totals, rows, strict=True):
            builder.insert(
                cpu.TracedShareOp(total, self.records, first, list(op.inputs), callee=op.callee,
                                  launch=self.numbers[op], loc=op.loc)
            )  # fmt: skip

    def _store(self, builder: Builder, column: int, value: Value) -> None:
        index = IndexBuilder(builder)
        wide = builder.insert(arith.IndexCastOp(value, result_types=[I64])).result
        builder.insert(buffer.StoreOp(wide, self.records, [index.constant(0), index.constant(column)]))
