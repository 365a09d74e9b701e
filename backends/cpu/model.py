"""A compiled model in this process: arrays in, arrays out.

    model = build(module, target.host())
    (y,) = model.run([x])

Everything that depends on the sizes of a call's inputs (sizes of outputs, bytes of arena and scratch memory) is worked
out once per combination of input shapes; a later call with shapes that were seen before goes straight to native code.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve, field, frozen

from stepwell.dialects.descriptors import SEGMENT_WORDS, read_descriptor
from stepwell.dialects.func import FuncOp
from stepwell.dialects.host_calls import pending_error
from stepwell.errors import InputError, RuntimeError, StateError, TargetError
from stepwell.ir.attributes import DenseResourceAttr, ElementsAttr
from stepwell.ir.core import Operation
from stepwell.ir.dims import Dim, DimExpr, evaluate, free_symbols, solve_for, symbol
from stepwell.memory import aligned_copy

from . import announce, jit, machine, native
from .abi import HOST_FUNCTION, Site
from .cache import default as default_cache
from .entry import ALIGNMENT, Argument, NativeEntry, aligned_bytes, new_scratch
from .executable import Executable, head_of
from .heap import Heap
from .results import ResultMemory
from .signature import Port, Signature
from .target import CpuTarget, check_runs_here
from .team import Team

if TYPE_CHECKING:
    from .emit import EmittedModule
    from .share import ShareOut

Array = np.ndarray[Any, Any]

LARGE = 1 << 28
"""Bytes from which on a call asks whether the machine has them."""

MOST_PLANS = 4096
"""Combinations of input shapes that a model remembers."""


@frozen
class Plan:
    """What follows from the shapes of a call's inputs. Of a published output `outputs` has the descriptor. `rows` says
    how many a call leaves in each input that has room for more."""

    outputs: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]
    arena: int
    scratch: int
    is_large: bool
    rows: tuple[int, ...] = ()
    output_bytes: int = field(init=False)

    @output_bytes.default
    def _size_of_outputs(self) -> int:
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in self.outputs)


class CpuModel:
    """A model that runs on this machine's CPU, from any number of Python threads at once."""

    executable: Executable
    """What it was made from."""

    def __init__(
        self,
        signature: Signature,
        scratch_bytes: Dim,
        sites: Sequence[Site],
        code: jit.Code,
        program: str,
        constants: Sequence[Array],
        *,
        demands: Sequence[tuple[Dim, str]] = (),
        parallel: bool = True,
    ) -> None:
        self.inputs = signature.inputs
        self.outputs = signature.outputs
        self._arena_bytes = signature.arena_bytes
        self._scratch_bytes = scratch_bytes
        self._sites = tuple(sites)
        self._demands = tuple(demands)
        self._arguments = [_argument(port) for port in self.inputs]
        self._segments = signature.segments
        self._published = [number for number, port in enumerate(self.outputs) if port.published]
        outputs = [_output_argument(port) for port in self.outputs]
        if self._segments:
            outputs.append(Argument(np.int64, (self._segments, SEGMENT_WORDS)))
        self._call = NativeEntry(code, program, self._arguments, outputs, constants, parallel=parallel).call
        self._plans: dict[tuple[tuple[int, ...], ...], Plan] = {}
        self._memory: list[tuple[Array, ...]] = []
        self._results = ResultMemory()
        self.before_first_call: Callable[[], None] | None = None
        self._settling = threading.RLock()

    def settle(self) -> None:
        """Do what is to be done before the first call, once; again where it raises."""
        with self._settling:
            if (check := self.before_first_call) is not None:
                check()
                self.before_first_call = None

    def become(self, other: CpuModel) -> None:
        """Go on as another program of the same interface does, which is for nothing else."""
        self.__dict__.update(other.__dict__)

    def run(self, arrays: Sequence[Any]) -> list[Array]:
        """The outputs for the inputs, both in the order of the graph.

        An input may be anything that `numpy.asarray` turns into an array of exactly the input's element type; arrays
        that are not contiguous, aligned or in native byte order are copied. Raises InputError, naming the input, where
        a rank, a size or an element type does not fit, and RuntimeError where the model meets an error on the way.
        """
        try:
            plan = self._plans[tuple([array.shape for array in arrays])]
        except (AttributeError, KeyError, TypeError):
            arrays = [self._adapted(index, value) for index, value in enumerate(self._counted(arrays))]
            plan = self._plan(tuple(array.shape for array in arrays))
        if plan.is_large:
            self._check_memory(plan)
        outputs = self._results.arrays(plan.outputs, plan.output_bytes)
        while True:
            memory = self._take(plan)
            answer = self._call(*arrays, *outputs, *memory)
            if answer is None:
                for number in self._published:
                    outputs[number] = read_descriptor(outputs[number], self.outputs[number].dtype)
                self._memory.append(memory)
                return outputs
            if isinstance(answer, tuple):
                self._memory.append(memory)
                raise self._error(*answer)
            if answer < len(self.inputs):
                arrays = [self._adapted(index, value) for index, value in enumerate(self._counted(arrays))]
            elif answer < len(self.inputs) + len(outputs) + len(memory) - 1:
                raise RuntimeError(f"output {answer - len(self.inputs)} was refused by the native entry")
            # Else the team has grown since this memory was made, and it is dropped.

    def scratch_bytes(self, *shapes: tuple[int, ...]) -> int:
        """The scratch memory that each thread needs in a call with inputs of these shapes."""
        return self._plan(shapes).scratch

    def arena_bytes(self, *shapes: tuple[int, ...]) -> int:
        """The memory for intermediates in a call with inputs of these shapes."""
        return self._plan(shapes).arena

    def rows_after(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """How many rows a call with inputs of these shapes leaves in each input that has room for more, in order."""
        plan = self._plans.get(shapes)
        return (self._plan(shapes) if plan is None else plan).rows

    def symbols(self, *shapes: tuple[int, ...]) -> dict[str, int]:
        """The values of the symbols in a call with inputs of these shapes. Raises InputError where they do not fit."""
        return self._solve(shapes)

    # Inputs

    def _counted(self, arrays: Sequence[Any]) -> Sequence[Any]:
        if len(arrays) != len(self.inputs):
            names = ", ".join(port.name for port in self.inputs) or "none"
            raise InputError(f"the model has {len(self.inputs)} inputs ({names}), {len(arrays)} were given")
        return arrays

    def _adapted(self, index: int, value: Any) -> Array:
        """The input as native code reads it. Raises InputError."""
        port = self.inputs[index]
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as error:
            raise InputError(f"input {port.name!r} cannot be made an array: {error}") from None
        if array.dtype.newbyteorder("=") != port.dtype:
            raise InputError(f"input {port.name!r} must have element type {port.dtype}, not {array.dtype}")
        if array.ndim != len(port.dims):
            raise InputError(
                f"input {port.name!r} must have shape {_shape_text(port.dims)}, not {_shape_text(array.shape)}"
            )
        if port.roomy:
            return check_room(port, array)
        return np.require(array, port.dtype, ("C", "A", "E"))

    def _plan(self, shapes: tuple[tuple[int, ...], ...]) -> Plan:
        self.settle()
        symbols = self._solve(shapes)
        for zero, reason in self._demands:
            if not free_symbols(zero) - symbols.keys() and evaluate(zero, symbols) != 0:
                met = ", ".join(f"{name} = {symbols[name]}" for name in sorted(free_symbols(zero)))
                raise InputError(f"inputs of these sizes do not fit together: {reason} (with {met})")
        outputs = tuple(
            ((1 + len(port.dims),), np.dtype(np.int64)) if port.published else
            (tuple(self._size(dim, symbols, f"output {port.name!r}") for dim in port.dims), port.dtype)
            for port in self.outputs
        )  # fmt: skip
        for port, (shape, _) in zip(self.outputs, outputs, strict=True):
            if any(size < 0 for size in shape):
                raise InputError(
                    f"with inputs of these sizes output {port.name!r} would have shape {_shape_text(shape)}: they are "
                    "too small for the model"
                )
        rows = tuple(self._grown(port, symbols) for port in self.inputs if port.roomy)
        arena = self._size(self._arena_bytes, symbols, "the arena")
        scratch = self._size(self._scratch_bytes, symbols, "scratch memory")
        if len(self._plans) >= MOST_PLANS:
            self._plans.clear()
        plan = Plan(outputs, arena, scratch, False, rows)
        if plan.output_bytes + arena + scratch > LARGE:
            plan = evolve(plan, is_large=True)
        self._plans[shapes] = plan
        return plan

    def _grown(self, port: Port, symbols: Mapping[str, int]) -> int:
        """The rows of an input behind a call. Raises StateError where there is no room for them."""
        rows = self._size(port.rows, symbols, f"input {port.name!r} behind the call")
        if rows > port.capacity:
            raise StateError(
                f"the state is full: this call needs {rows} rows of {port.name!r}, and there is room for "
                f"{port.capacity}; reset or truncate the state, or compile the model with a larger capacity"
            )
        return rows

    def _solve(self, shapes: tuple[tuple[int, ...], ...]) -> dict[str, int]:
        """The symbols' values, from every dim of the inputs that has one unknown symbol; then all dims are checked."""
        known: dict[str, int] = {}
        pending = [(port, dim, size) for port, shape in zip(self.inputs, shapes, strict=True)
                   for dim, size in zip(port.dims, shape, strict=True) if isinstance(dim, DimExpr)]  # fmt: skip
        while True:
            solved = len(known)
            for _, dim, size in pending:
                unknown = [name for name in free_symbols(dim) if name not in known]
                if len(unknown) == 1:
                    solution = solve_for(dim, unknown[0], symbol("?size"))
                    if solution is not None:
                        known[unknown[0]] = evaluate(solution, {**known, "?size": size})
            if len(known) == solved:
                break
        for port, shape in zip(self.inputs, shapes, strict=True):
            if any(self._size(dim, known, "?", size) != size for dim, size in zip(port.dims, shape, strict=True)):
                wanted = _shape_text(port.dims)
                met = ", ".join(f"{name} = {value}" for name, value in sorted(known.items()) if name in _names(port))
                given = f"input {port.name!r} must have shape {wanted}, not {_shape_text(shape)}"
                raise InputError(given + (f" (with {met})" if met else ""))
        if negative := [name for name, value in known.items() if value < 0]:
            raise InputError(f"the sizes of the inputs make {', '.join(negative)} negative")
        return known

    def _size(self, dim: Dim, symbols: Mapping[str, int], what: str, default: int | None = None) -> int:
        missing = [name for name in free_symbols(dim) if name not in symbols]
        if not missing:
            return evaluate(dim, symbols)
        if default is not None:
            return default
        raise InputError(f"the size of {what} depends on {', '.join(missing)}, which no input determines")

    # Memory

    def _check_memory(self, plan: Plan) -> None:
        """Raise RuntimeError where a call needs more memory than there is: the kernel would grant it, and end the
        process when it is used."""
        threads = Team.get().size
        held = max((arena.size + scratch.size for *_, arena, scratch in self._memory), default=0)
        needed = plan.output_bytes + plan.arena + plan.scratch * threads
        free = machine.available_bytes()
        if free is not None and needed > free + held:
            parts = {"outputs": plan.output_bytes, "intermediates": plan.arena, "scratch": plan.scratch * threads}
            shown = ", ".join(f"{name} {machine.shown_bytes(size)}" for name, size in parts.items())
            raise RuntimeError(
                f"a call with inputs of these sizes needs {machine.shown_bytes(needed)} of memory ({shown}), and "
                f"{machine.shown_bytes(free + held)} are free: give it smaller inputs"
            )

    def _take(self, plan: Plan) -> tuple[Array, ...]:
        """The heap if there is one, arena and scratch memory of at least the plan's sizes; what is too small is
        dropped."""
        try:
            memory = self._memory.pop()
        except IndexError:
            made = [Heap.of(self._segments)] if self._segments else []
            return *made, aligned_bytes(plan.arena), new_scratch(plan.scratch)
        *heap, arena, scratch = memory
        if arena.size < plan.arena:
            arena = aligned_bytes(plan.arena)
        if scratch.shape[1] < plan.scratch or scratch.shape[0] < Team.get().size:
            scratch = new_scratch(plan.scratch)
        return *heap, arena, scratch

    def _error(self, code: int, op: int, value: int) -> BaseException:
        raised = pending_error()
        if raised is not None:
            return raised
        if not 0 <= op < len(self._sites):
            return RuntimeError(f"the model stopped with code {code}", value)
        site = self._sites[op]
        return RuntimeError(site.message, value, site.label or "an operation")


def build(
    module: Operation,
    target: CpuTarget,
    *,
    threads: int | None = None,
    profile: bool = False,
    trace: bool = False,
    sanitize: bool = False,
    cached: bool = False,
    executable: Executable | None = None,
) -> CpuModel:
    """Compile a module at the end of the loop landing for this machine. The module is not changed.

    `threads` sets the size of the process's team; with 1, the model runs on the calling thread alone. `profile` adds
    the times of the launches as one more output (see `timer`), `trace` the records of their grains (see `recorder`),
    `sanitize` checks the bounds of every access to memory; where `cached`, kernels are kept on disk (see `cache`).
    `executable` is what `executable_of` has made of the module so, if it has.

    Raises TargetError where an op has no code or this machine lacks what the target uses, and CodegenError from LLVM.
    """
    check_runs_here(target)
    from .launches import nodes_of

    if executable is None:
        executable = executable_of(module, target, profile=profile, trace=trace, sanitize=sanitize, cached=cached)
    return start(executable, threads=threads, nodes=nodes_of(module) if announce.wants_map() else None)


def executable_of(
    module: Operation,
    target: CpuTarget,
    *,
    profile: bool = False,
    trace: bool = False,
    sanitize: bool = False,
    cached: bool = False,
) -> Executable:
    """Compile a module at the end of the loop landing for a target, which need not be this machine.

    Raises TargetError where an op has no code, and CodegenError from LLVM."""
    from .share import ShareOut

    lowered, emitted = _emitted(module, target, ShareOut(profile, trace), sanitize)
    function = program_of(lowered)
    return Executable(
        target.processor, head_of(function), emitted.program, tuple(emitted.sites), shares_work(lowered),
        tuple(jit.compile_objects(emitted.texts, target, cache=default_cache() if cached else None)),
        tuple(aligned_constant(elements) for elements in emitted.constants),
    )  # fmt: skip


def start(
    executable: Executable, *, threads: int | None = None, nodes: Mapping[str, Sequence[str]] | None = None
) -> CpuModel:
    """Bring compiled code into this process; `threads` as in `build`, `nodes` as in `jit.load`.

    Raises TargetError where this machine lacks what the code uses, and CodegenError where it does not link."""
    check_runs_here(executable.processor)
    code = jit.load(executable.objects, _externals(executable), nodes)
    if threads is not None and threads > 1:
        Team.get(threads=threads)
    model = CpuModel(
        executable.signature, executable.scratch_bytes, executable.sites, code, executable.program,
        executable.constants, demands=executable.demands, parallel=threads != 1 and executable.shares_work,
    )  # fmt: skip
    model.executable = executable
    return model


def _externals(executable: Executable) -> dict[str, int]:
    """What the code is linked with: the run time, and Python where it is called."""
    found = native.externals()
    if executable.host.calls:
        from . import host

        found[HOST_FUNCTION] = host.address()
    return found


def shares_work(lowered: Operation) -> bool:
    """Whether a lowered program ever shares grains out; one that does not leaves the team asleep."""
    from stepwell.dialects.cpu import ShareOp, TracedShareOp

    return any(isinstance(op, (ShareOp, TracedShareOp)) for op in lowered.walk())


def llvm_ir(module: Operation, target: CpuTarget) -> str:
    """The LLVM IR text of a module at the end of the loop landing; its LLVM modules one after the other."""
    return "\n".join(_emitted(module, target)[1].texts)


def assembly(module: Operation, target: CpuTarget) -> str:
    """The assembly text of a module at the end of the loop landing."""
    return "\n".join(jit.emit_assembly(text, target) for text in _emitted(module, target)[1].texts)


def objects(module: Operation, target: CpuTarget) -> list[bytes]:
    """The relocatable objects of a module at the end of the loop landing. Raises CodegenError."""
    return jit.compile_objects(_emitted(module, target)[1].texts, target)


def _emitted(
    module: Operation, target: CpuTarget, sharing: ShareOut | None = None, sanitize: bool = False
) -> tuple[Operation, EmittedModule]:
    from stepwell.ir.passes import PassContext
    from stepwell.lowering.loop.sanitize import Sanitize  # what makes code is not needed where there is some

    from .emit import emit_module
    from .share import ShareOut

    lowered = module.clone()
    if sanitize:
        Sanitize().run(lowered, PassContext(target))
    (sharing or ShareOut()).run(lowered, PassContext(target))
    return lowered, emit_module(lowered, target)


def program_of(module: Operation) -> FuncOp:
    """The function that runs the model. Raises TargetError unless there is exactly one."""
    programs = [op for op in module.walk_of(FuncOp) if "kernel" not in op.attributes]
    if len(programs) != 1:
        raise TargetError(f"a module to compile has one program, not {len(programs)}")
    return programs[0]


def aligned_constant(elements: ElementsAttr) -> Array:
    """The elements of a constant, row after row from a 64-byte boundary: where they are if they lie so, else in a copy,
    which the IR keeps instead: what is built of it later shares that."""
    array = elements.view()
    if array.ctypes.data % ALIGNMENT == 0 and array.flags.c_contiguous:
        return array
    made = aligned_copy(array)
    if isinstance(elements, DenseResourceAttr):
        elements.blob.fill(made)
    return made


def _argument(port: Port) -> Argument:
    """What the native entry checks on every call; sizes that are expressions are checked with the plan."""

    def wanted(dim: Dim) -> int | str | None:
        if isinstance(dim, int):
            return dim
        names = free_symbols(dim)
        return next(iter(names)) if len(names) == 1 and dim == symbol(next(iter(names))) else None

    return Argument(port.dtype, tuple(wanted(dim) for dim in port.dims), not port.roomy)


def check_room(port: Port, array: Array) -> Array:
    """The array, whose rows lie as those of one with room for `capacity` rows do. Raises InputError."""
    whole = list(array.shape)
    whole[port.axis] = port.capacity
    steps = [array.itemsize * math.prod(whole[axis + 1 :]) for axis in range(array.ndim)]
    laid = all(size < 2 or a == b for size, a, b in zip(array.shape, array.strides, steps, strict=True))
    if not laid or array.shape[port.axis] > port.capacity or not array.flags.writeable or not array.dtype.isnative:
        raise InputError(f"input {port.name!r} is not in memory with room for {port.capacity} rows on axis {port.axis}")
    return array


def _output_argument(port: Port) -> Argument:
    if port.published:
        return Argument(np.int64, (1 + len(port.dims),))
    return Argument(port.dtype, tuple(dim if isinstance(dim, int) else None for dim in port.dims))


def _names(port: Port) -> set[str]:
    return {name for dim in port.dims for name in free_symbols(dim)}


def _shape_text(dims: Sequence[Dim]) -> str:
    return f"[{', '.join(str(dim) for dim in dims)}]"
