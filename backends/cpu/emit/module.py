"""Functions to LLVM modules: kernels shared out to several of them, so that they are compiled in parallel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from stepwell.backends.cpu import abi, llvm
from stepwell.backends.cpu.abi import Site
from stepwell.backends.cpu.signature import Signature
from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.cpu import RECORD_WORDS, SHARED
from stepwell.dialects.func import FuncOp
from stepwell.errors import TargetError
from stepwell.ir.attributes import ElementsAttr
from stepwell.ir.core import Operation
from stepwell.ir.types import MemRefType

from . import control, floats, heap, host, integers, isa, memory, reductions, vectors  # noqa: F401  (they fill a table)
from .function import TRACED_TASK, FunctionEmitter, flat_types, task_symbol
from .memory import Memory
from .types import parameter_types

if TYPE_CHECKING:
    from stepwell.backends.cpu.target import CpuTarget

MODULE_BYTES = 48 << 10
"""Text that goes into one LLVM module: enough to make a module's fixed costs small, little enough to share out."""


@attrs.frozen
class EmittedModule:
    """LLVM modules that belong together. `program` is the symbol of the program function, `constants` its table."""

    texts: tuple[str, ...]
    program: str
    sites: tuple[Site, ...]
    constants: tuple[ElementsAttr, ...]


@attrs.define
class Tables:
    """What all functions of a module share."""

    sites: dict[Site, int] = attrs.Factory(dict)
    constants: dict[ElementsAttr, int] = attrs.Factory(dict)


class ModuleContext:
    """What one function needs from outside of it."""

    def __init__(self, target: CpuTarget, tables: Tables) -> None:
        self.target = target
        self.tables = tables
        self.declarations: dict[str, str] = {}
        self.callees: dict[str, None] = {}

    def declare(self, name: str, text: str) -> None:
        """An intrinsic or a function of libm is called."""
        self.declarations[name] = text

    def use(self, kernel: str) -> None:
        """A kernel is called."""
        self.callees[kernel] = None

    def site(self, message: str, label: str) -> int:
        """The number of a place that may report."""
        return self.tables.sites.setdefault(Site(message, label), len(self.tables.sites))


@attrs.frozen
class FunctionText:
    """A function as text, with the head that declares it elsewhere. `task` defines what runs one grain of a kernel.

    What is hidden is not exported. Declarations say nothing about it: to a hidden function of another object the code
    would go by a 32-bit distance, and objects may be loaded further apart than that.
    """

    name: str
    head: str
    body: str
    context: ModuleContext
    task: str = ""
    hidden: bool = True

    @property
    def text(self) -> str:
        """The definition, and that of the kernel's task."""
        visibility = "hidden " if self.hidden else ""
        return f"define {visibility}{self.head} {{\n{self.body}\n}}\n{self.task}"


class KernelEmitter(FunctionEmitter):
    """A kernel: `void (ptr team, ptr scratch, buffers and sizes ...)`."""

    def __init__(self, context: ModuleContext, function: FuncOp) -> None:
        super().__init__(context)
        self.function = function

    def write(self) -> FunctionText:
        """The whole function."""
        types = flat_types(argument.type for argument in self.function.arguments)
        names = [f"%p{index}" for index in range(len(types))]
        rest = list(names)
        for argument in self.function.arguments:
            count = len(parameter_types(argument.type))
            self.define(argument, rest[:count])
            rest = rest[count:]
        self.operations(self.function.body.block)
        parameters = ["ptr %team", "ptr %scratch", *(f"{t} {n}" for t, n in zip(types, names, strict=True))]
        name = self.function.sym_name
        head = f'void @"{name}"({", ".join(parameters)}) nounwind'
        task = task_text(name, types[:-1]) if SHARED in self.function.attributes else ""
        return FunctionText(name, head, self.text(), self.context, task)


def task_head(kernel: str) -> str:
    """How the task of a kernel is declared."""
    return f'void @"{task_symbol(kernel)}"(ptr %team, ptr %scratch, ptr %arguments, i64 %grain) nounwind'


def task_text(kernel: str, types: Sequence[str]) -> str:
    """The task of a kernel whose arguments before the grain have these types."""
    lines, given = [], ["ptr %team", "ptr %scratch"]
    for position, type_ in enumerate(types):
        lines.append(f"  %a{position} = getelementptr i64, ptr %arguments, i64 {position}")
        lines.append(f"  %v{position} = load {type_}, ptr %a{position}")
        given.append(f"{type_} %v{position}")
    call = f'  call void @"{kernel}"({", ".join([*given, "i64 %grain"])})'
    return "\n".join([f"define hidden {task_head(kernel)} {{", *lines, call, "  ret void", "}", ""])


