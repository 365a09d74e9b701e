"""Control flow whose sizes change from round to round, or from branch to branch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.rule_harness import imported, model_of, refused

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name: str, element: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def constant(name: str, array: object) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(array), name)


def growing_loop(limit: bool) -> onnx.ModelProto:
    """x doubles every round: x = concat(x, x), collecting the sums; goes on while the sum is under 10."""
    body = helper.make_graph(
        [
            helper.make_node("Concat", ["v", "v"], ["next"], axis=0),
            helper.make_node("ReduceSum", ["next"], ["sum"], keepdims=0),
            helper.make_node("Less", ["sum", "ten"], ["on"]),
        ],
        "body", [value("i", INT64), value("go", BOOL), value("v", FLOAT, "n")],
        [value("on", BOOL), value("next", FLOAT, "m"), value("sum", FLOAT)],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["count" if limit else "", "", "x"], ["y", "sums"], body=body)
    inputs = [value("x", FLOAT, "n")] + ([value("count", INT64)] if limit else [])
    return model_of([loop], inputs, ["y", "sums"], 16, [constant("ten", np.float32(10))])


@pytest.mark.parametrize(
    ("limit", "size", "sums"), [(None, 8, [2, 4, 8, 16]), (2, 2, [2, 4]), (0, 0, []), (9, 8, [2, 4, 8, 16])]
)
def test_carried_size_that_changes_becomes_a_symbol(limit: int | None, size: int, sums: list[float]) -> None:
    made = imported(growing_loop(limit is not None))
    loop = next(op for op in made.ops if op.op_name == "graph.loop")
    assert [len(result.type.shape) for result in loop.results] == [1, 1]  # type: ignore[attr-defined]
    (dim,) = loop.regions[0].block.arguments[2].type.shape  # type: ignore[attr-defined]
    assert str(dim) != "n"
    inputs = [np.ones(1, np.float32)] + ([] if limit is None else [np.array(limit)])
    y, collected = made.run(inputs)
    assert y.shape == (2 ** len(sums),)
    np.testing.assert_array_equal(collected, np.array(sums, np.float32))


def test_known_count_gives_the_size_of_what_is_collected() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["v", "v"], ["next"]), helper.make_node("Identity", ["go"], ["on"])],
        "body", [value("i", INT64), value("go", BOOL), value("v", FLOAT, 2)],
        [value("go", BOOL), value("next", FLOAT, 2), value("next", FLOAT, 2)],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["count", "", "x"], ["y", "all"], body=body)
    made = imported(model_of([loop], [value("x", FLOAT, 2)], ["y", "all"], 16, [constant("count", 3)]))
    assert [str(v.type) for v in made.main.returned] == ["tensor<2xf32>", "tensor<3x2xf32>"]
    y, collected = made.run([np.array([1, 2], np.float32)])
    np.testing.assert_array_equal(y, [8, 16])
    np.testing.assert_array_equal(collected, [[2, 4], [4, 8], [8, 16]])


def test_condition_may_be_absent_where_nothing_is_carried() -> None:
    body = helper.make_graph(
        [helper.make_node("Cast", ["i"], ["f"], to=FLOAT), helper.make_node("Identity", ["go"], ["on"])],
        "body", [value("i", INT64), value("go", BOOL)], [value("on", BOOL), value("f", FLOAT)],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["count", ""], ["all"], body=body)
    (collected,) = imported(model_of([loop], [value("count", INT64)], ["all"], 16)).run([np.array(3)])
    np.testing.assert_array_equal(collected, [0, 1, 2])


def branches(first: int, second: int, known: bool) -> onnx.ModelProto:
    """If between constants of two ranks, under a condition that is an input or constant true."""
    graphs = [
        helper.make_graph([helper.make_node("Identity", [f"c{rank}"], ["r"])], "b", [], [value("r", FLOAT)])
        for rank in (first, second)
    ]
    node = helper.make_node("If", ["c"], ["y"], then_branch=graphs[0], else_branch=graphs[1])
    constants = [constant(f"c{rank}", np.full([2] * rank, rank, np.float32)) for rank in {first, second}]
    inputs = [] if known else [value("c", BOOL)]
    return model_of([node], inputs, ["y"], 16, constants + ([constant("c", True)] if known else []))


def test_branches_of_two_ranks_are_refused() -> None:
    with refused("one branch and tensor<2x2xf32> in the other", Unsupported):
        imported(branches(1, 2, known=False))


def test_constant_condition_takes_one_branch() -> None:
    (y,) = imported(branches(1, 2, known=True)).run([])
    np.testing.assert_array_equal(y, [1, 1])


def test_branches_of_two_sizes_give_a_symbol() -> None:
    graphs = [
        helper.make_graph([helper.make_node("Identity", [name], ["r"])], "b", [], [value("r", FLOAT)])
        for name in ("x", "z")
    ]
    node = helper.make_node("If", ["c"], ["y"], then_branch=graphs[0], else_branch=graphs[1])
    made = imported(model_of([node], [value("c", BOOL), value("x", FLOAT, 2), value("z", FLOAT, 3)], ["y"], 16))
    (result,) = made.main.returned
    assert not isinstance(result.type.shape[0], int)  # type: ignore[attr-defined]
    arrays = [np.array(False), np.zeros(2, np.float32), np.ones(3, np.float32)]
    np.testing.assert_array_equal(made.run(arrays)[0], [1, 1, 1])


def test_scan_in_reverse_along_inner_axes() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "row"], ["next"])],
        "body", [value("s", FLOAT, 2), value("row", FLOAT, 2)], [value("next", FLOAT, 2), value("next", FLOAT, 2)],
    )  # fmt: skip
    scan = helper.make_node(
        "Scan", ["s", "x"], ["y", "all"], body=body, num_scan_inputs=1, scan_input_axes=[-1],
        scan_input_directions=[1], scan_output_axes=[-1], scan_output_directions=[1],
    )  # fmt: skip
    made = imported(model_of([scan], [value("s", FLOAT, 2), value("x", FLOAT, 2, "n")], ["y", "all"], 16))
    assert str(made.main.returned[1].type) == 'tensor<2x?xf32, #graph.shape<["n"]>>'
    x = np.array([[1, 2, 3], [10, 20, 30]], np.float32)
    y, collected = made.run([np.zeros(2, np.float32), x])
    np.testing.assert_array_equal(y, [6, 60])
    np.testing.assert_array_equal(collected, [[6, 5, 3], [60, 50, 30]])
    y, collected = made.run([np.zeros(2, np.float32), x[:, :0]])
    assert collected.shape == (2, 0)


def batched(lengths: bool, backwards: int = 0) -> onnx.ModelProto:
    """Running sums of each row of a batch, by Scan 8."""
    body = helper.make_graph(
        [helper.make_node("Add", ["v", "x"], ["next"]), helper.make_node("Identity", ["next"], ["y"])],
        "body", [value("v", FLOAT, 1), value("x", FLOAT, 1)], [value("next", FLOAT, 1), value("y", FLOAT, 1)],
    )  # fmt: skip
    scan = helper.make_node("Scan", ["lengths" if lengths else "", "s", "xs"], ["last", "all"], body=body,
                            num_scan_inputs=1, directions=[backwards])  # fmt: skip
    ports = [value("s", FLOAT, "b", 1), value("xs", FLOAT, "b", "t", 1)]
    return model_of([scan], [value("lengths", INT64, "b"), *ports] if lengths else ports, ["last", "all"], 8)


def test_rows_of_a_batch_are_scanned_as_far_as_their_lengths() -> None:
    x = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.float32)[..., None]
    last, collected = imported(batched(False)).run([np.zeros((3, 1), np.float32), x])
    np.testing.assert_array_equal(last, [[6], [15], [24]])
    last, collected = imported(batched(True)).run([np.array([2, 0, 3]), np.zeros((3, 1), np.float32), x])
    np.testing.assert_array_equal(last, [[3], [0], [24]])
    np.testing.assert_array_equal(collected[..., 0], [[1, 3, 0], [0, 0, 0], [7, 15, 24]])
    with refused("runs backwards"):
        imported(batched(True, backwards=1))
