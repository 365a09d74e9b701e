"""Makes the program that every thread of a team runs.

func @k { loop.parallel %i { loop.parallel %j { body } } }      func @k(..., %grain) { %i, %j = grain; body }
kernel.launch @k(...)                                      ->   loop over cpu.next_grain { func.call @k(..., %g) }
                                                                cpu.barrier

A launch's grains are counted from 0, the last loop fastest. The loops that are shared out are those whose bounds are
known before the first of them starts; loops inside become serial. Which thread runs a grain has no influence on what
it computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from stepwell.dialects import arith, buffer, cpu, func, heap, kernel, loop
from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.check import RequireOp
from stepwell.dialects.func import FuncOp
from stepwell.errors import PassError
from stepwell.ir.attributes import StringAttr, UnitAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.opdef import PURE, Trait, has_trait
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import DYNAMIC, F32, INDEX, MemRefType, TensorType
from stepwell.lowering.loop.index import IndexBuilder
from stepwell.lowering.to_loop.outline import measured_symbols, open_dims

from .scratch import scratch_bytes
from .signature import Signature
from .timer import Timer

SCRATCH = "sw.scratch"
"""The program's attribute that says how many bytes of scratch memory each thread needs, over the inputs' symbols."""


@attrs.frozen
class Spmd(Pass):
    """Share a program's kernels out to the threads of a team.

    `profile` adds an output with the time of every launch (see `timer`)."""

    name: ClassVar[str] = "cpu-spmd"
    profile: bool = False

    def run(self, module: Operation, context: PassContext) -> None:
        assert isinstance(module, ModuleOp)
        functions = [op for op in module.block if isinstance(op, FuncOp)]
        kernels = {op.sym_name: Grains.of(op) for op in functions if "kernel" in op.attributes}
        for function in functions:
            if "kernel" not in function.attributes:
                function.attributes[SCRATCH] = StringAttr(str(scratch_bytes(function)))
                size_outputs(function)
                share_out(function, kernels, profile=self.profile)
        for grains in kernels.values():
            grains.make_parameter()
        erase_unused(module)


@attrs.frozen(eq=False)
class Grains:
    """How a kernel is cut: its outer parallel loops with bounds known in advance, outermost first."""

    function: FuncOp
    loops: tuple[loop.ParallelOp, ...]

    @staticmethod
    def of(function: FuncOp) -> Grains:
        """The perfect nest around the kernel's work; no loops where there is none."""
        loops: list[loop.ParallelOp] = []
        block = function.body.block
        while True:
            body = [op for op in block if not _is_preparation(op)]
            last = body[-1] if body else None
            inner = [op for op in body if op is not last]
            if len(inner) != 1 or not isinstance(inner[0], loop.ParallelOp):
                break
            candidate = inner[0]
            if any(_depends_on(bound, [outer.block for outer in loops]) for bound in candidate.operands):
                break
            loops.append(candidate)
            block = candidate.block
        return Grains(function, tuple(loops))

    def count(self, index: IndexBuilder, arguments: Sequence[Value]) -> Value:
        """Code for the number of grains of a launch with these arguments."""
        mapping: dict[Value, Value] = dict(zip(self.function.arguments, arguments, strict=True))
        total = index.constant(1)
        for nest in self.loops:
            bounds = [_copied(bound, mapping, index.builder) for bound in nest.operands]
            total = index.mul(total, trip_count(index, *bounds))
        return total

    def make_parameter(self) -> None:
        """Replace the loops by one more argument, the grain."""
        for inner in list(self.function.walk_of(loop.ParallelOp)):
            if inner not in self.loops:
                make_serial(inner)
        if not self.loops:
            return
        grain: Value = self.function.entry.add_argument(INDEX, "grain")
        anchor = self.loops[0]
        for nest in self.loops:
            for bound in nest.operands:
                _hoist(bound, anchor)
        self._place(grain, Builder.before(anchor))
        for nest in self.loops:
            nest.block.terminator.erase()
            for op in list(nest.block):
                op.move_before(nest)
            nest.erase()
        self.function.update_type()

    def _place(self, grain: Value, builder: Builder) -> None:
        """Code for the loop variables of a grain."""
        index = IndexBuilder(builder)
        for position, nest in reversed(list(enumerate(self.loops))):
            step = grain
            if position:
                # A grain exists, so every count is at least 1; saying so spares a test for 0.
                count = index.maximum(trip_count(index, *nest.operands), index.constant(1))
                step = builder.insert(arith.RemUIOp(grain, count)).result
                grain = builder.insert(arith.DivUIOp(grain, count)).result
            place = index.add(nest.lower, index.mul(step, nest.step))
            place.name = nest.induction.name
            nest.induction.replace_all_uses_with(place)


