"""What tests of recognition share: a function built, recognised, and interpreted before and after."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepwell.dialects.graph.base import tensor_type
from stepwell.ir.core import Operation, Value
from stepwell.ir.interpreter import run_function
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.graph.canonicalize import Canonicalize
from stepwell.lowering.graph.recognize import Recognize
from tests.lowering.to_tensor.descent import Build, constant, graph_module, main, types_of

RANDOM = np.random.default_rng(11)


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    """Random numbers."""
    return RANDOM.standard_normal(shape).astype(dtype)


def number(value: float, like: Value) -> Value:
    """A constant without axes."""
    del like
    return constant(np.float32(value))


def ops_of(module: Operation) -> list[Operation]:
    """The graph's ops but constants."""
    return [op for op in module.walk() if op.dialect == "graph" and op.op_name != "graph.constant"]


def recognised(build: Build, *inputs: Any, symbolic: bool = False, tolerance: float = 1e-5) -> list[Operation]:
    """The ops that recognition leaves, after a check that the results stayed, NaN and infinities included."""
    module = graph_module(types_of(inputs, symbolic), build)
    with np.errstate(all="ignore"):
        expected = run_function(main(module), inputs)
    for pass_ in (Canonicalize(), Recognize()):
        pass_.run(module, PassContext())
        verify(module)
    for one, other in zip(run_function(main(module), inputs), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    return ops_of(module)


def kinds(ops: list[Operation]) -> list[str]:
    """Their names without the dialect's."""
    return [op.op_name.removeprefix("graph.") for op in ops]


def last_axis(value: Value) -> list[int]:
    """The axes of a reduction of rows."""
    return [tensor_type(value).rank - 1]
