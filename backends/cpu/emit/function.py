"""One LLVM function under construction: blocks, names, scopes, and what stands for each IR value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from stepwell.dialects.arith import ConstantOp
from stepwell.errors import TargetError
from stepwell.ir.attributes import ElementsAttr
from stepwell.ir.core import Block, Operation, Value
from stepwell.ir.types import MemRefType, Type

from .types import constant_literal, parameter_types, register_type

if TYPE_CHECKING:
    from stepwell.backends.cpu.target import CpuTarget

    from .memory import Memory
    from .module import ModuleContext

Rule = Callable[["FunctionEmitter", Any], None]
RULES: dict[type[Operation], Rule] = {}
"""The table: op class -> what writes it."""


def emits(*classes: type[Operation]) -> Callable[[Rule], Rule]:
    """Decorator: enters a rule into the table."""

    def enter(rule: Rule) -> Rule:
        for cls in classes:
            RULES[cls] = rule
        return rule

    return enter


class Label:
    """A basic block: its label and its lines. Phis are kept apart, since what they merge is known last."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.phis: list[str] = []
        self.lines: list[str] = []

    def text(self) -> str:
        """The block's lines."""
        return "\n".join([f"{self.name}:", *(f"  {line}" for line in (*self.phis, *self.lines))])


@attrs.define
class Scope:
    """The region under way. While an inner region is written, `block` is still open: what does not depend on the
    inner region may be put at its end. `known` maps instructions written here to their results; scopes nest as
    dominance does, so an inner scope may use them."""

    block: Label
    known: dict[str, str] = attrs.Factory(dict)
    scratch: tuple[str, int] = ("", 0)  # how much scratch is taken here: a register and a constant, in bytes


