"""Ops that exporters took apart, put together again: one module per family. A family joins by a module here:

    @recognises(SigmoidOp)
    def silu(op: UnaryOp, rewriter: Rewriter) -> bool:
        '''x * sigmoid(x) -> silu(x)'''
        ...

A pattern starts at an op that the idiom cannot do without, and leaves ops that others read as well."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from stepwell.ir.core import Operation, Value
from stepwell.ir.rewrite import Pattern, Rewriter

PATTERNS: list[Pattern] = []


def recognises(*classes: type[Any]) -> Callable[[Callable[[Any, Rewriter], bool]], None]:
    """Decorator: register a pattern that recognition tries at ops of some classes."""

    def register(function: Callable[[Any, Rewriter], bool]) -> None:
        PATTERNS.extend(Pattern(function.__name__, cls, function, doc=function.__doc__ or "") for cls in classes)

    return register


def take_over(rewriter: Rewriter, last: Value, op: Operation) -> None:
    """Let the first result of a new op replace the last value of an idiom."""
    old = last.defining_op
    assert old is not None
    rewriter.replace(old, op.results[0])
    rewriter.remark(op, f"recognised as {op.op_name}")


def all_patterns() -> list[Pattern]:
    """The patterns of every family."""
    for info in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{info.name}")
    return list(PATTERNS)
