"""One function of plain LLVM IR under construction: lines in order, named blocks, and slots for what loops carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from stepwell.backends.cpu.emit.types import constant_literal, register_type
from stepwell.dialects.arith import ConstantOp
from stepwell.errors import TargetError
from stepwell.ir.core import Block, Operation, Value
from stepwell.ir.types import FloatType, MemRefType, Type, element_of

if TYPE_CHECKING:
    from .memory import Memory


class NoScalarForm(TargetError):
    """A kernel has an op or a type that the plain emitter does not write."""


Rule = Callable[["Writer", Any], None]
RULES: dict[type[Operation], Rule] = {}
"""Op class -> what writes it."""


def writes(*classes: type[Operation]) -> Callable[[Rule], Rule]:
    """Decorator: enters a rule into the table."""

    def enter(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(classes, rule))
        return rule

    return enter


def text_type(type_: Type) -> str:
    """The LLVM type of a scalar or vector. Raises NoScalarForm for floats below 32 bits."""
    element = element_of(type_)
    if isinstance(element, FloatType) and element.width < 32:
        raise NoScalarForm(f"no plain code for {element}")
    try:
        return register_type(type_)
    except TargetError as error:
        raise NoScalarForm(str(error)) from None


class Writer:
    """Writes one function. `sites` collects the ops that may stop it: site n makes it answer n + 1."""

    def __init__(self, sites: list[Operation]) -> None:
        self.sites = sites
        self.lines: list[str] = []
        self.slots: list[str] = []
        self.declarations: dict[str, None] = {}
        self.values: dict[Value, str] = {}
        self.memory: dict[Value, Memory] = {}
        self.dims: list[str] = []  # where a stage stands in its iteration space
        self._count = 0

    # Text

    def emit(self, instruction: str) -> str:
        """An instruction; answers its register."""
        self._count += 1
        self.lines.append(f"  %v{self._count} = {instruction}")
        return f"%v{self._count}"

    def line(self, text: str) -> None:
        """An instruction without a result."""
        self.lines.append(f"  {text}")

    def label(self, hint: str) -> str:
        """A new block's name."""
        self._count += 1
        return f"{hint}.{self._count}"

    def start(self, label: str) -> None:
        """What follows stands in this block."""
        self.lines.append(f"{label}:")

    def jump(self, label: str) -> None:
        """Go on in another block, and write it."""
        self.line(f"br label %{label}")

    def branch(self, condition: str, yes: str, no: str) -> None:
        """Go on in one of two blocks."""
        self.line(f"br i1 {condition}, label %{yes}, label %{no}")

    def slot(self, type_: str) -> str:
        """A place on the stack."""
        self._count += 1
        self.slots.append(f"  %s{self._count} = alloca {type_}")
        return f"%s{self._count}"

    def call(self, name: str, result: str, *arguments: tuple[str, str]) -> str:
        """A call of an intrinsic or a function of libm."""
        self.declarations[f"declare {result} @{name}({', '.join(type_ for type_, _ in arguments)})"] = None
        return self.emit(f"call {result} @{name}({', '.join(f'{type_} {text}' for type_, text in arguments)})")

    def require(self, holds: str, op: Operation) -> None:
        """Leave the function, naming the op, unless a condition holds."""
        good, bad = self.label("good"), self.label("bad")
        self.branch(holds, good, bad)
        self.start(bad)
        self.sites.append(op)
        self.line(f"ret i64 {len(self.sites)}")
        self.start(good)

    # Values

    def value(self, value: Value) -> str:
        """The text of a scalar or vector: a register or a constant."""
        op = value.defining_op
        if isinstance(op, ConstantOp):
            text_type(value.type)
            return constant_literal(op.value, value.type)
        return self.values[value]

    def typed(self, value: Value) -> str:
        """`float %v3`"""
        return f"{text_type(value.type)} {self.value(value)}"

    def types_of(self, value: Value) -> list[str]:
        """The LLVM types of the registers that stand for a value: a buffer is its descriptor."""
        if isinstance(value.type, MemRefType):
            return ["ptr", *["i64"] * (3 * value.type.rank)]
        return [text_type(value.type)]

    def registers(self, value: Value) -> list[str]:
        """The registers that stand for a value."""
        if isinstance(value.type, MemRefType):
            return self.memory[value].registers
        return [self.value(value)]

    def define(self, value: Value, registers: Sequence[str]) -> None:
        """Registers stand for a value."""
        if isinstance(value.type, MemRefType):
            from .memory import Memory

            self.memory[value] = Memory.of(value.type, registers)
        else:
            self.values[value] = registers[0]

    # Regions

    def block(self, block: Block, arguments: Sequence[Sequence[str]] = ()) -> list[list[str]]:
        """Write a region's block; answers the registers of the terminator's operands."""
        for argument, registers in zip(block.arguments, arguments, strict=True):
            self.define(argument, registers)
        return self.operations(block)

    def operations(self, block: Block) -> list[list[str]]:
        """The same for a block whose arguments are defined; local buffers are free again at its end."""
        top = self.emit("load i64, ptr %top") if any(op.op_name == "buffer.local" for op in block) else None
        for op in block:
            rule = RULES.get(type(op))
            if rule is None:
                raise NoScalarForm(f"no plain code for {op.op_name}")
            rule(self, op)
        yielded = [self.registers(value) for value in block.terminator.operands]
        if top is not None and block.terminator.op_name != "func.return":
            self.line(f"store i64 {top}, ptr %top")
        return yielded