def _is_preparation(op: Operation) -> bool:
    """Whether an op may run again for every grain: it has no effect but on memory of the thread's own."""
    return has_trait(op, PURE) or has_trait(op, Trait.IDEMPOTENT) or isinstance(op, buffer.LocalOp)


def _depends_on(value: Value, blocks: Sequence[Block]) -> bool:
    """Whether a value needs an argument of the blocks, or cannot be computed ahead at all."""
    op = value.defining_op
    if op is None:
        return value.owner_block in blocks
    return not has_trait(op, PURE) or any(_depends_on(operand, blocks) for operand in op.operands)


def _copied(value: Value, mapping: dict[Value, Value], builder: Builder) -> Value:
    """The computation of a value, again, from other arguments."""
    if value in mapping:
        return mapping[value]
    op = value.defining_op
    assert op is not None
    for operand in op.operands:
        mapping[operand] = _copied(operand, mapping, builder)
    copy = op.clone(mapping)
    builder.insert(copy)
    return mapping[value]


def _hoist(value: Value, anchor: Operation) -> None:
    """Move the computation of a value, known not to depend on the loops, before the outermost of them."""
    op = value.defining_op
    if op is None or not anchor.is_ancestor_of(op):
        return
    for operand in op.operands:
        _hoist(operand, anchor)
    op.move_before(anchor)


def trip_count(index: IndexBuilder, lower: Value, upper: Value, step: Value) -> Value:
    """max(0, ceil((upper - lower) / step))"""
    padded = index.add(index.sub(upper, lower), index.sub(step, index.constant(1)))
    return index.maximum(index.floordiv(padded, step), index.constant(0))


def make_serial(op: loop.ParallelOp) -> None:
    """loop.parallel -> loop.for"""
    serial = loop.ForOp(
        op.lower, op.upper, op.step, (), label=op.label, result_types=(), regions=[Region()], loc=op.loc
    )
    block = op.block
    op.body.remove(block)
    serial.body.append(block)
    assert op.parent is not None
    op.parent.insert_before(op, serial)
    op.erase()


def erase_unused(root: Operation) -> None:
    """Drop pure ops without uses."""
    for op in reversed(list(root.walk())):
        if has_trait(op, PURE) and not any(result.has_uses for result in op.results):
            op.erase()


# The program


def size_outputs(function: FuncOp) -> None:
    """Give outputs of open sizes these sizes: they follow from the inputs.

    %out : memref<?xf32>  ->  %n = buffer.dim %in ...; %sized = buffer.reshape %out(%n)
    """
    signature = Signature.of(function)
    inputs = len(signature.inputs)
    outputs = function.arguments[inputs : inputs + len(signature.outputs)]
    if all(DYNAMIC not in output.type.shape for output in outputs if isinstance(output.type, MemRefType)):
        return
    builder = Builder.at_start(function.body.block)
    shapes = [TensorType(port.dims, F32) for port in signature.inputs]
    symbols = measured_symbols(function, shapes, builder)
    index = IndexBuilder(builder)
    for argument, port in zip(outputs, signature.outputs, strict=True):
        shape = TensorType(port.dims, F32)
        if port.published or not open_dims(shape) or not argument.has_uses:
            continue
        sizes = [index.dim(dim, symbols) for dim in open_dims(shape)]
        sized = buffer.ReshapeOp(argument, sizes, result_types=[argument.type])
        argument.replace_all_uses_with(sized.result)
        sized.set_operand(0, argument)
        sized.result.name = argument.name
        builder.insert(sized)


