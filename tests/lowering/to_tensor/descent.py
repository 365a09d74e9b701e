"""A graph function on its way down: the same results at every landing, and after the passes in between.

    descend(lambda x: SoftmaxOp(x, axes=[1]), rows)
    check([tensor(2, N)], lambda x: ShapeOp(x, start=0, end=1), counted(2, 5))

The function is what the ops that `build` returns depend on: it makes ops without inserting them. Arguments take their
types from the arrays (with `symbolic`, sizes other than 1 are symbols, equal ones the same), or from `types`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import pytest

import stepwell
from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.func import FuncOp, ReturnOp
from stepwell.dialects.graph.base import ConstantOp
from stepwell.errors import RuntimeError
from stepwell.ir.attributes import elements
from stepwell.ir.core import Block, Operation, Value
from stepwell.ir.dims import Dim, evaluate, symbol
from stepwell.ir.interpreter import run_function
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import F32, TensorType, Type, numpy_dtype, type_of_dtype
from stepwell.ir.verifier import verify
from stepwell.lowering.loop.hoist import Hoist
from stepwell.lowering.loop.inline import InlineStages
from stepwell.lowering.loop.tile import Tile
from stepwell.lowering.loop.vectorize import Vectorize
from stepwell.lowering.tensor.decompose import DecomposeLayouts
from stepwell.lowering.tensor.fuse import Fuse
from stepwell.lowering.tensor.pack import PackConstants
from stepwell.lowering.tensor.pack_inputs import PackInputs
from stepwell.lowering.tensor.schedule import Schedule
from stepwell.lowering.to_loop.outline import Outline
from stepwell.lowering.to_tensor.convert import ToTensor

Array = Any
Build = Callable[..., "Operation | Value | Sequence[Value]"]
N, M, K = symbol("n"), symbol("m"), symbol("k")

TENSOR_PASSES = (DecomposeLayouts(), Fuse(), Schedule(), PackInputs(), PackConstants())
LOOP_PASSES = (Outline(), InlineStages(), Tile(), Vectorize(), Hoist())


def f32(values: Any) -> Array:
    """An array of f32."""
    return np.array(values, np.float32)


def counted(*shape: int, dtype: Any = np.float32) -> Array:
    """An array of different numbers."""
    return (np.arange(int(np.prod(shape))) % 120 + 1).astype(dtype).reshape(shape)


def tensor(*shape: Dim, element: Type = F32) -> TensorType:
    """A tensor type."""
    return TensorType(shape, element)


def constant(array: Any) -> Value:
    """A constant of the graph."""
    return ConstantOp(value=elements(np.asarray(array))).result


def ints(*values: int) -> Value:
    """A constant list of si64."""
    return constant(np.array(values, np.int64))


def types_of(arrays: Sequence[Array], symbolic: bool = False) -> list[TensorType]:
    """The arrays' types; with `symbolic`, sizes other than 1 are symbols, equal ones the same."""
    return [
        TensorType(tuple(symbol(f"d{n}") if symbolic and n != 1 else n for n in np.shape(array)), _element(array))
        for array in arrays
    ]


def _element(array: Array) -> Type:
    return type_of_dtype(np.asarray(array).dtype)


def graph_module(types: Sequence[Type], build: Build) -> ModuleOp:
    """A module whose @main takes arguments of these types and returns what `build(*arguments)` gives: the results of an
    op, or values."""
    module = ModuleOp.empty()
    function = FuncOp.declare("main", list(types))
    module.block.append(function)
    made = build(*function.arguments)
    results = [made] if isinstance(made, Value) else made.results if isinstance(made, Operation) else made
    for value in results:
        _place(value, function.entry)
    function.entry.append(ReturnOp(list(results)))
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


def main(module: Operation) -> FuncOp:
    """The function that runs the model."""
    return next(f for f in module.walk_of(FuncOp) if f.sym_name == "main")


def lowered(module: ModuleOp, passes: Sequence[Pass]) -> ModuleOp:
    """The module after the passes, verified after each."""
    for item in passes:
        item.run(module, PassContext())
        verify(module)
    return module


def signless(array: Any) -> Array:
    """The same bits as the tensor landing holds them: unsigned integers as signed ones."""
    array = np.asarray(array)
    return array.view(np.dtype(f"i{array.itemsize}")) if array.dtype.kind == "u" else array


