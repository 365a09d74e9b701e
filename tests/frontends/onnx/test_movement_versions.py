"""What changed from version to version: the same node under older opsets, against results worked out by hand."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import helper, numpy_helper, parser

import stepwell
from stepwell.dialects.graph.base import content, shape_of
from stepwell.dialects.graph.movement import SliceOp
from stepwell.errors import StepwellError
from stepwell.frontends.onnx.importer import import_model
from tests.frontends.onnx.rule_harness import given, imported, node_model

X = np.arange(6, dtype=np.float32).reshape(2, 3)
N = np.float32


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def run(op: str, version: int, arrays: list[Any], outputs: int = 1, known: bool = True, **attributes: Any) -> list[Any]:
    """Run one node; its inputs behind the first are known at import time if `known`. None is an absent input."""
    constants = range(1, len(arrays)) if known else ()
    model = node_model(op, arrays, outputs=outputs, version=version, constants=constants, **attributes)
    return imported(model).run(given(arrays, constants))


CASES: dict[str, tuple[str, int, list[Any], dict[str, Any], Any]] = {
    "reshape 1": ("Reshape", 1, [X], {"shape": [0, -1, 1]}, X.reshape(2, 3, 1)),
    "squeeze 1": ("Squeeze", 1, [X[None]], {"axes": [0]}, X),
    "squeeze 11, all": ("Squeeze", 11, [X[None, ..., None]], {}, X),
    "squeeze 13, all": ("Squeeze", 13, [X[None, ..., None]], {}, X),
    "unsqueeze 11": ("Unsqueeze", 11, [X], {"axes": [-1, 0]}, X[None, ..., None]),
    "flatten 1": ("Flatten", 1, [X[None]], {"axis": 2}, X.reshape(2, 3)),
    "flatten a scalar": ("Flatten", 13, [N(3)], {"axis": 0}, np.full((1, 1), 3, N)),
    "concat 1": ("Concat", 1, [X, X], {}, np.concatenate([X, X], 1)),
    "slice 1": ("Slice", 1, [X], {"starts": [1, 0], "ends": [1000, -1], "axes": [1, 0]}, X[:-1, 1:]),
    "slice 1 without axes": ("Slice", 1, [X], {"starts": [1], "ends": [2]}, X[1:2]),
    "slice 10, last two by -1": (
        "Slice", 10, [X, ints(-1), ints(0), ints(-1), ints(-1)], {}, X[:, [2, 1]],
    ),
    "slice 13, start clamped to the last": ("Slice", 13, [X, ints(-9), ints(-9), ints(1), ints(-1)], {}, X[:, :1]),
    "pad 1": ("Pad", 1, [X], {"paddings": [0, 1, 1, 0], "value": 7.0}, np.pad(X, [(0, 1), (1, 0)], constant_values=7)),
    "pad 2": ("Pad", 2, [X], {"pads": [0, 1, 0, 1], "mode": "reflect"}, X[:, [1, 0, 1, 2, 1]]),
    "pad 11": ("Pad", 11, [X, ints(0, -1, 0, 2), N(5)], {}, np.pad(X[:, 1:], [(0, 0), (0, 2)], constant_values=5)),
    "pad 18": ("Pad", 18, [X, ints(1, 1), None, ints(-1)], {"mode": "edge"}, X[:, [0, 0, 1, 2, 2]]),
    "pad 19": ("Pad", 19, [X, ints(0, 4, 0, 1)], {"mode": "wrap"}, X[:, [2, 0, 1, 2, 0, 1, 2, 0]]),
    "pad, empty axis": ("Pad", 13, [X[:0], ints(1, 0, 1, 0), N(2)], {}, np.full((2, 3), 2, N)),
    "tile 1": ("Tile", 1, [X, ints(2), ints(1)], {}, np.tile(X, (1, 2))),
    "upsample 1": ("Upsample", 1, [X[None, None]], {"height_scale": 1.0, "width_scale": 2.0, "mode": "nearest"},
                   X.repeat(2, 1)[None, None]),
    "upsample 7": ("Upsample", 7, [X], {"scales": [2.0, 1.0]}, X.repeat(2, 0)),
    "upsample 9 linear": ("Upsample", 9, [X[:1, :2], np.array([1, 2], N)], {"mode": "linear"},
                          np.array([[0, 0.5, 1, 1]], N)),
    "resize 10": ("Resize", 10, [X, np.array([1, 0.6], N)], {}, X[:, :1]),
    "resize 11, tf_half_pixel_for_nn": (
        "Resize", 11, [X[:1], None, np.array([1, 5 / 3], N)],
        {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}, X[:1, [0, 0, 1, 2, 2]]),
    "resize 13, empty scales": ("Resize", 13, [X, np.zeros(0, N), np.zeros(0, N), ints(2, 6)], {}, X.repeat(2, 1)),
    "scatter 9": ("Scatter", 9, [X, ints(1).reshape(1, 1), np.array([[9]], N)], {"axis": 1},
                  np.array([[0, 9, 2], [3, 4, 5]], N)),
    "scatter: the last of equals": ("ScatterElements", 13, [X[0], ints(0, 0), np.array([8, 9], N)], {},
                                    np.array([9, 1, 2], N)),
    "scatter nd 18, bf16": ("ScatterND", 18, [np.ones(2, ml_dtypes.bfloat16), ints(0, 0).reshape(2, 1),
                                              np.full(2, 1 / 256, ml_dtypes.bfloat16)], {"reduction": "add"},
                            np.array([1 + 1 / 128, 1], ml_dtypes.bfloat16)),
    "scatter max keeps nan": ("ScatterElements", 18, [X[0], ints(0), np.array([np.nan], N)], {"reduction": "max"},
                              np.array([np.nan, 1, 2], N)),
    "range 27, bf16": ("Range", 27, [np.array(v, ml_dtypes.bfloat16) for v in (0, 258, 1)], {},
                       np.arange(258).astype(ml_dtypes.bfloat16)),
    "range down": ("Range", 11, [np.int32(5), np.int32(-4), np.int32(-3)], {}, np.array([5, 2, -1], np.int32)),
    "range of none": ("Range", 11, [N(5), N(1), N(2)], {}, np.zeros(0, N)),
    "gather of strings": ("Gather", 13, [np.array(["a", "b"], object), ints(-1)], {}, np.array(["b"], object)),
    "one-hot in bool": ("OneHot", 11, [ints(1, -1, 7), ints(3), np.array([True, False])], {},
                        ~np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]], bool)),
    "compress, short condition": ("Compress", 9, [X, np.array([False, True])], {"axis": 1}, X[:, 1:2]),
    "non-zero of a scalar": ("NonZero", 13, [N(3)], {}, np.zeros((0, 1), np.int64)),
    "non-zero of nan": ("NonZero", 13, [np.array([0.0, np.nan, -0.0])], {}, ints(1).reshape(1, 1)),
    "shape, clipped": ("Shape", 15, [X], {"start": -9, "end": 1}, ints(2)),
    "shape of nothing": ("Shape", 15, [X], {"start": 2, "end": 1}, ints()),
    "constant of an empty shape": ("ConstantOfShape", 9, [ints()], {}, np.zeros((), N)),
    "depth to space 1": ("DepthToSpace", 1, [np.arange(4.0).reshape(1, 4, 1, 1)], {"blocksize": 2},
                         np.arange(4.0).reshape(1, 1, 2, 2)),
    "eye above": ("EyeLike", 9, [np.zeros((2, 3), np.int32)], {"k": 1}, np.eye(2, 3, 1, np.int32)),
    "trilu": ("Trilu", 14, [X, ints(1).reshape(())], {"upper": 0}, np.tril(X, 1)),
    "trilu drops nan": ("Trilu", 14, [np.full((2, 2), np.nan, N)], {}, np.array([[np.nan, np.nan], [0, np.nan]], N)),
    "roi align 10": (
        "RoiAlign", 10, [X[None, None], np.array([[0, 0, 2, 1]], N), ints(0)], {"sampling_ratio": 1},
        np.full((1, 1, 1, 1), 2.5, N)),
    "roi align 16": (
        "RoiAlign", 16, [X[None, None], np.array([[0.5, 0.5, 2.5, 1.5]], N), ints(0)], {"sampling_ratio": 1},
        np.full((1, 1, 1, 1), 2.5, N)),
    "center crop and pad": ("CenterCropPad", 18, [X, ints(1, 6)], {}, np.pad(X[:1], [(0, 0), (1, 2)])),
    "circular cache": (
        "TensorScatter", 24, [np.zeros((1, 3, 1), N), np.array([[[1], [2]]], N), ints(2)], {"mode": "circular"},
        np.array([[[2], [0], [1]]], N)),
    "reverse sequence": ("ReverseSequence", 10, [X, ints(2, 3)], {"time_axis": 1, "batch_axis": 0},
                         np.array([[1, 0, 2], [5, 4, 3]], N)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("known", [True, False])
def test_version(name: str, known: bool) -> None:
    op, version, arrays, attributes, want = CASES[name]
    if not known and op == "ConstantOfShape":
        pytest.skip("the length of the shape is known either way")
    (got,) = run(op, version, arrays, known=known, **attributes)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if want.dtype.kind in "fV":
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=1e-6)
    else:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("version", [1, 2, 11])
def test_split_by_attribute(version: int) -> None:
    parts = run("Split", version, [X], 2, axis=1, split=[1, 2])
    assert [part.shape for part in parts] == [(2, 1), (2, 2)]


@pytest.mark.parametrize(("version", "attributes"), [(13, {}), (18, {"num_outputs": 3})])
def test_split_into_equal_parts(version: int, attributes: dict[str, int]) -> None:
    parts = run("Split", version, [X], 3, axis=1, **attributes)
    np.testing.assert_array_equal(np.concatenate(parts, 1), X)


def test_a_split_of_known_contents() -> None:
    """It is sliced, so that the parts are known too."""
    parts = run("Split", 18, [ints(7, 8, 9), ints(2, 1)], 2)
    assert [part.tolist() for part in parts] == [[7, 8], [9]]
    made = imported(node_model("Split", [ints(7, 8, 9), ints(2, 1)], outputs=2, version=18, constants=[0, 1]))
    assert [content(value) for value in made.main.returned] == [(7, 8), (9,)]


def test_split_18_leaves_the_last_part_smaller() -> None:
    parts = run("Split", 18, [np.arange(7)], 3, num_outputs=3)
    assert [part.size for part in parts] == [3, 3, 1]


@pytest.mark.parametrize(
    ("version", "arrays", "attributes", "values", "indices"),
    [
        (1, [[3.0, 1, 3, 2]], {"k": 3}, [3, 3, 2], [0, 2, 3]),
        (10, [[3.0, 1, 3, 2], [2]], {}, [3, 3], [0, 2]),
        (11, [[3.0, 1, 1, 2], [2]], {"largest": 0}, [1, 1], [1, 2]),
        (11, [[np.nan, 1, np.inf, 2], [3]], {}, [np.nan, np.inf, 2], [0, 2, 3]),
        (11, [[np.nan, 1, np.inf, 2], [3]], {"largest": 0}, [1, 2, np.inf], [1, 3, 2]),
        (11, [[1.0], [0]], {}, [], []),
    ],
)
def test_top_k(version: int, arrays: list[Any], attributes: dict[str, int], values: Any, indices: Any) -> None:
    x, *k = (np.asarray(array) for array in arrays)
    got = run("TopK", version, [x, *k], 2, **attributes)
    np.testing.assert_array_equal(got[0], values)
    np.testing.assert_array_equal(got[1], indices)


def test_unique_of_strings_and_of_nothing() -> None:
    values, first, inverse, counts = run("Unique", 11, [np.array(["b", "a", "b"], object)], 4, sorted=0)
    assert values.tolist() == ["b", "a"]
    assert (first.tolist(), inverse.tolist(), counts.tolist()) == ([0, 1], [0, 1, 0], [2, 1])
    assert [part.size for part in run("Unique", 11, [np.zeros(0, N)], 4)] == [0, 0, 0, 0]


def test_unique_slices_keep_their_other_axes() -> None:
    x = np.array([[[1, 1], [2, 2]], [[1, 1], [2, 2]]], N)
    values, first, inverse, counts = run("Unique", 11, [x], 4, axis=2)
    assert values.shape == (2, 2, 1)
    assert (first.tolist(), inverse.tolist(), counts.tolist()) == ([0], [0, 0], [2])


CONSTANTS = {
    "value": (1, numpy_helper.from_array(X), X),
    "value_float": (12, 0.5, np.array(0.5, N)),
    "value_floats": (12, [0.5, 1.0], np.array([0.5, 1], N)),
    "value_int": (12, 3, np.array(3)),
    "value_ints": (12, [3, 4], ints(3, 4)),
    "value_string": (12, "text", np.array("text", object)),
    "value_strings": (12, ["a", "b"], np.array(["a", "b"], object)),
    "sparse_value": (11, helper.make_sparse_tensor(numpy_helper.from_array(np.array([7.0])),
                                                   numpy_helper.from_array(ints(2)), [4]), np.array([0, 0, 7.0, 0])),
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTANTS)
def test_constant(name: str) -> None:
    version, value, want = CONSTANTS[name]
    (got,) = run("Constant", version, [], **{name: value})
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


ERRORS = {
    "gather out of range": ("Gather", 13, [X, ints(2)], {}, "out of range for axis 0 of size 2"),
    "gather elements": ("GatherElements", 13, [X, ints(0, 1, -4).reshape(1, 3)], {"axis": 1}, r"size 3 \(value -4\)"),
    "gather nd": ("GatherND", 13, [X, ints(1, 3).reshape(1, 2)], {}, r"axis 1 of size 3 \(value 3\)"),
    "scatter": ("ScatterND", 18, [X, ints(2).reshape(1, 1), X[:1]], {}, r"axis 0 of size 2 \(value 2\)"),
    "top k": ("TopK", 11, [X, ints(4)], {}, "the top 4 of 3"),
    "range by 0": ("Range", 11, [ints(0)[0], ints(3)[0], ints(0)[0]], {}, "steps of 0"),
    "reshape": ("Reshape", 14, [X, ints(4, -1)], {}, "multiple of 4"),
    "cache overflow": ("TensorScatter", 24, [X[None], X[None], ints(1)], {}, "write position leaves axis 1 of size 2"),
    "sequence too long": ("ReverseSequence", 10, [X, ints(1, 1, 3)], {}, r"not in 0 to 2 \(value 3\)"),
    "reflect nothing": ("Pad", 13, [X[:0], ints(1, 0, 1, 0)], {"mode": "reflect"}, "cannot be padded"),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("known", [True, False])
def test_run_time_misfit(name: str, known: bool) -> None:
    op, version, arrays, attributes, words = ERRORS[name]
    with pytest.raises(StepwellError, match=words):
        run(op, version, arrays, 2 if op == "TopK" else 1, known=known, **attributes)


def test_a_split_of_what_may_be_a_shape_leaves_no_op_behind() -> None:
    """Integers are split by slices; the op that checks the sizes reads nothing afterwards."""
    made = imported(node_model("Split", [np.arange(4)], outputs=2, version=11))
    assert [op.op_name for use in made.main.arguments for op in use.users] == ["graph.slice", "graph.slice"]


def test_the_crop_of_an_open_size_is_the_smaller_of_two() -> None:
    """max(n, 18) takes part in where the crop begins, not in its size, of which three are multiplied here."""
    text = """<ir_version: 8, opset_import: ["": 18]> g (float[a, b, c] x) => (float[18, 5, 2] y)
        <int64[3] wanted = {18, 5, 2}> { y = CenterCropPad(x, wanted) }"""
    model = parser.parse_model(text)
    (crop,) = import_model(model).walk_of(SliceOp)
    assert [str(size) for size in shape_of(crop.result)] == ["min(18, a)", "min(5, b)", "min(2, c)"]
    run = stepwell.compile(model)
    for shape in ((1, 1, 1), (0, 5, 3), (19, 4, 2), (18, 5, 2), (23, 8, 5)):
        x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        kept, widths = x, []
        for axis, (size, wanted) in enumerate(zip(shape, (18, 5, 2), strict=True)):
            start, lack = max(size - wanted, 0) // 2, max(wanted - size, 0)
            kept = np.take(kept, range(start, start + min(size, wanted)), axis)
            widths.append((lack // 2, lack - lack // 2))
        np.testing.assert_array_equal(run(x), np.pad(kept, widths))
