"""Transposing maps: the shuffles, and results at sizes around the tile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.backends.cpu.target import named
from stepwell.dialects import vector
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import KernelOp
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block
from stepwell.ir.passes import PassContext, PassManager
from stepwell.ir.types import F32, VectorType
from stepwell.lowering import pipeline
from stepwell.lowering.loop.transpose import transposed
from stepwell.sources import load_source


@pytest.mark.parametrize("lanes", [1, 2, 4, 16])
def test_rows_become_columns(lanes: int) -> None:
    block = Block([VectorType((lanes,), F32)] * lanes)
    made = transposed(Builder.at_end(block), block.arguments)
    matrix = np.arange(lanes * lanes).reshape(lanes, lanes)
    values = dict(zip(block.arguments, matrix, strict=True))
    for op in block:
        assert isinstance(op, vector.ShuffleOp)
        values[op.result] = np.concatenate([values[op.v1], values[op.v2]])[list(op.mask)]
    np.testing.assert_array_equal([values[value] for value in made], matrix.T)
    assert len(list(block)) == lanes * (lanes.bit_length() - 1)


def model(shape: Sequence[int | str], permutation: Sequence[int], type_: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """transpose(|x|)"""
    nodes = [helper.make_node("Abs", ["x"], ["a"]), helper.make_node("Transpose", ["a"], ["y"], perm=permutation)]
    out = [shape[p] for p in permutation]
    infos = [helper.make_tensor_value_info(n, type_, list(s)) for n, s in (("x", shape), ("y", out))]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("target", ["cpu", "x86-64-v3", "x86-64"])
@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 1), (3, 40), (16, 16), (15, 17), (17, 15), (32, 35), (8, 9), (40, 3), (64, 70)]
)
def test_sizes_around_the_tile(rows: int, columns: int, target: str) -> None:
    x = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)
    got = stepwell.compile(model(x.shape, (1, 0)), target=target, threads=1)(x)
    np.testing.assert_array_equal(got, np.abs(x).T)


@pytest.mark.parametrize("sizes", [(1, 1), (5, 33), (16, 16), (31, 18)])
def test_sizes_known_at_run_time(sizes: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal((2, *sizes)).astype(np.float32)
    got = stepwell.compile(model(("n", "h", "w"), (0, 2, 1)), threads=1)(x)
    np.testing.assert_array_equal(got, np.abs(x).transpose(0, 2, 1))


@pytest.mark.parametrize("type_", [TensorProto.FLOAT16, TensorProto.INT8, TensorProto.DOUBLE, TensorProto.INT64])
def test_other_element_types(type_: int) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(type_)
    x = np.random.default_rng(0).integers(-9, 9, (2, 20, 3, 37)).astype(dtype)
    got = stepwell.compile(model(x.shape, (0, 2, 3, 1), type_), threads=1)(x)
    np.testing.assert_array_equal(got, np.abs(x).transpose(0, 2, 3, 1))


def test_the_schedule_has_a_square_tile_where_an_input_is_turned() -> None:
    """also through the map before the transposition"""
    module, _ = load_source(model((64, 48), (1, 0)))
    PassManager(pipeline.phases("graph", "tensor")).run(module, PassContext())
    (kernel,) = module.walk_of(KernelOp)
    assert isinstance(kernel.schedule, ScheduleAttr)
    lanes = kernel.schedule.lanes
    assert [size for _, size in kernel.schedule.register] == [lanes, lanes]


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(-4, 5, shape).astype(np.float32)


def product(m: int | str, n: int, *, add: bool = False) -> onnx.ModelProto:
    """transpose(relu(x w)), or with r added behind: [m, 40] by [40, n] -> [n, m]"""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Relu", ["p"], ["q"]),
             helper.make_node("Transpose", ["q"], ["t"] if add else ["y"], perm=[1, 0])]  # fmt: skip
    shapes = {"x": (m, 40), "r": (n, m)} if add else {"x": (m, 40)}
    if add:
        nodes.append(helper.make_node("Add", ["t", "r"], ["y"]))
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, (n, m))
    graph = helper.make_graph(nodes, "g", infos, [result], [numpy_helper.from_array(numbers(40, n), "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("target", ["cpu", "x86-64-v3", "x86-64"])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("n", [37, 96])
@pytest.mark.parametrize("m", [5, 29, "m"])
def test_products_that_are_stored_turned(m: int | str, n: int, add: bool, target: str) -> None:
    """At sizes that leave tails of both dims, and with an operand that is loaded turned behind the sums."""
    compiled = stepwell.compile(product(m, n, add=add), target=target, threads=1)
    for rows in (m,) if isinstance(m, int) else (1, 3, 23):
        x, r = numbers(rows, 40), numbers(n, rows)
        expected = np.maximum(x @ numbers(40, n), 0).T
        made = compiled(x, r) if add else compiled(x)
        np.testing.assert_array_equal(made, expected + r if add else expected)


def test_no_lane_of_a_product_is_stored_alone() -> None:
    """The sums' vectors run along channels of a convolution; memory gets rows of 14 pixels."""
    x = numbers(1, 256, 14, 14)
    convolution = helper.make_node("Conv", ["x", "w"], ["y"])
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
             helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 512, 14, 14))]  # fmt: skip
    weights = numbers(512, 256, 1, 1)
    graph = helper.make_graph([convolution], "g", infos[:1], infos[1:], [numpy_helper.from_array(weights, "w")])
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    module, _ = load_source(source)
    target = named("x86-64-v4")
    PassManager(pipeline.phases("graph", "tensor")).run(module, PassContext(target))
    (kernel,) = module.walk_of(KernelOp)
    assert kernel.schedule is not None and kernel.schedule.vector == "oc"
    PassManager(pipeline.phases("tensor", "loop")).run(module, PassContext(target))
    assert not list(module.walk_of(vector.ExtractOp))
    expected = np.einsum("oc,bchw->bohw", weights[:, :, 0, 0], x)
    np.testing.assert_array_equal(stepwell.compile(source)(x), expected)
