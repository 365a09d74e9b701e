"""What becomes one kernel, and why something does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stepwell.dialects.tensor import GenericOp, KernelOp
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering import pipeline
from stepwell.sources import load_source


def kernels(model: onnx.ModelProto) -> list[int]:
    """The number of generics in each kernel."""
    module, _ = load_source(model)
    PassManager(pipeline.phases("graph", "tensor")).run(module, PassContext())
    return [sum(1 for _ in kernel.walk_of(GenericOp)) for kernel in module.walk_of(KernelOp)]


def convolution(batch: int | str, channels: int) -> onnx.ModelProto:
    """relu(conv(x) + residual)"""
    weights = numpy_helper.from_array(np.ones((channels, channels, 3, 3), np.float32), "w")
    shape: list[Any] = [batch, channels, 6, 6]
    inner = [batch, channels, 4, 4]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Add", ["c", "r"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    infos = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("r", inner), ("y", inner))
    ]
    graph = helper.make_graph(nodes, "g", infos[:2], infos[2:], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("batch", [1, 2, "n"])
def test_a_convolution_takes_what_follows_along(batch: int | str) -> None:
    assert kernels(convolution(batch, 3)) == [3]
