"""Runs IR on NumPy arrays through the ops' `interpret`: the oracle for everything below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.errors import IRError, RuntimeError, StepwellError
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.opdef import Trait, has_trait
from stepwell.ir.symbol_values import bind_symbols
from stepwell.ir.symbols import lookup
from stepwell.ir.types import TensorType

Observer = Callable[[Operation, Sequence[Any]], Sequence[Any] | None]
"""`observer(op, results)` is called after every op; what it gives back, if anything, stands in place of the results."""
Launcher = Callable[[Operation, Sequence[Any], Callable[[], Any]], Any]
"""`launcher(op, arguments, run)` runs a kernel in place of `run()` and gives what that would."""
LAUNCHER = "launcher"


class Frame:
    """The values of one activation."""

    def __init__(
        self, outer: Frame | None = None, observer: Observer | None = None
    ) -> None:
        self._values: dict[Value, Any] = {}
        self._outer = outer
        inherited: Observer | None = outer.observer if outer is not None else None
        self.observer: Observer | None = observer if observer is not None else inherited
        self.state: dict[str, Any] = outer.state if outer is not None else {}

    def get(self, value: Value) -> Any:
        """The value's content."""
        frame: Frame | None = self
        while frame is not None:
            if value in frame._values:
                return frame._values[value]
            frame = frame._outer
        raise IRError(f"%{value.name or '?'} has no value here")

    def set(self, value: Value, content: Any) -> None:
        """Bind a value."""
        self._values[value] = content

    def run_region(self, region: Region, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Run a region's blocks from its entry; returns the operands of the terminator that leaves it."""
        inner = Frame(self)
        block: Block | None = region.entry
        while block is not None:
            if len(arguments) != len(block.arguments):
                raise IRError(f"a block of {len(block.arguments)} arguments was given {len(arguments)}")
            for argument, content in zip(block.arguments, arguments, strict=True):
                inner.set(argument, content)
            leaving = inner.run_block(block)
            if leaving is None:
                return ()
            operands = tuple(inner.get(value) for value in leaving.operands)
            if not leaving.successors:
                return operands
            block, arguments = leaving.interpret(inner, *operands)
        raise IRError("control flow left the region")

    def run_block(self, block: Block) -> Operation | None:
        """Run a block's operations; returns its terminator, if it has one."""
        for op in block:
            if has_trait(op, Trait.TERMINATOR):
                return op
            self.run_op(op)
        return None

    def run_op(self, op: Operation) -> None:
        """Run one operation and bind its results."""
        arguments = [self.get(value) for value in op.operands]
        try:
            made = op.interpret(self, *arguments)
        except RuntimeError as error:
            raise error.at(op.loc.label or "an operation", op.op_name) from None
        except StepwellError:
            raise
        except (ArithmeticError, ValueError, TypeError, IndexError, NotImplementedError) as error:
            raise IRError(f"interpreting {op.op_name} (from {op.loc.label or 'unknown'}): {error}") from error
        results: Sequence[Any] = made if isinstance(made, tuple) else () if made is None else (made,)
        if len(results) != len(op.results):
            raise IRError(f"{op.op_name} has {len(op.results)} results and its interpretation gave {len(results)}")
        if self.observer is not None:
            results = self.observer(op, results) or results
        for result, content in zip(op.results, results, strict=True):
            self.set(result, content)

    def launch(self, op: Operation, arguments: Sequence[Any], run: Callable[[], Any]) -> Any:
        """Run a kernel: `run()`, or what the launcher given to `run_function` makes of it."""
        launcher: Launcher | None = self.state.get(LAUNCHER)
        return run() if launcher is None else launcher(op, arguments, run)

    def call(self, op: Operation, callee: str, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Run the function `@callee` as seen from `op`."""
        return run_function(lookup(op, callee), arguments, self)


def run_function(
    function: Operation,
    arguments: Sequence[Any],
    outer: Frame | None = None,
    observer: Observer | None = None,
    launcher: Launcher | None = None,
) -> tuple[Any, ...]:
    """Run a function on arrays (memrefs and scalars at lower landings); returns its results.

    `launcher` runs the kernels that it meets.

    The symbols of tensor types get their values from the arrays' sizes. Raises IRError where these contradict."""
    frame = Frame(None, observer if observer is not None else outer.observer if outer else None)
    if outer is not None:
        frame.state = outer.state
    if launcher is not None:
        frame.state = {**frame.state, LAUNCHER: launcher}
    types = [argument.type for argument in function.regions[0].entry.arguments]
    if any(isinstance(type_, TensorType) for type_ in types):
        symbols = bind_symbols(types, [() if isinstance(content, list) else np.shape(content) for content in arguments])
        frame.state = {**frame.state, "symbols": symbols}
    return frame.run_region(function.regions[0], arguments)
