"""LabelEncoder, CategoryMapper and TfIdfVectorizer: compiled, and held against loops in Python."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.errors import ModelError

ML = "ai.onnx.ml"
ELEMENTS = {"strings": TensorProto.STRING, "int64s": TensorProto.INT64, "floats": TensorProto.FLOAT}
LISTS: dict[str, list[Any]] = {
    "strings": ["b", "", "é"], "int64s": [5, -1, 2**40], "floats": [0.5, float("nan"), -2.0],
}  # fmt: skip
DEFAULTS = {"strings": ("default_string", "none"), "int64s": ("default_int64", -7), "floats": ("default_float", 9.0)}


def array(items: Any, kind: str) -> Any:
    made = np.empty(len(items), {"strings": object, "int64s": np.int64, "floats": np.float32}[kind])
    made[:] = items
    return made


def one_node(
    op_type: str, element: int, shape: Any, result: int, opset: int, domain: str = ML, **attributes: Any
) -> Any:
    """A model of one node, whose input has symbolic sizes."""
    node = helper.make_node(op_type, ["x"], ["y"], "the_node", domain=domain, **attributes)
    ports = [[helper.make_tensor_value_info("x", element, shape)], [helper.make_tensor_value_info("y", result, None)]]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, opset)]
    return helper.make_model(helper.make_graph([node], "g", *ports), opset_imports=opsets, ir_version=9)


def result_of(model: Any, x: Any) -> list[Any]:
    compiled = stepwell.compile(model)
    assert compiled.host_calls == []
    found: list[Any] = compiled(x).tolist()
    return found


@pytest.mark.parametrize(("keys", "values"), list(itertools.product(LISTS, LISTS)))
def test_labels_of_all_pairs_of_types(keys: str, values: str) -> None:
    name, default = DEFAULTS[values]
    told = {f"keys_{keys}": LISTS[keys], f"values_{values}": LISTS[values], name: default}
    unknown = {"strings": "zz", "int64s": 6, "floats": 0.25}[keys]
    x = array([*LISTS[keys], unknown, LISTS[keys][0], LISTS[keys][0]], keys).reshape(2, 3)
    expected = [[*LISTS[values]], [default, LISTS[values][0], LISTS[values][0]]]
    found = result_of(one_node("LabelEncoder", ELEMENTS[keys], ["n", "m"], ELEMENTS[values], 2, **told), x)
    assert str(found) == str(expected)  # NaN is no equal of itself


def test_labels_as_tensors_the_last_of_equal_keys_counts() -> None:
    told = {
        "keys_tensor": numpy_helper.from_array(np.array([3, 4, 3], np.int32)),
        "values_tensor": numpy_helper.from_array(np.array([1, 2, 8], np.int16)),
        "default_tensor": numpy_helper.from_array(np.array([-3], np.int16)),
    }
    model = one_node("LabelEncoder", TensorProto.INT32, ["n"], TensorProto.INT16, 4, **told)
    assert result_of(model, np.array([4, 3, 5], np.int32)) == [2, 8, -3]


@pytest.mark.parametrize(
    ("op_type", "told", "kind", "given", "expected"),
    [
        ("LabelEncoder", {"classes_strings": ["a", "b"]}, "strings", ["b", "x", "a"], [1, -1, 0]),
        ("LabelEncoder", {"classes_strings": ["a", "b"]}, "int64s", [1, 5, 0], ["b", "_Unused", "a"]),
        ("CategoryMapper", {"cats_strings": ["a", "b"], "cats_int64s": [9, 8], "default_int64": 3}, "strings",
         ["b", "x"], [8, 3]),
        ("CategoryMapper", {"cats_strings": ["a", "b"], "cats_int64s": [9, 8], "default_string": "?"}, "int64s",
         [9, 1], ["a", "?"]),
    ],
)  # fmt: skip
def test_strings_become_integers_and_integers_strings(
    op_type: str, told: dict[str, Any], kind: str, given: list[Any], expected: list[Any]
) -> None:
    result = ELEMENTS["int64s" if kind == "strings" else "strings"]
    assert result_of(one_node(op_type, ELEMENTS[kind], ["n"], result, 1, **told), array(given, kind)) == expected


@pytest.mark.parametrize(
    ("op_type", "opset", "told", "reason"),
    [
        ("LabelEncoder", 2, {"keys_strings": ["a"], "values_int64s": [1, 2]}, r"shape \[1\] for values of \[2\]"),
        ("LabelEncoder", 2, {"keys_int64s": [1], "values_int64s": [1]}, "type int64 for an input of !graph.string"),
        ("LabelEncoder", 2, {"keys_strings": ["a"]}, "values: one of strings, int64s, floats, tensor is given, not 0"),
        ("LabelEncoder", 2, {"keys_strings": ["a"], "keys_int64s": [1], "values_int64s": [1]}, "keys: one of"),
        ("CategoryMapper", 1, {"cats_strings": ["a", "b"], "cats_int64s": [9]}, r"shape \[2\] for values of \[1\]"),
    ],
)  # fmt: skip
def test_malformed_labels_are_refused(op_type: str, opset: int, told: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        stepwell.compile(one_node(op_type, TensorProto.STRING, ["n"], TensorProto.INT64, opset, **told))


# n-grams


POOL = [2, 3, 5, 4, 5, 6, 7, 8, 6, 7, 2, 3, 4]  # three 1-grams, two 2-grams, two 3-grams
NGRAMS = {"ngram_counts": [0, 3, 7], "ngram_indexes": [0, 1, 2, 6, 4, 5, 3]}


def counted(row: list[Any], pool: list[Any], least: int, most: int, skips: int) -> list[float]:
    """How often each n-gram appears, at its coordinate."""
    found = [0.0] * 7
    starts, number = [*NGRAMS["ngram_counts"], len(pool)], 0
    for size, (start, end) in enumerate(itertools.pairwise(starts), start=1):
        for place in range(start, end, size):
            gram = pool[place : place + size]
            for step in range(1, 2 if size == 1 else skips + 2):
                windows = ([row[p + step * j] for j in range(size)] for p in range(len(row) - step * (size - 1)))
                if least <= size <= most:
                    found[NGRAMS["ngram_indexes"][number]] += sum(window == gram for window in windows)
            number += 1
    return found


@pytest.mark.parametrize("of_strings", [False, True])
@pytest.mark.parametrize(("least", "most", "skips"), [(1, 1, 0), (1, 3, 0), (2, 2, 5), (1, 3, 2), (3, 3, 1)])
def test_n_grams_are_counted(of_strings: bool, least: int, most: int, skips: int) -> None:
    pool: list[Any] = [f"w{n}" for n in POOL] if of_strings else POOL
    told = {"pool_strings" if of_strings else "pool_int64s": pool, **NGRAMS}
    kind = "strings" if of_strings else "int64s"
    model = one_node("TfIdfVectorizer", ELEMENTS[kind], ["b", "c"], TensorProto.FLOAT, 1, "", mode="TF",
                     min_gram_length=least, max_gram_length=most, max_skip_count=skips, **told)  # fmt: skip
    compiled = stepwell.compile(model)
    assert compiled.host_calls == []
    for columns in (0, 1, 2, 12):
        rows = np.random.default_rng(columns).integers(2, 9, (3, columns)).tolist()
        if columns == 12:
            rows[0] = [2, 3, 5, 4, 4, 6, 7, 8, 6, 7, 8, 8]
        given = [[f"w{n}" for n in row] for row in rows] if of_strings else rows
        x = array([item for row in given for item in row], kind).reshape(3, columns)
        assert compiled(x).tolist() == [counted(row, pool, least, most, skips) for row in given]


def test_coordinates_without_n_gram_and_n_grams_of_several() -> None:
    """An n-gram that is listed twice counts at both of its coordinates; a coordinate between may have none."""
    told = {"pool_strings": ["a", "b", "a", "a", "b", "a", "b"], "ngram_counts": [0, 3],
            "ngram_indexes": [6, 1, 0, 4, 2]}  # fmt: skip
    model = one_node("TfIdfVectorizer", TensorProto.STRING, ["c"], TensorProto.FLOAT, 1, "", mode="TF",
                     min_gram_length=1, max_gram_length=2, max_skip_count=0, **told)  # fmt: skip
    x = array(["a", "b", "b", "a", "b", "?"], "strings")
    assert result_of(model, x) == [2, 3, 2, 0, 2, 0, 2]


@pytest.mark.parametrize(("mode", "expected"), [("IDF", [2.0, 3.0, 0.0]), ("TFIDF", [4.0, 3.0, 0.0])])
def test_weights_of_coordinates(mode: str, expected: list[float]) -> None:
    told = {"pool_int64s": [7, 8, 9], "ngram_counts": [0], "ngram_indexes": [1, 0, 2], "weights": [2.0, 3.0, 4.0]}
    model = one_node("TfIdfVectorizer", TensorProto.INT32, ["c"], TensorProto.FLOAT, 1, "", mode=mode,
                     min_gram_length=1, max_gram_length=1, max_skip_count=0, **told)  # fmt: skip
    assert result_of(model, np.array([8, 8, 7], np.int32)) == expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pool_int64s": None, "pool_strings": ["a"] * 13}, "it lacks pool_int64s"),
        ({"ngram_counts": [0, 4, 7]}, "2-grams from 4 to 7"),
        ({"ngram_indexes": [0, 1, 2, 6, 4, 5, 5]}, "7 n-grams have 6 coordinates"),
        ({"ngram_indexes": [0, 1]}, "7 n-grams have 2 coordinates"),
        ({"min_gram_length": 4, "max_gram_length": 5}, "no n-gram of its list has a length"),
        ({"min_gram_length": 0}, "n-grams of 0 to 2 parts"),
        ({"mode": "BM25"}, "'mode' is 'BM25'"),
        ({"mode": "IDF", "weights": [1.0]}, "1 weights for 7 coordinates"),
    ],
)
def test_malformed_n_grams_are_refused(changes: dict[str, Any], reason: str) -> None:
    told = {"pool_int64s": POOL, **NGRAMS, "mode": "TF", "min_gram_length": 1, "max_gram_length": 2,
            "max_skip_count": 0, **changes}  # fmt: skip
    given = {name: value for name, value in told.items() if value is not None}
    with pytest.raises(ModelError, match=reason):
        stepwell.compile(one_node("TfIdfVectorizer", TensorProto.INT64, ["c"], TensorProto.FLOAT, 1, "", **given))
