"""ONNX's interface of a backend."""

from __future__ import annotations

import numpy as np
import onnx.backend.base
import pytest
from onnx import TensorProto, helper

from stepwell import onnx_backend
from stepwell.errors import InputError, ModelError, TargetError

X, Z = np.array([1.0, -2.0, 3.0], np.float32), np.array([4.0, 4.0, 4.0], np.float32)


def model() -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xz"]
    nodes = [helper.make_node("Sub", ["x", "z"], ["d"]), helper.make_node("Abs", ["d"], ["y"])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "yd"]
    return helper.make_model(helper.make_graph(nodes, "g", infos, outputs), opset_imports=[helper.make_opsetid("", 21)])


def test_it_is_a_backend() -> None:
    assert issubclass(onnx_backend.Backend, onnx.backend.base.Backend)
    assert onnx_backend.Backend.is_compatible(model()) and onnx_backend.is_compatible(model())


@pytest.mark.parametrize("inputs", [[X, Z], (X, Z), {"z": Z, "x": X}], ids=["list", "tuple", "by name"])
def test_a_prepared_model_runs_as_often_as_one_likes(inputs: object) -> None:
    prepared = onnx_backend.prepare(model())
    for _ in range(2):
        y, d = prepared.run(inputs)
        assert np.array_equal(d, X - Z) and np.array_equal(y, np.abs(X - Z))


def test_a_model_runs_once() -> None:
    assert np.array_equal(onnx_backend.run_model(model(), [X, Z], "CPU")[1], X - Z)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "version", "expected"),
    [
        ("Abs", [X], {}, None, np.abs(X)),
        ("Softmax", [np.zeros((2, 2, 2), np.float32)], {}, 11, np.full((2, 2, 2), 0.25, np.float32)),
        ("Softmax", [np.zeros((2, 2, 2), np.float32)], {}, 13, np.full((2, 2, 2), 0.5, np.float32)),
        ("Add", [np.int32(3), np.array([1, 2], np.int32)], {}, None, np.array([4, 5], np.int32)),
    ],
)
def test_a_node_runs_at_its_version(op: str, inputs: list, attributes: dict, version: int | None, expected) -> None:
    names = [f"i{number}" for number in range(len(inputs))]
    node = helper.make_node(op, names, ["y"], **attributes)
    (y,) = onnx_backend.run_node(node, inputs, opset_version=version)
    assert y.dtype == expected.dtype and np.array_equal(y, expected)


def test_a_node_with_an_absent_input_and_one_that_is_read_twice() -> None:
    clip = helper.make_node("Clip", ["x", "", "h"], ["y"])
    assert np.array_equal(onnx_backend.run_node(clip, [X, np.float32(2)])[0], np.minimum(X, 2))
    square = helper.make_node("Mul", ["x", "x"], ["y"])
    (y,) = onnx_backend.run_node(square, [X], outputs_info=[(np.float32, (3,))])
    assert np.array_equal(y, X * X)


@pytest.mark.parametrize(("device", "known"), [("CPU", True), ("CPU:0", True), ("NPU", False), ("", False)])
def test_devices(device: str, known: bool) -> None:
    assert onnx_backend.supports_device(device) is known
    if not known:
        with pytest.raises(TargetError, match=f"no code for the device '{device}'"):
            onnx_backend.prepare(model(), device)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"x": X}, "no value for z"),
        ([X], "1 arrays for 2 inputs"),
        ([X, Z.astype(np.float64)], "z"),
        ([X, Z[:2]], "must have shape"),
    ],
)
def test_inputs_that_do_not_fit(inputs: object, text: str) -> None:
    with pytest.raises(InputError, match=text):
        onnx_backend.run_model(model(), inputs)


def test_a_node_that_onnx_does_not_have() -> None:
    with pytest.raises(ModelError, match="NoSuchOp"):
        onnx_backend.run_node(helper.make_node("NoSuchOp", ["x"], ["y"]), [X])
    with pytest.raises(InputError, match="2 inputs, 1 arrays"):
        onnx_backend.run_node(helper.make_node("Add", ["a", "b"], ["y"]), [X])
