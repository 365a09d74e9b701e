"""Runs graph ops at every landing on the way down, for the tests of the rules."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import stepwell
from stepwell.dialects import func
from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.graph.base import ConstantOp
from stepwell.ir.attributes import elements
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.dims import Dim, symbol
from stepwell.ir.interpreter import run_function
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import F32, TensorType, Type
from stepwell.ir.verifier import verify
from stepwell.lowering.loop.hoist import Hoist
from stepwell.lowering.loop.inline import InlineStages
from stepwell.lowering.loop.tile import Tile
from stepwell.lowering.loop.vectorize import Vectorize
from stepwell.lowering.tensor.decompose import DecomposeLayouts
from stepwell.lowering.tensor.fuse import Fuse
from stepwell.lowering.tensor.pack import PackConstants
from stepwell.lowering.tensor.schedule import Schedule
from stepwell.lowering.to_loop.outline import Outline
from stepwell.lowering.to_tensor.convert import ToTensor

N, M, K = symbol("n"), symbol("m"), symbol("k")
Build = Callable[..., Any]


class Graph:
    """Inserts graph ops into a function."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    def __call__(self, op: Operation) -> Any:
        """Insert an op; its result, or all of them."""
        results = self.builder.insert(op).results
        return results[0] if len(results) == 1 else tuple(results)

    def ints(self, *values: int) -> Value:
        """A list of si64."""
        return self.array(np.array(values, np.int64))

    def array(self, array: Any) -> Value:
        """A constant."""
        made: Value = self(ConstantOp(value=elements(np.asarray(array))))
        return made


def graph_module(types: Sequence[Type], build: Build) -> ModuleOp:
    """A module whose @main takes arguments of these types and returns what `build(graph, *arguments)` gives."""
    function = func.FuncOp.declare("main", list(types))
    graph = Graph(Builder.at_end(function.entry))
    made = build(graph, *function.arguments)
    graph.builder.insert(func.ReturnOp([made] if isinstance(made, Value) else list(made)))
    function.update_type()
    module = ModuleOp(regions=[Region([Block((), [function])])])
    verify(module)
    return module


def main(module: Operation) -> func.FuncOp:
    """The function that runs the model."""
    return next(f for f in module.walk_of(func.FuncOp) if f.sym_name == "main")


def lowered(module: ModuleOp, passes: Sequence[Pass]) -> ModuleOp:
    """The module after the passes, verified after each."""
    context = PassContext()
    for item in passes:
        item.run(module, context)
        verify(module)
    return module


TENSOR_PASSES = (DecomposeLayouts(), Fuse(), Schedule(), PackConstants())
LOOP_PASSES = (Outline(), InlineStages(), Tile(), Vectorize(), Hoist())


def signless(array: Any) -> Any:
    """The same bits as the tensor landing holds them: unsigned integers as signed ones."""
    array = np.asarray(array)
    return array.view(np.dtype(f"i{array.itemsize}")) if array.dtype.kind == "u" else array


def check(types: Sequence[Type], build: Build, *arrays: Any, tolerance: float = 0, deep: bool = True) -> ModuleOp:
    """The results agree at the graph and the tensor landing, and where `deep` at the loop landing and as machine code;
    returns the module at the tensor landing."""
    arrays = tuple(np.asarray(array) for array in arrays)
    expected = run_function(main(graph_module(types, build)), arrays)
    inputs = [signless(array) for array in arrays]
    module = lowered(graph_module(types, build), [ToTensor()])
    assert not [op.op_name for op in module.walk() if op.dialect == "graph"]
    compare(run_function(main(module), inputs), expected, tolerance)
    if deep:
        low = lowered(graph_module(types, build), [ToTensor(), *TENSOR_PASSES])
        compare(run_function(main(low), inputs), expected, tolerance)
        lowered(low, LOOP_PASSES)
        outputs = [np.zeros(np.shape(e), signless(e).dtype) for e in expected]
        run_function(main(low), [*(a.copy() for a in inputs), *outputs])
        compare(outputs, expected, tolerance)
        made = stepwell.compile(graph_module(types, build), threads=1)(*arrays)
        compare(made if isinstance(made, tuple) else [made], expected, tolerance)
    return module


def compare(found: Sequence[Any], expected: Sequence[Any], tolerance: float) -> None:
    """Equal bits, or within a tolerance."""
    for mine, theirs in itertools.zip_longest(found, expected):
        mine, theirs = signless(mine), signless(theirs)
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype, (mine.shape, theirs.shape, mine.dtype)
        if tolerance:
            np.testing.assert_allclose(
                np.asarray(mine, np.float64), np.asarray(theirs, np.float64), rtol=tolerance, atol=tolerance
            )
        else:
            np.testing.assert_array_equal(mine, theirs)


def counted(*shape: int, dtype: Any = np.float32) -> Any:
    """An array of different numbers."""
    size = int(np.prod(shape))
    return (np.arange(size) % 120 + 1).astype(dtype).reshape(shape)


def tensor(*shape: Dim, element: Type = F32) -> TensorType:
    """A tensor type."""
    return TensorType(shape, element)


