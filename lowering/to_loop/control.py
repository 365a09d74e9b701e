"""Control flow leaves the tensor landing: loops and branches of the program around launches, over memory.

%h = tensor.for %h0 { .. yield %h1 }   ->   %a, %b = alloc
                                            %h, .. = loop.for iter(%h = %h0, %d0 = %a, %d1 = %b) {
                                              launch @k(%h, .., %d0)
                                              yield %d0, %d1, %d0
                                            }

%x = tensor.while %c, %x0 { .. yield %c1, %x1, %row }
->  %x, .. = loop.while %c0, %x0, %turn = 0, %rows = .. {
      %d = heap.alloc %turn(%k) {turns = 2}                     (what grows: the next round reads it in this turn)
      %all = heap.alloc %0(%i + 1) {turns = 1, keeps}           (what is collected: %i rows and one more)
      launch @k(.., %d, row %i of %all)
      yield .., %d, 1 - %turn, %all
    }

Memory itself is carried: a round reads a value where the round before has written it. A carried value is written into
memories that take turns, as many as rounds pass until nobody reads it any more; a row that is collected is written into
its place in the stack, and read there by the next round if it is carried as well. Nothing is copied.
Where a round decides a size, memories are segments of the heap; the numbers of those that take turns are carried."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from stepwell.dialects import buffer, heap, loop
from stepwell.dialects.arith import CmpIOp, OrIOp, SubIOp, index_constant
from stepwell.dialects.check import RequireOp
from stepwell.dialects.tensor import ForOp, IfOp, WhileOp, tensor_type
from stepwell.dialects.tensor_control import ROWS_DIFFER
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.dims import DimExpr, free_symbols
from stepwell.ir.types import DYNAMIC, MemRefType, TensorType, Type
from stepwell.lowering.loop.index import IndexBuilder
from stepwell.lowering.tensor.separate import behind_views, is_placed, origin
from stepwell.lowering.to_loop.buffers import buffer_type

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
    turns, growing, stacks = Turns(program, op), Growing(program, op), Stacks(program, op)
    opened = zip(op.initial, op.body.block.arguments, strict=True)
    starts = [_retyped(program.builder, program.buffers[v], buffer_type(a.type)) for v, a in opened]
    groups = turns.memory, growing.turns, stacks.memory
    inits = [*starts, *(value for group in groups for value in group)]
    types = [value.type for value in inits]
    before, body = Block(types), Block(types)
    test = Builder.at_end(before, op.loc)
    loop.yield_values(test, [_truth(test, before.arguments[0]), *before.arguments])
    made = loop.WhileOp(inits, result_types=types, regions=[Region([before]), Region([body])])
    program.builder.insert(made)
    carried = len(op.initial)
    wanted = types[:carried]
    rest = iter(body.arguments[carried:])
    memory, numbers, rows = ([next(rest) for _ in group] for group in groups)
    _bind(program, op.body.block.arguments, body.arguments[:carried])
    turns.offer(memory)
    growing.offer(numbers)
    stacks.offer(rows)
    ends = _converted(program, op.body.block, body)[:carried]
    end = Builder.at_end(body, op.loc)
    following = [*turns.next(memory), *growing.next(end, numbers), *stacks.grown]
    loop.yield_values(end, [*(_retyped(end, *pair) for pair in zip(ends, wanted, strict=True)), *following])
    program.set_before(op)
    results = *made.results[:carried], *made.results[len(made.results) - len(op.stacks) :]
    for value, place in zip(op.outputs, results, strict=True):
        program.bind(value, _retyped(program.builder, place, buffer_type(value.type)))


def _if(program: Program, op: IfOp) -> None:
    truth = _truth(program.builder, program.buffers[op.condition])
    made = loop.IfOp.build(truth, [buffer_type(value.type) for value in op.outputs])
    program.builder.insert(made)
    for side, new in zip(op.regions, made.regions, strict=True):
        ends = _converted(program, side.block, new.block)
        builder = Builder.at_end(new.block, op.loc)
        loop.yield_values(builder, [_retyped(builder, a, b.type) for a, b in zip(ends, made.results, strict=True)])
    _bind(program, op.outputs, made.results)


def _retyped(builder: Builder, memory: Value, wanted: Type) -> Value:
    """The memory of a value that is handed on, under a type that leaves other sizes open than the value's type.

    yield %a : memref<4xf32>  ->  yield (buffer.reshape %a(%4) : memref<4xf32> to memref<?xf32>)"""
    if memory.type is wanted or not isinstance(wanted, MemRefType):
        return memory
    index = IndexBuilder(builder)
    shape = buffer.memref_type(memory).shape
    sizes = [
        index.constant(size) if size != DYNAMIC else builder.insert(buffer.DimOp(memory, axis=axis)).result
        for axis, (size, known) in enumerate(zip(shape, wanted.shape, strict=True))
        if known == DYNAMIC
    ]
    return builder.insert(buffer.ReshapeOp(memory, sizes, result_types=[wanted])).result


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
        self.sizes: dict[Value, int] = {}
        carried = len(op.initial)
        ends = op.body.block.terminator.operands
        collected = {origin(value) for value in ends[carried:]}
        for index, value in enumerate(ends[:carried]):
            source = origin(value)
            inside = source.owner_block is op.body.block
            if source not in collected and inside and is_placed(source):
                self.sizes[source] = max(self.sizes.get(source, 0), 2 + rounds_on(op, index))
        growing = set(growing_values(op))
        self.sizes = {source: count for source, count in self.sizes.items() if source not in growing}
        self.memory = [program.allocated(value) for value, count in self.sizes.items() for _ in range(count)]

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


def rounds_on(op: ForOp | WhileOp, index: int) -> int:
    """Through how many more rounds a value is handed, once it is carried at a position. What is handed on for ever was
    never written inside, since every position has one source."""
    block = op.body.block
    ends = block.terminator.operands[: len(op.initial)]
    argument = block.arguments[len(block.arguments) - len(op.initial) + index]
    following = [n for n, value in enumerate(ends) if behind_views(value) is argument and n != index]
    return max((1 + rounds_on(op, n) for n in following), default=0)


def growing_values(op: ForOp | WhileOp) -> dict[Value, int]:
    """The values made in a round and carried on whose sizes only the round tells, and how many memories take turns."""
    found: dict[Value, int] = {}
    for index, value in enumerate(op.body.block.terminator.operands[: len(op.initial)]):
        source = origin(value)
        grows = isinstance(op, WhileOp) and not op.keeps_type(index)
        if grows and is_placed(source) and source.owner_block is op.body.block:
            found[source] = max(found.get(source, 0), 2 + rounds_on(op, index))
    return found


class Growing:
    """The segments into which a loop's body writes what it carries on, where a round decides the size."""

    def __init__(self, program: Program, op: WhileOp) -> None:
        self.program = program
        self.counts = growing_values(op)
        self.turns = [program.index.constant(0) for _ in self.counts]

    def offer(self, turns: Sequence[Value]) -> None:
        """The segments of this round."""
        for (value, count), turn in zip(self.counts.items(), turns, strict=True):
            self.program.makers[value] = partial(self.program.turning, value.type, turn, count)

    def next(self, builder: Builder, turns: Sequence[Value]) -> list[Value]:
        """The turns of the round that follows."""
        index = IndexBuilder(builder)
        one = index.constant(1)
        return [
            index.mod(index.add(turn, one), index.constant(count))
            for turn, count in zip(turns, self.counts.values(), strict=True)
        ]


