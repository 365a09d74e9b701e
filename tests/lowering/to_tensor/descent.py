"""A graph function on its way down: the same results at every landing and after every pass.

    descend(lambda x: SoftmaxOp(x, axes=[1]), rows)

The function is what the ops that `build` returns depend on. Arguments take their types from the arrays; with
`symbolic`, sizes other than 1 are symbols, equal ones the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from stepwell.backends.cpu import model, target
from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.func import FuncOp, ReturnOp
from stepwell.dialects.graph.base import ConstantOp
from stepwell.errors import RuntimeError
from stepwell.ir.attributes import elements
from stepwell.ir.core import Block, Operation, Value
from stepwell.ir.dims import Dim, evaluate, symbol
from stepwell.ir.interpreter import run_function
from stepwell.ir.passes import Pass, PassContext, PassManager
from stepwell.ir.types import TensorType, numpy_dtype, type_of_dtype
from stepwell.ir.verifier import verify
from stepwell.lowering import pipeline
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
Build = Callable[..., "Operation | Sequence[Value]"]

TO_LOOPS: tuple[Pass, ...] = (
    Fuse(), Schedule(), PackConstants(), Outline(), InlineStages(), Tile(), Vectorize(), Hoist(),
)  # fmt: skip


def f32(values: Any) -> Array:
    """An array of f32."""
    return np.array(values, np.float32)


def constant(array: Any) -> Value:
    """A constant of the graph."""
    return ConstantOp(value=elements(np.asarray(array))).result


def graph_module(build: Build, inputs: Sequence[Array], symbolic: bool = False) -> ModuleOp:
    """A module whose function `f` gives the results of the op, or the values, that `build` makes of the arguments."""
    module = ModuleOp.empty()
    function = FuncOp.declare("f", [_type_of(array, symbolic) for array in inputs])
    module.block.append(function)
    made = build(*function.arguments)
    results = list(made.results) if isinstance(made, Operation) else list(made)
    for value in results:
        _place(value, function.entry)
    function.entry.append(ReturnOp(results))
    function.update_type()
    verify(module)
    return module


def _place(value: Value, block: Block) -> None:
    op = value.defining_op
    if op is None or op.parent is not None:
        return
    for operand in op.operands:
        _place(operand, block)
    block.append(op)


def _type_of(array: Array, symbolic: bool) -> TensorType:
    dims: list[Dim] = [symbol(f"d{size}") if symbolic and size != 1 else size for size in array.shape]
    return TensorType(tuple(dims), type_of_dtype(array.dtype))


def function_of(module: Operation) -> FuncOp:
    """The program."""
    return next(f for f in module.walk_of(FuncOp) if f.sym_name == "f")


def as_signless(array: Array) -> Array:
    """The bits of unsigned integers as the interpreter holds signless ones."""
    array = np.asarray(array)
    return array.view(f"i{array.itemsize}") if array.dtype.kind == "u" else array


def assert_close(made: Sequence[Array], expected: Sequence[Array], rtol: float, atol: float) -> None:
    """Integers and the places of NaN and infinities agree, floats to a tolerance."""
    assert len(made) == len(expected)
    for one, other in zip(map(as_signless, made), map(as_signless, expected), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        if one.dtype.kind in "iub":
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one.astype(np.float64), other.astype(np.float64), rtol, atol)


def descend(
    build: Build, *inputs: Array, symbolic: bool = False, rtol: float = 2e-6, atol: float = 1e-6, loops: bool = False,
    native: bool = False,
) -> Sequence[Array]:  # fmt: skip
    """Interpret a function at the graph and the tensor landing, with `loops` also after the passes down to vector code,
    with `native` also as machine code; all give the graph's results, which are returned."""
    module = graph_module(build, inputs, symbolic)
    results = [value.type for value in function_of(module).returned]
    with np.errstate(all="ignore"):
        expected = run_function(function_of(module), inputs)
    if native:
        assert_close(run_native(module.clone(), inputs), expected, rtol, atol)
    arguments = [as_signless(array) for array in inputs]
    ToTensor().run(module, PassContext())
    verify(module)
    assert_close(run_function(function_of(module), arguments), expected, rtol, atol)
    if loops:
        _to_loops(module)
        assert_close(_run_loops(module, results, inputs), expected, rtol, atol)
    return expected


def fails_alike(build: Build, *inputs: Array, symbolic: bool = False) -> RuntimeError:
    """Run a function that must fail at the graph, tensor and loop landing and as machine code: each with the same error
    but for how sizes are written. The graph's is returned."""
    module = graph_module(build, inputs, symbolic)
    results = [value.type for value in function_of(module).returned]
    expected = _failure(lambda: run_function(function_of(module), inputs))
    failures = {"native": _failure(lambda: run_native(module.clone(), inputs))}
    ToTensor().run(module, PassContext())
    arguments = [as_signless(array) for array in inputs]
    failures["tensor"] = _failure(lambda: run_function(function_of(module), arguments))
    _to_loops(module)
    failures["loop"] = _failure(lambda: _run_loops(module, results, inputs))
    for landing, found in failures.items():
        assert (_plain(found), found.value) == (_plain(expected), expected.value), landing
    return expected


def _failure(run: Callable[[], object]) -> RuntimeError:
    with pytest.raises(RuntimeError) as raised:
        run()
    return raised.value


def _plain(error: RuntimeError) -> str:
    """What went wrong, without sizes."""
    return re.sub(r"\bd?\d+\b", "N", error.problem)


def _to_loops(module: Operation) -> None:
    for pass_ in TO_LOOPS:
        pass_.run(module, PassContext())
        verify(module)


def _run_loops(module: Operation, results: Sequence[Any], inputs: Sequence[Array]) -> list[Array]:
    sizes = {f"d{size}": size for array in inputs for size in array.shape}
    outputs = [as_signless(np.zeros(_shape(type_, sizes), numpy_dtype(type_))) for type_ in results]
    run_function(function_of(module), [*map(as_signless, inputs), *outputs])
    return outputs


def _shape(type_: Any, sizes: dict[str, int]) -> tuple[int, ...]:
    assert isinstance(type_, TensorType)
    return tuple(evaluate(dim, sizes) for dim in type_.shape)


def run_native(module: Operation, inputs: Sequence[Array]) -> list[Array]:
    """The results of a module at the graph landing from machine code."""
    machine = target.host()
    PassManager(pipeline.phases("graph", "loop")).run(module, PassContext(machine))
    return model.build(module, machine, threads=1).run([as_signless(array) for array in inputs])
