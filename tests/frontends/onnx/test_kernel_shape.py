"""`kernel_shape` beside weights whose shape does not say how large the kernel is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import stepwell
from stepwell.errors import InputError, ModelError

X = np.arange(2 * 3 * 6, dtype=np.float32).reshape(1, 2, 3, 6)


def model(operator: str, kernel: list[int], weights: list[Any]) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
              for name, shape in (("x", list(X.shape)), ("w", weights))]  # fmt: skip
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)
    node = helper.make_node(operator, ["x", "w"], ["y"], kernel_shape=kernel)
    graph = helper.make_graph([node], "g", inputs, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(("operator", "shape"), [("Conv", (1, 4, 2, 4)), ("ConvTranspose", (1, 2, 4, 8))])
def test_it_is_what_the_weights_have_to_be(operator: str, shape: tuple[int, ...]) -> None:
    w = np.ones((4, 2, 2, 3) if operator == "Conv" else (2, 2, 2, 3), np.float32)
    compiled = stepwell.compile(model(operator, [2, 3], ["m", 2, "kh", "kw"]))
    assert compiled.outputs[0].shape[2:] == shape[2:]
    assert compiled(X, w).shape == shape
    with pytest.raises(InputError, match=r"the kernel and the weights.*kw = 2"):
        compiled(X, w[..., :2])


def test_weights_of_another_kernel_are_refused() -> None:
    with pytest.raises(ModelError, match=r"kernel_shape \[2, 3\] differs from the weights' \[.*, 2\]"):
        stepwell.compile(model("Conv", [2, 3], ["m", 2, "kh", 2]))
    with pytest.raises(ModelError, match=r"kernel_shape \[2\] differs"):
        stepwell.compile(model("Conv", [2], ["m", 2, "kh", "kw"]))
