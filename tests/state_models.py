"""Small models that keep something from call to call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEADS, SIZE = 2, 8
WIDTH = HEADS * SIZE
PAIRS = {"past_k": "present_k", "past_v": "present_v"}


def info(name: str, shape: Sequence[int | str], element: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, list(shape))


def proto(nodes: list[Any], inputs: list[Any], outputs: list[Any], **weights: Any) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def attention(new: int | str = 1, batch: int | str = 1, cached: str = "past") -> onnx.ModelProto:
    """A layer of attention over all rows so far: x [batch, new, 16] -> y, with keys and values [batch, 2, past, 8]."""
    random = np.random.default_rng(0)
    weights = {f"w{name}": (random.standard_normal((WIDTH, WIDTH)) / 4).astype(np.float32) for name in "qkvo"}
    nodes = []
    for name in "qkv":
        nodes += [
            node("MatMul", f"x w{name}", f"{name}0"),
            node("Reshape", f"{name}0 split", f"{name}1"),
            node("Transpose", f"{name}1", name, perm=[0, 2, 1, 3]),
        ]
    nodes += [
        node("Concat", "past_k k", "present_k", axis=2),
        node("Concat", "past_v v", "present_v", axis=2),
        node("Transpose", "present_k", "turned", perm=[0, 1, 3, 2]),
        node("MatMul", "q turned", "scores"),
        node("Mul", "scores scale", "scaled"),
        node("Softmax", "scaled", "weights", axis=-1),
        node("MatMul", "weights present_v", "mixed"),
        node("Transpose", "mixed", "back", perm=[0, 2, 1, 3]),
        node("Reshape", "back merged", "flat"),
        node("MatMul", "flat wo", "y"),
    ]
    past, present = [batch, HEADS, cached, SIZE], [batch, HEADS, f"{cached} + {new}", SIZE]
    return proto(
        nodes,
        [info("x", [batch, new, WIDTH]), info("past_k", past), info("past_v", past)],
        [info("y", [batch, new, WIDTH]), info("present_k", present), info("present_v", present)],
        split=np.array([0, 0, HEADS, SIZE]), merged=np.array([0, 0, WIDTH]), scale=np.float32(0.25), **weights,
    )  # fmt: skip


def recurrent() -> onnx.ModelProto:
    """y = h' = tanh(x + h), all [batch, 4]."""
    row = ["batch", 4]
    nodes = [node("Add", "x h", "sum"), node("Tanh", "sum", "next"), node("Identity", "next", "y")]
    return proto(nodes, [info("x", row), info("h", row)], [info("y", row), info("next", row)])


def cache(*nodes: onnx.NodeProto, y: Sequence[int | str] = (), axis: int = 0, **weights: Any) -> onnx.ModelProto:
    """present = concat(past [past, 4], x [1, 4]) along axis 0, and y made of them by more nodes."""
    joined = node("Concat", "past x", "present", axis=0)
    inputs = [info("x", [1, 4]), info("past", ["past", 4])]
    outputs = [*([info("y", list(y))] if nodes else []), info("present", ["past + 1", 4])]
    return proto([joined, *nodes], inputs, outputs, **weights)


def beside_lists() -> onnx.ModelProto:
    """y = a list with the mean of x's rows so far behind it, and present = x behind past, among lists on both sides."""
    nodes = [
        node("Concat", "past x", "present", axis=0),
        node("ReduceMean", "present", "mean", axes=[0], keepdims=1),
        node("SequenceInsert", "items mean", "y"),
        node("SequenceLength", "y", "count"),
        node("Add", "h x", "next"),
    ]

    def listed(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, [None, 4])

    inputs = [listed("items"), info("h", [1, 4]), info("past", ["past", 4]), info("x", [1, 4])]
    grown, count = info("present", ["past + 1", 4]), info("count", [], TensorProto.INT64)
    outputs = [listed("y"), info("next", [1, 4]), grown, count]
    return proto(nodes, inputs, outputs)
