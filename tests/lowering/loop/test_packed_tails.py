"""The tail of a row of a packed constant is read without a mask; what else has a tail keeps it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.backends.cpu.target import named
from stepwell.dialects import func, vector
from stepwell.dialects.kernel import CONSTANTS
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering import pipeline
from stepwell.lowering.loop.access import is_constant
from stepwell.sources import load_source

COLUMNS = (24, 40, 17)


def product(columns: int, given: bool) -> onnx.ModelProto:
    """x @ w, with constant weights or with those of a call."""
    shapes = {"x": [30, 9], "w": [9, columns], "y": [30, columns]}
    infos = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    weights = np.random.default_rng(0).standard_normal(shapes["w"]).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [infos["x"]] + [infos["w"]] * (not given), [infos["y"]],
        [numpy_helper.from_array(weights, "w")] * given,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("given", [True, False])
def test_tails_of_constants_have_no_masks(columns: int, given: bool) -> None:
    module, _ = load_source(product(columns, given))
    PassManager(pipeline.phases("graph", "loop")).run(module, PassContext(named("x86-64-v4")))
    kernels = [function for function in module.walk_of(func.FuncOp) if CONSTANTS in function.attributes]
    assert len(kernels) == given
    masked = list(module.walk_of(vector.MaskedLoadOp))
    assert bool(masked) != given
    assert not any(is_constant(load.operands[0]) for load in masked)


@pytest.mark.parametrize("columns", COLUMNS)
def test_what_lies_behind_a_tail_is_no_part_of_the_result(columns: int) -> None:
    proto = product(columns, given=True)
    x = np.random.default_rng(1).standard_normal((30, 9)).astype(np.float32)
    expected = x @ numpy_helper.to_array(proto.graph.initializer[0])
    for target in ("cpu", "x86-64-v3", "x86-64"):
        got = stepwell.compile(proto, target=target, threads=1)(x)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
