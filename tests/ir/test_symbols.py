"""Symbol tables: names are found from inside, and stay unique."""

from __future__ import annotations

import pytest

from stepwell.dialects.func import FuncOp
from stepwell.errors import IRError
from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.symbols import SymbolTable, lookup, nearest_table, symbol_name

MODULE = """
builtin.module {
  func.func private @f()
  func.func @g() {
    "use"() : () -> ()
    func.return
  }
  builtin.module {
    func.func private @f(i32)
    "inner"() : () -> ()
  }
  "named"() {sym_name = "h"} : () -> ()
}
"""


def find(name: str) -> tuple[Operation, Operation]:
    module = parse_module(MODULE)
    return module, next(op for op in module.walk() if op.op_name == name)


def test_the_nearest_table_is_asked() -> None:
    module, use = find("use")
    assert nearest_table(use) is module
    assert str(lookup(use, "f")) == "func.func private @f()"
    assert symbol_name(lookup(use, "h")) == "h"
    _, inner = find("inner")
    assert str(lookup(inner, "f")) == "func.func private @f(i32)"


@pytest.mark.parametrize("name", ["missing", "inner"])
def test_what_is_not_there(name: str) -> None:
    with pytest.raises(IRError, match=f"there is no @{name}"):
        lookup(find("use")[1], name)


def test_outside_a_table() -> None:
    with pytest.raises(IRError, match="op is in no symbol table"):
        nearest_table(parse_module('"op"() : () -> ()'))


def test_insertion_renames() -> None:
    module, _ = find("use")
    table = SymbolTable(module)
    names = [table.insert(FuncOp.declare("f", [])) for _ in range(2)]
    assert names == ["f_1", "f_2"]
    assert table.lookup("f_2") is module.regions[0].block.last
    assert table.insert(FuncOp.declare("k", []), before=module.regions[0].block.first) == "k"
    assert symbol_name(next(iter(module.regions[0].block))) == "k"


def test_only_named_ops_are_inserted() -> None:
    with pytest.raises(IRError, match="op has no symbol name"):
        SymbolTable(find("use")[0]).insert(parse_module('"op"() : () -> ()'))
