"""ONNX models whose sizes data decide, end to end: what detection and segmentation exports are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.teams import results_of

F, I = TensorProto.FLOAT, TensorProto.INT64  # noqa: E741


def model(nodes: Sequence[Any], inputs: Any, outputs: Any, constants: Any) -> Any:
    """A model of opset 18; ports are (name, type, shape), constants name -> array."""
    ports = [[helper.make_tensor_value_info(*port) for port in group] for group in (inputs, outputs)]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(list(nodes), "by_data", *ports, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def detection() -> Any:
    """Suppress, take the boxes and scores found, scale the boxes by a product."""
    nodes = [
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "lowest"], ["chosen"]),
        helper.make_node("Gather", ["chosen", "two"], ["place"], axis=1),
        helper.make_node("Squeeze", ["boxes", "zero"], ["flat"]),
        helper.make_node("Gather", ["flat", "place"], ["found"], axis=0),
        helper.make_node("MatMul", ["found", "scale"], ["scaled"]),
        helper.make_node("GatherND", ["scores", "triple"], ["score"]),
        helper.make_node("Gather", ["chosen", "order"], ["triple"], axis=1),
        helper.make_node("Softmax", ["score"], ["weights"], axis=0),
    ]
    nodes[5], nodes[6] = nodes[6], nodes[5]
    constants = {
        "most": np.array([5]), "overlap": np.float32([0.4]), "lowest": np.float32([0.3]), "two": np.array(2),
        "zero": np.array([0]), "order": np.array([0, 1, 2]), "scale": np.diag(np.float32([1, 2, 3, 4])),
    }  # fmt: skip
    return model(
        nodes, [("boxes", F, [1, "n", 4]), ("scores", F, [1, 3, "n"])],
        [("chosen", I, ["k", 3]), ("scaled", F, ["k", 4]), ("weights", F, ["k"])], constants,
    )  # fmt: skip


def detection_inputs(count: int) -> dict[str, Any]:
    random = np.random.default_rng(count)
    low, size = random.random((2, 1, count, 2)) * [[[[8.0]]], [[[4.0]]]]
    boxes = np.concatenate([low, low + size], 2).astype(np.float32)
    return {"boxes": boxes, "scores": random.random((1, 3, count)).astype(np.float32)}


def masked_rows() -> Any:
    """Rows whose largest element is above a limit, through a product."""
    nodes = [
        helper.make_node("ReduceMax", ["x", "one"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "limit"], ["mask"]),
        helper.make_node("NonZero", ["mask"], ["places"]),
        helper.make_node("Squeeze", ["places", "zero"], ["rows"]),
        helper.make_node("Gather", ["x", "rows"], ["taken"], axis=0),
        helper.make_node("MatMul", ["taken", "weights"], ["y"]),
        helper.make_node("Compress", ["x", "mask"], ["kept"], axis=0),
    ]
    constants = {
        "one": np.array([1]), "zero": np.array([0]), "limit": np.float32(1.0),
        "weights": np.arange(48, dtype=np.float32).reshape(6, 8) / 16,
    }  # fmt: skip
    outputs = [("rows", I, ["k"]), ("y", F, ["k", 8]), ("kept", F, None)]
    return model(nodes, [("x", F, ["n", 6])], outputs, constants)


def best_above() -> Any:
    """The best scores, then only those above a limit."""
    nodes = [
        helper.make_node("TopK", ["scores", "k"], ["best", "places"]),
        helper.make_node("Greater", ["best", "limit"], ["mask"]),
        helper.make_node("Compress", ["best", "mask"], ["above"], axis=0),
        helper.make_node("Compress", ["places", "mask"], ["where"], axis=0),
    ]
    outputs = [("above", F, ["m"]), ("where", I, ["m"])]
    return model(nodes, [("scores", F, ["n"]), ("k", I, [1])], outputs, {"limit": np.float32(0.5)})


def branches() -> Any:
    """A condition chooses between values of different sizes, one of which data decide."""
    empty: Any = []
    sides = [
        helper.make_graph(nodes, "side", empty, [helper.make_tensor_value_info(nodes[-1].output[0], F, None)])
        for nodes in (
            [helper.make_node("Greater", ["x", "limit"], ["mask"]),
             helper.make_node("Compress", ["x", "mask"], ["few"], axis=0)],
            [helper.make_node("Concat", ["x", "x", "more"], ["many"], axis=0)],
        )
    ]  # fmt: skip
    nodes = [
        helper.make_node("If", ["c"], ["chosen"], then_branch=sides[0], else_branch=sides[1]),
        helper.make_node("Mul", ["chosen", "chosen"], ["squared"]),
    ]
    ports = [("c", TensorProto.BOOL, []), ("x", F, ["n"])]
    constants = {"limit": np.float32(0.0), "more": np.float32([5, 6])}
    return model(nodes, ports, [("chosen", F, ["k"]), ("squared", F, ["k"])], constants)


CASES = {
    "detection": (detection, [detection_inputs(count) for count in (1, 7, 40, 200)]),
    "masked rows": (masked_rows, [
        {"x": np.random.default_rng(n).standard_normal((n, 6)).astype(np.float32)} for n in (1, 2, 16, 33, 300)
    ]),
    "best above": (best_above, [
        {"scores": np.random.default_rng(n).random(n).astype(np.float32), "k": np.array([min(n, 20)])}
        for n in (1, 10, 100)
    ]),
    "branches": (branches, [
        {"c": np.array(c), "x": np.random.default_rng(n).standard_normal(n).astype(np.float32)}
        for n in (0, 1, 5, 100) for c in (True, False)
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_compilation_serves_all_sizes(name: str) -> None:
    session_of = pytest.importorskip("onnxruntime").InferenceSession
    build, feeds = CASES[name]
    session = session_of(build().SerializeToString(), providers=["CPUExecutionProvider"])
    for given, found in zip(feeds, results_of(build(), feeds, (1, 2, 3, 7)), strict=True):
        for mine, theirs in zip(found, session.run(None, given), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6, strict=True)


def test_every_pass_keeps_a_detection() -> None:
    from stepwell.check import CheckEach
    from stepwell.compiler import lower
    from stepwell.ir.passes import PassContext
    from stepwell.sources import load_source

    module, _ = load_source(detection(), None)
    checks = CheckEach(list(detection_inputs(6).values()), 4_000_000)
    lower(module, "loop", PassContext(), [checks])
    assert not [outcome for outcome in checks.outcomes if outcome.skipped]
