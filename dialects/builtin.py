"""The builtin dialect: modules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stepwell.errors import IRError
from stepwell.ir.attributes import StringAttr
from stepwell.ir.attrkinds import STRING
from stepwell.ir.core import Block, Operation, Region
from stepwell.ir.opdef import NO_TERMINATOR, SYMBOL_TABLE, Op, Trait, attr, region
from stepwell.ir.registry import Dialect

if TYPE_CHECKING:
    from stepwell.ir.parser import Parser
    from stepwell.ir.printer import Printer


def check_prefixed(names: Iterable[str]) -> None:
    """Raise IRError unless each name has a dialect in front of a dot, as upstream wants it of what is attached to
    modules, arguments and results."""
    for name in names:
        if "." not in name:
            raise IRError(f"attribute {name!r} needs a dialect's prefix, as in sw.{name}")


class ModuleOp(Op):
    """A list of functions and other symbols: what a file holds.

    ```mlir
    builtin.module {
    }
    ```
    """

    name = "builtin.module"
    traits = frozenset({Trait.ISOLATED, SYMBOL_TABLE, NO_TERMINATOR})
    sym_name: str | None = attr(STRING, default=None)
    body: Region = region()

    @staticmethod
    def empty(name: str | None = None) -> ModuleOp:
        """A module without contents."""
        return ModuleOp(regions=[Region([Block()])], sym_name=name)

    @property
    def block(self) -> Block:
        """The block that holds the symbols."""
        return self.body.block

    def verify_op(self) -> None:
        check_prefixed(self.attributes)

    def print_custom(self, printer: Printer) -> None:
        """`builtin.module @name attributes {...} { ... }`"""
        if self.sym_name is not None:
            from stepwell.ir.printer import key_text

            printer.emit(f" @{key_text(self.sym_name)}")
        printer.attr_dict(list(self.attributes.items()), "attributes ")
        printer.emit(" ")
        printer.region(self, self.body, header=False)

    @staticmethod
    def parse_custom(parser: Parser) -> Operation:
        """The inverse of `print_custom`."""
        from stepwell.ir.lexer import Kind

        properties = {}
        if parser.peek().kind is Kind.SYMBOL:
            properties["sym_name"] = StringAttr(parser.symbol())
        attributes = parser.attr_dict() if parser.accept("attributes") else {}
        body = parser.region(cls=ModuleOp)
        if not body.blocks:
            body.append(Block())
        return ModuleOp.make(properties=properties, attributes=attributes, regions=[body])


DIALECT = Dialect.of_module("builtin", globals().values(), __doc__)
