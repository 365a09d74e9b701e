"""Kernels whose stages are read through windows: which are joined, what is in them, and what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import stepwell
from stepwell.backends.cpu.target import named
from stepwell.dialects import func
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import BorderOp, GenericOp, JoinOp, KernelOp, tensor_type
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import run_function
from stepwell.ir.passes import PassContext, PassManager
from stepwell.ir.verifier import verify
from stepwell.lowering import pipeline
from stepwell.lowering.tensor.common_rows import Rows
from stepwell.lowering.tensor.fuse import Fuse
from stepwell.lowering.tensor.rows import ALWAYS, COUNTED, NEVER
from stepwell.lowering.tensor.stages import stages_of
from stepwell.sources import load_source

node = helper.make_node
RNG = np.random.default_rng(3)


def quarters(*shape: int) -> np.ndarray:
    """Small multiples of 1/4, whose sums of products have no rounding errors."""
    return (RNG.integers(-4, 5, shape) / 4).astype(np.float32)


def model(nodes: Sequence[onnx.NodeProto], shape: Sequence[int | str], **weights: np.ndarray) -> onnx.ModelProto:
    """x to y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))
    constants = [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in weights.items()]
    graph = helper.make_graph(list(nodes), "g", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def bottleneck(
    shape: Sequence[int | str], middle: int = 48, out: int = 16, kernel: int = 3, stride: int = 1, group: int = 0,
    pads: Sequence[int] = (1, 1, 1, 1),
) -> onnx.ModelProto:  # fmt: skip
    """1x1 convolution, ReLU, convolution with as many groups as channels, ReLU, 1x1 convolution."""
    group = group or middle
    nodes = [
        node("Conv", ["x", "a", "ab"], ["e"]), node("Relu", ["e"], ["er"]),
        node("Conv", ["er", "d"], ["f"], pads=pads, strides=[stride] * 2, group=group), node("Relu", ["f"], ["fr"]),
        node("Conv", ["fr", "p"], ["y"]),
    ]  # fmt: skip
    channels = shape[1]
    assert isinstance(channels, int)
    return model(nodes, shape, a=quarters(middle, channels, 1, 1), ab=quarters(middle),
                 d=quarters(middle, middle // group, kernel, kernel), p=quarters(out, middle, 1, 1))  # fmt: skip


def pooled(shape: Sequence[int | str], kind: str, kernel: int, stride: int, pad: int) -> onnx.ModelProto:
    """A 3x3 convolution and a pool."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        node(kind, ["c"], ["y"], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4),
    ]
    return model(nodes, shape, w=quarters(32, int(shape[1]), 3, 3))


def lowered(source: Any, windows: str = ALWAYS, target: str = "x86-64-v4", stop: str = "") -> Operation:
    """A model at the end of the tensor landing, or before the pass of a name."""
    module, _ = load_source(source)
    passes = [each for phase in pipeline.phases("graph", "tensor") for each in phase.flat()]
    names = [each.name for each in passes]
    passes = passes[: names.index(stop)] if stop else passes
    context = PassContext(named(target))
    PassManager([Fuse(windows=windows) if isinstance(each, Fuse) else each for each in passes]).run(module, context)
    verify(module)
    return module


def stage_counts(module: Operation) -> list[int]:
    return [len(stages_of(kernel)) for kernel in module.walk_of(KernelOp)]


def test_a_border_moves_into_the_kernel_that_makes_what_it_lies_around() -> None:
    source = bottleneck([1, 16, 20, 20])
    apart, joined = lowered(source, NEVER, stop="collapse-dims"), lowered(source, ALWAYS, stop="collapse-dims")
    assert [len(list(apart.walk_of(kind))) for kind in (BorderOp, JoinOp)] == [1, 1]
    assert [len(list(joined.walk_of(kind))) for kind in (BorderOp, JoinOp)] == [0, 0]
    (maker,) = [op for op in joined.walk_of(GenericOp) if op.border is not None]
    assert str(maker.border) == "0.0 : f32"
    assert tensor_type(maker.results[0]).shape == (1, 3, 22, 22, 16)
    assert str(maker.output_maps[0]).endswith("d2 + 1, d3 + 1, d1 mod 16)")


@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "margins", "units"),
    [
        (3, 1, (1, 1, 1, 1), (-1, 1), 1),
        (3, 2, (1, 1, 1, 1), (-1, 0), 2),
        (3, 2, (0, 0, 1, 1), (0, 1), 2),
        (5, 1, (2, 2, 2, 2), (-2, 2), 1),
        (2, 2, (0, 0, 0, 0), (0, 0), 2),
        (3, 3, (0, 0, 0, 0), (0, 0), 3),
    ],
)
def test_rows_of_windows(
    kernel: int, stride: int, pads: Sequence[int], margins: tuple[int, int], units: int
) -> None:
    module = lowered(bottleneck([2, 16, 24, 24], kernel=kernel, stride=stride, pads=pads), stop="collapse-dims")
    fused = next(kernel for kernel in module.walk_of(KernelOp) if len(stages_of(kernel)) > 2)
    rows = Rows.of(stages_of(fused))
    assert rows is not None
    names = [rows.root.root.names[row.dims[rows.root]] for row in rows.in_order()]
    assert names == (["n", "oh"] if margins != (0, 0) else ["n", "oh", "ow"])
    expanded = next(stage for stage in rows.stages if stage.root.loc.label == "Conv_0" and stage.root.has_reduction)
    row = rows.in_order()[1]
    assert (row.margins[expanded], row.units[expanded]) == (margins, units)
    assert row.places(expanded, 4) == 4 * units + margins[1] - margins[0]


def test_the_loop_has_no_rows_within_those_that_overlap() -> None:
    module = lowered(bottleneck([2, 16, 24, 24]))
    kernel = max(module.walk_of(KernelOp), key=lambda kernel: len(stages_of(kernel)))
    schedule = kernel.schedule
    assert isinstance(schedule, ScheduleAttr)
    assert [spec.dim for spec in schedule.loops][:2] == ["n", "oh"]
    assert {spec.at for spec in schedule.stages} == {"oh0"}


def test_a_border_that_others_read_stays_in_the_program() -> None:
    nodes = [
        node("Conv", ["x", "a"], ["e"]), node("Conv", ["e", "d"], ["f"], pads=[1] * 4, group=32),
        node("MaxPool", ["e"], ["g"], kernel_shape=[3, 3], pads=[1] * 4), node("Add", ["f", "g"], ["y"]),
    ]  # fmt: skip
    source = model(nodes, [1, 16, 20, 20], a=quarters(32, 16, 1, 1), d=quarters(32, 1, 3, 3))
    module = lowered(source)
    x = quarters(1, 16, 20, 20)
    (expected,) = ReferenceEvaluator(source).run(None, {"x": x})
    np.testing.assert_array_equal(stepwell.compile(module, target="x86-64-v4", threads=1)(x), expected)


SOURCES = {
    "3x3": bottleneck([1, 16, "h", "w"]),
    "3x3 by 2": bottleneck(["n", 16, "h", "w"], stride=2),
    "5x5, uneven border": bottleneck(["n", 24, "h", "w"], kernel=5, pads=(2, 1, 2, 3)),
    "two groups": bottleneck([1, 16, "h", "w"], middle=32, group=2),
    "in planes": bottleneck([1, 3, "h", "w"], middle=5, out=7),
    "border as wide as the window": bottleneck([1, 16, "h", "w"], pads=(3, 3, 3, 3)),
    "largest": pooled(["n", 16, "h", "w"], "MaxPool", 3, 2, 1),
    "mean": pooled([1, 16, "h", "w"], "AveragePool", 3, 1, 1),
}


@pytest.mark.parametrize(("name", "target"), [*((name, "x86-64-v4") for name in SOURCES), ("3x3 by 2", "x86-64")])
def test_results(name: str, target: str) -> None:
    """Sizes around the blocks of rows; the same bits for any number of threads."""
    source = SOURCES[name]
    module = lowered(source, ALWAYS, target)
    compiled = [stepwell.compile(module.clone(), target=target, threads=n) for n in (1, 2)]
    rank = [dim.dim_value for dim in source.graph.input[0].type.tensor_type.shape.dim]
    for batch, height, width in ((1, 1, 1), (1, 3, 17), (3, 8, 5), (2, 15, 14), (1, 33, 9)):
        x = quarters(rank[0] or batch, rank[1], height, width)
        (expected,) = ReferenceEvaluator(source).run(None, {"x": x})
        first, second = (each(x) for each in compiled)
        np.testing.assert_allclose(first, expected, rtol=1e-6, atol=1e-6)
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(("size", "stride"), [(16, 1), (17, 2), (31, 1)])
def test_the_interpreter_gives_the_same(size: int, stride: int) -> None:
    source = bottleneck([1, 16, size, size], stride=stride)
    x = quarters(1, 16, size, size)
    made = []
    for windows in (NEVER, ALWAYS):
        (function,) = lowered(source, windows).walk_of(func.FuncOp)
        made.append(run_function(function, [x])[0])
    np.testing.assert_array_equal(*made)


def test_the_cost_model_joins_what_does_not_fit_the_caches_alone() -> None:
    """16 images whose 96 channels take 77 MB; a small one whose channels stay in the second-level cache."""
    large = bottleneck([16, 16, 112, 112], middle=96, out=24, stride=2)
    small = bottleneck([1, 64, 14, 14], middle=96, out=64)
    assert max(stage_counts(lowered(large, COUNTED))) > 2
    assert stage_counts(lowered(large, NEVER)) != stage_counts(lowered(large, COUNTED))
    assert stage_counts(lowered(small, COUNTED)) == stage_counts(lowered(small, NEVER))


def test_a_pool_whose_windows_lie_apart_is_counted_too() -> None:
    """Joined, each row of the pool's results would be a grain that reads all weights of the convolution."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1] * 4), node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]  # fmt: skip
    source = model(nodes, (1, 512, 28, 28), w=np.ones((512, 512, 3, 3), np.float32))
    assert stage_counts(lowered(source, COUNTED)) == stage_counts(lowered(source, NEVER))
    assert stage_counts(lowered(source, ALWAYS)) != stage_counts(lowered(source, NEVER))


def test_windows_over_dims_of_one_element() -> None:
    """A padded element of sizes 1: made one dim, its rows are not those of the pool, which stays a kernel by itself."""
    source = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 17]> g (float[n] x) => (float[1, 1, 2, 1] y) <int64[4] s = {1, 1, 1, 1}> '
        "{ v = Reshape(x, s) y = AveragePool <kernel_shape = [2, 1], pads = [1, 0, 1, 0]> (v) }"
    )
    assert stepwell.compile(source)(np.array([3], np.float32)).tolist() == [[[[3], [3]]]]
