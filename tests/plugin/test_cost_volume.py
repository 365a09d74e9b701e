"""An operator that nobody planned, from a plug-in without a loop in its lowering, against NumPy."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import stepwell
from stepwell.backends.cpu import target as cpu
from stepwell.dialects import kernel, loop
from stepwell.dialects.loop import ForOp, ParallelOp
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import KernelOp, ReadOp
from stepwell.errors import IRError
from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext, PassManager
from stepwell.ir.printer import print_op
from stepwell.ir.verifier import verify
from stepwell.lowering import pipeline
from stepwell.sources import load_source

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    return stepwell.load_plugin(Path(__file__).with_name("cost_volume.py"))


def model(shape: list[int | str], disparities: int) -> onnx.ModelProto:
    """relu(cost volume) * 0.5: the operator among neighbours."""
    nodes = [
        helper.make_node(
            "CostVolume", ["left", "right"], ["costs"], "costs", domain="org.stereo", disparities=disparities
        ),
        helper.make_node("Constant", [], ["half"], "half", value_float=0.5),
        helper.make_node("Relu", ["costs"], ["positive"], "positive"),
        helper.make_node("Mul", ["positive", "half"], ["out"], "out"),
    ]
    graph = helper.make_graph(
        nodes, "stereo",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("left", "right")],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [shape[0], disparities, *shape[2:]])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("org.stereo", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def maps(shape: tuple[int, ...]) -> tuple[Array, Array]:
    rng = np.random.default_rng(sum(shape))
    return rng.standard_normal(shape, np.float32), rng.standard_normal(shape, np.float32)


def expected(left: Array, right: Array, disparities: int) -> Array:
    n, _, h, w = left.shape
    out = np.zeros((n, disparities, h, w), np.float64)
    for d in range(min(disparities, w)):
        out[:, d, :, d:] = np.sum(left[..., d:].astype(np.float64) * right[..., : w - d], axis=1)
    return np.maximum(out, 0) * 0.5


@pytest.mark.parametrize("target", ["cpu", "x86-64-v3", "x86-64"])
@pytest.mark.parametrize(
    ("shape", "disparities"),
    [
        ((1, 8, 3, 32), 4), ((2, 5, 4, 17), 6), ((1, 3, 2, 5), 9), ((1, 1, 1, 1), 1), ((1, 16, 6, 48), 13),
        ((2, 7, 9, 72), 32), ((1, 5, 20, 100), 64), ((1, 200, 16, 80), 48), ((1, 130, 3, 64), 24), ((3, 4, 8, 15), 64),
    ],
)  # fmt: skip
def test_it_computes_what_numpy_does(plugin: ModuleType, shape: tuple[int, ...], disparities: int, target: str) -> None:
    left, right = maps(shape)
    found = stepwell.compile(model(list(shape), disparities), target=target)(left, right)
    assert np.allclose(found, expected(left, right, disparities), rtol=1e-5, atol=1e-5)


def test_sizes_may_be_symbols(plugin: ModuleType) -> None:
    compiled = stepwell.compile(model(["n", 4, "h", "w"], 3))
    for shape in ((1, 4, 2, 20), (2, 4, 1, 7), (1, 4, 5, 33), (0, 4, 2, 2)):
        left, right = maps(shape)
        assert np.allclose(compiled(left, right), expected(left, right, 3), rtol=1e-5, atol=1e-5)


def test_nan_and_infinity_stay_where_they_are(plugin: ModuleType) -> None:
    left, right = maps((1, 2, 2, 9))
    right[0, 0, 0, 4], left[0, 1, 1, 8] = np.nan, np.inf
    found = stepwell.compile(model([1, 2, 2, 9], 3))(left, right)
    assert np.array_equal(np.isnan(found), np.isnan(expected(left, right, 3)))
    assert np.array_equal(np.isinf(found), np.isinf(expected(left, right, 3)))


def test_it_is_one_kernel_with_its_neighbours(plugin: ModuleType) -> None:
    module = lowered(model([1, 8, 3, 32], 4), "tensor")
    (found,) = module.walk_of(KernelOp)
    assert [op.op_name for op in found.body.block] == ["tensor.generic"] * 3 + ["tensor.yield"]
    code = print_op(lowered(model([1, 8, 3, 32], 4), "loop"))
    assert "vector.fma" in code and "stereo.cost_volume" not in code


def test_its_loads_are_shared(plugin: ModuleType) -> None:
    """Four times four vectors of sums read eleven vectors: the window moves by whole vectors within the tile."""
    nodes = model([1, 64, 32, 128], 64)
    module, _ = load_source(nodes)
    context = PassContext(target=cpu.named("x86-64-v4"))
    PassManager(pipeline.phases(pipeline.landing_of(module), "loop")).run(module, context)
    steps = [op for op in module.walk_of(ForOp) if op.label == "d4"]
    counts = [Counter(inner.op_name for inner in op.block) for op in steps]
    assert [(c["vector.fma"], c["vector.load"]) for c in counts] == [(32, 22)]  # two steps of the sum


def test_what_it_reads_is_kept_in_rows(plugin: ModuleType) -> None:
    module = lowered(model([1, 64, 32, 128], 64), "tensor")
    (found,) = module.walk_of(KernelOp)
    assert found.schedule is not None
    assert [spec.name for spec in found.schedule.stages] == ["s0", "s1"]
    assert not list(found.walk_of(ReadOp))[1:]  # of the padding, which no loop of the sum has


def test_its_verifier_speaks(plugin: ModuleType) -> None:
    source = '%l = "test.value"() : () -> tensor<1x3x4x8xf32>\n%r = "test.value"() : () -> tensor<1x3x4x9xf32>\n'
    types = "(tensor<1x3x4x8xf32>, tensor<1x3x4x9xf32>) -> tensor<1x2x4x8xf32>"
    text = f"stereo.cost_volume %l, %r {{disparities = 2}} : {types}"
    with pytest.raises(stepwell.StepwellError, match="two feature maps of one shape"):
        verify(parse_module(f"builtin.module {{\n{source}{text}\n}}"))
    assert issubclass(IRError, stepwell.StepwellError)


# An edited schedule


def lowered(source: Any, stop: str) -> Operation:
    module, _ = load_source(source)
    PassManager(pipeline.phases(pipeline.landing_of(module), stop)).run(module, PassContext())
    return module


def nest(module: Operation) -> list[tuple[str, str, int]]:
    """(op, label, step) of every loop of the kernels, from the outside in."""
    found = []
    for op in module.walk():
        if isinstance(op, (ForOp, ParallelOp)):
            step = op.step.defining_op
            found.append((op.op_name, op.label or "", int(step.value.value)))  # type: ignore[union-attr]
    return found


def test_an_edited_schedule_changes_the_nest_and_no_result(plugin: ModuleType) -> None:
    text = print_op(lowered(model([1, 8, 16, 64], 4), "tensor"))
    (kernel_op,) = parse_module(text).walk_of(KernelOp)
    assert isinstance(kernel_op.schedule, ScheduleAttr)
    edited = re.sub(
        r"#tensor\.schedule<.*?\}, vector = .*?>",
        "#tensor.schedule<loops = [parallel rows: d2 by 4, channels: d4 by 2], "
        "register = {d1: 2, d3: 16}, vector = d3 by 8>",
        text,
    )
    assert edited != text
    before, after = lowered(text, "loop"), lowered(edited, "loop")
    assert ("loop.parallel", "rows", 4) in nest(after) and ("loop.for", "channels", 2) in nest(after)
    assert not {"rows", "channels"} & {label for _, label, _ in nest(before)}
    left, right = maps((1, 8, 16, 64))
    results = [stepwell.compile(source)(left, right) for source in (before, after)]
    for found in results:
        assert np.allclose(found, expected(left, right, 4), rtol=1e-5, atol=1e-5)


def test_a_schedule_that_cuts_an_unknown_dim_is_refused(plugin: ModuleType) -> None:
    text = print_op(lowered(model([1, 8, 16, 64], 4), "tensor"))
    edited = re.sub(r"loops = \[.*?\]", "loops = [parallel a: z by 4]", text)
    with pytest.raises(
        stepwell.StepwellError, match=r"the schedule cuts 'z'; the kernel's dims are d0, d1, d2, d3, d4"
    ):
        lowered(edited, "loop")


def test_no_part_of_the_plugin_writes_loops() -> None:
    source = Path(__file__).with_name("cost_volume.py").read_text()
    assert not re.search(rf"{loop.__name__}|{kernel.__name__}|lowering\.loop", source)