TRACED_TEXT = f"""\
define internal void @"{TRACED_TASK}"(ptr %team, ptr %scratch, ptr %arguments, i64 %grain) nounwind {{
entry:
  %records.p = getelementptr i64, ptr %arguments, i64 1
  %room.p = getelementptr i64, ptr %arguments, i64 2
  %launch.p = getelementptr i64, ptr %arguments, i64 3
  %first.p = getelementptr i64, ptr %arguments, i64 4
  %stride.p = getelementptr i64, ptr %arguments, i64 5
  %rest = getelementptr i64, ptr %arguments, i64 6
  %task = load ptr, ptr %arguments
  %start = call i64 @sw_now()
  call void %task(ptr %team, ptr %scratch, ptr %rest, i64 %grain)
  %stop = call i64 @sw_now()
  %room = load i64, ptr %room.p
  %fits = icmp slt i64 %grain, %room
  br i1 %fits, label %note, label %done
note:
  %records = load ptr, ptr %records.p
  %launch = load i64, ptr %launch.p
  %first = load i64, ptr %first.p
  %stride = load i64, ptr %stride.p
  %mine = ptrtoint ptr %scratch to i64
  %distance = sub i64 %mine, %first
  %thread = udiv i64 %distance, %stride
  %launch.to = getelementptr [{RECORD_WORDS} x i64], ptr %records, i64 %grain
  %grain.to = getelementptr i64, ptr %launch.to, i64 1
  %thread.to = getelementptr i64, ptr %launch.to, i64 2
  %start.to = getelementptr i64, ptr %launch.to, i64 3
  %stop.to = getelementptr i64, ptr %launch.to, i64 4
  store i64 %launch, ptr %launch.to
  store i64 %grain, ptr %grain.to
  store i64 %thread, ptr %thread.to
  store i64 %start, ptr %start.to
  store i64 %stop, ptr %stop.to
  br label %done
done:
  ret void
}}
"""
"""Runs a task and notes what `cpu.traced_share` says. Its arguments: the task, its records, how many of them there is
room for, the launch, thread 0's scratch memory, the stride of scratch memory, then the task's own arguments."""


class ProgramEmitter(FunctionEmitter):
    """The program: `i64 (ptr args, ptr team)`; it reads its arguments' slots on first use."""

    success = "ret i64 0"

    def __init__(self, context: ModuleContext, function: FuncOp) -> None:
        super().__init__(context)
        self.function = function
        self.signature = Signature.of(function)
        self.layout = self.signature.layout
        self._packed = self._most_packed = 0
        self._traces = False

    def write(self) -> FunctionText:
        """The whole function."""
        self.scratch = self._slot("ptr", self.layout.scratch)
        for index, argument in enumerate(self.function.arguments):
            self.memory[argument] = self._argument(index, argument.type)
        self.operations(self.function.body.block)
        if self._most_packed:
            self.blocks[0].lines.insert(0, f"%packed = alloca [{self._most_packed} x i64], align 16")
        name = program_symbol(self.function)
        head = f'i64 @"{name}"(ptr %args, ptr %team) nounwind'
        task = TRACED_TEXT if self._traces else ""
        return FunctionText(name, head, self.text(), self.context, task, hidden=False)

    def packed(self, arguments: Iterable[tuple[str, str]]) -> str:
        """In the program's stack frame, behind what the interval already has there."""
        start = self._packed
        for type_, text in arguments:
            place = self.pure(f"getelementptr i64, ptr %packed, i64 {self._packed}")
            self.line(f"store {type_} {text}, ptr {place}")
            self._packed += 1
        self._most_packed = max(self._most_packed, self._packed)
        return self.pure(f"getelementptr i64, ptr %packed, i64 {start}") if self._packed > start else "null"

    def traced(self, notes: Sequence[tuple[str, str]], arguments: Iterable[tuple[str, str]]) -> str:
        """In front of the arguments what TRACED_TEXT reads."""
        self._traces = True
        return self.packed([*notes, ("ptr", self.scratch), ("i64", self._stride()), *arguments])

    def _stride(self) -> str:
        return self._slot("i64", self.layout.scratch_stride)

    def join(self) -> str:
        """sw_join"""
        self._packed = 0
        stride = self._stride()
        return self.emit(f"call i64 @sw_join(ptr {self.team}, ptr {self.scratch}, i64 {stride})")

    def constant(self, elements: ElementsAttr) -> str:
        """An entry of the constants table."""
        index = self.context.tables.constants.setdefault(elements, len(self.context.tables.constants))
        table = self._slot("ptr", self.layout.constants)
        place = self.pure(f"getelementptr ptr, ptr {table}, i64 {index}", table)
        return self.pure(f"load ptr, ptr {place}", place)

    def _slot(self, type_: str, slot: int) -> str:
        place = self.pure(f"getelementptr i64, ptr %args, i64 {slot}")
        return self.pure(f"load {type_}, ptr {place}", place)

    def _argument(self, index: int, type_: Any) -> Memory:
        inputs = len(self.signature.inputs)
        roomy = index < inputs and self.signature.inputs[index].roomy
        if not isinstance(type_, MemRefType) or (type_.layout is not None and not roomy):
            raise TargetError(f"argument {index} of @{self.function.sym_name} must be a dense buffer, not {type_}")
        if index >= inputs:
            sizes = [None if dim < 0 else dim for dim in type_.shape]
            return Memory.dense(type_, self._slot("ptr", index), sizes)
        open_sizes = [dim if dim >= 0 else self._slot("i64", self.layout.dim(index, axis))
                      for axis, dim in enumerate(type_.shape)]  # fmt: skip
        return Memory.dense(type_, self._slot("ptr", index), open_sizes)  # of a roomy one only base and sizes are used


