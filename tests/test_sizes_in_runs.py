"""Sizes that must fit together although only the call, or the run itself, tells them: layers, scans, data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import stepwell
from stepwell.errors import InputError, RuntimeError

Array = np.ndarray[Any, Any]


def model(nodes: Sequence[Any], inputs: dict[str, Sequence[int | str]], outputs: Sequence[str],
          opset: int = 21) -> Any:  # fmt: skip
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", infos, results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def arrays(*shapes: Sequence[int]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def cumulated() -> Any:
    """state = state + row; the states before are collected. The state and the rows have sizes of their own."""
    infos = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("s", "row", "next", "old")}
    nodes = [helper.make_node("Add", ["s", "row"], ["next"]), helper.make_node("Identity", ["s"], ["old"])]
    body = helper.make_graph(nodes, "body", [infos["s"], infos["row"]], [infos["next"], infos["old"]])
    scan = helper.make_node("Scan", ["start", "x"], ["end", "all"], name="the_scan", body=body, num_scan_inputs=1)
    return model([scan], {"start": ["n"], "x": ["t", "m"]}, ["end", "all"])


def test_what_a_scan_carries_keeps_its_sizes() -> None:
    compiled = stepwell.compile(cumulated())
    for t, m in ((4, 3), (1, 1), (3, 0), (0, 3)):
        start, x = arrays((m,), (t, m))
        end, states = compiled(start, x)
        np.testing.assert_allclose(end, start + x.sum(axis=0), rtol=1e-5, atol=1e-6)
        assert states.shape == (t, m)
    start, x = arrays((3,), (4, 1))  # the rows broadcast
    np.testing.assert_allclose(compiled(start, x)[0], start + x.sum(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("n", "m"), [(1, 3), (2, 3)])
def test_a_scan_whose_state_would_grow(n: int, m: int) -> None:
    with pytest.raises(RuntimeError, match=r"the_scan|Add_0"):
        stepwell.compile(cumulated())(*arrays((n,), (4, m)))


def test_a_scan_over_inputs_with_different_numbers_of_slices() -> None:
    infos = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("a", "b", "c")}
    body = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "body", [infos["a"], infos["b"]],
                             [infos["c"]])  # fmt: skip
    scan = helper.make_node("Scan", ["x", "y"], ["z"], name="the_scan", body=body, num_scan_inputs=2)
    compiled = stepwell.compile(model([scan], {"x": ["n"], "y": ["m"]}, ["z"]))
    x, y = arrays((4,), (4,))
    assert np.array_equal(compiled(x, y), x + y)
    with pytest.raises(InputError, match=r"the_scan.*as many slices"):
        compiled(x, y[:3])


@pytest.mark.parametrize(("op", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_layers_of_any_width(op: str, gates: int) -> None:
    node = helper.make_node(op, ["x", "w", "r", "b"], ["y"], name="the_layer", direction="bidirectional")
    inputs: Any = {"x": ["t", "n", "i"], "w": ["d", "p", "q"], "r": ["e", "k", "h"], "b": ["f", "l"]}
    compiled = stepwell.compile(model([node], inputs, ["y"]))
    for t, n, i, h in ((3, 2, 5, 4), (1, 1, 1, 1), (2, 3, 4, 17), (0, 2, 3, 4)):
        given = arrays((t, n, i), (2, gates * h, i), (2, gates * h, h), (2, 2 * gates * h))
        judged = model([helper.make_node(op, list("xwrb"), ["y"], direction="bidirectional", hidden_size=h)],
                       inputs, ["y"])  # fmt: skip
        judge = onnxruntime.InferenceSession(judged.SerializeToString(), providers=["CPUExecutionProvider"])
        expected = judge.run(None, dict(zip("xwrb", given, strict=True)))[0] if t else np.zeros((0, 2, n, h))
        np.testing.assert_allclose(compiled(*given), expected, rtol=2e-5, atol=2e-6)
    good = [(3, 2, 5), (2, gates * 4, 5), (2, gates * 4, 4), (2, 8 * gates)]
    for index, wrong in ((1, (2, gates * 5, 5)), (2, (2, gates * 4, 5)), (3, (2, gates * 4)), (1, (1, gates * 4, 5))):
        shapes = [*good[:index], wrong, *good[index + 1 :]]
        with pytest.raises(InputError, match="the_layer"):
            compiled(*arrays(*shapes))


def test_numbers_per_channel_or_per_group() -> None:
    node = helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], name="the_norm", num_groups=2)
    inputs: Any = {"x": ["n", "c", "h"], "s": ["k"], "b": ["l"]}
    compiled = stepwell.compile(model([node], inputs, ["y"], opset=21))
    for c, h in ((4, 3), (2, 5), (6, 1)):
        x, scale, bias = arrays((3, c, h), (c,), (c,))
        rows = x.reshape(3, 2, -1)
        y = (rows - rows.mean(axis=2, keepdims=True)) / np.sqrt(rows.var(axis=2, keepdims=True) + 1e-5)
        expected = y.reshape(x.shape) * scale[:, None] + bias[:, None]
        np.testing.assert_allclose(compiled(x, scale, bias), expected, rtol=1e-4, atol=1e-5)
    assert compiled(*arrays((0, 4, 3), (4,), (4,))).shape == (0, 4, 3)
    for shapes in (((3, 4, 3), (3,), (4,)), ((3, 5, 3), (5,), (5,))):
        with pytest.raises(InputError, match="the_norm"):
            compiled(*arrays(*shapes))


# Sizes that the run makes


def picked(rest: Sequence[Any], inputs: dict[str, Sequence[int | str]]) -> Any:
    """`p` holds the elements of x that are positive: only the run tells how many."""
    front = [
        helper.make_node("Constant", [], ["zero"], value_float=0.0),
        helper.make_node("Greater", ["x", "zero"], ["positive"]),
        helper.make_node("Compress", ["x", "positive"], ["p"], axis=0),
    ]
    return model([*front, *rest], {"x": ["n"], **inputs}, ["y"])


@pytest.mark.parametrize(("rest", "size"), [
    (helper.make_node("MatMul", ["p", "z"], ["y"], name="the_node"), 3),
    (helper.make_node("Add", ["p", "z"], ["y"], name="the_node"), 3),
    (helper.make_node("Reshape", ["p", "two"], ["y"], name="the_node"), 4),
])  # fmt: skip
def test_operands_of_which_the_run_makes_one(rest: Any, size: int) -> None:
    two = helper.make_node("Constant", [], ["two"], value_ints=[2, -1])
    compiled = stepwell.compile(picked([two, rest], {"z": ["m"]}))
    z = np.arange(1, size + 1, dtype=np.float32)
    x = np.array([-1, *z, -2], np.float32)
    choices: Any = {"MatMul": lambda: z @ z, "Add": lambda: z + z, "Reshape": lambda: z.reshape(2, -1)}
    expected = choices[rest.op_type]()
    assert np.array_equal(compiled(x, z), expected)
    more = np.array([5, *x], np.float32)  # one more is positive
    with pytest.raises(RuntimeError, match="the_node"):
        compiled(more, z)
    assert np.array_equal(compiled(x, z), expected)  # the next call is as good as ever


def _broadcasting() -> list[tuple[str, list[Any]]]:
    make = helper.make_node
    return [
        ("one op", [make("Add", ["a", "b"], ["y"])]),
        ("ops in a row",
         [make("Mul", ["a", "b"], ["p"]), make("Sub", ["p", "a"], ["q"]), make("Add", ["b", "q"], ["y"])]),
        ("a choice", [make("Less", ["a", "b"], ["c"]), make("Where", ["c", "b", "a"], ["y"])]),
        ("a sum of what broadcasts", [make("Add", ["a", "b"], ["p"]), make("ReduceSum", ["p"], ["y"], keepdims=1)]),
        ("rows that are joined", [make("Max", ["a", "b"], ["p"]), make("Concat", ["p", "a"], ["y"], axis=0)]),
        ("a softmax", [make("Add", ["a", "b"], ["p"]), make("Softmax", ["p"], ["y"], axis=1)]),
    ]  # fmt: skip


@pytest.mark.parametrize("case", range(len(_broadcasting())), ids=[name for name, _ in _broadcasting()])
def test_a_size_that_turns_out_to_be_one_or_none(case: int) -> None:
    """Two symbols broadcast at the call, 0 with 1 too."""
    made = model(_broadcasting()[case][1], {"a": ["n", 4], "b": ["m", 4]}, ["y"])
    compiled, session = stepwell.compile(made), onnxruntime.InferenceSession(made.SerializeToString())
    for n, m in ((3, 3), (1, 3), (3, 1), (1, 1), (0, 1), (1, 0), (0, 0)):
        a, b = arrays((n, 4), (m, 4))
        (expected,) = session.run(None, {"a": a, "b": b})
        np.testing.assert_allclose(compiled(a, b), expected, rtol=1e-5, atol=1e-6, strict=True)
    for n, m in ((3, 2), (0, 2), (2, 0)):
        with pytest.raises(InputError, match="do not broadcast"):
            compiled(*arrays((n, 4), (m, 4)))


def test_batches_of_a_product_that_turn_out_to_be_one_or_none() -> None:
    made = model([helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": ["n", 3, 4], "b": ["m", 4, 5]}, ["y"])
    compiled = stepwell.compile(made)
    for n, m in ((2, 2), (1, 2), (2, 1), (0, 1), (1, 0)):
        a, b = arrays((n, 3, 4), (m, 4, 5))
        np.testing.assert_allclose(compiled(a, b), a @ b, rtol=1e-4, atol=1e-5, strict=True)
