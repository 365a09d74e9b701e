"""Control flow -> `tensor.for`, `tensor.while` and `tensor.if`; the bodies are converted where they go.

graph.loop 8, %x { ^bb0(%i, %go, %v): .. yield %go, %w, %row }  ->  tensor.for %x { ^bb0(%i, %v): .. yield %w, %row }

Where the number of rounds is known beforehand, and no round changes a size, that is a `tensor.for`. Else it is a
`tensor.while`, which measures what is carried at the head of each round, and what has become of it behind the last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.arith import IndexCastOp, SubIOp
from stepwell.dialects.graph import control as graph
from stepwell.dialects.graph.base import Array
from stepwell.dialects.graph.control import symbols_of, yielded
from stepwell.dialects.tensor import (
    ConstantOp,
    DimsAttr,
    ForOp,
    IfOp,
    MeasureOp,
    RowOp,
    SizeOp,
    WhileOp,
    YieldOp,
    is_condition,
    tensor_type,
)
from stepwell.ir.affine_expr import dim
from stepwell.ir.attributes import UnitAttr, elements
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.dims import Dim, free_symbols, proven_equal
from stepwell.ir.types import I1, I64, INDEX, IntegerType, TensorType, is_unsigned, tensor_of
from stepwell.lowering.to_tensor.demands import require_zero
from stepwell.lowering.to_tensor.places import BORN, moved, reshaped, result_type
from stepwell.lowering.to_tensor.rules import lowers, map_generic, signless
from stepwell.lowering.to_tensor.scalars import Scalars

ROUND, CONDITION = TensorType((), I64), TensorType((), I1)


@lowers(graph.YieldOp)
def leave(op: graph.YieldOp, c: Conversion) -> list[Value]:
    """graph.yield  ->  tensor.yield"""
    c.insert(YieldOp([c.new(value) for value in op.values]))
    return []


def filled(c: Conversion, source: Block, arguments: Sequence[Value], target: Block) -> YieldOp:
    """Convert a body into a block that may hold some ops already; returns its terminator."""
    c.convert_into(source, arguments, target)
    last = target.last
    made = last.prev if last is not None else None  # the source's own terminator goes when all is converted
    assert isinstance(made, YieldOp)
    return made


def check_tensors(what: str, values: Sequence[Value]) -> None:
    """Raise NoMatch where values are no tensors."""
    for number, value in enumerate(values):
        if not isinstance(value.type, TensorType):
            raise NoMatch(f"{what} {number} is no tensor: {value.type}")


def keep_types(values: Sequence[Value], wanted: Sequence[Value]) -> bool:
    """Whether values have the types that others have."""
    return all(value.type is other.type for value, other in zip(values, wanted, strict=True))


def result_types(op: graph.RegionOp) -> list[TensorType]:
    """The types of the results. Raises NoMatch where sizes are born while the op runs."""
    return [result_type(op, index) for index in range(len(op.results))]


@lowers(graph.IfOp)
def if_(op: graph.IfOp, c: Conversion) -> list[Value]:
    """graph.if {new_dims = ["k"]}  ->  tensor.if; tensor.measure {symbol = "k"}"""
    check_tensors("the branches' result", op.results)
    op.attributes[BORN] = UnitAttr()  # measured below
    types, condition = result_types(op), truth(c, op.condition)
    sides = []
    for side in op.regions:
        block = Block()
        filled(c, side.block, [], block)
        sides.append(Region([block]))
    made = c.insert(IfOp(condition, result_types=types, regions=sides))
    measure(c, made.outputs, op.new_dims)
    return list(made.outputs)


def measure(c: Conversion, values: Sequence[Value], names: Sequence[str]) -> None:
    """Bind the symbols of these names that are sizes of the values."""
    missing = set(names)
    for value in values:
        for axis, size in enumerate(tensor_type(value).shape):
            for name in free_symbols(size) & missing:
                c.insert(MeasureOp(value, axis=axis, symbol=name))
                missing.remove(name)


def truth(c: Conversion, value: Value) -> Value:
    """A condition. Raises NoMatch where it may have more than one element."""
    if not is_condition(signless(value.type)):
        raise NoMatch(f"the condition has one element; {value.type} may have another number")
    return c.new(value)


@lowers(graph.LoopOp)
def loop(op: graph.LoopOp, c: Conversion) -> list[Value]:
    """graph.loop  ->  tensor.for where the number of rounds is known beforehand, else tensor.while"""
    ends = yielded(op.body)
    carried = len(op.initial)
    arguments = op.body.block.arguments[2:]
    check_tensors("carried value", arguments)
    check_tensors("yielded value", ends)
    rounds = op.rounds
    steady = keep_types(op.initial, arguments) and keep_types(ends[1 : carried + 1], arguments)
    if rounds is not None and steady and not op.new_dims:
        return _counted(op, c, rounds)
    return _while(op, c)


def _counted(op: graph.LoopOp, c: Conversion, rounds: Dim) -> list[Value]:
    """The round's number, which the body takes as a tensor, is a row of 0, 1, .., made before the loop."""
    starts = [c.new(value) for value in op.initial]
    numbers = map_generic(
        c, [], TensorType((rounds,), I64), lambda s: s.emit(IndexCastOp(s.index(0), result_types=[I64]))
    )
    always = constant(c, np.array(True))
    block = Block([INDEX, *(value.type for value in starts)])
    number = Builder.at_end(block, op.loc).insert(RowOp(numbers, block.arguments[0])).result
    last = filled(c, op.body.block, [number, always, *block.arguments[1:]], block)
    last.set_operands(last.operands[1:])
    collected = len(last.operands) - len(starts)
    return list(_for(c, starts, block, rounds, [0] * collected).outputs)