def assert_close(made: Sequence[Array], expected: Sequence[Array], rtol: float, atol: float) -> None:
    """Integers and the places of NaN and infinities agree, floats to a tolerance."""
    for one, other in zip(map(signless, made), map(signless, expected), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        if one.dtype.kind in "iub":
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one.astype(np.float64), other.astype(np.float64), rtol, atol)


@attrs.frozen
class Descent:
    """What was found on the way: the graph's results, and the module as it came to the tensor landing."""

    results: Sequence[Array]
    module: ModuleOp


def descend(
    build: Build, *arrays: Array, types: Sequence[Type] = (), symbolic: bool = False, rtol: float = 2e-6,
    atol: float = 1e-6, loops: bool = False, native: bool = False,
) -> Descent:  # fmt: skip
    """Interpret a function at the graph and the tensor landing, with `loops` also after the passes of that landing and
    those down to vector code, with `native` also as machine code: all give the graph's results."""
    module = graph_module(types or types_of(arrays, symbolic), build)
    with np.errstate(all="ignore"):
        expected = run_function(main(module), list(map(np.asarray, arrays)))
    if native:
        assert_close(run_native(module.clone(), arrays), expected, rtol, atol)
    return Descent(expected, walk_down(module, arrays, expected, rtol, atol, loops=loops))


def walk_down(
    module: ModuleOp, arrays: Sequence[Array], expected: Sequence[Array], rtol: float, atol: float, *,
    loops: bool = True,
) -> ModuleOp:  # fmt: skip
    """Lower a module of the graph landing, which is consumed; its @main gives what is expected at the tensor landing
    and, with `loops`, after the passes of that landing and down to vector code. Returns it at the tensor landing."""
    inputs = list(map(signless, arrays))
    lowered(module, [ToTensor()])
    assert not [op.op_name for op in module.walk() if op.dialect == "graph"]
    assert_close(run_function(main(module), inputs), expected, rtol, atol)
    if loops:
        low = lowered(module.clone(), TENSOR_PASSES)
        assert_close(run_function(main(low), inputs), expected, rtol, atol)
        lowered(low, LOOP_PASSES)
        outputs = [np.zeros_like(signless(array)) for array in expected]
        run_function(main(low), [*(array.copy() for array in inputs), *outputs])
        assert_close(outputs, expected, rtol, atol)
    return module


def check(types: Sequence[Type], build: Build, *arrays: Array, tolerance: float = 0, deep: bool = True) -> ModuleOp:
    """Descend on arguments of these types: where `deep`, all the way; by default to the same bits. Returns the module
    at the tensor landing."""
    found = descend(build, *arrays, types=types, rtol=tolerance, atol=tolerance, loops=deep, native=deep)
    return found.module


def fails_alike(build: Build, *arrays: Array, symbolic: bool = False) -> RuntimeError:
    """Run a function that must fail at the graph, tensor and loop landing and as machine code: each with the same error
    but for how sizes are written. The graph's is returned."""
    module = graph_module(types_of(arrays, symbolic), build)
    expected = _failure(lambda: run_function(main(module), arrays))
    failures = {"native": _failure(lambda: run_native(module.clone(), arrays))}
    results = [value.type for value in main(module).returned]
    lowered(module, [ToTensor()])
    inputs = list(map(signless, arrays))
    failures["tensor"] = _failure(lambda: run_function(main(module), inputs))
    low = lowered(module.clone(), [*TENSOR_PASSES, *LOOP_PASSES])
    sizes = {f"d{size}": size for array in inputs for size in array.shape}
    outputs = [signless(np.zeros(_shape(type_, sizes), numpy_dtype(type_))) for type_ in results]
    failures["loop"] = _failure(lambda: run_function(main(low), [*inputs, *outputs]))
    for landing, found in failures.items():
        assert (_plain(found), found.value) == (_plain(expected), expected.value), landing
    return expected


def _failure(run: Callable[[], object]) -> RuntimeError:
    with pytest.raises(RuntimeError) as raised:
        run()
    return raised.value


def _shape(type_: Any, sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(evaluate(dim, sizes) for dim in type_.shape)


def _plain(error: RuntimeError) -> str:
    """What went wrong, without sizes."""
    return re.sub(r"\bd?\d+\b", "N", error.problem)


def run_native(module: ModuleOp, arrays: Sequence[Array]) -> list[Array]:
    """The results of a module at the graph landing from machine code."""
    made = stepwell.compile(module, threads=1)(*map(np.asarray, arrays))
    return list(made) if isinstance(made, tuple) else [made]