def program_symbol(function: FuncOp) -> str:
    """The program's name in object code: apart from all names of C."""
    return f"stepwell.{function.sym_name}"


def emit_module(module: Operation, target: CpuTarget) -> EmittedModule:
    """All functions of a module as `ShareOut` leaves them. Raises TargetError naming the op that has no code."""
    assert isinstance(module, ModuleOp)
    functions = [op for op in module.block if isinstance(op, FuncOp)]
    kernels = [op for op in functions if "kernel" in op.attributes]
    programs = [op for op in functions if "kernel" not in op.attributes]
    if len(programs) != 1:
        raise TargetError(f"a module to compile has one program, not {len(programs)}")
    tables = Tables()
    texts = [KernelEmitter(ModuleContext(target, tables), op).write() for op in kernels]
    program = ProgramEmitter(ModuleContext(target, tables), programs[0]).write()
    heads = {text.name: text.head for text in texts}
    heads |= {task_symbol(text.name): task_head(text.name) for text in texts if text.task}
    if missing := sorted(set(program.context.callees) - set(heads)):
        raise TargetError(f"the program launches kernels that are not there: {', '.join(missing)}")
    groups = [*shared_out(texts), [program]]
    return EmittedModule(
        tuple(module_text(group, heads, target) for group in groups), program.name, tuple(tables.sites),
        tuple(tables.constants),
    )  # fmt: skip


def shared_out(functions: Sequence[FunctionText]) -> list[list[FunctionText]]:
    """Groups of about MODULE_BYTES of text, larger functions first: depends on the functions only, so that the same
    model gives the same modules on every machine."""
    groups: list[list[FunctionText]] = []
    room: list[int] = []
    for function in sorted(functions, key=lambda f: (-len(f.body), f.name)):
        size = len(function.body)
        place = next((index for index, free in enumerate(room) if free >= size), None)
        if place is None:
            groups.append([function])
            room.append(MODULE_BYTES - size)
        else:
            groups[place].append(function)
            room[place] -= size
    return groups


def module_text(functions: Iterable[FunctionText], heads: dict[str, str], target: CpuTarget) -> str:
    """One LLVM module."""
    functions = list(functions)
    declared = {name: text for f in functions for name, text in f.context.declarations.items()}
    inside = {f.name for f in functions} | {task_symbol(f.name) for f in functions if f.task}
    outside = {name: f"declare {heads[name]}" for f in functions for name in f.context.callees if name not in inside}
    parts = [
        f'target datalayout = "{llvm.data_layout(target)}"\ntarget triple = "{target.triple}"\n',
        abi.RUNTIME_DECLARATIONS,
        "\n".join([*declared.values(), *outside.values()]) + "\n",
        *(f.text for f in functions),
    ]
    return "\n".join(parts)
