"""ONNX's interface of a backend."""

from __future__ import annotations

import numpy as np
import onnx.backend.base
import pytest
from onnx import TensorProto, helper, numpy_helper

from stepwell import onnx_backend
from stepwell.errors import InputError, ModelError, TargetError

X, Z = np.array([1.0, -2.0, 3.0], np.float32), np.array([4.0, 4.0, 4.0], np.float32)


def model() -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xz"]
    nodes = [helper.make_node("Sub", ["x", "z"], ["d"]), helper.make_node("Abs", ["d"], ["y"])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "yd"]
    return helper.make_model(helper.make_graph(nodes, "g", infos, outputs), opset_imports=[helper.make_opsetid("", 21)])


def node_model(op: str, *infos: tuple[str, int, list], domain: str = "", **attributes: object) -> onnx.ModelProto:
    node = helper.make_node(op, [name for name, _, _ in infos], ["y"], domain=domain, **attributes)
    ports = [helper.make_tensor_value_info(*info) for info in infos]
    graph = helper.make_graph([node], "g", ports, [helper.make_empty_tensor_value_info("y")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("own", 1)])


def test_it_is_a_backend() -> None:
    assert issubclass(onnx_backend.Backend, onnx.backend.base.Backend)
    assert onnx_backend.Backend.is_compatible(model()) and onnx_backend.is_compatible(model())


X_INFO = ("x", TensorProto.FLOAT, ["n"])


@pytest.mark.parametrize(
    ("source", "device", "expected"),
    [
        (model(), "CPU", True),
        (model(), "NPU", False),
        (model().SerializeToString(), "CPU", True),
        (node_model("Frob", X_INFO, domain="own"), "CPU", False),
        (node_model("Abs", X_INFO, frob=1), "CPU", False),
        (node_model("Reshape", X_INFO, ("s", TensorProto.INT64, ["k"])), "CPU", True),  # specialised at the call
        (b"no model", "CPU", False),
        ("/no/such/file.onnx", "CPU", False),
    ],
    ids=["model", "another device", "bytes", "no operator", "no attribute", "told by the call", "no model", "no file"],
)
def test_which_models_are_compatible(source: object, device: str, expected: bool) -> None:
    assert onnx_backend.is_compatible(source, device) is expected


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


A, B = np.array([1.0, 2.0], np.float32), np.array([1.0], np.float32)
STUMP = helper.make_node(
    "TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, tree_roots=[0], nodes_featureids=[0],
    nodes_splits=numpy_helper.from_array(np.array([0.5], np.float32)),
    nodes_modes=numpy_helper.from_array(np.array([0], np.uint8)), nodes_truenodeids=[0], nodes_falsenodeids=[1],
    nodes_trueleafs=[1], nodes_falseleafs=[1], leaf_targetids=[0, 0],
    leaf_weights=numpy_helper.from_array(np.array([1, 2], np.float32)),
)  # fmt: skip


def ran(node: onnx.NodeProto, *inputs: object, **options: object) -> object:
    (made,) = onnx_backend.run_node(node, list(inputs), **options)
    return made


def test_a_node_of_another_domain_runs_at_its_newest_version() -> None:
    column = np.array([[0], [1]], np.float32)
    assert np.array_equal(ran(STUMP, column), [[1], [2]])
    with pytest.raises(ModelError, match="came with opset 5"):
        ran(STUMP, column, opset_version=3)
    binarizer = helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml")
    assert np.array_equal(ran(binarizer, X), [1, 0, 1])
    gelu = helper.make_node("FastGelu", ["x"], ["y"], domain="com.microsoft")
    assert np.allclose(ran(gelu, B), 0.8412, atol=1e-4)
    assert np.array_equal(ran(helper.make_node("Abs", ["x"], ["y"], domain="ai.onnx"), X), np.abs(X))


def test_lists_of_arrays_are_sequences() -> None:
    length = helper.make_node("SequenceLength", ["s"], ["y"])
    for items in ([A, B], (A, A), [A, np.ones((2, 2), np.float32)]):
        assert ran(length, items) == 2
    at = helper.make_node("SequenceAt", ["s", "i"], ["y"])
    assert np.array_equal(ran(at, [A, B], np.int64(1)), B)
    insert = helper.make_node("SequenceInsert", ["s", "x"], ["y"])
    assert [item.tolist() for item in ran(insert, [A], B)] == [[1, 2], [1]]
    words = [np.array(["a"], object), np.array(["b", "c"], object)]
    assert ran(at, words, np.int64(1)).tolist() == ["b", "c"]


def test_absent_inputs_are_none() -> None:
    assert not ran(helper.make_node("OptionalHasElement", ["x"], ["y"]), None)
    assert ran(helper.make_node("OptionalHasElement", ["x"], ["y"]), X)
    clip = helper.make_node("Clip", ["x", "l", "h"], ["y"])
    assert np.array_equal(ran(clip, X, None, np.float32(2)), np.minimum(X, 2))
    unnamed = helper.make_node("Clip", ["x", "", "h"], ["y"])
    assert np.array_equal(ran(unnamed, X, None, np.float32(2)), np.minimum(X, 2))
    assert list(clip.input) == ["x", "l", "h"]


def test_an_input_that_is_read_twice_may_be_given_twice() -> None:
    assert np.array_equal(ran(helper.make_node("Mul", ["x", "x"], ["y"]), X, X.copy()), X * X)


@pytest.mark.parametrize(
    ("node", "inputs", "text"),
    [
        (helper.make_node("Mul", ["x", "x"], ["y"]), [X, Z], "two values for the input 'x'"),
        (helper.make_node("Clip", ["x", "", "h"], ["y"]), [X, X[0], X[0]], "an input that the node does not have"),
        (helper.make_node("Abs", ["x"], ["y"]), [X, X], "1 inputs, 2 arrays"),
        (helper.make_node("SequenceLength", ["s"], ["y"]), [[]], "input 's' is an empty list"),
        (helper.make_node("SequenceLength", ["s"], ["y"]), [[A, A.astype(int)]], "several element types"),
        (helper.make_node("SequenceLength", ["s"], ["y"]), [[A, [1.0]]], "neither an array nor a list of arrays"),
        (helper.make_node("Abs", ["x"], ["y"]), [np.zeros(2, "datetime64[s]")], "element type datetime64"),
    ],
)
def test_inputs_that_do_not_fit_a_node(node: onnx.NodeProto, inputs: list, text: str) -> None:
    with pytest.raises(InputError, match=text):
        onnx_backend.run_node(node, inputs)


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
