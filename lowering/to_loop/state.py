"""Leaves the tensor landing: rows that are appended to memory of the caller's, which has room for them.

%past: tensor<1x?xf32, ["past"]> {sw.state = {axis = 1, capacity = 64, ..}}
                          ->  %past: memref<1x?xf32, strided<[64, 1]>>, where rows stay when their number grows
tensor.room %past         ->  buffer.room %past to memref<1x64xf32>
tensor.append %room, %new at past
                          ->  kernel.launch @append(%new, %room, %past)

    func @append { stage from (0, past) over the sizes of %new { room[i] = rebase(new, (0, past))[i] } }

A result that is rows of such memory is no argument of the program: the caller finds it where its argument was."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stepwell.dialects import buffer, func, kernel, loop
from stepwell.dialects.kept import Kept, kept_by
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import AppendOp, RoomOp
from stepwell.ir.affine import AffineMap
from stepwell.ir.attributes import ArrayAttr, Attribute, StringAttr, UnitAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Region
from stepwell.ir.dims import Dim, free_symbols
from stepwell.ir.types import DYNAMIC, INDEX, MemRefType, StridedLayout, TensorType, Type, bit_width
from stepwell.lowering.loop.index import IndexBuilder
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.to_loop import work
from stepwell.lowering.to_loop.buffers import buffer_type, open_dims

if TYPE_CHECKING:
    from stepwell.lowering.to_loop.outline import Program


def roomy_type(type_: Type, kept: Kept) -> MemRefType:
    """The buffer of an argument whose rows along an axis are followed by free ones."""
    dense = buffer_type(type_)
    strides: list[int] = []
    step = 1
    for axis in reversed(range(dense.rank)):
        strides.insert(0, step)
        size = kept.capacity if axis == kept.axis else dense.shape[axis]
        step = DYNAMIC if DYNAMIC in (step, size) else step * size
    return MemRefType(dense.shape, dense.element, StridedLayout(tuple(strides)))


def in_place(function: func.FuncOp) -> dict[int, Kept]:
    """The results that the caller finds in its arguments' memory, by number."""
    return {kept.result: kept for kept in kept_by(function) if kept.grows}


def described(kept: Kept, name: str, type_: Attribute) -> Kept:
    """With what the caller must know of the result, which is no argument of the program."""
    return kept._replace(name=name, type=type_.value if isinstance(type_, StringAttr) else "")


def convert_room(program: Program, op: RoomOp) -> None:
    """The argument's memory as that of the larger tensor."""
    sizes = [program.index.dim(dim, program.symbols) for dim in open_dims(op.result.type)]
    made = buffer.RoomOp(program.buffers[op.x], sizes, result_types=[buffer_type(op.result.type)], loc=op.loc)
    made.result.name = f"{op.x.name}_room" if op.x.name else None
    program.bind(op.result, program.builder.insert(made).result)


def convert_append(program: Program, op: AppendOp) -> None:
    """Launch the copy of the new rows."""
    room, new = program.buffers[op.room], program.buffers[op.new]
    type_ = program.types.get(op.new, op.new.type)  # an argument of the program is a buffer by now
    names = sorted({name for dim in (*open_dims(type_), *open_dims(op.room.type), *op.at.dims)
                    for name in free_symbols(dim)})  # fmt: skip
    key = f"append {type_} {op.room.type} {op.axis} {op.at}"
    if key not in program.kernels:
        function = append_function(op, type_, names, Machine.of(program.context.target))
        program.kernels[key] = program.table.insert(function, before=program.function)
    sizes = [program.symbols[name] for name in names]
    launch = kernel.LaunchOp([new, room, *sizes], callee=program.kernels[key], result_types=(), loc=op.loc)
    program.builder.insert(launch)
    program.bind(op.result, room)


def append_function(op: AppendOp, type_: Type, symbols: list[str], machine: Machine) -> func.FuncOp:
    """The kernel over (new, room, sizes); `type_` is the tensor type of the new rows."""
    assert isinstance(type_, TensorType)
    new, room = buffer_type(type_), buffer_type(op.room.type)
    function = func.FuncOp.declare("append", [new, room, *(INDEX for _ in symbols)], sym_visibility="private")
    function.loc = op.loc
    lanes = max(1, machine.vector_bytes * 8 // max(8, bit_width(room.element)))
    names = [f"d{d}" for d in range(room.rank)]
    function.attributes["kernel"] = UnitAttr()
    function.attributes["schedule"] = ScheduleAttr((), ((names[-1], lanes),), names[-1], lanes)
    function.attributes[work.FLOPS] = StringAttr("0")
    function.attributes[work.BYTES] = StringAttr(str(2 * math.prod(type_.shape, start=1) * work.element_bytes(op.room)))
    known = dict(zip(symbols, function.arguments[2:], strict=True))
    for name, value in known.items():
        value.name = name
    builder = Builder.at_end(function.entry, op.loc)
    index = IndexBuilder(builder)
    starts: list[Dim] = [op.at.dims[0] if axis == op.axis else 0 for axis in range(room.rank)]
    offsets = [index.dim(start, known) for start in starts]
    sizes = [index.dim(size, known) for size in type_.shape]
    moved = builder.insert(buffer.RebaseOp(function.arguments[0], offsets)).result
    block = Block([new.element])
    block.append(loop.YieldOp([block.arguments[0]]))
    stage = loop.StageOp(
        offsets, sizes, [moved], (), [function.arguments[1]], iterators=["parallel"] * room.rank,
        maps=[AffineMap.identity(room.rank)] * 2, identities=(), label=op.loc.label or None,
        regions=[Region([block])], result_types=(), loc=op.loc,
    )  # fmt: skip
    stage.attributes["names"] = ArrayAttr(tuple(map(StringAttr, names)))
    builder.insert(stage)
    builder.insert(func.ReturnOp(()))
    return function
