"""Structured control flow as blocks and phis; calls; the ops that talk to the run time."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects import arith, cpu, func, kernel, loop
from stepwell.dialects.arith import ConstantOp, constant_int
from stepwell.errors import TargetError
from stepwell.ir.core import Value
from stepwell.ir.types import MemRefType

from .function import TRACED_TASK, FunctionEmitter, Label, emits, flat_types, task_symbol
from .types import register_type


@emits(ConstantOp, loop.YieldOp)
def nothing(e: FunctionEmitter, op: ConstantOp | loop.YieldOp) -> None:
    """Constants are written where they are used, yielded values by the op around them."""


def _flat(e: FunctionEmitter, values: Sequence[Value]) -> list[str]:
    return [text for value in values for text in e.registers(value)]


def _grouped(e: FunctionEmitter, values: Sequence[Value], registers: Sequence[str]) -> list[list[str]]:
    """Registers dealt out to the values that they stand for."""
    rest, groups = list(registers), []
    for value in values:
        count = len(flat_types([value.type]))
        groups.append(rest[:count])
        rest = rest[count:]
    return groups


def _phis(block: Label, names: Sequence[str], types: Sequence[str], *edges: tuple[Label, Sequence[str]]) -> None:
    """One phi per name in a block; each edge is a predecessor and the values that come from it."""
    for position, (name, type_) in enumerate(zip(names, types, strict=True)):
        given = ", ".join(f"[ {texts[position]}, %{source.name} ]" for source, texts in edges)
        block.phis.append(f"{name} = phi {type_} {given}")


def _define(e: FunctionEmitter, values: Sequence[Value], registers: Sequence[str]) -> None:
    for value, group in zip(values, _grouped(e, values, registers), strict=True):
        e.define(value, group)


@emits(loop.ForOp)
def for_loop(e: FunctionEmitter, op: loop.ForOp) -> None:
    """Tested at the end, with a test in front unless the loop surely runs:

    before: br (lower < upper), body, exit      body: phis ... next = i + step; br (next < upper), body, exit
    """
    lower, upper, step = (e.value(v) for v in (op.lower, op.upper, op.step))
    inits, types = _flat(e, op.inits), flat_types(v.type for v in op.inits)
    before, body = e.block, e.start_block("for")
    inner = len(e.scopes)
    index, carried = e.fresh(inner), [e.fresh(inner) for _ in inits]
    arguments = [[index], *_grouped(e, op.inits, carried)]
    yielded = [text for group in e.body(body, op.block, arguments) for text in group]
    latch, done = e.left, e.start_block("endfor")
    again, following = e.fresh(inner), e.fresh(inner)
    latch.lines += [
        f"{following} = add i64 {index}, {step}",
        f"{again} = icmp slt i64 {following}, {upper}",
        f"br i1 {again}, label %{body.name}, label %{done.name}",
    ]
    low, high = constant_int(op.lower), constant_int(op.upper)
    surely = low is not None and high is not None and low < high
    if surely:
        e.line(f"br label %{body.name}")
    else:
        enters = e.emit(f"icmp slt i64 {lower}, {upper}")
        e.line(f"br i1 {enters}, label %{body.name}, label %{done.name}")
    _phis(body, [index, *carried], ["i64", *types], (before, [lower, *inits]), (latch, [following, *yielded]))
    e.move_to(done)
    finals = [e.fresh() for _ in inits]
    _phis(done, finals, types, (latch, yielded), *([] if surely else [(before, inits)]))
    _define(e, op.finals, finals)


@emits(loop.IfOp)
def conditional(e: FunctionEmitter, op: loop.IfOp) -> None:
    """Two sides that meet again; the second may be empty."""
    before, condition = e.block, e.value(op.condition)
    then = e.start_block("then")
    given = [text for group in e.body(then, op.then.block, []) for text in group]
    then_left, other, other_left = e.left, None, before
    others: list[str] = []
    if op.otherwise.blocks:
        other = e.start_block("else")
        others = [text for group in e.body(other, op.otherwise.block, []) for text in group]
        other_left = e.left
    done = e.start_block("endif")
    for left in {then_left, other_left} - {before}:
        left.lines.append(f"br label %{done.name}")
    e.line(f"br i1 {condition}, label %{then.name}, label %{(other or done).name}")
    e.move_to(done)
    finals = [e.fresh() for _ in given]
    _phis(done, finals, flat_types(v.type for v in op.finals), (then_left, given), (other_left, others))
    _define(e, op.finals, finals)


@emits(loop.WhileOp)
def while_loop(e: FunctionEmitter, op: loop.WhileOp) -> None:
    """before: br test      test: phis ... br condition, body, exit      body: ... br test"""
    inits, types = _flat(e, op.inits), flat_types(v.type for v in op.inits)
    before, test = e.block, e.start_block("while")
    carried = [e.fresh(len(e.scopes)) for _ in inits]
    holds, *passed = e.body(test, op.before.block, _grouped(e, op.inits, carried))
    tested, body = e.left, e.start_block("do")
    yielded = [text for group in e.body(body, op.body.block, passed) for text in group]
    latch, done = e.left, e.start_block("endwhile")
    tested.lines.append(f"br i1 {holds[0]}, label %{body.name}, label %{done.name}")
    latch.lines.append(f"br label %{test.name}")
    e.line(f"br label %{test.name}")
    _phis(test, carried, types, (before, inits), (latch, yielded))
    e.move_to(done)
    finals = [e.fresh() for group in passed for _ in group]
    _phis(done, finals, flat_types(v.type for v in op.finals), (tested, [t for group in passed for t in group]))
    _define(e, op.finals, finals)


@emits(arith.SelectOp)
def select(e: FunctionEmitter, op: arith.SelectOp) -> None:
    """One select per register that stands for the values."""
    condition = e.typed(op.condition)
    if isinstance(op.result.type, MemRefType):
        picked = [
            e.emit(f"select {condition}, {type_} {a}, {type_} {b}")
            for type_, a, b in zip(
                flat_types([op.result.type]), e.registers(op.true_value), e.registers(op.false_value), strict=True
            )
        ]
        e.define(op.result, picked)
        return
    type_ = register_type(op.result.type)
    a, b = e.value(op.true_value), e.value(op.false_value)
    e.bind(op.result, e.emit(f"select {condition}, {type_} {a}, {type_} {b}"))


@emits(func.CallOp)
def call(e: FunctionEmitter, op: func.CallOp) -> None:
    """A kernel gets the team, this thread's scratch memory, then its own arguments."""
    if op.outputs:
        raise TargetError(f"@{op.callee}: a kernel returns nothing")
    types = flat_types(v.type for v in op.inputs)
    given = ["ptr " + e.team, "ptr " + e.scratch]
    given += [f"{type_} {text}" for type_, text in zip(types, _flat(e, op.inputs), strict=True)]
    e.context.use(op.callee)
    e.line(f'call void @"{op.callee}"({", ".join(given)})')