def _for(c: Conversion, starts: Sequence[Value], block: Block, rounds: Dim, backward: Sequence[int]) -> ForOp:
    last = next(op for op in reversed(list(block)) if isinstance(op, YieldOp))
    rows = [tensor_type(value) for value in last.operands[len(starts) :]]
    types = [*(value.type for value in starts), *(row.with_shape((rounds, *row.shape)) for row in rows)]
    return c.insert(
        ForOp(starts, steps=DimsAttr((rounds,)), backward=backward, result_types=types, regions=[Region([block])])
    )


def constant(c: Conversion, array: Array) -> Value:
    """A tensor known now."""
    type_ = signless(tensor_of(array))
    assert isinstance(type_, TensorType)
    return c.insert(ConstantOp(value=elements(array, type_))).result


def _while(op: graph.LoopOp, c: Conversion) -> list[Value]:
    """The condition, and the number of the round, are carried along."""
    op.attributes[BORN] = UnitAttr()  # measured below
    results = result_types(op)
    always = constant(c, np.array(True))
    first = constant(c, np.array(0, np.int64))
    going = always if op.condition is None else reshaped(c, truth(c, op.condition), ())
    limit = None if op.count is None else whole(c, op.count)
    starts = [_below(c, going, first, limit), first, *(c.new(value) for value in op.initial)]
    carried = [signless(argument.type) for argument in op.body.block.arguments[2:]]
    block = Block([value.type for value in starts[:2]] + carried)
    outside, c.builder = c.builder, Builder.at_end(block, op.loc)
    for begin, argument in zip(starts, block.arguments, strict=True):
        measure(c, [argument], sorted(symbols_of(argument.type) - symbols_of(begin.type)))
    c.builder = outside
    last = filled(c, op.body.block, [block.arguments[1], always, *block.arguments[2:]], block)
    c.builder = Builder.before(last)
    following = map_generic(c, [block.arguments[1]], ROUND, lambda s, i: s.add(i, s.constant(1, I64)))
    again = reshaped(c, last.operands[0], ())
    last.set_operands([_below(c, again, following, limit), following, *last.operands[1:]])
    c.builder = outside
    types = [*(value.type for value in starts[:2]), *results]
    made = c.insert(WhileOp(starts, regions=[Region([block])], result_types=types)).outputs[2:]
    measure(c, made, op.new_dims)
    return list(made)


