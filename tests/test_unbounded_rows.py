"""Rows as long as data tell, which no input bounds: what passes between the kernels that read them has no place in
memory that threads have beforehand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import stepwell
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering.pipeline import phases
from stepwell.sources import load_source

Array = np.ndarray[Any, Any]
F, I = TensorProto.FLOAT, TensorProto.INT64  # noqa: E741
RNG = np.random.default_rng(0)


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape, np.float32)


def model(nodes: Sequence[Any], feeds: dict[str, Array]) -> Any:
    """A model of opset 18 whose float inputs have symbols for their sizes."""
    ports = [
        helper.make_tensor_value_info(name, F, [f"{name}{axis}" for axis in range(array.ndim)])
        if array.dtype == np.float32 else helper.make_tensor_value_info(name, I, array.shape)
        for name, array in feeds.items()
    ]  # fmt: skip
    graph = helper.make_graph(nodes, "g", ports, [helper.make_tensor_value_info("y", F, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


make = helper.make_node
PAD = make("Pad", ["x", "pads"], ["q"])
ROWS = {"x": f32(3, 4), "pads": np.array([0, 1, 0, 2])}

CASES: dict[str, tuple[list[Any], dict[str, Array]]] = {
    "a product": ([PAD, make("MatMul", ["q", "w"], ["y"])], {**ROWS, "w": f32(7, 5)}),
    "a product by a transpose": ([PAD, make("Gemm", ["q", "w"], ["y"], transB=1)], {**ROWS, "w": f32(5, 7)}),
    "softmax": ([PAD, make("Softmax", ["q"], ["y"])], ROWS),
    "softmax of columns": ([PAD, make("Softmax", ["q"], ["y"], axis=0)],
                           {"x": f32(3, 4), "pads": np.array([1, 0, 2, 0])}),
    "a norm": ([PAD, make("LayerNormalization", ["q", "w"], ["y"])], {**ROWS, "w": f32(7)}),
    "attention": (
        [make("Pad", ["x", "pads"], ["k"]), make("Transpose", ["k"], ["t"], perm=[0, 1, 3, 2]),
         make("MatMul", ["x", "t"], ["s"]), make("Softmax", ["s"], ["a"]), make("MatMul", ["a", "k"], ["y"])],
        {"x": f32(1, 2, 4, 8), "pads": np.array([0, 0, 1, 0, 0, 0, 2, 0])},
    ),
    "what a range gives": (
        [make("Cast", ["n"], ["f"], to=F), make("Range", ["zero", "f", "one"], ["q"]), make("Softmax", ["q"], ["y"]),
         make("Constant", [], ["zero"], value_float=0.0), make("Constant", [], ["one"], value_float=1.0)],
        {"n": np.array(9)},
    ),
}  # fmt: skip


def grown() -> tuple[list[Any], dict[str, Array]]:
    """The softmax of what a loop made longer in every round."""
    ports = {name: helper.make_tensor_value_info(name, kind, shape)
             for name, kind, shape in (("i", I, []), ("on", TensorProto.BOOL, []), ("still", TensorProto.BOOL, []),
                                       ("c", F, None), ("longer", F, None))}  # fmt: skip
    nodes = [make("Concat", ["c", "x"], ["longer"], axis=0), make("Identity", ["on"], ["still"])]
    body = helper.make_graph(nodes, "body", [ports["i"], ports["on"], ports["c"]], [ports["still"], ports["longer"]])
    loop = make("Loop", ["rounds", "", "x"], ["g"], body=body)
    after = [make("Transpose", ["g"], ["t"], perm=[1, 0]), make("Softmax", ["t"], ["y"])]
    return [loop, *after], {"x": f32(2, 4), "rounds": np.array(3)}


CASES["what a loop grew"] = grown()


@pytest.mark.parametrize("name", CASES)
def test_rows_that_no_input_bounds(name: str) -> None:
    nodes, feeds = CASES[name]
    nodes = sorted(nodes, key=lambda node: node.op_type != "Constant")
    made = model(nodes, feeds)
    (expected,) = onnxruntime.InferenceSession(made.SerializeToString()).run(None, feeds)
    compiled = stepwell.compile(made)
    found = compiled(*feeds.values())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, strict=True)


def test_a_remark_says_which_size() -> None:
    module, _ = load_source(model(*CASES["softmax"]), None)
    context = PassContext()
    PassManager(phases("graph", "tensor")).run(module, context)
    said = [remark.message for remark in context.remarks]
    expected = re.compile(r"its rows are as long as data tell \(pad_\d+\), which no input bounds")
    assert any(expected.search(message) for message in said), said
