"""Sizes that data decide: `tensor.born` before the ops whose results have them.

An op of the graph landing names the symbols that it brings in `new_dims`. Where this module, or a rule that gives
`sizes_by_data`, says how the numbers are computed, they are bound first, and the op is lowered like any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stepwell.dialects.graph.symbols import DataDependentOp, fresh_name
from stepwell.dialects.tensor import BornOp, DimsAttr, tensor_type
from stepwell.ir.affine_expr import const
from stepwell.ir.attributes import UnitAttr
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import Dim, symbol
from stepwell.ir.types import I64, IntegerType, TensorType
from stepwell.lowering.to_tensor.places import BORN, Places, moved, reads_unsigned, reshaped
from stepwell.lowering.to_tensor.rules import lowers

Sizes = Mapping[str, tuple[Value, "Dim | None"]]
"""Symbol -> a tensor<i64> with its number, and the most that it can be."""

COUNT = TensorType((), I64)

_SIZES: dict[type[Operation], Callable[[Any, Conversion], Sizes]] = {}

SizeRule = Callable[[Any, Conversion], Sizes]


def sizes_by_data(*classes: type[Operation]) -> Callable[[SizeRule], SizeRule]:
    """Register a function that computes the sizes that ops of some classes bring. It raises NoMatch to refuse."""

    def register(function: SizeRule) -> SizeRule:
        for cls in classes:
            _SIZES[cls] = function
        return function

    return register


@lowers(Operation)
def born_sizes(op: Operation, c: Conversion) -> None:
    """graph.op {new_dims = ["k"]}  ->  tensor.born %n {symbol = "k"}; graph.op"""
    if not isinstance(op, DataDependentOp) or not op.new_dims or type(op) not in _SIZES or BORN in op.attributes:
        raise NoMatch("")
    bear(op, c, _SIZES[type(op)](op, c))
    raise NoMatch("")


def bear(op: Operation, c: Conversion, sizes: Sizes) -> None:
    """From here on the symbols are the numbers in tensors of one i64: those that an op brings, all or some of them."""
    for name, (size, most) in sizes.items():
        attribute = DimsAttr((most,)) if most is not None else None
        c.insert(BornOp(reshaped(c, size, ()), symbol=name, at_most=attribute))
    op.attributes[BORN] = UnitAttr()


def born_size(op: Operation, c: Conversion, number: Value, prefix: str) -> Dim:
    """A new symbol, named after `prefix`, for the number in a tensor of one i64, which an op brings for its own use."""
    name = fresh_name(prefix)
    bear(op, c, {name: (number, None)})
    return symbol(name)


def as_size(c: Conversion, value: Value) -> Value:
    """The number in a graph value of one integer, as tensor<i64>. Raises NoMatch where it may hold several."""
    type_ = tensor_type(value)
    if any(size != 1 for size in type_.shape):
        raise NoMatch(f"a size is one number; {type_} may hold another number of them")
    return entry(c, value, None)


def entry(c: Conversion, value: Value, position: int | None) -> Value:
    """One of the numbers in a graph value, as tensor<i64>, floats rounded to zero; `position` None where it holds only
    one."""
    type_ = tensor_type(value)
    place = [const(position or 0)] * type_.rank

    def body(p: Places, number: Value) -> Value:
        if isinstance(type_.element, IntegerType):
            return p.resized(number, I64, reads_unsigned(value))
        return p.integer_of(p.whole_of(p.widened(number)), I64)

    return moved(c, COUNT, body, inputs=[c.new(value)], maps=[place])
