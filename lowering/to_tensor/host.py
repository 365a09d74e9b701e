"""Calls of functions on the host, and the strings that programs hold as numbers.

    graph.constant dense<["a", "b"]> : tensor<2x!graph.string>   ->   tensor.constant dense<[1, 2]> : tensor<2xi64>
"""

from __future__ import annotations

import numpy as np

from stepwell.dialects import func
from stepwell.dialects.graph.base import ConstantOp
from stepwell.dialects.graph.host import HostCallOp
from stepwell.dialects.host_strings import STRINGS, StringPool
from stepwell.dialects.sequence_types import is_list, list_element, without_symbols
from stepwell.dialects.tensor import BornOp, HostResultOp
from stepwell.dialects.tensor import HostCallOp as TensorHostCallOp
from stepwell.ir.affine_expr import const
from stepwell.ir.attributes import ElementsAttr, StringElementsAttr, elements
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import symbol
from stepwell.ir.types import I64, FunctionType, StringType, TensorType, Type
from stepwell.lowering.to_tensor.born import COUNT
from stepwell.lowering.to_tensor.places import moved
from stepwell.lowering.to_tensor.rules import lowers, signless

HANDLES = "sw.handles"
"""The attribute of a constant of strings: their handles."""


def number_strings(function: func.FuncOp) -> None:
    """Give the strings of a function's constants handles: in the function's pool, and at each constant."""
    constants = [op for op in function.walk_of(ConstantOp) if isinstance(op.value, StringElementsAttr)]
    if not constants and not _speaks(function):
        return
    pool = StringPool.of_texts(text for op in constants for text in op.value.values)  # type: ignore[attr-defined]
    function.attributes[STRINGS] = pool.attribute()
    for op in constants:
        op.attributes[HANDLES] = _handles(op.value, pool)


def _speaks(function: func.FuncOp) -> bool:
    return any(isinstance(_element(value.type), StringType) for op in function.walk() for value in op.results) or any(
        isinstance(_element(argument.type), StringType) for argument in function.arguments
    )


def _element(type_: Type) -> Type | None:
    if is_list(type_):
        return list_element(type_)
    return type_.element if isinstance(type_, TensorType) else None


def _handles(value: ElementsAttr, pool: StringPool) -> ElementsAttr:
    array = value.numpy()
    numbers = np.fromiter(map(pool.handles.__getitem__, array.reshape(-1)), np.int64, array.size)
    return elements(numbers.reshape(array.shape), value.tensor_type.with_element(I64), "handles")


@lowers(HostCallOp)
def host_call(op: HostCallOp, c: Conversion) -> list[Value]:
    """%y = graph.host_call @f(%x) : .. -> tensor<?xf32, "k">
    ->  %sizes = tensor.host_call @f(%x); tensor.born %sizes[0] {symbol = "k"}; %y = tensor.host_result %sizes"""
    results = [tensor for result in op.results if isinstance(tensor := result.type, TensorType)]
    signature = FunctionType(tuple(map(without_symbols, op.types)), tuple(map(without_symbols, results)))
    inputs = [c.new(value) for value in op.inputs]
    call = c.insert(TensorHostCallOp(inputs, callee=op.callee, config=op.config, signature=signature))
    sizes = [size for type_ in results for size in type_.shape]
    for name in op.new_dims:
        if symbol(name) in sizes:
            size = moved(c, COUNT, inputs=[call.sizes], maps=[[const(sizes.index(symbol(name)))]])
            c.insert(BornOp(size, symbol=name))
    return [c.insert(HostResultOp(call.sizes, number=number, result_types=[signless(type_)])).result
            for number, type_ in enumerate(results)]  # fmt: skip
