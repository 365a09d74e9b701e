"""Operands that are copied into panels at run time."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.backends.cpu import target
from stepwell.dialects.tensor import GenericOp, KernelOp, tensor_type
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering import pipeline
from stepwell.lowering.tensor import pack_inputs
from stepwell.sources import load_source


def product(left: list[Any], right: list[Any], weights: bool = False) -> onnx.ModelProto:
    """x @ w, where w is an input, or a constant of ones."""
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", left), ("w", right))]
    constants = [numpy_helper.from_array(np.ones(right, np.float32), "w")] if weights else []
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", infos[: 1 if weights else 2],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def kernels(model: onnx.ModelProto) -> list[KernelOp]:
    module, _ = load_source(model)
    PassManager(pipeline.phases("graph", "tensor")).run(module, PassContext(target.named("x86-64-v4")))
    return list(module.walk_of(KernelOp))


def test_a_large_operand_is_copied_into_panels() -> None:
    copy, contraction = kernels(product([1024, 1024], [1024, 1024]))
    assert contraction.schedule is not None
    panel = contraction.schedule.register_size("n")
    assert tensor_type(copy.results[0]).shape == (-(-1024 // panel), 1024, panel)
    (root,) = contraction.walk_of(GenericOp)
    assert str(root.input_maps[1]) == f"(d0, d1, d2) -> (d1 floordiv {panel}, d2, d1 mod {panel})"
    assert contraction.inputs[1] is copy.results[0]
    assert copy.schedule is not None
    assert copy.schedule.vector == "n"


@pytest.mark.parametrize(
    ("left", "right", "weights"),
    [
        ([1024, 256], [256, 1024], False),  # a short reduction
        ([64, 1024], [1024, 1024], False),  # few rows
        ([1024, 1024], [1024, 512], False),  # several steps to a page
        ([1024, 1024], [1024, 1024], True),  # a constant, which is laid out ahead
    ],
)
def test_what_is_read_as_it_is(left: list[Any], right: list[Any], weights: bool) -> None:
    assert len(kernels(product(left, right, weights))) == 1


def test_an_input_without_axes_is_left_alone() -> None:
    """A zero point that all products share."""
    shapes = {"a": [4, 8], "b": [8, 8], "z": []}
    infos = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b", "z"], ["y"])], "g", infos,
        [helper.make_tensor_value_info("y", TensorProto.INT32, [4, 8])],
    )  # fmt: skip
    found = kernels(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    assert any(tensor_type(value).rank == 0 for kernel in found for value in kernel.inputs)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that can be copied is."""
    for name in ("PAGE", "LEAST_STEPS", "LEAST_ROWS"):
        monkeypatch.setattr(pack_inputs, name, 1)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([5, 7], [7, 150]),
        ([5, 7], [7, 3]),
        ([2, 3, 5, 7], [2, 3, 7, 70]),  # with a batch
        ([3, 5, 7], [7, 70]),
        (["m", "k"], ["k", "n"]),
        (["b", 5, "k"], ["b", "k", 33]),
    ],
)
@pytest.mark.parametrize("name", ["x86-64", "x86-64-v4"])
def test_copied_operands_give_the_same_product(left: list[Any], right: list[Any], name: str) -> None:
    assert len(kernels(product(left, right))) == 2
    model = stepwell.compile(product(left, right), target=name)
    rng = np.random.default_rng(0)
    sizes = {"m": 9, "k": 21, "n": 101, "b": 2}
    x, w = (rng.integers(-8, 8, [sizes.get(n, n) for n in shape]).astype(np.float32) for shape in (left, right))
    np.testing.assert_array_equal(model(x, w), x @ w, strict=True)