def share_out(function: FuncOp, kernels: dict[str, Grains], *, profile: bool = False) -> None:
    """Replace the launches of a program; with `profile`, put clocks around them."""
    written = list(function.walk())
    timer = Timer.of(function) if profile else None
    for op in written:
        if isinstance(op, kernel.LaunchOp):
            if op.callee not in kernels:
                raise PassError(f"{op.loc.label or 'the program'} launches @{op.callee}, which is no kernel")
            launch(op, kernels[op.callee], timer)
        elif isinstance(op, buffer.LoadOp) and not isinstance(op.next, buffer.LoadOp):
            # The program itself has read memory: no thread may overwrite it before all have read it.
            Builder.after(op).insert(cpu.BarrierOp(slots=0))
        elif isinstance(op, heap.SizeOp):
            check_size(op)
        elif isinstance(op, heap.ReserveOp):
            _by_thread_0(Builder.before(op), op, ends=True)
        elif isinstance(op, (buffer.StoreOp, heap.PublishOp)):
            _by_thread_0(Builder.before(op), op)
        elif isinstance(op, RequireOp) and not isinstance(op.next, RequireOp):
            # What is launched next may rely on it.
            Builder.after(op).insert(cpu.BarrierOp(slots=0))
    drop_idle_barriers(function.body.block)
    end = function.body.block.terminator
    if isinstance(end.prev, cpu.BarrierOp):
        end.prev.erase()  # the end of a call is a barrier


def launch(op: kernel.LaunchOp, grains: Grains, timer: Timer | None = None) -> None:
    """One launch: shared out by a counter, or run by thread 0 where there is but one grain."""
    builder = Builder.before(op)
    index = IndexBuilder(builder)
    total = grains.count(index, op.inputs)
    start = timer.start(builder) if timer else None
    if grains.loops and arith.constant_int(total) != 1:
        _grain_loop(op, builder, total)
        builder.insert(cpu.BarrierOp(slots=1))
    else:
        extra = [index.constant(0)] if grains.loops else []
        call = func.CallOp([*op.inputs, *extra], callee=op.callee, result_types=(), loc=op.loc)
        _by_thread_0(builder, call, wait=kernel.NO_WAIT not in op.attributes)
    if timer and start is not None:
        timer.stop(builder, start)
    op.erase()


ALONE = "cpu.alone"


def check_size(op: heap.SizeOp) -> None:
    """%k = heap.size %n upto %m  ->  if %n < 0 or %n > %m { cpu.report }; cpu.barrier, which all threads leave by"""
    builder = Builder.before(op)
    bad = builder.insert(arith.CmpIOp(op.number, op.most, predicate="ugt")).result
    choice = loop.IfOp.build(bad)
    choice.otherwise.remove(choice.otherwise.block)
    inside = Builder.at_end(choice.then.block, op.loc)
    inside.insert(cpu.ReportOp(op.number, message=op.message))
    inside.insert(loop.YieldOp(()))
    builder.insert(choice)
    builder.insert(cpu.BarrierOp(slots=0))
    op.replace_with([op.number])


def _by_thread_0(builder: Builder, op: Operation, *, wait: bool = True, ends: bool = False) -> None:
    """Thread 0 runs an op; the others wait for it, or else go on to the next one. All threads may leave behind it if
    the op `ends` a call."""
    thread = builder.insert(cpu.ThreadOp(result_types=[INDEX])).result
    alone = builder.insert(arith.CmpIOp(thread, IndexBuilder(builder).constant(0), predicate="eq")).result
    choice = loop.IfOp.build(alone)
    choice.otherwise.remove(choice.otherwise.block)
    builder.insert(choice)
    if wait:  # else a barrier before it keeps the others from the op behind it, and may not be dropped
        choice.attributes[ALONE] = UnitAttr()
        builder.insert(cpu.BarrierOp(slots=0, attributes={} if ends else {ALONE: UnitAttr()}))
    op.detach()
    inside = Builder.at_end(choice.then.block, op.loc)
    inside.insert(op)
    inside.insert(loop.YieldOp(()))


