"""Leaves the tensor landing: a scatter becomes a kernel that writes over its base.

%r = tensor.scatter %x, %i, %u  ->  kernel.launch @k(%x, %i, %u), %r is where %x was

    func @k { parallel lines, parts of a line { for k { for j { x[p, i[p, k, j], j] = combine(.., u[p, k, j]) } } } }

Updates stay in their order inside a grain, and grains write different elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.dialects import arith, buffer, func, kernel, loop
from stepwell.dialects.loop import ForOp, IfOp, ParallelOp
from stepwell.dialects.tensor_base import YieldOp, tensor_type
from stepwell.dialects.tensor_scatter import ScatterOp
from stepwell.ir.attributes import StringAttr, UnitAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Value
from stepwell.ir.types import INDEX
from stepwell.lowering.loop.index import IndexBuilder
from stepwell.lowering.to_loop.work import BYTES, FLOPS

if TYPE_CHECKING:
    from stepwell.lowering.to_loop.outline import Program

PART = 64  # neighbouring elements of a line that a grain looks after


def convert_scatter(program: Program, op: ScatterOp) -> None:
    """Launch the updates on the memory of the base, which nothing else reads."""
    memory = [program.buffers[value] for value in (op.base, op.places, op.updates)]
    callee = program.table.insert(scatter_kernel(op, [value.type for value in memory]), before=program.function)
    program.builder.insert(kernel.LaunchOp(memory, callee=callee, result_types=()))
    program.bind(op.result, memory[0])


def scatter_kernel(op: ScatterOp, types: list[object]) -> func.FuncOp:
    """The kernel's function over (base, places, updates)."""
    label = "".join(c if c.isalnum() else "_" for c in op.loc.label)[:40].strip("_")
    function = func.FuncOp.declare(f"k_{label or 'scatter'}", types, sym_visibility="private")  # type: ignore[arg-type]
    function.loc = op.loc
    function.attributes["kernel"] = UnitAttr()
    function.attributes[FLOPS] = StringAttr("0")
    function.attributes[BYTES] = StringAttr("0")
    base, places, updates = function.arguments
    builder = Builder.at_end(function.entry, op.loc)
    index = IndexBuilder(builder)
    sizes = [_size(builder, base, axis) for axis in range(3)]
    count, shared = _size(builder, updates, 1), tensor_type(op.places).shape[2] == 1
    zero, one, part = index.constant(0), index.constant(1), index.constant(PART)
    lines = builder.insert(ParallelOp.build(zero, sizes[0], one, label="line"))
    inner = Builder.at_end(lines.block, op.loc)
    parts = inner.insert(ParallelOp.build(zero, sizes[2], part, label="part"))
    body = Builder.at_end(parts.block, op.loc)
    end = IndexBuilder(body).minimum(IndexBuilder(body).add(parts.induction, part), sizes[2])
    steps = body.insert(ForOp.build(zero, count, one, label="update"))
    stepping = Builder.at_end(steps.block, op.loc)
    elements = stepping.insert(ForOp.build(parts.induction, end, one, label="element"))
    write = Builder.at_end(elements.block, op.loc)
    line, step, element = lines.induction, steps.induction, elements.induction
    column = IndexBuilder(write).constant(0) if shared else element
    number = write.insert(buffer.LoadOp(places, [line, step, column])).result
    place = write.insert(arith.IndexCastOp(number, result_types=[INDEX])).result
    inside = write.insert(arith.CmpIOp(place, sizes[1], predicate="ult")).result
    choice = write.insert(IfOp.build(inside))
    _update(op, Builder.at_end(choice.then.block, op.loc), base, [line, place, element], updates, [line, step, element])
    loop.yield_values(Builder.at_end(choice.otherwise.block, op.loc))
    for each in (write, stepping, body, inner):
        loop.yield_values(each)
    builder.insert(func.ReturnOp(()))
    return function


def _update(op: ScatterOp, builder: Builder, base: Value, place: list[Value], updates: Value, at: list[Value]) -> None:
    old = builder.insert(buffer.LoadOp(base, place)).result
    new = builder.insert(buffer.LoadOp(updates, at)).result
    mapping: dict[Value, Value] = dict(zip(op.combine.block.arguments, (old, new), strict=True))
    for inner in op.combine.block:
        if isinstance(inner, YieldOp):
            value = mapping.get(inner.operands[0], inner.operands[0])
            builder.insert(buffer.StoreOp(value, base, place))
        else:
            builder.insert(inner.clone(mapping))
    loop.yield_values(builder)


def _size(builder: Builder, memory: Value, axis: int) -> Value:
    size = buffer.memref_type(memory).shape[axis]
    index = IndexBuilder(builder)
    return index.constant(size) if size >= 0 else builder.insert(buffer.DimOp(memory, axis=axis)).result
