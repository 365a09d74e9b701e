"""Gradients: against central differences in f64 of what they differentiate, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.errors import StepwellError

TRAINING = "ai.onnx.preview.training"
STEP = 1e-6


def model(nodes: list[Any], inputs: dict[str, Any], xs: list[str], constants: dict[str, Any], given: Any = None) -> Any:
    """The results are y and its gradients; sizes of the inputs are symbols where `constants` has "symbolic"."""
    constants = dict(constants)
    symbolic = constants.pop("symbolic", False)
    gradient = helper.make_node("Gradient", given or xs, [f"d{x}" for x in xs], domain=TRAINING, xs=xs, y="y")
    ports = [
        helper.make_tensor_value_info(
            name, TensorProto.DOUBLE, [f"{name}{k}" if symbolic else size for k, size in enumerate(array.shape)]
        )
        for name, array in inputs.items()
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in ("y", *gradient.output)]
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph([*nodes, gradient], "gradients", ports, outputs, weights)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(TRAINING, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def differences(run: Any, inputs: dict[str, Any], name: str) -> Any:
    """The derivative of the sum of y by each element of an input."""
    found = np.zeros_like(inputs[name])
    for place in np.ndindex(found.shape):
        ends = []
        for side in (STEP, -STEP):
            moved = {key: array.copy() for key, array in inputs.items()}
            moved[name][place] += side
            ends.append(run(moved)["y"].sum())
        found[place] = (ends[0] - ends[1]) / (2 * STEP)
    return found


def numbers(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).uniform(0.3, 0.9, shape)


def n(op: str, inputs: str, output: str = "y", **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), [output], **attributes)


A, B = numbers(3, 4), numbers(4)
W = numbers(2, 3, 4)
IMAGE, KERNEL, BIAS = numbers(2, 2, 6, 5), numbers(3, 2, 3, 2), numbers(3)
FUNCTIONS = ["Abs", "Atan", "Cos", "Cosh", "Erf", "Exp", "Log", "Neg", "Relu", "Sigmoid", "Sin", "Sinh", "Sqrt", "Tan",
             "Tanh", "Softplus"]  # fmt: skip

CASES: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any]]] = {
    **{f: ([n(f, "a", "t"), n("Mul", "t a")], {"a": A}, {}) for f in FUNCTIONS},
    **{f: ([n(f, "a b")], {"a": A, "b": B}, {}) for f in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min")},
    "Where": ([n("Less", "a b", "c"), n("Where", "c a b")], {"a": A, "b": B}, {}),
    "a value that is used twice": ([n("Exp", "a", "t"), n("Mul", "t a", "u"), n("Add", "u t")], {"a": A}, {}),
    "MatMul": ([n("MatMul", "a b", "t"), n("Mul", "t t")], {"a": A, "b": numbers(4, 5)}, {}),
    "MatMul of batches": ([n("MatMul", "a b", "t"), n("Exp", "t")], {"a": W, "b": numbers(4, 2)}, {}),
    "Gemm": ([n("Gemm", "a b c", "t", transB=1, alpha=0.5, beta=2.0), n("Tanh", "t")],
             {"a": A, "b": numbers(5, 4), "c": numbers(5)}, {}),
    **{f: ([n(f, "a axes", "t", keepdims=0), n("Exp", "t")], {"a": W}, {"axes": np.array([0, 2])})
       for f in ("ReduceSum", "ReduceMean", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceLogSumExp", "ReduceL2")},
    "Reshape": ([n("Reshape", "a shape", "t"), n("Mul", "t b")], {"a": A, "b": numbers(2, 6)},
                {"shape": np.array([2, 6])}),
    "Transpose": ([n("Transpose", "a", "t", perm=[2, 0, 1]), n("Mul", "t b")], {"a": W, "b": numbers(4, 2, 3)}, {}),
    "Concat": ([n("Concat", "a b a", "t", axis=0), n("Mul", "t t")], {"a": A, "b": numbers(2, 4)}, {}),
    "Expand": ([n("Expand", "a shape", "t"), n("Mul", "t b")], {"a": B, "b": A}, {"shape": np.array([3, 4])}),
    "Gather": ([n("Gather", "a at", "t", axis=1), n("Mul", "t t")], {"a": A}, {"at": np.array([[0, 3], [-1, 0]])}),
    "Softmax": ([n("Softmax", "a", "t", axis=1), n("Mul", "t b")], {"a": A, "b": B}, {}),
    "LogSoftmax": ([n("LogSoftmax", "a", "t", axis=0), n("Mul", "t b")], {"a": A, "b": B}, {}),
    "Conv": ([n("Conv", "a b c", "t", pads=[1, 0, 1, 1], strides=[2, 1]), n("Tanh", "t")],
             {"a": IMAGE, "b": KERNEL, "c": BIAS}, {}),
    "dilated Conv": ([n("Conv", "a b", "t", dilations=[2, 2]), n("Tanh", "t")], {"a": IMAGE, "b": KERNEL}, {}),
    "sizes that are unknown": ([n("Softmax", "a", "t", axis=1), n("Mul", "t a", "u"), n("MatMul", "u b")],
                               {"a": A, "b": numbers(4, 2)}, {"symbolic": True}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    nodes, inputs, constants = CASES[name]
    compiled = stepwell.compile(model(nodes, inputs, list(inputs), constants))
    made = compiled.run(inputs)
    for key in inputs:
        expected = differences(compiled.run, inputs, key)
        np.testing.assert_allclose(made[f"d{key}"], expected, rtol=2e-6, atol=2e-7)


def test_other_values_than_those_of_the_graph() -> None:
    """The inputs of the node, not the tensors that it names, say where the gradient is taken."""
    proto = model([n("Mul", "a a", "t"), n("Mul", "t b")], {"a": A, "b": A, "c": A}, ["a"], {}, given=["c"])
    made = stepwell.compile(proto).run({"a": A, "b": 3 * A, "c": 2 * A})
    np.testing.assert_allclose(made["da"], 2 * (2 * A) * (3 * A))
    np.testing.assert_allclose(made["y"], A * A * 3 * A)


def test_what_y_does_not_depend_on() -> None:
    made = stepwell.compile(model([n("Exp", "a")], {"a": A, "b": B}, ["a", "b"], {})).run({"a": A, "b": B})
    np.testing.assert_array_equal(made["db"], np.zeros_like(B))


@pytest.mark.parametrize(
    "nodes, given, reason",
    [
        ([n("CumSum", "a axis")], None, "graph.cumulative .* has no rule"),
        ([n("Exp", "a")], ["a", "a"], "2 inputs for 1 names"),
        ([n("Exp", "a", "z"), n("Identity", "z")], ["a"], ""),
    ],
)
def test_what_is_refused(nodes: list[Any], given: Any, reason: str) -> None:
    proto = model(nodes, {"a": A}, ["a"], {"axis": np.array(0)}, given=given)
    if not reason:
        stepwell.compile(proto)
        return
    with pytest.raises(StepwellError, match=reason):
        stepwell.compile(proto)


def test_a_name_that_is_none() -> None:
    proto = model([n("Exp", "a")], {"a": A}, ["a"], {})
    onnx.helper.set_model_props(proto, {})
    proto.graph.node[-1].attribute[1].s = b"nowhere"
    with pytest.raises(StepwellError, match="nowhere"):
        stepwell.compile(proto)


# The optimisers, three steps of each.


def run(op: str, arrays: list[Any], outputs: int, **attributes: Any) -> Any:
    names = [f"x{k}" for k in range(len(arrays))]
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), [None] * x.ndim)
        for name, x in zip(names, arrays, strict=True)
    ]
    results = [onnx.ValueInfoProto(name=f"y{k}") for k in range(outputs)]
    node = helper.make_node(op, names, [port.name for port in results], domain=TRAINING, **attributes)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(TRAINING, 1)]
    graph = helper.make_graph([node], op, ports, results)
    return stepwell.compile(helper.make_model(graph, opset_imports=opsets, ir_version=9))(*arrays)


@pytest.mark.parametrize("time", [0, 1, 5])
def test_adam(time: int) -> None:
    x, g, v, h = numbers(2, 3), -numbers(3, 2).T, numbers(1, 3) + numbers(2, 3), numbers(2, 3)
    rate, alpha, beta, epsilon = np.float64(0.1), 0.5, 0.75, 0.125
    made = run("Adam", [rate, np.int64(time), x, g, v, h], 3, alpha=alpha, beta=beta, epsilon=epsilon,
               norm_coefficient=0.25, norm_coefficient_post=0.5)  # fmt: skip
    g = g + 0.25 * x
    v, h = alpha * v + (1 - alpha) * g, beta * h + (1 - beta) * g * g
    factor = np.sqrt(1 - beta**time) / (1 - alpha**time) if time else 1
    x = (x - rate * factor * v / (np.sqrt(h) + epsilon)) * 0.5
    for one, other in zip(made, (x, v, h), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("mode", ["standard", "nesterov"])
@pytest.mark.parametrize("time", [0, 2])
def test_momentum(time: int, mode: str) -> None:
    x, g, v, rate = numbers(2, 3), numbers(3), numbers(2, 3) * 2, np.float64(0.5)
    made = run("Momentum", [rate, np.int64(time), x, g, v], 2, alpha=0.5, beta=0.25, norm_coefficient=0.0, mode=mode)
    v = 0.5 * v + (0.25 if time else 1) * g
    expected = x - rate * (g + 0.5 * v if mode == "nesterov" else v)
    np.testing.assert_allclose(made[0], expected, rtol=1e-12)
    np.testing.assert_allclose(made[1], v, rtol=1e-12)


def test_optimisers_that_are_malformed() -> None:
    with pytest.raises(StepwellError, match="groups of 3"):
        run("Adagrad", [np.float64(1), np.int64(0), A, A], 2)
    with pytest.raises(StepwellError, match="'mode' is 'wild'"):
        run("Momentum", [np.float64(1), np.int64(0), A, A, A], 2, alpha=0.5, beta=0.5, norm_coefficient=0.0,
            mode="wild")  # fmt: skip