def drop_idle_barriers(block: Block) -> None:
    """Let nobody wait between two ops that thread 0 runs alone, since one thread has an order; nor in a loop of such
    ops alone, but only behind it.

    for { if thread == 0 { a }; barrier; if thread == 0 { b }; barrier }
    ->  for { if thread == 0 { a }; if thread == 0 { b } }; barrier
    """
    for op in list(block):
        for region in op.regions:
            for inner in region.blocks:
                drop_idle_barriers(inner)
        if isinstance(op, loop.ForOp):
            _wait_behind(op)
    for op in list(block):
        following = op.next
        while following is not None and (has_trait(following, PURE) or isinstance(following, cpu.ThreadOp)):
            following = following.next
        if _is_idle(op) and following is not None and ALONE in following.attributes:
            op.erase()


def _is_idle(op: Operation) -> bool:
    return isinstance(op, cpu.BarrierOp) and ALONE in op.attributes


def _wait_behind(op: loop.ForOp) -> None:
    barriers = list(op.walk_of(cpu.BarrierOp))
    if barriers and all(_is_idle(barrier) for barrier in barriers):
        for barrier in barriers:
            barrier.erase()
        if not _is_short(op):
            _wait_now_and_then(op)
        op.attributes[ALONE] = UnitAttr()
        Builder.after(op).insert(cpu.BarrierOp(slots=0, attributes={ALONE: UnitAttr()}))


ROUNDS = 64
"""Rounds of a loop that thread 0 runs alone between two looks for errors and signals."""


def _is_short(op: loop.ForOp) -> bool:
    """Whether a loop surely ends after a few rounds."""
    bounds = [arith.constant_int(value) for value in (op.lower, op.upper, op.step)]
    low, high, step = bounds
    return low is not None and high is not None and step is not None and high - low <= ROUNDS * step


def _wait_now_and_then(op: loop.ForOp) -> None:
    """Let the threads meet in some rounds: a long loop must end where an error is reported or Ctrl-C is hit.

    for %i { a }  ->  for %i { a; if (%i - lower) % (64 * step) == 0 { barrier } }"""
    builder = Builder.before(op.block.terminator)
    index = IndexBuilder(builder)
    period = index.mul(op.step, index.constant(ROUNDS))
    place = builder.insert(arith.RemUIOp(index.sub(op.induction, op.lower), period)).result
    due = builder.insert(arith.CmpIOp(place, index.constant(0), predicate="eq")).result
    choice = builder.insert(loop.IfOp.build(due))
    choice.otherwise.remove(choice.otherwise.block)
    inside = Builder.at_end(choice.then.block, op.loc)
    inside.insert(cpu.BarrierOp(slots=0))
    inside.insert(loop.YieldOp(()))


def _grain_loop(op: kernel.LaunchOp, builder: Builder, total: Value) -> None:
    first = builder.insert(cpu.NextGrainOp(slot=0, result_types=[INDEX])).result
    before, body = Block([INDEX]), Block([INDEX])
    before.arguments[0].name = body.arguments[0].name = "grain"
    test = Builder.at_end(before, op.loc)
    more = test.insert(arith.CmpIOp(before.arguments[0], total, predicate="slt")).result
    test.insert(loop.YieldOp([more, before.arguments[0]]))
    work = Builder.at_end(body, op.loc)
    work.insert(func.CallOp([*op.inputs, body.arguments[0]], callee=op.callee, result_types=()))
    following = work.insert(cpu.NextGrainOp(slot=0, result_types=[INDEX])).result
    work.insert(loop.YieldOp([following]))
    builder.insert(loop.WhileOp([first], result_types=[INDEX], regions=[Region([before]), Region([body])]))
