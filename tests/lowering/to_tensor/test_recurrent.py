"""Recurrent layers on the way down: the same results at every landing, and those of another runtime as machine code."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.dialects.graph.recurrent import ACTIVATIONS, GruOp, LstmOp, RnnOp
from stepwell.dialects.tensor import ForOp, GenericOp
from stepwell.ir.dims import symbol
from stepwell.ir.types import F32, TensorType
from stepwell.lowering.to_tensor.gates import FUNCTIONS
from tests.lowering.to_tensor.descent import check, constant, types_of
from tests.teams import results_of

GATES = {RnnOp: 1, GruOp: 3, LstmOp: 4}
DEFAULTS = {RnnOp: ["tanh"], GruOp: ["sigmoid", "tanh"], LstmOp: ["sigmoid", "tanh", "tanh"]}
T, N, I, H = 3, 2, 5, 4  # noqa: E741


def random(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.5).astype(dtype)


def operands(cls: Any, d: int, dtype: Any = np.float32) -> list[Any]:
    """x, w, r, bias."""
    rows = GATES[cls] * H
    shapes = [(T, N, I), (d, rows, I), (d, rows, H), (d, 2 * rows)]
    return [random(*shape, seed=n, dtype=dtype) for n, shape in enumerate(shapes)]


def layer(cls: Any, direction: str = "forward", activations: Any = None, **fields: Any) -> Any:
    """Builds the op from its operands (None: absent)."""
    names = activations or DEFAULTS[cls] * (2 if direction == "bidirectional" else 1)
    alphas = [ACTIVATIONS[name].alpha or 0.0 for name in names]
    betas = [ACTIVATIONS[name].beta or 0.0 for name in names]
    return lambda *values: cls(*values, direction=direction, activations=names, alphas=alphas, betas=betas, **fields)



@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("cls", [RnnOp, GruOp, LstmOp])
def test_directions(cls: Any, direction: str) -> None:
    arrays = operands(cls, 2 if direction == "bidirectional" else 1)
    check(types_of(arrays), layer(cls, direction), *arrays, tolerance=1e-5)


@pytest.mark.parametrize("cls", [RnnOp, GruOp, LstmOp])
def test_states_lengths_and_what_only_some_layers_have(cls: Any) -> None:
    arrays = operands(cls, 2)
    lengths = np.array([2, 3], np.int32)
    states = [random(2, N, H, seed=9 + n) for n in range(1 + (cls is LstmOp))]
    more = [random(2, 3 * H, seed=20)] if cls is LstmOp else []
    fields: dict[str, Any] = {LstmOp: {"input_forget": True}, GruOp: {"linear_before_reset": True}}.get(cls, {})
    build = layer(cls, "bidirectional", clip=0.4, **fields)

    def with_lengths(*values: Any) -> Any:
        return build(*values[:4], constant(lengths), *values[4:])

    given = [*arrays, *states, *more]
    check(types_of(given), with_lengths, *given, tolerance=1e-5)
    check(of_any_width(given), with_lengths, *given, tolerance=1e-5)


def of_any_width(arrays: list[Any]) -> list[TensorType]:
    """The types of operands whose hidden size is a symbol."""
    h = symbol("h")
    sizes = {count * H: count * h for count in (1, 2, 3, 4, 6, 8)}
    shapes = [array.shape for array in arrays]
    return [TensorType(shapes[0], F32), *(TensorType(tuple(sizes.get(n, n) for n in s), F32) for s in shapes[1:])]


@pytest.mark.parametrize("cls", [RnnOp, GruOp, LstmOp])
def test_a_hidden_size_that_the_call_tells(cls: Any) -> None:
    arrays = operands(cls, 1)
    check(of_any_width(arrays), layer(cls), *arrays, tolerance=1e-5)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_every_activation(name: str) -> None:
    arrays = operands(RnnOp, 1)
    check(types_of(arrays), layer(RnnOp, activations=[name]), *arrays, tolerance=1e-5)


def test_every_activation_has_scalar_code() -> None:
    assert list(FUNCTIONS) == list(ACTIVATIONS)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float16, 1e-3)])
def test_other_element_types_round_once(dtype: Any, tolerance: float) -> None:
    arrays = operands(LstmOp, 1, dtype)
    check(types_of(arrays), layer(LstmOp), *arrays, tolerance=tolerance)


def test_the_product_of_the_inputs_is_in_front_of_the_loop() -> None:
    arrays = operands(LstmOp, 1)
    types = [TensorType((symbol("t"), symbol("n"), I), F32), *types_of(arrays[1:])]
    module = check(types, layer(LstmOp), *arrays, tolerance=1e-5)
    (rounds,) = module.walk_of(ForOp)
    outside = [op for op in module.walk_of(GenericOp) if op.has_reduction and not rounds.is_ancestor_of(op)]
    inside = [op for op in rounds.walk() if isinstance(op, GenericOp)]
    assert rounds.count == symbol("t")
    assert [op.sizes.dims for op in outside] == [(symbol("t") * symbol("n"), 4 * H, I)]
    assert [op.has_reduction for op in inside] == [True, False, False]


# As machine code, against onnxruntime


def model_of(kind: str, direction: str, hidden: int, dims: tuple[Any, Any], lengths: bool, **attributes: Any) -> Any:
    d = 2 if direction == "bidirectional" else 1
    rows, inputs = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind] * hidden, 7
    weights = {"w": random(d, rows, inputs, seed=1), "r": random(d, rows, hidden, seed=2), "b": random(d, 2 * rows, seed=3)}  # noqa: E501
    outputs = ["y", "yh", "yc"][: 3 if kind == "LSTM" else 2]
    node = helper.make_node(
        kind, ["x", "w", "r", "b", "lengths" if lengths else "", "h0"], outputs, direction=direction,
        hidden_size=hidden, **attributes,
    )  # fmt: skip
    ports = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [*dims, inputs]),
        helper.make_tensor_value_info("h0", TensorProto.FLOAT, [d, dims[1], hidden]),
    ]
    if lengths:
        ports.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [dims[1]]))
    graph = helper.make_graph(
        [node], "g", ports, [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * (4 if name == "y" else 3)) for name in outputs],  # noqa: E501
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(
    ("kind", "direction", "attributes"),
    [
        ("LSTM", "forward", {}), ("LSTM", "bidirectional", {"clip": 0.7}), ("GRU", "reverse", {}),
        ("GRU", "bidirectional", {"linear_before_reset": 1}), ("RNN", "bidirectional", {"activations": ["Relu", "Tanh"]}),  # noqa: E501
    ],
)  # fmt: skip
def test_any_length_and_batch_natively(kind: str, direction: str, attributes: Any, lengths: bool) -> None:
    model = model_of(kind, direction, 33, ("t", "n"), lengths, **attributes)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [port.name for port in model.graph.output]
    directions, feeds = 2 if direction == "bidirectional" else 1, []
    for steps, batch in ((1, 1), (2, 3), (17, 2), (5, 16)):
        feeds.append({"x": random(steps, batch, 7, seed=5), "h0": random(directions, batch, 33, seed=6)})
        if lengths:
            feeds[-1]["lengths"] = np.random.default_rng(7).integers(1, steps + 1, batch).astype(np.int32)
    for given, found in zip(feeds, results_of(model, feeds, (1, 2, 3)), strict=True):
        for name, mine, expected in zip(names, found, session.run(None, given), strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-3, atol=1e-4, err_msg=name)


def test_no_steps_leave_the_initial_state() -> None:
    compiled = stepwell.compile(model_of("LSTM", "forward", 8, ("t", "n"), False))
    h0 = random(1, 2, 8, seed=6)
    found = compiled.run({"x": random(0, 2, 7), "h0": h0})
    assert found["y"].shape == (0, 1, 2, 8)
    np.testing.assert_array_equal(found["yh"], h0)
    np.testing.assert_array_equal(found["yc"], np.zeros_like(h0))