class FunctionEmitter:
    """Writes one function. `team` and `scratch` are the names of the run time's handles."""

    team = "%team"
    scratch = "%scratch"
    success = "ret void"

    def __init__(self, context: ModuleContext) -> None:
        self.context = context
        self.blocks: list[Label] = []
        self.scopes: list[Scope] = []
        self.memory: dict[Value, Memory] = {}
        self._registers: dict[Value, str] = {}
        self._depths: dict[str, int] = {}
        self._count = 0
        self.scopes.append(Scope(self.start_block("entry")))

    @property
    def target(self) -> CpuTarget:
        """What is compiled for."""
        return self.context.target

    # Blocks

    def start_block(self, hint: str) -> Label:
        """A new block, written from here on once it is made current."""
        self._count += 1
        block = Label(f"{hint}.{self._count}" if self.blocks else hint)
        self.blocks.append(block)
        return block

    @property
    def block(self) -> Label:
        """The block under way."""
        return self.scopes[-1].block

    def move_to(self, block: Label) -> None:
        """Go on in `block`, within the same scope."""
        self.scopes[-1].block = block

    def line(self, text: str) -> None:
        """Write an instruction without a result."""
        self.block.lines.append(text)

    def body(self, block: Label, region: Block, arguments: Sequence[Sequence[str]]) -> list[list[str]]:
        """Write a region's block in a scope of its own that starts in `block`. Each argument is given as the registers
        that stand for it; the answer is the same for each operand of the terminator. The scope's last block stays open
        and is `self.left`."""
        self.scopes.append(Scope(block, scratch=self.scopes[-1].scratch))
        for argument, registers in zip(region.arguments, arguments, strict=True):
            self.define(argument, registers)
        self.operations(region)
        yielded = [self.registers(value) for value in region.terminator.operands]
        self.left = self.scopes.pop().block
        return yielded

    def operations(self, block: Block) -> None:
        """Write all operations of a block but those without a rule that need none (`loop.yield`)."""
        for op in block:
            rule = RULES.get(type(op))
            if rule is None:
                raise TargetError(f"{op.op_name} (from {op.loc.label or 'unknown'}) cannot be compiled for a CPU")
            rule(self, op)

    # Instructions

    def fresh(self, depth: int | None = None) -> str:
        """A new register name, defined at a scope's depth."""
        self._count += 1
        name = f"%v{self._count}"
        self._depths[name] = len(self.scopes) - 1 if depth is None else depth
        return name

    def emit(self, instruction: str) -> str:
        """Write an instruction here; answers its register."""
        name = self.fresh()
        self.line(f"{name} = {instruction}")
        return name

    def pure(self, instruction: str, *operands: str) -> str:
        """An instruction that computes from `operands` alone and cannot fail: written once, in the outermost scope
        where the operands are known."""
        depth = max((self.depth(text) for text in operands), default=0)
        for scope in self.scopes[: depth + 1]:
            if instruction in scope.known:
                return scope.known[instruction]
        scope = self.scopes[depth]
        name = self.fresh(depth)
        scope.block.lines.append(f"{name} = {instruction}")
        scope.known[instruction] = name
        return name

    def depth(self, text: str) -> int:
        """The depth of the scope in which an operand is defined; constants are known everywhere."""
        return self._depths.get(text, 0)

    def intrinsic(self, name: str, result: str, *arguments: tuple[str, str]) -> str:
        """Call an LLVM intrinsic or a library function: `result` is its type, arguments are (type, text)."""
        return self.emit(self._call(name, result, arguments))

    def effect(self, name: str, *arguments: tuple[str, str]) -> None:
        """Call an LLVM intrinsic that has no result."""
        self.line(self._call(name, "void", arguments))

    def _call(self, name: str, result: str, arguments: Sequence[tuple[str, str]]) -> str:
        types = ", ".join(type_ for type_, _ in arguments)
        self.context.declare(name, f"declare {result} @{name}({types})")
        given = ", ".join(f"{type_} {text}" for type_, text in arguments)
        return f"call {result} @{name}({given})"

    def packed(self, arguments: Iterable[tuple[str, str]]) -> str:
        """A pointer to (type, text) arguments in memory, each in 8 bytes; they stay there up to the next join."""
        raise TargetError("only a program may share out grains")

    def traced(self, notes: Sequence[tuple[str, str]], arguments: Iterable[tuple[str, str]]) -> str:
        """As `packed`, for a task that is run by `TRACED_TASK`: the task, where its records go, how many there is room
        for, and its launch."""
        raise TargetError("only a program may share out grains")

    def join(self) -> str:
        """Run what is shared out; the status."""
        raise TargetError("only a program may share out grains")

    def constant(self, elements: ElementsAttr) -> str:
        """A pointer to a constant of the model."""
        raise TargetError("only a program may use constants in memory")

    def report(self, message: str, op: Operation, value: str) -> None:
        """Report a run-time error here."""
        site = self.context.site(message, op.loc.label)
        self.line(f"call void @sw_report(ptr {self.team}, i64 1, i64 {site}, i64 {value})")

    # Values

    def value(self, value: Value) -> str:
        """The text of a scalar or vector operand."""
        known = self._registers.get(value)
        if known is not None:
            return known
        op = value.defining_op
        if not isinstance(op, ConstantOp):
            raise TargetError(f"%{value.name or '?'} is used before it is written")
        text = constant_literal(op.value, value.type)
        self._registers[value] = text
        return text

    def bind(self, value: Value, text: str) -> None:
        """`text` stands for a scalar or vector value."""
        self._registers[value] = text

    def define(self, value: Value, registers: Sequence[str]) -> None:
        """`registers` stand for any value (a memref has several)."""
        if isinstance(value.type, MemRefType):
            from .memory import Memory

            self.memory[value] = Memory.from_registers(value.type, registers)
        else:
            self.bind(value, registers[0])

    def registers(self, value: Value) -> list[str]:
        """What stands for any value."""
        if isinstance(value.type, MemRefType):
            return self.memory[value].registers(self)
        return [self.value(value)]

    def typed(self, value: Value) -> str:
        """`float %3`"""
        return f"{register_type(value.type)} {self.value(value)}"

    def text(self) -> str:
        """The blocks."""
        return "\n".join(block.text() for block in self.blocks)


def flat_types(types: Iterable[Type]) -> list[str]:
    """The LLVM types of all registers that stand for values of some types."""
    return [text for type_ in types for text in parameter_types(type_)]


def task_symbol(kernel: str) -> str:
    """The name in object code of the task that runs a grain of a kernel: apart from all names of kernels."""
    return f"stepwell.task.{kernel}"


TRACED_TASK = "stepwell.traced"
"""The name in object code of the task that runs another one between two clocks."""
