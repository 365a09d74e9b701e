"""Recurrent layers with the attributes that the onnx package's node cases leave untried, compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.frontends.onnx.rule_harness import assert_matches, imported, node_model, onnxruntime_outputs

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
    if op_type == "LSTM":
        shapes |= {"c0": state, "p": (directions, 3 * hidden)}
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes.values()]
    arrays[4] = np.array([4, 2, 3], np.int32)
    outputs = 3 if op_type == "LSTM" else 2
    return node_model(op_type, arrays, version=14, outputs=outputs, hidden_size=hidden, **fields), arrays


@pytest.mark.parametrize(("op_type", "fields"), PEER)
def test_agrees_with_onnxruntime(op_type: str, fields: dict[str, Any]) -> None:
    model, arrays = layer(op_type, fields)
    assert_matches(imported(model).run(arrays), onnxruntime_outputs(model, arrays), rtol=1e-4, atol=1e-5)
