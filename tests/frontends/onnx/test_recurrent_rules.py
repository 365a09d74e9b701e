"""Recurrent layers: the onnx package's node cases, and onnxruntime where these leave attributes untried."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tests.frontends.onnx.contraction_harness import (
    assert_matches,
    cases_of,
    check_sizes,
    data_sets,
    import_model,
    run,
)

CASES = cases_of("RNN", "GRU", "LSTM")


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    function = import_model(CASES[name].model)
    for inputs, expected in data_sets(CASES[name]):
        assert_matches(run(function, inputs), expected)


@pytest.mark.parametrize("name", CASES)
def test_case_with_symbolic_data(name: str) -> None:
    function = import_model(CASES[name].model, symbolic=["X"])
    for inputs, expected in data_sets(CASES[name]):
        made = run(function, inputs)
        assert_matches(made, expected)
        check_sizes(function, inputs, made)


GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
PEER = [
    ("RNN", {"direction": "bidirectional", "activations": ["Affine", "LeakyRelu"], "activation_alpha": [0.5, 0.1],
             "activation_beta": [0.2]}),
    ("RNN", {"direction": "reverse", "activations": ["ScaledTanh"], "activation_alpha": [1.5],
             "activation_beta": [0.6], "clip": 0.4}),
    ("RNN", {"activations": ["Softplus"]}),
    ("RNN", {"activations": ["Softsign"]}),
    ("RNN", {"activations": ["Elu"], "activation_alpha": [0.7]}),
    ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.1]}),
    ("GRU", {"direction": "bidirectional", "linear_before_reset": 1}),
    ("GRU", {"direction": "reverse", "linear_before_reset": 0, "clip": 0.3}),
    ("GRU", {"direction": "forward", "linear_before_reset": 1, "clip": 0.3}),
    ("GRU", {"activations": ["HardSigmoid", "Relu"]}),
    ("LSTM", {"direction": "bidirectional"}),
    ("LSTM", {"direction": "reverse", "input_forget": 1}),
    ("LSTM", {"direction": "forward", "clip": 0.3}),
    ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Relu"], "activation_alpha": [0.3], "activation_beta": [0.4]}),
]  # fmt: skip


def layer(op_type: str, fields: dict[str, Any]) -> tuple[Any, list[np.ndarray[Any, Any]]]:
    """A model of one layer with all its inputs, three sequences of lengths 4, 2 and 3."""
    steps, batch, size, hidden, gates = 4, 3, 2, 5, GATES[op_type]
    directions = 2 if fields.get("direction") == "bidirectional" else 1
    state = (directions, batch, hidden)
    shapes = {
        "x": (steps, batch, size), "w": (directions, gates * hidden, size), "r": (directions, gates * hidden, hidden),
        "b": (directions, 2 * gates * hidden), "lengths": (batch,), "h0": state,
    }  # fmt: skip
    outputs = {"y": (steps, *state), "yh": state}
    if op_type == "LSTM":
        shapes |= {"c0": state, "p": (directions, 3 * hidden)}
        outputs["yc"] = state
    node = helper.make_node(op_type, list(shapes), list(outputs), hidden_size=hidden, **fields)
    infos = [
        helper.make_tensor_value_info(n, TensorProto.INT32 if n == "lengths" else TensorProto.FLOAT, s)
        for n, s in (shapes | outputs).items()
    ]
    graph = helper.make_graph([node], "layer", infos[: len(shapes)], infos[len(shapes) :])
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes.values()]
    arrays[4] = np.array([4, 2, 3], np.int32)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), arrays


@pytest.mark.parametrize(("op_type", "fields"), PEER)
def test_agrees_with_onnxruntime(op_type: str, fields: dict[str, Any]) -> None:
    model, arrays = layer(op_type, fields)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in model.graph.input]
    expected = session.run(None, dict(zip(names, arrays, strict=True)))
    assert_matches(run(import_model(model), arrays), expected, rtol=1e-4, atol=1e-5)