@emits(func.ReturnOp)
def leave(e: FunctionEmitter, op: func.ReturnOp) -> None:
    """Kernels return nothing; a program that comes to its end answers 0."""
    if op.values:
        raise TargetError("a compiled function returns nothing: results are written to buffers")
    e.line(e.success)


@emits(cpu.ShareOp)
def share(e: FunctionEmitter, op: cpu.ShareOp) -> None:
    """sw_share, with the kernel's arguments in memory"""
    place = e.packed(zip(flat_types(v.type for v in op.inputs), _flat(e, op.inputs), strict=True))
    name = task_symbol(op.callee)
    e.context.use(name)
    e.line(f'call void @sw_share(ptr {e.team}, ptr @"{name}", ptr {place}, i64 {e.value(op.grains)})')


@emits(cpu.TracedShareOp)
def traced_share(e: FunctionEmitter, op: cpu.TracedShareOp) -> None:
    """sw_share of what runs the kernel's task between two clocks"""
    name = task_symbol(op.callee)
    e.context.use(name)
    base, *_ = e.registers(op.records)
    row = e.value(op.row)
    place = e.emit(f"getelementptr [{cpu.RECORD_WORDS} x i64], ptr {base}, i64 {row}")
    left = e.emit(f"sub i64 {_rows(e, op.records)}, {row}")
    given = zip(flat_types(v.type for v in op.inputs), _flat(e, op.inputs), strict=True)
    arguments = e.traced([("ptr", f'@"{name}"'), ("ptr", place), ("i64", left), ("i64", str(op.launch))], given)
    e.line(f'call void @sw_share(ptr {e.team}, ptr @"{TRACED_TASK}", ptr {arguments}, i64 {e.value(op.grains)})')


def _rows(e: FunctionEmitter, memory: Value) -> str:
    size = e.memory[memory].sizes[0]
    if size is None:
        raise TargetError("the number of rows for records is not known")
    return str(size)


@emits(cpu.JoinOp)
def join(e: FunctionEmitter, op: cpu.JoinOp) -> None:
    """sw_join"""
    _leave_unless_well(e, e.join())


@emits(cpu.PollOp)
def poll(e: FunctionEmitter, op: cpu.PollOp) -> None:
    """sw_poll"""
    _leave_unless_well(e, e.emit(f"call i64 @sw_poll(ptr {e.team})"))


def _leave_unless_well(e: FunctionEmitter, status: str) -> None:
    """Return a status other than 0."""
    failed = e.emit(f"icmp ne i64 {status}, 0")
    leaving, going_on = e.start_block("failed"), e.start_block("next")
    e.line(f"br i1 {failed}, label %{leaving.name}, label %{going_on.name}")
    leaving.lines.append(f"ret i64 {status}")
    e.move_to(going_on)


@emits(cpu.ClockOp, kernel.EntropyOp)
def clock(e: FunctionEmitter, op: cpu.ClockOp | kernel.EntropyOp) -> None:
    """sw_now"""
    e.bind(op.result, e.emit("call i64 @sw_now()"))


@emits(cpu.ReportOp)
def report(e: FunctionEmitter, op: cpu.ReportOp) -> None:
    """sw_report"""
    e.report(op.message, op, e.value(op.value))
