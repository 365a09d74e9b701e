"""The pass that leaves the graph landing."""

from __future__ import annotations

import importlib
import pkgutil
from typing import ClassVar

import attrs

from stepwell.dialects import func, tensor
from stepwell.dialects.graph.base import ConstantOp
from stepwell.dialects.host_calls import refuse_host_calls
from stepwell.ir.attributes import ArrayAttr, DenseAttr, DenseResourceAttr, DictAttr, ElementsAttr, StringAttr
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Operation, Value
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.registry import REGISTRY
from stepwell.ir.rewrite import is_dead
from stepwell.ir.types import TensorType
from stepwell.lowering import to_tensor
from stepwell.lowering.to_tensor.demands import keep_demands
from stepwell.lowering.to_tensor.host import HANDLES, number_strings
from stepwell.lowering.to_tensor.rules import RULES, lowers, signless


def load_rules() -> None:
    """Import every family of rules."""
    for info in pkgutil.iter_modules(to_tensor.__path__):
        importlib.import_module(f"{to_tensor.__name__}.{info.name}")


@lowers(ConstantOp)
def constant(op: ConstantOp, c: Conversion) -> Value:
    """graph.constant dense<...> : tensor<4xsi32>  ->  tensor.constant dense<...> : tensor<4xi32>"""
    handles = op.attributes.get(HANDLES)
    value = handles if isinstance(handles, ElementsAttr) else _signless_elements(op.value)
    return c.insert(tensor.ConstantOp(value=value)).result


def _signless_elements(value: ElementsAttr) -> ElementsAttr:
    type_ = signless(value.tensor_type)
    assert isinstance(type_, TensorType)
    if type_ is value.tensor_type:
        return value
    if isinstance(value, DenseAttr):
        return DenseAttr(type_, value.data)
    if isinstance(value, DenseResourceAttr):
        return DenseResourceAttr(value.blob, type_)
    raise NoMatch(f"constants of {type_} have no form below")


@attrs.frozen
class ToTensor(Pass):
    """Turn graph ops into tileable ops on signless tensors."""

    name: ClassVar[str] = "to-tensor"

    def run(self, module: Operation, context: PassContext) -> None:
        load_rules()
        refuse_host_calls(module, context.options)
        for function in module.walk_of(func.FuncOp):
            keep_graph_types(function)
            keep_demands(function)
            number_strings(function)
            conversion = Conversion(RULES, signless, stands_below, context=context)
            conversion.run(function)
            function.update_type()
            drop_unread(function)


def drop_unread(function: func.FuncOp) -> None:
    """Erase what nobody reads: statistics that were not asked for, sizes that became types, reshapes looked through."""
    for op in reversed(list(function.walk())):
        if is_dead(op):
            op.erase()


def stands_below(op: Operation) -> bool:
    """Whether an op has left the graph landing, or never stood there."""
    return REGISTRY.landing(op.dialect) != "graph"


def keep_graph_types(function: func.FuncOp) -> None:
    """Attach the graph type to arguments and results that lose a sign: the caller's arrays keep their element types."""
    results = [value.type for value in function.returned]
    for key, types, given in (
        ("arg_attrs", [a.type for a in function.arguments], function.argument_attributes),
        ("res_attrs", results, function.result_attributes),
    ):
        if any(signless(type_) is not type_ for type_ in types):
            kept = [DictAttr.of({**given(n), "sw.graph": StringAttr(str(t))}) for n, t in enumerate(types)]
            function.properties[key] = ArrayAttr(tuple(kept))
