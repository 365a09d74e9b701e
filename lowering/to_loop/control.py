"""Control flow leaves the tensor landing: loops and branches of the program around launches, over memory.

%h = tensor.for %h0 { .. yield %h1 }   ->   %a, %b = alloc
                                            %h, .. = loop.for iter(%h = %h0, %d0 = %a, %d1 = %b) {
                                              launch @k(%h, .., %d0)
                                              yield %d0, %d1, %d0
                                            }

Memory itself is carried: a round reads a value where the round before has written it. A carried value is written into
memories that take turns, as many as rounds pass until nobody reads it any more; a row that is collected is written into
its place in the stack, and read there by the next round if it is carried as well. Nothing is copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stepwell.dialects import buffer, loop
from stepwell.dialects.arith import SubIOp, index_constant
from stepwell.dialects.tensor import ForOp, IfOp, WhileOp
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.types import DYNAMIC
from stepwell.lowering.loop.index import IndexBuilder
from stepwell.lowering.tensor.separate import behind_views, is_placed, origin

if TYPE_CHECKING:
    from stepwell.lowering.to_loop.outline import Program

CONTROL = (ForOp, WhileOp, IfOp)


def convert_control(program: Program, op: Operation) -> None:
    """Convert a loop or a branch, and all inside it."""
    if isinstance(op, ForOp):
        _for(program, op)
    elif isinstance(op, WhileOp):
        _while(program, op)
    elif isinstance(op, IfOp):
        _if(program, op)


def _for(program: Program, op: ForOp) -> None:
    index = program.index
    stacks = [program.destination(value) for value in op.stacks]
    turns = Turns(program, op)
    lower, upper, step = index.constant(0), index.dim(op.count, program.symbols), index.constant(1)
    last = index.sub(upper, step) if any(op.backward) else None
    made = loop.ForOp.build(lower, upper, step, [*(program.buffers[v] for v in op.initial), *turns.memory])
    made.induction.name = op.body.block.arguments[0].name or "step"
    program.builder.insert(made)
    carried = len(op.initial)
    rows = op.body.block.terminator.operands[carried:]
    inner = Builder.at_end(made.block, op.loc)
    for row, stack, backward in zip(rows, stacks, op.backward, strict=True):
        place = made.induction
        if backward and last is not None:
            place = inner.insert(SubIOp(last, place)).result
        program.destinations[origin(row)] = inner.insert(buffer.SliceOp(stack, place)).result
    op.body.block.arguments[0].replace_all_uses_with(made.induction)
    _bind(program, op.body.block.arguments[1:], made.carried[:carried])
    turns.offer(made.carried[carried:])
    ends = _converted(program, op.body.block, made.block)
    loop.yield_values(Builder.at_end(made.block, op.loc), [*ends[:carried], *turns.next(made.carried[carried:])])
    _bind(program, op.finals, made.results[:carried])
    _bind(program, op.stacks, stacks)


def _while(program: Program, op: WhileOp) -> None:
    turns = Turns(program, op)
    inits = [*(program.buffers[v] for v in op.initial), *turns.memory]
    types = [value.type for value in inits]
    before, body = Block(types), Block(types)
    test = Builder.at_end(before, op.loc)
    loop.yield_values(test, [_truth(test, before.arguments[0]), *before.arguments])
    made = loop.WhileOp(inits, result_types=types, regions=[Region([before]), Region([body])])
    program.builder.insert(made)
    carried = len(op.initial)
    _bind(program, op.body.block.arguments, body.arguments[:carried])
    turns.offer(body.arguments[carried:])
    ends = _converted(program, op.body.block, body)
    loop.yield_values(Builder.at_end(body, op.loc), [*ends, *turns.next(body.arguments[carried:])])
    _bind(program, op.outputs, made.results[:carried])


def _if(program: Program, op: IfOp) -> None:
    from stepwell.lowering.to_loop.outline import buffer_type

    truth = _truth(program.builder, program.buffers[op.condition])
    made = loop.IfOp.build(truth, [buffer_type(value.type) for value in op.outputs])
    program.builder.insert(made)
    for side, new in zip(op.regions, made.regions, strict=True):
        ends = _converted(program, side.block, new.block)
        builder = Builder.at_end(new.block, op.loc)
        loop.yield_values(builder, [_opened(builder, *pair) for pair in zip(ends, made.results, strict=True)])
    _bind(program, op.outputs, made.results)


def _opened(builder: Builder, memory: Value, result: Value) -> Value:
    """The memory of a branch's value, under the result's type, which leaves sizes open that the value's type knows.

    yield %a : memref<4xf32>  ->  yield (buffer.reshape %a(%4) : memref<4xf32> to memref<?xf32>)"""
    if memory.type is result.type:
        return memory
    index = IndexBuilder(builder)
    shape = buffer.memref_type(memory).shape
    sizes = [
        index.constant(size) if size != DYNAMIC else builder.insert(buffer.DimOp(memory, axis=axis)).result
        for axis, (size, known) in enumerate(zip(shape, buffer.memref_type(result).shape, strict=True))
        if known == DYNAMIC
    ]
    return builder.insert(buffer.ReshapeOp(memory, sizes, result_types=[result.type])).result


def _truth(builder: Builder, memory: Value) -> Value:
    zeros = [builder.insert(index_constant(0)).result for _ in buffer.memref_type(memory).shape]
    return builder.insert(buffer.LoadOp(memory, zeros)).result


def _bind(program: Program, values: Sequence[Value], memory: Sequence[Value]) -> None:
    for value, place in zip(values, memory, strict=True):
        program.bind(value, place)


def _converted(program: Program, old: Block, new: Block) -> list[Value]:
    """Move the ops of a block into another and convert them; returns where the yielded values lie."""
    last = old.terminator
    ends = list(last.operands)
    first = old.first if old.first is not last else None
    last.erase()
    for op in list(old):
        op.detach()
        new.append(op)
    program.convert_from(first)
    return [program.buffers[value] for value in ends]


class Turns:
    """The memories into which a loop's body writes what it carries on, one after the other."""

    def __init__(self, program: Program, op: ForOp | WhileOp) -> None:
        self.program = program
        self.op = op
        self.sizes: dict[Value, int] = {}
        carried = len(op.initial)
        ends = op.body.block.terminator.operands
        collected = {origin(value) for value in ends[carried:]}
        for index, value in enumerate(ends[:carried]):
            source = origin(value)
            inside = source.owner_block is op.body.block
            if source not in collected and inside and is_placed(source):
                self.sizes[source] = max(self.sizes.get(source, 0), 2 + self._rounds_on(index))
        self.memory = [program.allocated(value) for value, count in self.sizes.items() for _ in range(count)]

    def _rounds_on(self, index: int) -> int:
        """Through how many more rounds a value is handed, once it is carried at a position. What is handed on for ever
        was never written inside, since every position has one source."""
        block = self.op.body.block
        ends = block.terminator.operands[: len(self.op.initial)]
        argument = block.arguments[len(block.arguments) - len(self.op.initial) + index]
        following = [n for n, value in enumerate(ends) if behind_views(value) is argument and n != index]
        return max((1 + self._rounds_on(n) for n in following), default=0)

    def offer(self, memory: Sequence[Value]) -> None:
        """The memory of this round is the first of each turn."""
        for value, group in zip(self.sizes, self._groups(memory), strict=True):
            self.program.destinations[value] = group[0]

    def next(self, memory: Sequence[Value]) -> list[Value]:
        """The order in the round that follows."""
        return [value for group in self._groups(memory) for value in (*group[1:], group[0])]

    def _groups(self, memory: Sequence[Value]) -> list[Sequence[Value]]:
        rest = list(memory)
        groups: list[Sequence[Value]] = []
        for count in self.sizes.values():
            groups.append(rest[:count])
            rest = rest[count:]
        return groups
