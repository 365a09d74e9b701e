"""The distinct kernels of a model, each as a program of its own that can be compiled under any schedule and timed."""

from __future__ import annotations

import attrs

from stepwell.compiler import Options, context_of, lower, machine_of, profiler
from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.func import FuncOp, ReturnOp
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import ConstantOp, KernelOp
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.dims import free_symbols
from stepwell.ir.passes import Pass
from stepwell.lowering.pipeline import landing_of, phases
from stepwell.lowering.tensor.canonical import kernel_key
from stepwell.lowering.tensor.schedule import Schedule
from stepwell.lowering.tensor.sizes import TYPICAL, usual_of
from stepwell.ports import main_function, ports_of, sample_inputs, tensor_ports


@attrs.frozen(eq=False)
class LoneKernel:
    """A kernel alone: `module` has a program that launches nothing else, `launches` is how often the model has it."""

    key: str
    label: str
    module: Operation
    launches: int = 1

    @property
    def kernel(self) -> KernelOp:
        """The kernel itself, without a schedule."""
        return next(iter(self.module.walk_of(KernelOp)))


def lone_kernels(module: Operation, options: Options) -> list[LoneKernel]:
    """The kernels of a module that have no schedule yet, equal ones once. The module is brought to where schedules are
    written, in place. Raises what passes raise."""
    before, _ = _around_schedules(module)
    lower(module, "tensor", context_of(options, machine_of(options)), pipeline=before)
    found: dict[str, LoneKernel] = {}
    for kernel in module.walk_of(KernelOp):
        if kernel.schedule is None:
            key = kernel_key(kernel)
            if key in found:
                found[key] = attrs.evolve(found[key], launches=found[key].launches + 1)
            else:
                found[key] = LoneKernel(key, kernel.loc.label, alone(kernel))
    return list(found.values())


def _around_schedules(module: Operation) -> tuple[list[Pass], list[Pass]]:
    """The passes that a module has before it until schedules are written, and those from there on."""
    passes = [pass_ for phase in phases(landing_of(module)) for pass_ in phase.flat()]
    at = next(n for n, pass_ in enumerate(passes) if isinstance(pass_, Schedule))
    return passes[:at], passes[at:]


def alone(kernel: KernelOp) -> Operation:
    """A module whose program takes a kernel's inputs, but for constants, and gives its results."""
    given = [value for value in kernel.inputs if not isinstance(value.defining_op, ConstantOp)]
    function = FuncOp.declare("main", [value.type for value in dict.fromkeys(given)])
    mapping: dict[Value, Value] = dict(zip(dict.fromkeys(given), function.arguments, strict=True))
    builder = Builder.at_end(function.entry, kernel.loc)
    for value in dict.fromkeys(kernel.inputs):
        if isinstance(value.defining_op, ConstantOp):
            mapping[value] = builder.insert(ConstantOp(value=value.defining_op.value)).result
    copy = kernel.clone(mapping)
    builder.insert(copy)
    builder.insert(ReturnOp(list(copy.results)))
    function.update_type()
    return ModuleOp.make(regions=[Region([Block((), [function])])])


class Timed:
    """A kernel compiled under a schedule, on made-up inputs."""

    def __init__(self, lone: LoneKernel, schedule: ScheduleAttr, options: Options) -> None:
        """Raises PassError where the schedule does not suit the kernel, InputError where there is no memory for the
        inputs, TargetError and CodegenError."""
        module = lone.module.clone()
        next(iter(module.walk_of(KernelOp))).schedule = schedule
        _, passes = _around_schedules(module)
        lower(module, "loop", context_of(options, machine_of(options)), pipeline=passes)
        ports = ports_of(main_function(module))[0]
        sizes = {name: TYPICAL for port in tensor_ports(ports) for dim in port.type.shape for name in free_symbols(dim)}
        sizes.update(usual_of(module, options.hints))
        self._arrays = sample_inputs(ports, sizes)
        self._profiler = profiler(module, options)

    def seconds(self, budget: float) -> float:
        """The median time of the kernel, with what is copied for it, in calls for about so many seconds."""
        rows = self._profiler.run(self._arrays, budget).rows
        return float(sum(row.seconds for row in rows if row.launches))