def whole(c: Conversion, value: Value) -> Value:
    """A count as tensor<i64>. Raises NoMatch where it may have more than one element."""
    type_ = tensor_type(value)
    if any(size != 1 for size in type_.shape):
        raise NoMatch(f"the count has one element; {type_} may have another number")
    assert isinstance(type_.element, IntegerType)
    unsigned = is_unsigned(type_)
    return map_generic(c, [reshaped(c, c.new(value), ())], ROUND, lambda s, n: s.resized(n, I64, unsigned))


def _below(c: Conversion, condition: Value, number: Value, limit: Value | None) -> Value:
    """The condition, and number < limit."""

    def body(s: Scalars, holds: Value, n: Value, most: Value) -> Value:
        return s.both(holds, s.compare("lt", n, most))

    return condition if limit is None else map_generic(c, [condition, number, limit], CONDITION, body)


@lowers(graph.ScanOp)
def scan(op: graph.ScanOp, c: Conversion) -> list[Value]:
    """graph.scan  ->  tensor.for over rows; other axes are moved to the front before, and from there behind it"""
    rounds, carried = op.rounds(), len(op.initial)
    check_tensors("carried value", op.initial)
    types = result_types(op)
    starts = [c.new(value) for value in op.initial]
    inputs = [rows_first(c, c.new(value), axis) for value, axis in zip(op.inputs, op.input_axes, strict=True)]
    block = Block([INDEX, *(value.type for value in starts)])
    inner = Builder.at_end(block, op.loc)
    places: dict[int, Value] = {0: block.arguments[0]}
    if 1 in op.input_reversed:
        end = inner.insert(SizeOp(of=DimsAttr((rounds - 1,)))).result
        places[1] = inner.insert(SubIOp(end, places[0])).result
    slices = [inner.insert(RowOp(v, places[back])).result for v, back in zip(inputs, op.input_reversed, strict=True)]
    last = filled(c, op.body.block, [*block.arguments[1:], *slices], block)
    _keep_sizes(op, c, last)
    made = _for(c, starts, block, rounds, op.output_reversed)
    stacks = zip(made.stacks, op.output_axes, types[carried:], strict=True)
    return [*made.finals, *(rows_along(c, value, axis, type_) for value, axis, type_ in stacks)]


def _keep_sizes(op: graph.ScanOp, c: Conversion, last: YieldOp) -> None:
    """yield %v : tensor<?xf32, ["max(n, m)"]>  ->  check.require max(n, m) == n; yield %v as tensor<?xf32, ["n"]>"""
    outside, c.builder = c.builder, Builder.before(last)
    for index, begin in enumerate(op.initial):
        value, wanted = last.operands[index], tensor_type(begin)
        for size, own in zip(tensor_type(value).shape, wanted.shape, strict=True):
            if not proven_equal(size, own):
                require_zero(c, size - own, f"{op.op_name}: {graph.KEPT}", op.loc)
        last.set_operand(index, reshaped(c, value, wanted.shape))
    c.builder = outside


def rows_first(c: Conversion, value: Value, axis: int) -> Value:
    """The value with one axis moved to the front."""
    shape = tensor_type(value).shape
    if not axis:
        return value
    result = tensor_type(value).with_shape((shape[axis], *shape[:axis], *shape[axis + 1 :]))
    before, behind = range(1, axis + 1), range(axis + 1, len(shape))
    return moved(c, result, inputs=[value], maps=[[*map(dim, before), dim(0), *map(dim, behind)]])


def rows_along(c: Conversion, value: Value, axis: int, result: TensorType) -> Value:
    """The value with its first axis moved."""
    if not axis:
        return reshaped(c, value, result.shape)
    return moved(c, result, inputs=[value], maps=[[dim(axis), *(dim(d) for d in range(result.rank) if d != axis)]])