class Stacks:
    """What a loop collects whose number of rounds is not known: each in a segment that grows with every row."""

    def __init__(self, program: Program, op: WhileOp) -> None:
        self.program = program
        self.rows = list(op.body.block.terminator.operands[len(op.initial) :])
        self.loc = op.loc
        self.known = set(program.symbols)
        self.grown: list[Value] = []
        self.memory = [self._empty(tensor_type(stack)) for stack in op.stacks]

    def _empty(self, stack: TensorType) -> Value:
        """No rows."""
        program, nothing = self.program, self.program.index.constant(0)
        sizes = [
            program.index.dim(size, program.symbols) if free_symbols(size) <= self.known else nothing
            for size in stack.shape[1:] if isinstance(size, DimExpr)
        ]  # fmt: skip
        type_ = MemRefType((DYNAMIC, *buffer_type(stack).shape[1:]), stack.element)
        place = heap.AllocOp(nothing, [nothing, *sizes], turns=1, result_types=[type_])
        return program.builder.insert(place).result

    def offer(self, stacks: Sequence[Value]) -> None:
        """The place of this round's row is behind those of the rounds before."""
        self.grown = list(stacks)
        for number, row in enumerate(self.rows):
            self.program.makers[origin(row)] = partial(self._place, number, origin(row))

    def _place(self, number: int, source: Value) -> Value:
        index, row, stack = self.program.index, tensor_type(self.rows[number]), self.grown[number]
        builder = index.builder
        place = builder.insert(buffer.DimOp(stack, axis=0)).result
        sizes = [index.add(place, index.constant(1))]
        for axis, size in enumerate(row.shape, start=1):
            if buffer.memref_type(stack).shape[axis] == DYNAMIC:
                sizes.append(index.dim(size, self.program.symbols))
                if not free_symbols(size) <= self.known:
                    self._check(index, stack, axis, sizes[-1], place)
        grown = heap.AllocOp(index.constant(0), sizes, turns=1, keeps=True, result_types=[stack.type])
        self.grown[number] = builder.insert(grown).result
        slot = builder.insert(buffer.SliceOp(self.grown[number], place)).result
        return self.program.typed(slot, source.type)

    def _check(self, index: IndexBuilder, stack: Value, axis: int, size: Value, place: Value) -> None:
        """A row has the sizes of those before it."""
        insert = index.builder.insert
        before = insert(buffer.DimOp(stack, axis=axis)).result
        first = insert(CmpIOp(place, index.constant(0), predicate="eq")).result
        same = insert(CmpIOp(size, before, predicate="eq")).result
        insert(RequireOp(insert(OrIOp(first, same)).result, size, message=ROWS_DIFFER, loc=self.loc))
