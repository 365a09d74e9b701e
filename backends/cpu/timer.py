"""Clocks around the launches of a program: what a profile is made of.

The program gets one more output, memref<Lx3xi64>: for the launch with number l, counted in the order of the text, the
nanoseconds that it took with all its grains, how often it ran, and how many grains that were.
"""

from __future__ import annotations

import attrs

from stepwell.dialects import arith, buffer, cpu, kernel, loop
from stepwell.dialects.func import FuncOp
from stepwell.ir.attributes import ArrayAttr, DictAttr, IntegerAttr, StringAttr, UnitAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Value
from stepwell.ir.types import I64, INDEX, MemRefType
from stepwell.lowering.loop.index import IndexBuilder

from .signature import Signature

PROFILE = "sw.profile"
"""The name of the output."""
COLUMNS = 3


@attrs.define(eq=False)
class Timer:
    """Writes the clocks of one program."""

    times: Value
    rows: dict[kernel.LaunchOp, int]

    @staticmethod
    def of(function: FuncOp) -> Timer:
        """Add the output, with zeros in it."""
        rows = {op: row for row, op in enumerate(function.walk_of(kernel.LaunchOp))}
        count = len(rows)
        times = add_output(function, MemRefType((count, COLUMNS), I64), PROFILE)
        builder = Builder.at_start(function.body.block)
        index = IndexBuilder(builder)
        serial = loop.ForOp.build(index.constant(0), index.constant(count), index.constant(1))
        builder.insert(serial)
        body = Builder.at_end(serial.block)
        for column in range(COLUMNS):
            zero = body.insert(arith.ConstantOp(value=IntegerAttr(0, I64))).result
            body.insert(buffer.StoreOp(zero, times, [serial.induction, IndexBuilder(body).constant(column)]))
        body.insert(loop.YieldOp(()))
        return Timer(times, rows)

    def start(self, builder: Builder) -> Value:
        """The time before a launch."""
        return builder.insert(cpu.ClockOp(result_types=[INDEX])).result

    def stop(self, builder: Builder, start: Value, launch: kernel.LaunchOp, grains: Value) -> None:
        """After a launch of so many grains: add what it took."""
        stop = builder.insert(cpu.ClockOp(result_types=[INDEX])).result
        index = IndexBuilder(builder)
        row = index.constant(self.rows[launch])
        for column, added in enumerate((index.sub(stop, start), index.constant(1), grains)):
            place = [row, index.constant(column)]
            old = builder.insert(buffer.LoadOp(self.times, place, result_types=[I64])).result
            wide = builder.insert(arith.IndexCastOp(added, result_types=[I64])).result
            new = builder.insert(arith.AddIOp(old, wide)).result
            builder.insert(buffer.StoreOp(new, self.times, place))


def add_output(function: FuncOp, type_: MemRefType, name: str) -> Value:
    """One more output behind the others."""
    signature = Signature.of(function)
    place = len(signature.inputs) + len(signature.outputs)
    described = [DictAttr.of(function.argument_attributes(n)) for n in range(len(function.arguments))]
    described.insert(place, DictAttr.of({"sw.out": UnitAttr(), "onnx.name": StringAttr(name)}))
    added = function.entry.insert_argument(place, type_, name.rpartition(".")[2])
    function.properties["arg_attrs"] = ArrayAttr(tuple(described))
    function.update_type()
    return added
