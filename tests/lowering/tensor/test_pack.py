"""Constants in the order in which the innermost loop reads them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stepwell.backends.cpu import target
from stepwell.dialects.tensor import KernelOp, tensor_type
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering import pipeline
from stepwell.lowering.tensor.pack import in_panels
from stepwell.sources import load_source


def convolution(size: int, pads: int) -> onnx.ModelProto:
    """A convolution of 32 channels to 64, between two whose channels are blocked."""
    weights = numpy_helper.from_array(np.ones((64, 32, size, size), np.float32), "w")
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 9, 9]) for n, c in (("x", 32), ("y", 64))]
    first = numpy_helper.from_array(np.ones((32, 32, 5, 5), np.float32), "v")
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["c"], pads=[2] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["d"], pads=[pads] * 4),
        helper.make_node("Conv", ["d", "u"], ["y"], pads=[2] * 4),
    ]
    last = numpy_helper.from_array(np.ones((64, 64, 5, 5), np.float32), "u")
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], [first, weights, last])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(("size", "pads"), [(1, 0), (5, 2)])
@pytest.mark.parametrize("name", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_weights_of_a_convolution(size: int, pads: int, name: str) -> None:
    """Those of 1x1 too, of which the kernel sees a reshaped view without the dims of size 1."""
    module, _ = load_source(convolution(size, pads))
    PassManager(pipeline.phases("graph", "tensor")).run(module, PassContext(target.named(name)))
    kernel = [k for k in module.walk_of(KernelOp) if len(k.inputs) > 1][-2]
    assert kernel.schedule is not None
    panel = kernel.schedule.register_size(kernel.schedule.vector)
    shape = tensor_type(kernel.inputs[1]).shape
    assert shape[0] == -(-64 // panel)
    assert shape[-1] == panel


@pytest.mark.parametrize("size", [1, 7, 8, 9, 16])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_panels_are_padded_with_zeros(size: int, position: int) -> None:
    shape = [3, 5]
    shape.insert(position, size)
    array = np.arange(1.0, 15 * size + 1).reshape(shape[::-1]).T
    found = in_panels(array, position, 8)
    assert found.flags.c_contiguous and found.shape == (*shape[:position], -(-size // 8), *shape[position + 1 :], 8)
    widths = [(0, 0)] * 3
    widths[position] = (0, -size % 8)
    padded = np.pad(array, widths)
    split = padded.reshape(*shape[:position], -1, 8, *shape[position + 1 :])
    np.testing.assert_array_equal(found, np.moveaxis(split, position + 1, -1))
