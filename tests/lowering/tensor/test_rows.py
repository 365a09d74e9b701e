"""Which kernels are joined because they work on the same rows, and why others are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import stepwell
from stepwell.dialects.buffer import LocalOp
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import KernelOp
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering import pipeline
from stepwell.lowering.tensor.stages import stages_of
from stepwell.sources import load_source

Shape = Sequence[int | str]
node = helper.make_node


def model(nodes: Sequence[onnx.NodeProto], y: Shape, /, weights: dict[str, Any] | None = None, **inputs: Shape) -> Any:
    """A model of f32 inputs whose result is `y`."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in inputs.items()]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, list(y))
    constants = [numpy_helper.from_array(np.asarray(v, np.float32), name) for name, v in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "g", infos, [result], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


SOFTMAX = [node("Softmax", ["x"], ["y"], axis=-1)]
NORM = [node("LayerNormalization", ["x", "w", "b"], ["y"], axis=-1)]
ATTENTION = [
    node("MatMul", ["q", "k"], ["s"]), node("Add", ["s", "m"], ["t"]), node("Softmax", ["t"], ["p"], axis=-1),
    node("MatMul", ["p", "v"], ["y"]),
]  # fmt: skip
GATED = [node("MatMul", ["x", "a"], ["g"]), node("MatMul", ["x", "b"], ["h"]), node("Mul", ["g", "h"], ["y"])]


def of_size(*shape: int) -> np.ndarray:
    """Numbers around 0."""
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def kernels(source: Any) -> list[KernelOp]:
    """The scheduled kernels of a model."""
    module, _ = load_source(source)
    PassManager(pipeline.phases("graph", "tensor")).run(module, PassContext())
    return list(module.walk_of(KernelOp))


VECTORS = {"w": of_size(96), "b": of_size(96)}
CASES = {
    "softmax": (model(SOFTMAX, [6, 5, 40], x=[6, 5, 40]), [4]),
    "softmax of any size": (model(SOFTMAX, ["n", "c"], x=["n", "c"]), [4]),
    "one row, small": (model(SOFTMAX, [40], x=[40]), [4]),
    "layer norm": (model(NORM, ["n", 96], VECTORS, x=["n", 96]), [3]),
    "attention": (
        model(ATTENTION, [2, 3, "n", 16], q=[2, 3, "n", 16], k=[2, 3, 16, "m"], v=[2, 3, "m", 16], m=[2, 1, "n", "m"]),
        [5],
    ),
    "over the first axis": (model([node("Softmax", ["x"], ["y"], axis=0)], [30, 70], x=[30, 70]), [4]),
}


@pytest.mark.parametrize("name", CASES)
def test_one_kernel(name: str) -> None:
    source, stages = CASES[name]
    assert [len(stages_of(kernel)) for kernel in kernels(source)] == stages


def test_a_mean_that_several_rows_read() -> None:
    """As many rows as one of its dims has; it is still one kernel when these dims are made one."""
    nodes, added = [node("ReduceMean", ["x"], ["m"]), node("Add", ["m", "w"], ["y"])], of_size(5)
    source = model(nodes, [1, 1, 1, 5], {"w": added}, x=[1, 5, 2, 1])
    assert [len(stages_of(kernel)) for kernel in kernels(source)] == [2]
    x = of_size(1, 5, 2, 1)
    np.testing.assert_allclose(stepwell.compile(source)(x).reshape(5), x.mean() + added, rtol=2e-5, atol=2e-6)


def test_rows_of_a_map_are_not_those_of_a_pool_that_computes_it() -> None:
    """The norm's rows are those of the map behind it, which the pool computes where its windows read."""
    nodes = [node("MeanVarianceNormalization", ["x"], ["m"], axes=[2, 3]),
             node("MaxPool", ["m"], ["y"], kernel_shape=[2, 3])]  # fmt: skip
    source = model(nodes, ["n", "c", "i", "j"], x=["n", "c", "h", "w"])
    assert [len(stages_of(kernel)) for kernel in kernels(source)] == [1, 1, 1]
    compiled = stepwell.compile(source)
    for shape in ((1, 1, 2, 3), (2, 3, 7, 5)):
        x = of_size(*shape)
        m = (x - x.mean((2, 3), keepdims=True)) / x.std((2, 3), keepdims=True)
        windows = np.lib.stride_tricks.sliding_window_view(m, (2, 3), (2, 3))
        np.testing.assert_allclose(compiled(x), windows.max((4, 5)), rtol=2e-5, atol=2e-6)


def test_what_has_no_elements_takes_nothing_along() -> None:
    cut = {"s": 2, "e": 3}
    nodes = [node("Gather", ["x", "i"], ["p"]), node("Slice", ["p", "s", "e"], ["y"])]
    source = model(nodes, [0, 1], {"x": [[1]]})
    source.graph.initializer.extend(numpy_helper.from_array(np.array([n]), name) for name, n in cut.items())
    source.graph.input.append(helper.make_tensor_value_info("i", TensorProto.INT64, [1]))
    assert [len(stages_of(kernel)) for kernel in kernels(source)][-1] == 1


def test_weights_that_every_block_of_rows_would_read_again() -> None:
    weights = {"a": of_size(256, 2048), "b": of_size(256, 2048)}
    source = model(GATED, ["n", 2048], weights, x=["n", 256])
    assert [len(stages_of(kernel)) for kernel in kernels(source)] == [1, 1]


def test_a_value_with_another_reader_stays_a_kernel_of_its_own() -> None:
    nodes = [node("ReduceMax", ["x"], ["p"], axes=[1]), node("Sub", ["x", "p"], ["y"])]
    source = model(nodes, [64, 96], x=[64, 96])
    assert [len(stages_of(kernel)) for kernel in kernels(source)] == [2]
    source.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, [64, 1]))
    assert [len(stages_of(kernel)) for kernel in kernels(source)] == [1, 1]


