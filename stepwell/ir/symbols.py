"""Symbol tables: finding functions and other named ops."""

from __future__ import annotations

from stepwell.errors import IRError
from stepwell.ir.attributes import StringAttr
from stepwell.ir.core import Operation
from stepwell.ir.opdef import Trait, has_trait


def symbol_name(op: Operation) -> str | None:
    """The name under which an op is found, if it has one."""
    attribute = op.properties.get("sym_name") or op.attributes.get("sym_name")
    return attribute.value if isinstance(attribute, StringAttr) else None


class SymbolTable:
    """The symbols directly inside one op. Insertion keeps names unique."""

    def __init__(self, table: Operation) -> None:
        self.op = table
        self.symbols: dict[str, Operation] = {}
        for op in table.regions[0].block:
            name = symbol_name(op)
            if name is not None:
                self.symbols[name] = op

    def lookup(self, name: str) -> Operation | None:
        """The op of that name."""
        return self.symbols.get(name)

    def unique_name(self, base: str) -> str:
        """`base`, or `base_1`, `base_2`, ..."""
        name, count = base, 0
        while name in self.symbols:
            count += 1
            name = f"{base}_{count}"
        return name

    def insert(self, op: Operation, before: Operation | None = None) -> str:
        """Add a named op, renaming it if the name is taken; returns its name."""
        name = symbol_name(op)
        if name is None:
            raise IRError(f"{op.op_name} has no symbol name")
        unique = self.unique_name(name)
        op.properties["sym_name"] = StringAttr(unique)
        self.op.regions[0].block.insert_before(before, op)
        self.symbols[unique] = op
        return unique


def nearest_table(op: Operation) -> Operation:
    """The innermost enclosing symbol table."""
    node: Operation | None = op
    while node is not None:
        if has_trait(node, Trait.SYMBOL_TABLE):
            return node
        node = node.parent_op
    raise IRError(f"{op.op_name} is in no symbol table")


def lookup(op: Operation, name: str) -> Operation:
    """The op that `@name` means where `op` stands. Raises IRError if there is none."""
    found = SymbolTable(nearest_table(op)).lookup(name)
    if found is None:
        raise IRError(f"there is no @{name}")
    return found
