"""Models for any sizes, at many of them: what a size decides at run time is decided for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import stepwell
from stepwell.errors import InputError, ModelError

Array = np.ndarray[Any, Any]
OPSET = 21


def model(nodes: Sequence[Any], inputs: dict[str, tuple[int, Sequence[int | str]]], outputs: Sequence[str],
          element: int = TensorProto.FLOAT) -> Any:  # fmt: skip
    infos = [helper.make_tensor_value_info(name, element, shape) for name, (element, shape) in inputs.items()]
    results = [helper.make_tensor_value_info(name, element, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", infos, results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def judge_of(made: Any) -> Any:
    return onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])


POOLS = [
    ({"kernel_shape": [3, 3], "strides": [2, 2]}, [(4, 4), (5, 6), (3, 8), (7, 7)]),
    ({"kernel_shape": [2, 2], "strides": [3, 3]}, [(4, 4), (5, 6), (3, 8), (7, 2)]),
    ({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [(4, 4), (5, 6), (2, 8)]),
    ({"kernel_shape": [3, 2], "strides": [4, 2], "dilations": [2, 1], "pads": [2, 0, 0, 1]}, [(4, 4), (9, 6), (6, 7)]),
]


@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("attributes", "sizes"), POOLS)
def test_pools(op: str, ceil: int, attributes: dict[str, Any], sizes: list[tuple[int, int]]) -> None:
    """A last window that overhangs takes nothing from the next row."""
    made = model([helper.make_node(op, ["x"], ["y"], ceil_mode=ceil, **attributes)],
                 {"x": (TensorProto.FLOAT, ["n", "c", "h", "w"])}, ["y"])  # fmt: skip
    compiled, judge = stepwell.compile(made), judge_of(made)
    for height, width in sizes:
        x = np.random.default_rng(0).random((2, 3, height, width), np.float32)
        np.testing.assert_allclose(compiled(x), judge.run(None, {"x": x})[0], rtol=1e-6)


def test_equal_kernels_of_an_input_and_of_what_was_made_of_it_get_their_sizes_in_one_order() -> None:
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["a"], keepdims=0),
        helper.make_node("Neg", ["x"], ["m"]),
        helper.make_node("Softmax", ["m"], ["s"], axis=0),
        helper.make_node("ReduceSum", ["s", "axes"], ["b"], keepdims=0),
    ]
    made = model(nodes, {"x": (TensorProto.FLOAT, ["n", "c", "h", "w"])}, ["a", "b"])
    made.graph.initializer.append(helper.make_tensor("axes", TensorProto.INT64, [3], [0, 2, 3]))
    compiled, judge = stepwell.compile(made), judge_of(made)
    for shape in ((2, 3, 4, 5), (5, 1, 2, 1), (1, 7, 1, 3)):
        x = np.random.default_rng(0).random(shape, np.float32)
        for found, expected in zip(compiled(x), judge.run(None, {"x": x}), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5)


def integer_product(**shapes: Sequence[int | str]) -> Any:
    given = {"a": ["m", "k"], "b": ["k", "n"], "za": ["p"], "zb": ["q"], **shapes}
    inputs = {name: (int(TensorProto.UINT8), shape) for name, shape in given.items()}
    return model([helper.make_node("MatMulInteger", list(inputs), ["y"])], inputs, ["y"], TensorProto.INT32)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 1), (1, 3), (4, 3)])
def test_zero_points_of_all_rows_or_of_each(rows: int, columns: int) -> None:
    made = integer_product()
    rng = np.random.default_rng(0)
    a, b, za, zb = (rng.integers(0, 256, shape, np.uint8) for shape in ((4, 5), (5, 3), (rows,), (columns,)))
    expected = (a.astype(np.int32) - za[:, None]) @ (b.astype(np.int32) - zb)
    assert np.array_equal(stepwell.compile(made)(a, b, za, zb), expected)


def test_zero_points_that_fit_nothing() -> None:
    made = integer_product()
    a, b, one, two = (np.ones(shape, np.uint8) for shape in ((4, 5), (5, 3), (1,), (2,)))
    with pytest.raises(InputError, match="zero point of lhs: size p does not broadcast to m"):
        stepwell.compile(made)(a, b, two, one)
    fixed = {"b": ["k", 3], "zb": [2]}
    with pytest.raises(ModelError, match="zero point of rhs of shape 2 does not broadcast to 3"):
        stepwell.compile(integer_product(**fixed))


@pytest.mark.parametrize("channels", [1, 2])
def test_zero_points_of_filters(channels: int) -> None:
    inputs = {
        "x": (TensorProto.UINT8, ["n", "c", "h", "w"]), "f": (TensorProto.UINT8, ["o", "c", 2, 2]),
        "zx": (TensorProto.UINT8, []), "zf": (TensorProto.UINT8, ["q"]),
    }  # fmt: skip
    made = model([helper.make_node("ConvInteger", ["x", "f", "zx", "zf"], ["y"])], inputs, ["y"], TensorProto.INT32)
    rng = np.random.default_rng(0)
    x, f, zf = (rng.integers(0, 256, shape, np.uint8) for shape in ((1, 3, 4, 5), (2, 3, 2, 2), (channels,)))
    zx = np.uint8(7)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.int32) - zx, (2, 2), axis=(2, 3))
    expected = np.einsum("nchwij,ocij->nohw", windows, f.astype(np.int32) - zf.reshape(-1, 1, 1, 1))
    assert np.array_equal(stepwell.compile(made)(x, f, zx, zf), expected)