def test_few_long_rows_are_shared_out_by_themselves() -> None:
    source = model([node("Softmax", ["x"], ["y"], axis=1)], [2, 1 << 17], x=[2, 1 << 17])
    assert [len(stages_of(kernel)) for kernel in kernels(source)] == [1, 1, 1, 1]


def expected(name: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """In f64."""
    wide = {key: value.astype(np.float64) for key, value in inputs.items()}
    if name == "layer norm":
        x = wide["x"] - wide["x"].mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * VECTORS["w"] + VECTORS["b"]
    if name == "attention":
        return softmax(wide["q"] @ wide["k"] + wide["m"], -1) @ wide["v"]
    return softmax(wide["x"], 0 if name == "over the first axis" else -1)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """exp(x) / sum(exp(x))"""
    e = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True))


@pytest.mark.parametrize("target", ["x86-64", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("name", CASES)
def test_results(name: str, target: str) -> None:
    source, _ = CASES[name]
    compiled = stepwell.compile(source, target=target)
    for n, m in ((1, 1), (5, 17), (13, 33), (61, 64)):
        sizes = {"n": n, "c": m, "m": m}
        shapes = {port.name: [sizes[str(d)] if not isinstance(d, int) else d for d in port.shape]
                  for port in compiled.inputs}  # fmt: skip
        inputs = {key: of_size(*shape) for key, shape in shapes.items()}
        (result,) = compiled.run(inputs).values()
        np.testing.assert_allclose(result, expected(name, inputs), rtol=2e-5, atol=2e-6)


def test_every_stage_has_a_place_in_the_roots_loops() -> None:
    (kernel,) = kernels(CASES["softmax"][0])
    schedule = kernel.schedule
    assert isinstance(schedule, ScheduleAttr)
    assert [(spec.name, spec.at) for spec in schedule.stages] == [(f"s{n}", schedule.loops[-1].label) for n in range(3)]


def test_what_the_result_is_made_of_lies_where_the_result_goes() -> None:
    """Of a softmax the powers of a row are in the result's memory; the largest elements and sums have memory alone."""
    module, _ = load_source(CASES["softmax"][0])
    PassManager(pipeline.phases("graph", "loop")).run(module, PassContext())
    assert [str(local.result.type) for local in module.walk_of(LocalOp)] == ["memref<4xf32>"] * 2


@pytest.mark.parametrize("target", ["x86-64", "x86-64-v4"])
def test_stages_that_lose_rows_in_their_own_order(target: str) -> None:
    """Of three convolutions two share their output's channels, which the third one sums over."""
    nodes = [
        node("Conv", ["x", "a"], ["s"], pads=[1, 1, 1, 1]), node("Conv", ["s", "b"], ["t"]),
        node("Conv", ["x", "c"], ["u"]), node("Add", ["t", "u"], ["y"]),
    ]  # fmt: skip
    weights = {"a": of_size(16, 16, 3, 3), "b": of_size(48, 16, 1, 1), "c": of_size(48, 16, 1, 1)}
    source = model(nodes, [1, 48, 20, 20], weights, x=[1, 16, 20, 20])
    x = of_size(1, 16, 20, 20)
    (wanted,) = ReferenceEvaluator(source).run(None, {"x": x})
    made = stepwell.compile(source, target=target)(x)
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-4)
