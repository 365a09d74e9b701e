"""Dead code: pure ops without users, and private functions that nobody names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import attrs

from stepwell.dialects import func
from stepwell.ir.attributes import ArrayAttr, Attribute, DictAttr, SymbolRefAttr
from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.rewrite import is_dead


@attrs.frozen
class DeadCode(Pass):
    """Drop what nothing uses."""

    name: ClassVar[str] = "dce"

    def run(self, module: Operation, context: PassContext) -> None:
        # Users come after definitions, those in regions after the op that owns them: one backward walk is enough.
        for op in reversed(list(module.walk())):
            if op is not module and is_dead(op):
                op.erase()
                context.count("dead ops dropped")
        while unused := _unused_functions(module):
            for function in unused:
                function.erase()
                context.count("dead functions dropped")


def _unused_functions(module: Operation) -> list[func.FuncOp]:
    named = {
        name
        for op in module.walk()
        for attribute in (*op.properties.values(), *op.attributes.values())
        for name in _references(attribute)
    }
    functions = module.walk_of(func.FuncOp)
    return [f for f in functions if f.sym_visibility == "private" and f.sym_name not in named]


def _references(attribute: Attribute) -> Iterator[str]:
    if isinstance(attribute, SymbolRefAttr):
        yield attribute.name
    elif isinstance(attribute, ArrayAttr):
        for item in attribute:
            yield from _references(item)
    elif isinstance(attribute, DictAttr):
        for _, item in attribute.items:
            yield from _references(item)
