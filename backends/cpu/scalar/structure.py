"""Loops, branches, and whole stages; what is carried from one round to the next lies in slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stepwell.backends.cpu.emit.types import constant_literal
from stepwell.dialects import arith, func, loop
from stepwell.ir.affine_expr import AffineExpr
from stepwell.ir.core import Region, Value

from .memory import Memory, load, store
from .writer import Writer, writes


@writes(arith.ConstantOp, loop.YieldOp)
def nothing(w: Writer, op: arith.ConstantOp | loop.YieldOp) -> None:
    """Constants are written where they are used, yielded values by the op around."""


@writes(func.ReturnOp)
def leave(w: Writer, op: func.ReturnOp) -> None:
    """The end of a kernel that found no error."""
    w.line("ret i64 0")


class Carried:
    """Slots for values that change from round to round."""

    def __init__(self, w: Writer, values: Sequence[Value]) -> None:
        self.w = w
        self.types = [w.types_of(value) for value in values]
        self.slots = [[w.slot(type_) for type_ in types] for types in self.types]

    def set(self, registers: Sequence[Sequence[str]]) -> None:
        """Store the values of the next round."""
        for types, slots, texts in zip(self.types, self.slots, registers, strict=True):
            for type_, place, text in zip(types, slots, texts, strict=True):
                self.w.line(f"store {type_} {text}, ptr {place}")

    def get(self) -> list[list[str]]:
        """Load them."""
        return [[self.w.emit(f"load {type_}, ptr {place}") for type_, place in zip(types, slots, strict=True)]
                for types, slots in zip(self.types, self.slots, strict=True)]  # fmt: skip

    def become(self, values: Sequence[Value]) -> None:
        """Define values by what they are in the end."""
        for value, registers in zip(values, self.get(), strict=True):
            self.w.define(value, registers)


def counted(w: Writer, lower: str, upper: str, step: str, body: Callable[[str], None]) -> None:
    """for (i = lower; i < upper; i += step) body(i)"""
    place = w.slot("i64")
    test, inside, done = w.label("test"), w.label("body"), w.label("done")
    w.line(f"store i64 {lower}, ptr {place}")
    w.jump(test)
    w.start(test)
    index = w.emit(f"load i64, ptr {place}")
    w.branch(w.emit(f"icmp slt i64 {index}, {upper}"), inside, done)
    w.start(inside)
    body(index)
    w.line(f"store i64 {w.emit(f'add i64 {index}, {step}')}, ptr {place}")
    w.jump(test)
    w.start(done)


@writes(loop.ForOp)
def for_loop(w: Writer, op: loop.ForOp) -> None:
    """In order."""
    carried = Carried(w, op.inits)
    carried.set([w.registers(value) for value in op.inits])
    lower, upper, step = (w.value(value) for value in (op.lower, op.upper, op.step))
    w.require(w.emit(f"icmp sgt i64 {step}, 0"), op)
    counted(w, lower, upper, step, lambda index: carried.set(w.block(op.block, [[index], *carried.get()])))
    carried.become(op.finals)


@writes(loop.ParallelOp)
def parallel_loop(w: Writer, op: loop.ParallelOp) -> None:
    """In order, which is one of the orders that are allowed."""
    lower, upper, step = (w.value(value) for value in (op.lower, op.upper, op.step))
    w.require(w.emit(f"icmp sgt i64 {step}, 0"), op)

    def body(index: str) -> None:
        w.block(op.block, [[index]])

    counted(w, lower, upper, step, body)


@writes(loop.IfOp)
def conditional(w: Writer, op: loop.IfOp) -> None:
    """Each side stores what it gives."""
    given = Carried(w, op.finals)
    sides = [(w.label("side"), side) for side in op.regions if side.blocks]
    done = w.label("done")
    w.branch(w.value(op.condition), sides[0][0], sides[1][0] if len(sides) > 1 else done)
    for label, side in sides:
        w.start(label)
        given.set(w.block(side.block))
        w.jump(done)
    w.start(done)
    given.become(op.finals)


@writes(loop.WhileOp)
def while_loop(w: Writer, op: loop.WhileOp) -> None:
    """test: before; leave unless it holds; body; test again"""
    carried, passed = Carried(w, op.inits), Carried(w, op.finals)
    carried.set([w.registers(value) for value in op.inits])
    test, body, done = w.label("test"), w.label("body"), w.label("done")
    w.jump(test)
    w.start(test)
    (holds, *values) = w.block(op.before.block, carried.get())
    passed.set(values)
    w.branch(holds[0], body, done)
    w.start(body)
    carried.set(w.block(op.body.block, passed.get()))
    w.jump(test)
    w.start(done)
    passed.become(op.finals)


@writes(arith.SelectOp)
def select(w: Writer, op: arith.SelectOp) -> None:
    """Of a buffer, every part of its descriptor."""
    types = w.types_of(op.result)
    sides = zip(w.registers(op.true_value), w.registers(op.false_value), strict=True)
    made = [w.emit(f"select {w.typed(op.condition)}, {type_} {a}, {type_} {b}")
            for type_, (a, b) in zip(types, sides, strict=True)]  # fmt: skip
    w.define(op.result, made)


# Stages


@writes(loop.StageOp)
def stage(w: Writer, op: loop.StageOp) -> None:
    """One loop per dim, the parallel ones outside; at each point the body, as `loop.stage` describes it. Where there is
    a border, the outputs hold it before."""
    if op.border is not None:
        for value in op.outputs:
            memory = w.memory[value]
            _fill(w, op, memory, constant_literal(op.border, memory.type.element))
    outside, w.dims = w.dims, [w.value(offset) for offset in op.offsets]
    parallel = [dim for dim in range(len(op.iterators)) if dim not in op.reduction_dims]
    _loops(w, op, parallel, lambda: _map_point(w, op) if op.combine is None else _reduction_point(w, op))
    w.dims = outside


def _fill(w: Writer, op: loop.StageOp, memory: Memory, text: str, place: Sequence[str] = ()) -> None:
    """Every element of a buffer becomes one value."""
    axis = len(place)
    if axis == len(memory.sizes):
        store(w, op, memory, place, text)
        return
    base = memory.bases[axis]
    upper = w.emit(f"add i64 {base}, {memory.sizes[axis]}")
    counted(w, base, upper, "1", lambda index: _fill(w, op, memory, text, [*place, index]))


def _loops(w: Writer, op: loop.StageOp, dims: Sequence[int], body: Callable[[], None]) -> None:
    if not dims:
        body()
        return
    first, *rest = dims
    lower = w.value(op.offsets[first])
    upper = w.emit(f"add i64 {lower}, {w.value(op.sizes[first])}")

    def inside(index: str) -> None:
        w.dims[first] = index
        _loops(w, op, rest, body)

    counted(w, lower, upper, "1", inside)
    w.dims[first] = lower


def affine(w: Writer, expr: AffineExpr) -> str:
    """An index at the current point. Divisors are positive constants; quotients round down."""

    def floordiv(a: str, b: str) -> str:
        quotient, rest = w.emit(f"sdiv i64 {a}, {b}"), w.emit(f"srem i64 {a}, {b}")
        return w.emit(f"add i64 {quotient}, {w.emit(f'ashr i64 {rest}, 63')}")

    def mod(a: str, b: str) -> str:
        return w.emit(f"sub i64 {a}, {w.emit(f'mul i64 {floordiv(a, b)}, {b}')}")

    def plain(name: str) -> Callable[[str, str], str]:
        return lambda a, b: w.emit(f"{name} i64 {a}, {b}")

    return expr.fold(str, lambda i: w.dims[i], str, plain("add"), plain("mul"), floordiv, mod)


def _elements(w: Writer, op: loop.StageOp, first: int, count: int) -> list[list[str]]:
    """What the inputs `first`, `first + 1`, ... hold at the current point."""
    found = []
    for value, map_ in list(zip(op.inputs, op.input_maps, strict=True))[first : first + count]:
        found.append([load(w, op, w.memory[value], [affine(w, expr) for expr in map_.results])])
    return found


def _run(w: Writer, op: loop.StageOp, region: Region, values: Sequence[Sequence[str]]) -> list[list[str]]:
    sources = [w.registers(source) for source in op.sources]
    wanted = len(region.block.arguments)
    return w.block(region.block, [*values, *sources][:wanted])


def _store(w: Writer, op: loop.StageOp, values: Sequence[Sequence[str]]) -> None:
    for memory, map_, (text,) in zip(op.outputs, op.output_maps, values, strict=True):
        store(w, op, w.memory[memory], [affine(w, expr) for expr in map_.results], text)


def _map_point(w: Writer, op: loop.StageOp) -> None:
    _store(w, op, _run(w, op, op.body, _elements(w, op, 0, len(op.body_inputs))))


def _reduction_point(w: Writer, op: loop.StageOp) -> None:
    assert op.combine is not None
    sums = Carried(w, op.combine.block.arguments[: len(op.identities)])
    types = [argument.type for argument in op.combine.block.arguments]
    sums.set([[constant_literal(attribute, type_)] for attribute, type_ in zip(op.identities, types, strict=False)])
    if op.first is not None:
        _unless(w, w.value(op.first), lambda: sums.set(_partial_sums(w, op)))

    def add() -> None:
        values = _run(w, op, op.body, _elements(w, op, 0, len(op.body_inputs)))
        assert op.combine is not None
        sums.set(w.block(op.combine.block, [*sums.get(), *values]))

    _loops(w, op, op.reduction_dims, add)

    def finish() -> None:
        assert op.finalize is not None
        extra = _elements(w, op, len(op.body_inputs), op.epilogue_inputs)
        _store(w, op, _run(w, op, op.finalize, [*sums.get(), *extra]))

    if op.finalize is None:
        _store(w, op, sums.get())
    elif op.last is None:
        finish()
    else:
        _unless(w, w.value(op.last), lambda: _store(w, op, sums.get()))
        _unless(w, w.emit(f"xor i1 {w.value(op.last)}, true"), finish)


def _partial_sums(w: Writer, op: loop.StageOp) -> list[list[str]]:
    """What the outputs hold at the current point, scaled where the stage says so."""
    pairs = zip(op.outputs, op.output_maps, strict=True)
    held = [load(w, op, w.memory[memory], [affine(w, expr) for expr in map_.results]) for memory, map_ in pairs]
    if op.scaled:
        ((factor,),) = _elements(w, op, len(op.inputs) - 1, 1)
        assert op.combine is not None
        (type_,) = w.types_of(op.combine.block.arguments[0])
        held = [w.emit(f"fmul {type_} {sum_}, {factor}") for sum_ in held]
    return [[text] for text in held]


def _unless(w: Writer, condition: str, body: Callable[[], None]) -> None:
    inside, done = w.label("unless"), w.label("done")
    w.branch(condition, done, inside)
    w.start(inside)
    body()
    w.jump(done)
    w.start(done)


@writes(loop.IndexOp)
def index(w: Writer, op: loop.IndexOp) -> None:
    """A place at the current point of the stage around."""
    w.values[op.result] = affine(w, op.of.results[0])
