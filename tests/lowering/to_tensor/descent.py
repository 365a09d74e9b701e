"""A graph function on its way down: the same results at every landing and after every pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.func import FuncOp
from stepwell.ir.core import Operation
from stepwell.ir.dims import DimExpr, evaluate
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.symbol_values import bind_symbols
from stepwell.ir.types import TensorType, numpy_dtype
from stepwell.ir.verifier import verify
from stepwell.lowering.loop.hoist import Hoist
from stepwell.lowering.loop.inline import InlineStages
from stepwell.lowering.loop.tile import Tile
from stepwell.lowering.loop.vectorize import Vectorize
from stepwell.lowering.tensor.fuse import Fuse
from stepwell.lowering.tensor.pack import PackConstants
from stepwell.lowering.tensor.schedule import Schedule
from stepwell.lowering.to_loop.outline import Outline
from stepwell.lowering.to_tensor.convert import ToTensor

Array = Any

TO_LOOPS: tuple[Pass, ...] = (
    Fuse(), Schedule(), PackConstants(), Outline(), InlineStages(), Tile(), Vectorize(), Hoist(),
)  # fmt: skip


def function_of(module: Operation, name: str = "f") -> FuncOp:
    """The function of that name."""
    return next(f for f in module.walk_of(FuncOp) if f.sym_name == name)


def as_signless(array: Array) -> Array:
    """The bits of unsigned integers as the interpreter holds signless ones."""
    array = np.asarray(array)
    return array.view(f"i{array.itemsize}") if array.dtype.kind == "u" else array


def assert_close(made: Sequence[Array], expected: Sequence[Array], rtol: float, atol: float) -> None:
    """Integers and the places of NaN and infinities agree, floats to a tolerance."""
    assert len(made) == len(expected)
    for one, other in zip(made, expected, strict=True):
        one, other = as_signless(one), as_signless(other)
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        if one.dtype.kind in "iub":
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one.astype(np.float64), other.astype(np.float64), rtol, atol)


def descend(
    text: str, *inputs: Array, rtol: float = 1e-6, atol: float = 1e-6, to_loops: bool = True
) -> tuple[Operation, Sequence[Array]]:
    """Run `@f` at the graph landing, then lowered; every landing gives the graph's results.

    Returns the module at the tensor landing and the results of the graph."""
    module = parse_module(text)
    verify(module)
    types = [argument.type for argument in function_of(module).arguments]
    results = [value.type for value in function_of(module).returned]
    with np.errstate(all="ignore"):
        expected = run_function(function_of(module), inputs)
    arguments = [as_signless(array) for array in inputs]
    ToTensor().run(module, PassContext())
    verify(module)
    assert_close(run_function(function_of(module), arguments), expected, rtol, atol)
    tensors = parse_module(str(module))
    if to_loops:
        symbols = bind_symbols(types, [np.shape(array) for array in inputs])
        outputs = [np.zeros(_shape(type_, symbols), numpy_dtype(type_)) for type_ in results]
        _run_loops(module, arguments, [as_signless(array) for array in outputs], expected, rtol, atol)
    return tensors, expected


def _shape(type_: Any, symbols: dict[str, int]) -> tuple[int, ...]:
    assert isinstance(type_, TensorType)
    return tuple(evaluate(dim, symbols) if isinstance(dim, DimExpr) else dim for dim in type_.shape)


def _run_loops(
    module: Operation, arguments: Sequence[Array], outputs: Sequence[Array], expected: Sequence[Array], rtol: float,
    atol: float,
) -> None:  # fmt: skip
    assert isinstance(module, ModuleOp)
    for pass_ in TO_LOOPS:
        pass_.run(module, PassContext())
        verify(module)
    run_function(function_of(module), [*arguments, *outputs])
    assert_close(outputs, expected, rtol, atol)
