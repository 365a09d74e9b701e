"""What a program keeps from call to call, as attributes of its function.

    @main(%past: tensor<1x?xf32, ["past"]> {sw.state = {result = 1}})                                 carried
    @main(%past: tensor<1x?xf32, ["past"]> {sw.state = {axis = 1, capacity = 64, result = 1}})        grows in place

The result of that number is what the argument is in the next call. Below the tensor landing, a result that grows in
place is no argument of the program any more; `name` and `type` say what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from stepwell.dialects.func import FuncOp
from stepwell.ir.attributes import ArrayAttr, Attribute, DictAttr, IntegerAttr, StringAttr

STATE = "sw.state"


class Kept(NamedTuple):
    """An argument that is kept: `result` is the number of the result that it becomes. With a `capacity`, the result's
    rows along `axis` go behind the argument's own."""

    argument: int
    result: int
    axis: int = 0
    capacity: int = 0
    name: str = ""
    type: str = ""

    @property
    def grows(self) -> bool:
        """Whether rows are appended in place."""
        return self.capacity > 0

    @property
    def is_placed(self) -> bool:
        """Whether the result is no argument of the program: it is found where the argument is."""
        return bool(self.type)

    def attribute(self) -> DictAttr:
        """As it stands at the argument."""
        found: dict[str, Attribute] = {"result": IntegerAttr(self.result)}
        if self.grows:
            found |= {"axis": IntegerAttr(self.axis), "capacity": IntegerAttr(self.capacity)}
        if self.type:
            found |= {"name": StringAttr(self.name), "type": StringAttr(self.type)}
        return DictAttr.of(found)


def kept_by(function: FuncOp) -> list[Kept]:
    """The arguments that are kept, in their order."""
    found = [kept_in(function.argument_attributes(n), n) for n in range(len(function.arguments))]
    return [kept for kept in found if kept is not None]


def kept_in(given: Mapping[str, Attribute], argument: int) -> Kept | None:
    """What an argument's attributes say of it."""
    told = given.get(STATE)
    if not isinstance(told, DictAttr):
        return None
    items = dict(told.items)

    def number(name: str) -> int:
        value = items.get(name)
        return value.value if isinstance(value, IntegerAttr) else 0

    def text(name: str) -> str:
        value = items.get(name)
        return value.value if isinstance(value, StringAttr) else ""

    return Kept(argument, number("result"), number("axis"), number("capacity"), text("name"), text("type"))


def set_kept(function: FuncOp, kept: Kept) -> None:
    """Attach it to its argument."""
    given = [function.argument_attributes(n) for n in range(len(function.arguments))]
    given[kept.argument][STATE] = kept.attribute()
    function.properties["arg_attrs"] = ArrayAttr(tuple(DictAttr.of(item) for item in given))


CAPACITY = "sw.capacity"
"""The function's attribute: symbol -> how many rows the caller has room for where an argument has that many."""


def capacities(function: FuncOp) -> dict[str, int]:
    """The largest values of symbols by which kept arguments grow."""
    told = function.attributes.get(CAPACITY)
    items = told.items if isinstance(told, DictAttr) else ()
    return {name: value.value for name, value in items if isinstance(value, IntegerAttr)}


def set_capacities(function: FuncOp, limits: Mapping[str, int]) -> None:
    """Attach them to the function."""
    function.attributes[CAPACITY] = DictAttr.of({name: IntegerAttr(rows) for name, rows in limits.items()})
