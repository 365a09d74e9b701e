"""Places at which several runtimes give something else than ONNX says, and operators that its suite has no case of.

Each is interpreted, and compiled for sizes that are symbols; what is expected is worked out by hand, or in f64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import stepwell
from tests.frontends.onnx.hazard_sides import N, Side, X, at, f32, ints
from tests.frontends.onnx.rule_harness import given, imported, model_of, node_model

INF = np.inf
Q = np.zeros((1, 1, 3, 1), N)
V = f32([[[0], [3], [6]]])
ROWS = np.array([[True, True, True], [False, False, False], [False, True, False]])
LONG = np.cos(np.arange(4096) * 0.7).astype(N).reshape(1, 4096, 1)
BOXES = f32([[0, 0, 1, 1], [0, 0, 1, 2], [0, 5, 1, 6]])
CENTRES = f32([[0.5, 0.5, 1, 1], [1.0, 0.5, 2, 1], [0.5, 5.5, 1, 1]])
SCORES = f32([[0.9, 0.8, 0.7]])
RNN = [f32([[1], [2], [3]], [[4], [5], [6]]), f32([[0.1]]), f32([[0.5]])]  # two sequences of three steps


def spectrum() -> Any:
    made = np.fft.fft(LONG[..., 0].astype(np.float64), axis=1)
    return np.stack([made.real, made.imag], -1).astype(N)


def recurrent() -> Any:
    """The states of both sequences of RNN [batch, step, direction, 1]."""
    states, h = [], np.zeros(2)
    for step in range(3):
        h = np.tanh(0.1 * RNN[0][:, step, 0] + 0.5 * h)
        states.append(h)
    return np.stack(states, 1)[..., None, None].astype(N)


CASES: dict[str, tuple[Side, ...]] = {
    "Attention: rows of which all is masked are 0": (
        at(23, f32([[[3], [0], [3]]]), Q, Q, V, ROWS),
        at(23, f32([[[3], [0], [3]]]), Q, Q, V, np.where(ROWS, N(0), N(-INF))),
    ),
    "Attention: integers are added to scores": (
        at(23, f32([[[0], [0], [3]]]), Q, Q, V, np.array([[90, 0, 0], [90, 0, 0], [0, 90, 0]], np.uint8)),
        at(23, f32([[[0], [0], [3]]]), Q, Q, V, f32([[90, 0, 0], [90, 0, 0], [0, 90, 0]])),
    ),
    "Attention: softcap before the mask": (
        at(23, f32([[[3], [0], [3]]]), Q, Q, V, ROWS, softcap=2.0),
        at(23, f32([[[6 / (1 + np.exp(-2))]]]), f32([[[1]]]), f32([[[0], [1e4]]]), f32([[[0], [6]]]), softcap=2.0),
    ),
    "Attention: what qk_matmul_output_mode gives": tuple(
        at(24, [f32([[[6 * weights[1]]]]), None, None, f32([[given_]])], f32([[[1]]]), f32([[[0], [2]]]),
           f32([[[0], [6]]]), f32([0, -1]), outputs=4, qk_matmul_output_mode=mode)
        for weights in [np.exp([0, 1]) / np.exp([0, 1]).sum()]
        for mode, given_ in ((0, [0, 2]), (1, [0, 2]), (2, [0, 1]), (3, list(weights)))
    ),
    "Attention: a mask and causality together": (
        at(23, f32([[[0], [1.5], [4.5]]]), Q, Q, V, np.array([[1, 1, 1], [1, 1, 1], [0, 1, 1]], bool), is_causal=1),
        at(23, f32([[[0], [1.5], [4.5]]]), Q, Q, V, f32([[0, 0, 0], [0, 0, 0], [-INF, 0, 0]]), is_causal=1),
    ),
    "Attention: local windows": (
        at(25, f32([[[0], [1.5], [4.5]]]), Q, Q, V, left_window_size=1, right_window_size=0),
        at(25, f32([[[1.5], [3], [4.5]]]), Q, Q, V, left_window_size=1, right_window_size=1),
    ),
    "BitShift: by the width and more": (
        at(11, np.array([0, 0, 6], np.uint8), np.array([255, 255, 3], np.uint8), np.array([8, 200, 1], np.uint8),
           direction="LEFT"),
        at(11, np.array([0, 0, 1], np.uint32), np.array([7, 7, 3], np.uint32), np.array([32, 99, 1], np.uint32),
           direction="RIGHT"),
    ),
    "Mod: of floats": (
        at(13, f32(-0.5, 0.5, -1), f32(-4.5, 4.5, -4), f32(2, -2, 3), fmod=1),
    ),
    "DFT: roots computed in f64": (at(17, spectrum(), LONG, axis=1),),
    "Resize: the length is not cut where corners are aligned": (
        at(13, f32(0, 3 / 1.4), f32(0, 1, 2, 3), None, f32(0.6), mode="linear",
           coordinate_transformation_mode="align_corners"),
    ),
    "MaxUnpool: a shape that is told": (
        at(11, f32([[0, 5, 0, 6, 0, 0]]), f32([[5, 6]]), ints(1, 3).reshape(1, 1, 2), ints(1, 1, 6),
           kernel_shape=[2], strides=[2]),
    ),
    "RNN: the batch first": (
        at(14, [recurrent(), recurrent()[:, -1]], *RNN, outputs=2, hidden_size=1, layout=1),
    ),
    "TopK: the first of equals": (
        at(11, [f32(3, 3), ints(1, 2)], f32(1, 3, 3, 3), ints(2), outputs=2),
        at(11, [f32(1, 1, 2), ints(1, 3, 0)], f32(2, 1, 3, 1), ints(3), outputs=2, largest=0),
    ),
    "ArgMax: the first of equals, or the last": (
        at(13, ints(1), f32(1, 3, 3)),
        at(13, ints(2), f32(1, 3, 3), select_last_index=1),
        at(13, ints(0), f32(3, 1, 3)),
    ),
    "NonMaxSuppression: an overlap that equals the threshold stays": (
        at(11, ints(0, 0, 0, 0, 0, 1, 0, 0, 2).reshape(3, 3), BOXES, SCORES, ints(9), f32(0.5)),
        at(11, ints(0, 0, 0, 0, 0, 2).reshape(2, 3), BOXES, SCORES, ints(9), f32(0.49)),
    ),
    "NonMaxSuppression: boxes by their middle": (
        at(11, ints(0, 0, 0, 0, 0, 1, 0, 0, 2).reshape(3, 3), CENTRES, SCORES, ints(9), f32(0.5),
           center_point_box=1),
        at(11, ints(0, 0, 0, 0, 0, 2).reshape(2, 3), CENTRES, SCORES, ints(9), f32(0.49), center_point_box=1),
    ),
    "ReduceSum: of nothing": (at(13, f32([0], [0]), np.zeros((2, 0), N), ints(1)),),
    "ReduceProd: of nothing": (at(18, f32(1, 1), np.zeros((2, 0), N), ints(1), keepdims=0),),
    "ReduceMax: of nothing": (at(18, f32(-INF, -INF), np.zeros((2, 0), N), ints(1), keepdims=0),),
    "ReduceMin: of nothing": (at(18, f32(INF, INF), np.zeros((2, 0), N), ints(1), keepdims=0),),
    "ReduceLogSum: of nothing": (at(18, f32(-INF, -INF), np.zeros((2, 0), N), ints(1), keepdims=0),),
    "ReduceLogSumExp: of nothing": (at(18, f32(-INF, -INF), np.zeros((2, 0), N), ints(1), keepdims=0),),
    "GlobalLpPool: no case in the suite": (
        at(2, f32([[5]]), f32([[3, 4]])),
        at(2, f32([[7]]), f32([[3, -4]]), p=1),
    ),
    "MaxRoiPool: no case in the suite": (
        at(1, f32([[[5]]]), X[None, None], f32([0, 0, 0, 2, 1]), pooled_shape=[1, 1]),
        at(1, f32([[[1, 2]]]), X[None, None], f32([0, 1, 0, 2, 0]), pooled_shape=[1, 2]),
    ),
}  # fmt: skip
PARAMS = [pytest.param(name.split(":")[0], side, id=f"{name} #{number}") for name, sides in CASES.items()
          for number, side in enumerate(sides)]  # fmt: skip


def compare(made: Any, side: Side) -> None:
    expected = side.expected if isinstance(side.expected, list) else [side.expected]
    for one, wanted in zip(made, [array for array in expected if array is not None], strict=True):
        one = np.asarray(one)
        assert (one.dtype, one.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(one, wanted, 1e-5, 1e-4 if wanted.size > 1000 else 1e-6)


def model(operator: str, side: Side, symbolic: bool) -> Any:
    asked: Any = side.outputs
    if isinstance(side.expected, list):
        asked = [f"y{index}" if array is not None else "" for index, array in enumerate(side.expected)]
    shapes = {0: [f"n{axis}" for axis in range(np.ndim(side.inputs[0]))]} if symbolic else None
    return node_model(operator, side.inputs, version=side.version, outputs=asked, shapes=shapes, **side.attributes)


@pytest.mark.parametrize(("operator", "side"), PARAMS)
def test_interpreted(operator: str, side: Side) -> None:
    compare(imported(model(operator, side, symbolic=False)).run(given(side.inputs)), side)


@pytest.mark.parametrize(("operator", "side"), PARAMS)
def test_compiled(operator: str, side: Side) -> None:
    compiled = stepwell.compile(model(operator, side, symbolic=operator not in ("RNN", "DFT")))
    made = compiled(*given(side.inputs))
    compare(made if isinstance(made, (list, tuple)) else [made], side)


def value(name: str, element: int, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, element, shape)


OPTIONAL = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["n"]))


@pytest.mark.parametrize("there", [True, False])
def test_a_branch_gives_something_or_nothing(there: bool) -> None:
    """If of an optional tensor: one branch has one, the other none."""
    port = helper.make_value_info("o", OPTIONAL)
    some = helper.make_graph([helper.make_node("Optional", ["x"], ["o"])], "some", [], [port])
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, ["n"])
    none = helper.make_graph([helper.make_node("Optional", [], ["o"], type=kind)], "none", [], [port])
    nodes = [helper.make_node("If", ["c"], ["o"], then_branch=some, else_branch=none),
             helper.make_node("OptionalHasElement", ["o"], ["has"])]  # fmt: skip
    made = model_of(nodes, [value("c", TensorProto.BOOL), value("x", TensorProto.FLOAT, "n")], ["has"], 18)
    assert bool(stepwell.compile(made)(np.array(there), f32(1, 2))) is there


def test_a_loop_that_carries_an_optional() -> None:
    """It is empty at first, and the sum of the rounds' numbers at the end."""
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    port = helper.make_value_info("carried", helper.make_optional_type_proto(kind))
    taken = helper.make_graph([helper.make_node("OptionalGetElement", ["carried"], ["t"])], "taken", [],
                              [value("t", TensorProto.FLOAT)])  # fmt: skip
    zero = helper.make_graph([helper.make_node("Constant", [], ["t"], value_float=0.0)], "zero", [],
                             [value("t", TensorProto.FLOAT)])  # fmt: skip
    body = helper.make_graph(
        [helper.make_node("OptionalHasElement", ["carried"], ["has"]),
         helper.make_node("If", ["has"], ["before"], then_branch=taken, else_branch=zero),
         helper.make_node("Cast", ["i"], ["number"], to=TensorProto.FLOAT),
         helper.make_node("Add", ["before", "number"], ["sum"]), helper.make_node("Optional", ["sum"], ["next"]),
         helper.make_node("Identity", ["go"], ["on"])],
        "body", [value("i", TensorProto.INT64), value("go", TensorProto.BOOL), port],
        [value("on", TensorProto.BOOL), helper.make_value_info("next", helper.make_optional_type_proto(kind))],
    )  # fmt: skip
    nodes = [helper.make_node("Optional", [], ["nothing"], type=kind),
             helper.make_node("Loop", ["count", "", "nothing"], ["o"], body=body),
             helper.make_node("OptionalGetElement", ["o"], ["y"])]  # fmt: skip
    compiled = stepwell.compile(model_of(nodes, [value("count", TensorProto.INT64)], ["y"], 18))
    assert compiled(np.array(4)) == 6
