"""Borders of joined tensors: a kernel that writes nothing else.

%b = tensor.border {low, high, value}  ->  launch @border(%memory)     one stage for each side of each axis

The stages of an axis leave out the corners that belong to the axes before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stepwell.dialects import arith, func, loop
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import BorderOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.attributes import ArrayAttr, StringAttr, UnitAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import INDEX, MemRefType, bit_width
from stepwell.lowering.loop.index import IndexBuilder
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.to_loop import work

Box = tuple[list[Dim], list[Dim]]


def boxes(op: BorderOp) -> Iterator[Box]:
    """(offsets, sizes) of the sides."""
    shape = tensor_type(op.result).shape
    inside = [size - low - high for low, size, high in zip(op.low, shape, op.high, strict=True)]
    for axis, (low, high) in enumerate(zip(op.low, op.high, strict=True)):
        before: list[Dim] = [*op.low[:axis]]
        behind: list[Dim] = [0] * (len(shape) - axis - 1)
        for start, count in ((0, low), (inside[axis] + low, high)):
            if count:
                yield [*before, start, *behind], [*inside[:axis], count, *shape[axis + 1 :]]


def border_elements(op: BorderOp) -> Dim:
    """How many elements a border has."""
    total: Dim = 0
    for _, sizes in boxes(op):
        count: Dim = 1
        for size in sizes:
            count = count * size
        total = total + count
    return total


def border_function(op: BorderOp, memory: MemRefType, symbols: Sequence[str], machine: Machine) -> func.FuncOp:
    """The kernel: its arguments are the memory and the sizes that it needs."""
    function = func.FuncOp.declare("border", [memory, *(INDEX for _ in symbols)], sym_visibility="private")
    function.loc = op.loc
    lanes = max(1, machine.vector_bytes * 8 // max(8, bit_width(memory.element)))
    names = [f"d{d}" for d in range(memory.rank)]
    function.attributes["kernel"] = UnitAttr()
    function.attributes["schedule"] = ScheduleAttr((), ((names[-1], lanes),), names[-1], lanes)
    function.attributes[work.FLOPS] = StringAttr("0")
    function.attributes[work.BYTES] = StringAttr(str(border_elements(op) * work.element_bytes(op.result)))
    known = dict(zip(symbols, function.arguments[1:], strict=True))
    for name, value in known.items():
        value.name = name
    builder = Builder.at_end(function.entry, op.loc)
    index = IndexBuilder(builder)
    for offsets, sizes in boxes(op):
        stage = loop.StageOp(
            [index.dim(offset, known) for offset in offsets], [index.dim(size, known) for size in sizes],
            (), (), [function.arguments[0]], iterators=["parallel"] * memory.rank,
            maps=[AffineMap.identity(memory.rank)], identities=(), label=op.loc.label or None,
            regions=[_constant(op)], result_types=(), loc=op.loc,
        )  # fmt: skip
        stage.attributes["names"] = ArrayAttr(tuple(map(StringAttr, names)))
        builder.insert(stage)
    builder.insert(func.ReturnOp(()))
    return function


def _constant(op: BorderOp) -> Region:
    block = Block()
    value: Value = Builder.at_end(block).insert(arith.ConstantOp(value=op.value)).result
    block.append(loop.YieldOp([value]))
    return Region([block])


