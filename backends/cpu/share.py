"""Shares the work of a program out to the threads of a team.

func @k { loop.parallel %i { loop.parallel %j { body } } }      func @k(..., %grain) { %i, %j = grain; body }
kernel.launch @k(...)                                      ->   cpu.share @k[%grains](...); cpu.join

One thread runs the program; a launch is a number of grains, counted from 0, the last loop fastest, which any thread may
run. The loops that are shared out are those whose bounds are known before the first of them starts; loops inside become
serial. Which thread runs a grain has no influence on what it computes. Launches that do not depend on each other share
an interval (see `intervals`); those that surely have one grain and an interval of their own are calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from stepwell.dialects import arith, buffer, cpu, func, heap, host, kernel, loop
from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.check import RequireOp
from stepwell.dialects.func import FuncOp
from stepwell.dialects.program_attributes import SCRATCH
from stepwell.errors import PassError
from stepwell.ir.attributes import StringAttr, UnitAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.opdef import PURE, Trait, has_trait
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import DYNAMIC, F32, INDEX, MemRefType, TensorType
from stepwell.lowering.loop.index import IndexBuilder
from stepwell.lowering.loop.places import Places
from stepwell.lowering.to_loop.outline import measured_symbols, open_dims

from .intervals import Uses, intervals, launch_runs
from .recorder import Recorder
from .scratch import scratch_bytes
from .signature import Signature
from .timer import Timer


@attrs.frozen
class ShareOut(Pass):
    """Share a program's kernels out to the threads of a team.

    `profile` adds an output with the time of every launch (see `timer`), `trace` one with a record of every grain (see
    `recorder`)."""

    name: ClassVar[str] = "cpu-share-out"
    profile: bool = False
    trace: bool = False

    def run(self, module: Operation, context: PassContext) -> None:
        assert isinstance(module, ModuleOp)
        functions = [op for op in module.block if isinstance(op, FuncOp)]
        kernels = {op.sym_name: Kernel.of(op) for op in functions if "kernel" in op.attributes}
        for function in functions:
            if "kernel" not in function.attributes:
                function.attributes[SCRATCH] = StringAttr(str(scratch_bytes(function)))
                size_outputs(function)
                share_out(function, kernels, profile=self.profile, trace=self.trace)
        for launched in kernels.values():
            launched.grains.make_parameter()
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
        """Replace the loops by one more argument, the grain; without loops there is only grain 0."""
        grain: Value = self.function.entry.add_argument(INDEX, "grain")
        self.function.update_type()
        for inner in list(self.function.walk_of(loop.ParallelOp)):
            if inner not in self.loops:
                make_serial(inner)
        if not self.loops:
            return
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


@attrs.frozen(eq=False)
class Kernel:
    """What the program needs to know of a kernel."""

    grains: Grains
    uses: Uses

    @staticmethod
    def of(function: FuncOp) -> Kernel:
        """As it stands, before the grain is made a parameter."""
        return Kernel(Grains.of(function), Uses.of(function))


def share_out(
    function: FuncOp, kernels: dict[str, Kernel], *, profile: bool = False, trace: bool = False
) -> None:
    """Replace the launches of a program; with `profile`, each runs by itself, between two clocks; with `trace`, all run
    when they would anyway, and each grain is recorded."""
    for op in function.walk_of(kernel.LaunchOp):
        if op.callee not in kernels:
            raise PassError(f"{op.loc.label or 'the program'} launches @{op.callee}, which is no kernel")
    timer = Timer.of(function) if profile else None
    recorder = Recorder.of(function) if trace else None
    uses, places = {name: launched.uses for name, launched in kernels.items()}, Places.of(function)
    for block in [block for op in function.walk() for region in op.regions for block in region.blocks]:
        for run in launch_runs(block):
            for interval in [[op] for op in run] if profile else intervals(run, uses, places):
                run_interval(interval, Builder.before(run[0]), kernels, timer, recorder)
            for launch in run:
                launch.erase()
    _poll(function)


def run_interval(
    launches: Sequence[kernel.LaunchOp],
    builder: Builder,
    kernels: dict[str, Kernel],
    timer: Timer | None,
    recorder: Recorder | None = None,
) -> None:
    """Code for launches that run at the same time; for calls where there is one grain of each."""
    start = timer.start(builder) if timer else None
    index = IndexBuilder(builder)
    totals = [kernels[op.callee].grains.count(index, op.inputs) for op in launches]
    if recorder is not None:
        for op in launches:
            kernels[op.callee].grains.function.attributes[cpu.SHARED] = UnitAttr()
        recorder.share(builder, launches, totals)
        builder.insert(cpu.JoinOp())
    elif all(arith.constant_int(total) == 1 for total in totals):
        for op in launches:
            given = [*op.inputs, index.constant(0)]
            builder.insert(func.CallOp(given, callee=op.callee, result_types=(), loc=op.loc))
            builder.insert(cpu.PollOp())
    else:
        for op, total in zip(launches, totals, strict=True):
            kernels[op.callee].grains.function.attributes[cpu.SHARED] = UnitAttr()
            builder.insert(cpu.ShareOp(total, list(op.inputs), callee=op.callee, loc=op.loc))
        builder.insert(cpu.JoinOp())
    if timer and start is not None:
        timer.stop(builder, start, launches[0], totals[0])


def _poll(function: FuncOp) -> None:
    """Look for errors and signals where what comes next relies on it, and in each round of a loop."""
    for op in list(function.walk()):
        if isinstance(op, heap.SizeOp):
            check_size(op)
        elif isinstance(op, (heap.ReserveOp, host.CallOp, host.ResultOp)) or (
            isinstance(op, RequireOp) and not isinstance(op.next, RequireOp)
        ):
            Builder.after(op).insert(cpu.PollOp())
        elif isinstance(op, (loop.ForOp, loop.WhileOp)):
            last = op.body.block.terminator
            if not isinstance(last.prev, (cpu.PollOp, cpu.JoinOp)):
                Builder.before(last).insert(cpu.PollOp())


def check_size(op: heap.SizeOp) -> None:
    """%k = heap.size %n upto %m  ->  if %n < 0 or %n > %m { cpu.report }; cpu.poll, where the program ends then"""
    builder = Builder.before(op)
    bad = builder.insert(arith.CmpIOp(op.number, op.most, predicate="ugt")).result
    choice = loop.IfOp.build(bad)
    choice.otherwise.remove(choice.otherwise.block)
    inside = Builder.at_end(choice.then.block, op.loc)
    inside.insert(cpu.ReportOp(op.number, message=op.message))
    inside.insert(loop.YieldOp(()))
    builder.insert(choice)
    builder.insert(cpu.PollOp())
    op.replace_with([op.number])
