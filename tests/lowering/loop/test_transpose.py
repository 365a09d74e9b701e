"""Transposing maps: the shuffles, and results at sizes around the tile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import stepwell
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
