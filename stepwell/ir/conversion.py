"""Dialect conversion: one walk that replaces every op of the source dialects, with types converted on the way.

Unlike greedy rewriting it visits each op once, in order, and fails with an explanation when an op has no rule: which
rules were tried, and why each refused. Rules for `Operation` itself are tried on every op, before those of its class; a
refusal without words is not mentioned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from stepwell.errors import PassError, StepwellError
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, BlockArgument, Operation, OpT, UnregisteredOp, Value
from stepwell.ir.origins import note
from stepwell.ir.types import Type


class NoMatch(StepwellError):
    """A conversion rule refuses an op; the text says why."""


@attrs.frozen(eq=False)
class Rule:
    """How ops of one class are converted: returns the values that stand for its results. Raises NoMatch to refuse."""

    root: type[Operation]
    convert: Callable[[Any, Conversion], Sequence[Value] | Value | None]

    def __attrs_post_init__(self) -> None:
        note(self.convert)

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.convert, "__name__", "rule")


@attrs.define(eq=False)
class Conversion:
    """The state of one walk: `builder` inserts the new ops, `new(value)` gives what stands for an old value."""

    rules: dict[type[Operation], list[Rule]]
    convert_type: Callable[[Type], Type]
    is_legal: Callable[[Operation], bool]
    mapping: dict[Value, Value] = attrs.Factory(dict)
    builder: Builder = attrs.field(default=None)
    context: Any = None
    _converted: list[Operation] = attrs.Factory(list)
    _failures: list[str] = attrs.Factory(list)

    def insert(self, op: OpT) -> OpT:
        """Put a new op at the insertion point."""
        return self.builder.insert(op)

    def new(self, value: Value) -> Value:
        """What stands for a value of the source."""
        return self.mapping.get(value, value)

    def run(self, root: Operation) -> None:
        """Convert everything inside `root` in place. Raises PassError listing every op that no rule converts.

        The source stays whole until the end, so that rules see its types and what is known of its values."""
        self._convert_regions(root)
        if self._failures:
            raise PassError("no conversion for:\n" + "\n".join(f"  {line}" for line in self._failures))
        for op in reversed(self._converted):
            op.erase()
        self._converted.clear()

    def convert_into(self, source: Block, arguments: Sequence[Value], target: Block) -> None:
        """Convert the ops of a block, whose arguments `arguments` stand for, and move them to the end of another.

        So a rule for an op with regions fills those of the op that it makes. The insertion point stays."""
        builder = self.builder
        self.mapping.update(zip(source.arguments, arguments, strict=True))
        for op in list(source):
            self._convert(op)
        for op in list(source):
            op.detach()
            target.append(op)
        self.builder = builder

    def _convert_regions(self, root: Operation) -> None:
        for region in root.regions:
            for block in region.blocks:
                for argument in list(block.arguments):
                    self._convert_argument(argument)
                for op in list(block):
                    self._convert(op)

    def _convert_argument(self, argument: BlockArgument) -> None:
        """Let an argument of the new type take the place; rules still see the old one's type on their operands."""
        type_ = self.convert_type(argument.type)
        if type_ is not argument.type:
            new = BlockArgument(argument.block, argument.index, type_)
            new.name = argument.name
            argument.block.arguments[argument.index] = new
            self.mapping[argument] = new

    def _convert(self, op: Operation) -> None:
        if self.is_legal(op):
            for index, value in enumerate(op.operands):
                op.set_operand(index, self.new(value))
            self._convert_regions(op)
            return
        refusals = []
        for rule in (*self.rules.get(Operation, ()), *self.rules.get(type(op), ())):
            self.builder = Builder.before(op)
            try:
                made = rule.convert(op, self)
            except NoMatch as refusal:
                if str(refusal):
                    refusals.append(f"{rule.name}: {refusal}")
                continue
            self._replace(op, made)
            return
        where = f" (from {op.loc.label})" if op.loc.label else ""
        self._failures.append(f"{op.op_name}{where}: {'; '.join(refusals) or 'no rule is registered for it'}")
        types = [self.convert_type(result.type) for result in op.results]
        missing = Builder.before(op).insert(UnregisteredOp.named("conversion.missing", result_types=types))
        self.mapping.update(zip(op.results, missing.results, strict=True))  # so that the others can be tried

    def _replace(self, op: Operation, made: Sequence[Value] | Value | None) -> None:
        values = [] if made is None else [made] if isinstance(made, Value) else list(made)
        if len(values) != len(op.results):
            raise PassError(f"the conversion of {op.op_name} gave {len(values)} values for {len(op.results)} results")
        for result, value in zip(op.results, values, strict=True):
            if result.has_uses and value.type is not self.convert_type(result.type):
                expected = self.convert_type(result.type)
                raise PassError(f"the conversion of {op.op_name} gave a value of type {value.type}, not {expected}")
            self.mapping[result] = value
            value.name = value.name or result.name
        self._converted.append(op)
