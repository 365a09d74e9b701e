"""Simplifications of graph ops, one module per family of ops. A family joins by a module here:

    @simplifies
    def drop_double_negation(op: NegOp, rewriter: Rewriter) -> bool:
        '''neg(neg(x)) -> x'''
        ...
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from stepwell.ir.rewrite import Pattern, Rewriter, pattern

PATTERNS: list[Pattern] = []


def simplifies(function: Callable[[Any, Rewriter], bool]) -> Pattern:
    """Decorator: register a pattern that canonicalisation applies."""
    made = pattern(function)
    PATTERNS.append(made)
    return made


def simplifies_each(
    *classes: type[Any], rounds: bool = False
) -> Callable[[Callable[[Any, Rewriter], bool]], None]:
    """Decorator: register a pattern for several op classes; `rounds` where it changes how floats are rounded."""

    def register(function: Callable[[Any, Rewriter], bool]) -> None:
        doc = function.__doc__ or ""
        PATTERNS.extend(Pattern(function.__name__, cls, function, doc=doc, rounds=rounds) for cls in classes)

    return register


def all_patterns(*, strict: bool = False) -> list[Pattern]:
    """The patterns of every family; in strict arithmetic those that leave every rounding as it is."""
    for info in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{info.name}")
    return [made for made in PATTERNS if not (strict and made.rounds)]
