"""ai.onnx.ml, compiled for any number of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import stepwell
from stepwell.errors import InputError, StepwellError

N = None
NAN, INF = np.nan, np.inf
VERSIONS = {"TreeEnsemble": 5, "LabelEncoder": 4}


def model(op: str, inputs: list[Any], outputs: int = 1, version: int | None = None, **attributes: Any) -> Any:
    arrays = [np.asarray(x) for x in inputs]
    names = [f"x{k}" for k in range(len(arrays))]
    node = helper.make_node(op, names, [f"y{k}" for k in range(outputs)], domain="ai.onnx.ml", **attributes)
    ports = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(x.dtype), [f"n{name}", *x.shape[1:]] if x.ndim else []
        )
        for name, x in zip(names, arrays, strict=True)
    ]
    results = [onnx.ValueInfoProto(name=f"y{k}") for k in range(outputs)]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version or VERSIONS.get(op, 3))]
    return helper.make_model(helper.make_graph([node], op, ports, results), opset_imports=opsets, ir_version=9)


def run(op: str, *inputs: Any, outputs: int = 1, version: int | None = None, **attributes: Any) -> Any:
    arrays = [np.asarray(x) for x in inputs]
    return stepwell.compile(model(op, arrays, outputs, version, **attributes))(*arrays)


def f32(values: Any) -> Any:
    return np.array(values, np.float32)


def tensor(values: Any, dtype: Any) -> Any:
    return numpy_helper.from_array(np.array(values, dtype))


# op, inputs, attributes, expected
PAIRS: list[tuple[str, list[Any], dict[str, Any], Any]] = [
    ("Scaler", [f32([[1, 2], [3, 4]])], {"offset": [1.0, 2.0], "scale": [2.0, 0.5]}, f32([[0, 0], [4, 1]])),
    ("Scaler", [np.array([[1, 2]])], {"offset": [1.0], "scale": [3.0]}, f32([[0, 3]])),
    ("Normalizer", [f32([[3, -4], [0, 0]])], {"norm": "L2"}, f32([[0.6, -0.8], [0, 0]])),
    ("Normalizer", [f32([[3, -5]])], {"norm": "L1"}, f32([[0.375, -0.625]])),
    ("Normalizer", [f32([[3, -4]])], {"norm": "MAX"}, f32([[0.75, -1]])),
    ("Binarizer", [f32([-1, 0.5, 0.6, NAN])], {"threshold": 0.5}, f32([0, 0, 1, 0])),
    ("Binarizer", [np.array([[0, 1, 2]])], {"threshold": 0.5}, np.array([[0, 1, 1]])),
    ("Imputer", [f32([[NAN, 1], [2, NAN]])], {"imputed_value_floats": [7.0, 8.0], "replaced_value_float": NAN},
     f32([[7, 1], [2, 8]])),
    ("Imputer", [np.array([[0, 1], [2, 0]])], {"imputed_value_int64s": [9], "replaced_value_int64": 0},
     np.array([[9, 1], [2, 9]])),
    ("FeatureVectorizer", [f32([[1, 2], [3, 4]]), np.array([[5], [6]])], {"inputdimensions": [1, 2]},
     f32([[1, 5, 0], [3, 6, 0]])),
    ("ArrayFeatureExtractor", [f32([[1, 2, 3], [4, 5, 6]]), np.array([[2, 0]])], {}, f32([[3, 1], [6, 4]])),
    ("ArrayFeatureExtractor", [f32([1, 2, 3]), np.array([2, 0])], {}, f32([[3, 1]])),
    ("OneHotEncoder", [np.array([[5, 2], [3, 9]])], {"cats_int64s": [2, 5]},
     f32([[[0, 1], [1, 0]], [[0, 0], [0, 0]]])),
    ("OneHotEncoder", [f32([5, 2])], {"cats_int64s": [5, 2], "zeros": 0}, f32([[1, 0], [0, 1]])),
    ("LabelEncoder", [np.array([[3, 1], [4, 7]])],
     {"keys_int64s": [3, 1, 7], "values_floats": [0.5, 1.5, 2.5], "default_float": -2.0},
     f32([[0.5, 1.5], [-2, 2.5]])),
    ("LabelEncoder", [f32([2.5, NAN, 1, 8])],
     {"keys_floats": [NAN, 2.5, 1.0], "values_int64s": [10, 20, 30], "default_int64": 5}, np.array([20, 10, 30, 5])),
    ("LabelEncoder", [np.array([1, 2, 3], np.int16)],
     {"keys_tensor": tensor([2, 1], np.int16), "values_tensor": tensor([0.25, 0.5], np.float64),
      "default_tensor": tensor([4], np.float64)}, np.array([0.5, 0.25, 4.0])),
    ("LinearRegressor", [f32([[1, 2]])], {"coefficients": [1.0, 2.0, 3.0, 4.0], "intercepts": [5.0, 6.0], "targets": 2},
     f32([[10, 17]])),
    ("SVMRegressor", [f32([[1, 2]])], {"coefficients": [3.0, 4.0], "rho": [5.0]}, f32([[16]])),
    ("SVMRegressor", [f32([[1, 2], [0, 0]])],
     {"coefficients": [2.0, -1.0], "rho": [-0.1], "n_supports": 2, "support_vectors": [1.0, 0.0, 0.0, 1.0],
      "kernel_type": "POLY", "kernel_params": [1.0, 1.0, 2.0], "one_class": 1}, f32([[-1], [1]])),
]  # fmt: skip


@pytest.mark.parametrize("op, inputs, attributes, expected", PAIRS)
def test_pairs(op: str, inputs: list[Any], attributes: dict[str, Any], expected: Any) -> None:
    made = run(op, *inputs, **attributes)
    assert made.dtype == expected.dtype
    np.testing.assert_allclose(made, expected, rtol=1e-6)


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_kernels(kernel: str) -> None:
    x, vectors = f32([[0.5, -1], [2, 1], [0, 0]]), f32([[1, 0.5], [-1, 2]])
    gamma, offset, degree = 0.3, 0.2, 3
    product = gamma * x @ vectors.T + offset
    expected = {
        "LINEAR": x @ vectors.T, "POLY": product**degree, "SIGMOID": np.tanh(product),
        "RBF": np.exp(-gamma * ((x[:, None] - vectors) ** 2).sum(-1)),
    }[kernel] @ f32([[2], [-3]]) + 0.5  # fmt: skip
    made = run("SVMRegressor", x, coefficients=[2.0, -3.0], rho=[0.5], n_supports=2, kernel_type=kernel,
               support_vectors=vectors.reshape(-1).tolist(), kernel_params=[gamma, offset, float(degree)])  # fmt: skip
    np.testing.assert_allclose(made, expected, rtol=1e-5)


SCORES = f32([[0.3, -0.2, 0.0], [0.9, 0.1, 0.5]])


def softmax_zero(row: Any) -> Any:
    powers = np.where(np.abs(row) > 1e-7, np.exp(row - row.max()), row * np.exp(-row.max()))
    return powers / powers.sum()


TRANSFORMS = {
    "NONE": SCORES,
    "SOFTMAX": np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True),
    "LOGISTIC": 1 / (1 + np.exp(-SCORES)),
    "SOFTMAX_ZERO": np.stack([softmax_zero(row) for row in SCORES]),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_post_transforms(name: str) -> None:
    made = run("LinearRegressor", SCORES, targets=3, coefficients=np.eye(3).reshape(-1).tolist(), post_transform=name)
    np.testing.assert_allclose(made, TRANSFORMS[name], rtol=1e-6)


def test_probit_is_the_inverse_of_the_normal_distribution() -> None:
    p, z = f32([[0.0228, 0.1587, 0.6, 0.975]]), f32([[-1.99908, -0.99982, 0.25335, 1.95996]])
    made = run("LinearRegressor", p, targets=4, coefficients=np.eye(4).reshape(-1).tolist(), post_transform="PROBIT")
    np.testing.assert_allclose(made, z, atol=5e-3)  # the formula that the operator means is right to about 0.002


@pytest.mark.parametrize(
    "attributes, labels, scores",
    [
        ({"coefficients": [1.0, -1.0], "classlabels_ints": [4, 7]}, [7, 4], [[-1, 1], [2, -2]]),
        ({"coefficients": [1.0, -1.0], "classlabels_ints": [4]}, [4, 0], [[1], [-2]]),
        ({"coefficients": [1.0, 0.0, 0.0, 1.0], "intercepts": [0.5, 0.0], "classlabels_ints": [4, 7]}, [4, 7],
         [[2.5, 1], [0.5, 2]]),
    ],
)  # fmt: skip
def test_linear_classifiers(attributes: dict[str, Any], labels: Any, scores: Any) -> None:
    made = run("LinearClassifier", f32([[2, 1], [0, 2]]), outputs=2, **attributes)
    np.testing.assert_array_equal(made[0], np.array(labels))
    np.testing.assert_allclose(made[1], f32(scores), rtol=1e-6)


def stump(mode: str, value: float = 1.0, missing: int = 0, prefix: str = "target", **more: Any) -> dict[str, Any]:
    """A tree of one comparison, whose leaves weigh 10 where it holds and 20 where it does not."""
    return {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [1, 0, 0],
        "nodes_values": [value, 0.0, 0.0], "nodes_modes": [mode, "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0], "nodes_missing_value_tracks_true": [missing, 0, 0],
        f"{prefix}_treeids": [0, 0], f"{prefix}_nodeids": [1, 2], f"{prefix}_ids": [0, 0],
        f"{prefix}_weights": [10.0, 20.0], **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    "mode, holds",
    [
        ("BRANCH_LEQ", (1, 1, 0)), ("BRANCH_LT", (1, 0, 0)), ("BRANCH_GTE", (0, 1, 1)), ("BRANCH_GT", (0, 0, 1)),
        ("BRANCH_EQ", (0, 1, 0)), ("BRANCH_NEQ", (1, 0, 1)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("missing", [0, 1])
def test_modes_of_nodes(mode: str, holds: tuple[int, ...], missing: int) -> None:
    x = f32([[9, 0.5], [9, 1], [9, 2], [9, NAN]])
    made = run("TreeEnsembleRegressor", x, n_targets=1, **stump(mode, missing=missing))
    follows = (*holds, missing or mode == "BRANCH_NEQ")
    np.testing.assert_array_equal(made, f32([[10 if yes else 20] for yes in follows]))


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32])
def test_features_of_other_types(dtype: Any) -> None:
    made = run("TreeEnsembleRegressor", np.array([[0, 1], [0, 2]], dtype), n_targets=1, **stump("BRANCH_LEQ"))
    np.testing.assert_array_equal(made, f32([[10], [20]]))


def test_features_that_only_the_call_tells() -> None:
    proto = model("TreeEnsembleRegressor", [f32([[0, 1]])], n_targets=1, **stump("BRANCH_LEQ"))
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "c"
    compiled = stepwell.compile(proto)
    np.testing.assert_array_equal(compiled(f32([[0, 1, 5], [0, 2, 5]])), f32([[10], [20]]))
    with pytest.raises(InputError, match="the features that nodes read: 2 is more than c"):
        compiled(f32([[1], [2]]))


@pytest.mark.parametrize("aggregate, expected", [("SUM", 37.0), ("AVERAGE", 19.0), ("MIN", 17.0), ("MAX", 21.0)])
def test_aggregates(aggregate: str, expected: float) -> None:
    """Two trees, of which the second is a leaf, and a base value."""
    tree = stump("BRANCH_LEQ")
    for name, value in (
        ("nodes_treeids", 1), ("nodes_nodeids", 0), ("nodes_featureids", 0), ("nodes_values", 0.0),
        ("nodes_modes", "LEAF"), ("nodes_truenodeids", 0), ("nodes_falsenodeids", 0),
        ("nodes_missing_value_tracks_true", 0), ("target_treeids", 1), ("target_nodeids", 0), ("target_ids", 0),
        ("target_weights", 16.0),
    ):  # fmt: skip
        tree[name] = [*tree[name], value]
    made = run("TreeEnsembleRegressor", f32([[0, 5]]), n_targets=2, aggregate_function=aggregate,
               base_values=[1.0, 3.0], **tree)  # fmt: skip
    np.testing.assert_array_equal(made, f32([[expected, 3]]))


@pytest.mark.parametrize(
    "weights, transform, labels, scores",
    [
        ([0.25, 0.75], "NONE", [4, 7], [[0.75, 0.25], [0.25, 0.75]]),  # shares of one
        ([-1.0, 2.0], "NONE", [4, 7], [[1, -1], [-2, 2]]),
        ([-1.0, 2.0], "LOGISTIC", [4, 7], 1 / (1 + np.exp(-f32([[1, -1], [-2, 2]])))),
    ],
)
def test_one_score_for_two_classes(weights: Any, transform: str, labels: Any, scores: Any) -> None:
    tree = stump("BRANCH_LEQ", prefix="class", class_ids=[1, 1], class_weights=weights)
    made = run("TreeEnsembleClassifier", f32([[0, 0], [0, 5]]), outputs=2, classlabels_int64s=[4, 7],
               post_transform=transform, **tree)  # fmt: skip
    np.testing.assert_array_equal(made[0], np.array(labels))
    np.testing.assert_allclose(made[1], f32(scores), rtol=1e-6)


def test_a_tree_of_many_classes() -> None:
    tree = stump("BRANCH_LEQ", prefix="class", class_ids=[0, 2], class_weights=[0.5, 0.25])
    made = run("TreeEnsembleClassifier", f32([[0, 0], [0, 5]]), outputs=2, classlabels_int64s=[4, 7, 9], **tree)
    np.testing.assert_array_equal(made[0], np.array([4, 9]))
    np.testing.assert_array_equal(made[1], f32([[0.5, 0, 0], [0, 0, 0.25]]))


def ensemble(modes: list[int], splits: list[float], **more: Any) -> dict[str, Any]:
    """A chain of nodes: each leads to its own leaf where it holds, else to the next one, the last to one more leaf."""
    count = len(modes)
    return {
        "nodes_splits": tensor(splits, np.float32), "nodes_featureids": [0] * count,
        "nodes_modes": tensor(modes, np.uint8), "nodes_truenodeids": list(range(count)),
        "nodes_trueleafs": [1] * count, "nodes_falsenodeids": [*range(1, count), count],
        "nodes_falseleafs": [*[0] * (count - 1), 1], "leaf_targetids": [0] * (count + 1),
        "leaf_weights": tensor(range(count + 1), np.float32), "tree_roots": [0], "n_targets": 1, **more,
    }  # fmt: skip


def test_sets() -> None:
    trees = ensemble([6, 6, 0], [0, 0, 5], membership_values=tensor([1, 3, 8, NAN, NAN], np.float32))
    made = run("TreeEnsemble", f32([[1], [3], [8], [2], [7], [NAN]]), **trees)
    np.testing.assert_array_equal(made[:, 0], f32([0, 0, 0, 2, 3, 3]))


@pytest.mark.parametrize(
    "op, attributes, reason",
    [
        ("TreeEnsembleRegressor", stump("BRANCH_MAYBE", n_targets=1), "mode 'BRANCH_MAYBE'"),
        ("TreeEnsembleRegressor", stump("BRANCH_LT", n_targets=1, nodes_truenodeids=[7, 0, 0]), "no trees"),
        ("TreeEnsembleRegressor", stump("BRANCH_LT", n_targets=1, nodes_truenodeids=[0, 0, 0]), "no trees"),
        ("TreeEnsembleRegressor", stump("BRANCH_LT", n_targets=1, target_ids=[0, 1]), "there is none"),
        ("TreeEnsembleRegressor", stump("BRANCH_LT", n_targets=1, nodes_featureids=[2, 0, 0]), "reads feature 2 of 2"),
        ("TreeEnsemble", ensemble([6], [0], membership_values=tensor([1], np.float32)), "0 sets for 1 nodes"),
        ("LinearRegressor", {"coefficients": [1.0, 2.0, 3.0], "targets": 2}, "3 coefficients for 2 targets"),
        ("SVMRegressor", {"coefficients": [1.0], "rho": [0.0], "n_supports": 1, "support_vectors": [1.0, 2.0],
                          "kernel_type": "COSINE"}, "'kernel_type' is 'COSINE'"),
        ("Normalizer", {"norm": "L3"}, "'norm' is 'L3'"),
        ("LabelEncoder", {"keys_floats": [1.0], "values_int64s": [1, 2]}, r"shape \[1\] for values of \[2\]"),
        ("ZipMap", {"classlabels_int64s": [0, 1, 2]}, "3 labels for 2 scores"),
        ("ZipMap", {}, "0 labels for scores"),
        ("DictVectorizer", {"int64_vocabulary": [1]}, "does not allow float as input 0"),
    ],
)  # fmt: skip
def test_what_is_refused(op: str, attributes: dict[str, Any], reason: str) -> None:
    with pytest.raises(StepwellError, match=reason):
        stepwell.compile(model(op, [f32([[1, 2]])], **attributes))


def test_an_unknown_category() -> None:
    with pytest.raises(stepwell.RuntimeError, match="out of range"):
        run("OneHotEncoder", np.array([4]), cats_int64s=[1, 2], zeros=0)


def test_labels_that_are_strings() -> None:
    told = {"coefficients": [1.0, 0.0, 0.0, 1.0], "intercepts": [0.0, 0.0], "classlabels_strings": ["no", "yes"]}
    labels, _ = run("LinearClassifier", f32([[1, 2], [2, 1]]), outputs=2, **told)
    assert labels.tolist() == ["yes", "no"]


@pytest.mark.parametrize("zeros", [0, 1])
def test_categories_that_are_strings(zeros: int) -> None:
    given = [helper.make_tensor_value_info("x", onnx.TensorProto.STRING, ["n"])]
    node = helper.make_node("OneHotEncoder", ["x"], ["y"], domain="ai.onnx.ml", cats_strings=["a", "b"], zeros=zeros)
    graph = helper.make_graph([node], "g", given, [onnx.ValueInfoProto(name="y")])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    compiled = stepwell.compile(helper.make_model(graph, opset_imports=opsets, ir_version=9))
    assert compiled(np.array(["b", "a"], object)).tolist() == [[0, 1], [1, 0]]
    unknown = np.array(["c"], object)
    if zeros:
        assert compiled(unknown).tolist() == [[0, 0]]
    else:
        with pytest.raises(stepwell.RuntimeError, match="out of range"):
            compiled(unknown)
