"""Maps at the border of a model: dictionaries in, lists of dictionaries out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import stepwell
from stepwell.errors import InputError, ModelError
from stepwell.frontends.onnx.exporter import export_model
from stepwell.frontends.onnx.importer import import_model

F, L, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
ML = "ai.onnx.ml"
X = np.array([[1, 2], [3, 4.5]], np.float32)


def model(nodes: list[Any], inputs: list[Any], outputs: list[str]) -> Any:
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(ML, 1)]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, results), opset_imports=opsets, ir_version=9)


def zipped(shape: list[int | str], **labels: Any) -> Any:
    node = helper.make_node("ZipMap", ["x"], ["y"], domain=ML, name="zip", **labels)
    return model([node], [helper.make_tensor_value_info("x", F, shape)], ["y"])


def of_map(op: str, key: int, value: int, **attributes: Any) -> Any:
    kind = helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, []))
    node = helper.make_node(op, ["x"], ["y"], domain=ML, **attributes)
    return model([node], [helper.make_value_info("x", kind)], ["y"])


def by_runtime(made: Any, x: Any) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": x})[0]


@pytest.mark.parametrize(("shape", "x", "labels"), [
    (["n", 2], X, {"classlabels_int64s": [3, 7]}), (["n", 2], X[:0], {"classlabels_int64s": [3, 7]}),
    (["n", "m"], X, {"classlabels_strings": ["a", "b"]}), ([2], X[0], {"classlabels_strings": ["a", "b"]}),
])  # fmt: skip
def test_scores_by_label(shape: Any, x: Any, labels: Any) -> None:
    made = zipped(shape, **labels)
    keys = next(iter(labels.values()))
    expected = [dict(zip(keys, row, strict=True)) for row in np.atleast_2d(x).tolist()]
    found = stepwell.compile(made)(x)
    assert found == expected == by_runtime(made, x)
    assert all(type(value) is float for row in found for value in row.values())


def test_the_port_says_so() -> None:
    session = stepwell.InferenceSession(zipped(["n", 2], classlabels_strings=["a", "b"]))
    assert [(port.type, port.shape) for port in session.get_outputs()] == [("seq(map(string,tensor(float)))", [])]
    assert "maps from 'a', 'b'" in repr(session.model)
    assert session.run(["y"], {"x": X}) == [[{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.5}]]


def test_an_engine_keeps_the_keys(tmp_path: Path) -> None:
    stepwell.compile(zipped(["n", 2], classlabels_int64s=[3, 7])).save(tmp_path / "m.well")
    assert stepwell.load(tmp_path / "m.well")(X) == [{3: 1.0, 7: 2.0}, {3: 3.0, 7: 4.5}]


def test_scores_and_maps_of_them_side_by_side() -> None:
    made = zipped(["n", 2], classlabels_int64s=[3, 7])
    made.graph.node.insert(0, helper.make_node("Neg", ["x"], ["scores"]))
    made.graph.node[1].input[0] = "scores"
    made.graph.output.append(helper.make_empty_tensor_value_info("scores"))
    maps, scores = stepwell.compile(made)(X)
    assert maps == [{3: -1.0, 7: -2.0}, {3: -3.0, 7: -4.5}]
    np.testing.assert_array_equal(scores, -X)


def test_maps_are_exported_again() -> None:
    made = export_model(import_model(zipped(["n", 2], classlabels_strings=["a", "b"])))
    onnx.checker.check_model(made)
    assert [node.op_type for node in made.graph.node] == ["ZipMap"]
    assert stepwell.compile(made)(X) == [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.5}]


def test_what_uses_a_list_of_maps_is_refused() -> None:
    made = zipped(["n", 2], classlabels_int64s=[3, 7])
    made.graph.node.append(helper.make_node("SequenceLength", ["y"], ["count"], name="counting"))
    made.graph.output.append(helper.make_empty_tensor_value_info("count"))
    with pytest.raises(ModelError, match=r"(?s)list of maps, which can only be an output of the model.*counting"):
        stepwell.compile(made)


def test_a_branch_that_gives_maps_is_refused() -> None:
    rows = helper.make_graph(
        [helper.make_node("ZipMap", ["x"], ["r"], domain=ML, classlabels_int64s=[0, 1])], "b", [],
        [helper.make_empty_tensor_value_info("r")],
    )  # fmt: skip
    node = helper.make_node("If", ["c"], ["y"], then_branch=rows, else_branch=rows, name="choice")
    inputs = [helper.make_tensor_value_info("c", TensorProto.BOOL, []), helper.make_tensor_value_info("x", F, ["n", 2])]
    with pytest.raises(ModelError, match=r"(?s)a map leaves a subgraph.*choice"):
        stepwell.compile(model([node], inputs, ["y"]))


@pytest.mark.parametrize(("made", "x", "expected"), [
    (of_map("DictVectorizer", S, F, string_vocabulary=["a", "b", "c"]), {"c": 1.5, "zz": 3.0}, [[0, 0, 1.5]]),
    (of_map("DictVectorizer", L, F, int64_vocabulary=[5, 2]), {2: 1.5, -1: 7.0}, [[0, 1.5]]),
    (of_map("CastMap", L, F), {9: 1.0, -2: 3.5, 0: 2.0}, [[3.5, 2, 1]]),
    (of_map("CastMap", L, F, cast_to="TO_INT64"), {2: 1.5, -1: -3.7}, [[-3, 1]]),
    (of_map("CastMap", L, F, map_form="SPARSE", max_map=4), {2: 1.5, 0: 3.0, 9: 1.0}, [[3, 0, 1.5, 0]]),
])  # fmt: skip
def test_maps_as_rows(made: Any, x: Any, expected: Any) -> None:
    found = stepwell.compile(made)(x)
    np.testing.assert_array_equal(found, expected)
    reference = by_runtime(made, x)
    assert found.dtype == reference.dtype
    np.testing.assert_array_equal(found, reference)


def test_a_map_of_nothing() -> None:
    """The reference runtime refuses one."""
    assert stepwell.compile(of_map("DictVectorizer", S, F, string_vocabulary=["a", "b"]))({}).tolist() == [[0, 0]]
    assert stepwell.compile(of_map("CastMap", L, F))({}).shape == (1, 0)


def test_values_that_are_no_floats() -> None:
    """The reference runtime cannot be given such maps from Python."""
    found = stepwell.compile(of_map("DictVectorizer", S, L, string_vocabulary=["a", "b"]))({"b": 4})
    assert found.dtype == np.int64
    assert found.tolist() == [[0, 4]]
    found = stepwell.compile(of_map("DictVectorizer", L, S, int64_vocabulary=[5, 2]))({2: "q", 3: "r"})
    assert found.tolist() == [["", "q"]]
    found = stepwell.compile(of_map("CastMap", L, S))({2: "1.5", 0: "3"})
    np.testing.assert_array_equal(found, np.array([[3, 1.5]], np.float32))


@pytest.mark.parametrize(("x", "words"), [
    ([1.0], "is a dictionary, not list"), ({1: 1.0}, "1 is no key of type object"),
    ({"a": "b"}, "made a map to float32"),
])  # fmt: skip
def test_what_is_no_such_map(x: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        stepwell.compile(of_map("DictVectorizer", S, F, string_vocabulary=["a"]))(x)


@pytest.mark.parametrize(("made", "words"), [
    (of_map("DictVectorizer", S, F, int64_vocabulary=[1]), "1 keys for"),
    (of_map("DictVectorizer", S, F), "0 keys for"),
    (of_map("CastMap", L, F, cast_to="TO_INT8"), "'cast_to' is 'TO_INT8'"),
    (of_map("CastMap", L, F, map_form="SPARSE", max_map=0), "0 places"),
    (of_map("DictVectorizer", F, F, int64_vocabulary=[1]), "map from f32"),
    (of_map("Scaler", L, F), "input 0 is a map"),
])  # fmt: skip
def test_malformed(made: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        stepwell.compile(made)
