"""Register tiles that slide over their operands: what several steps of a window read is loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import stepwell
from stepwell.dialects import vector
from stepwell.dialects.loop import ForOp
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import GenericOp, KernelOp
from stepwell.errors import PassError
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering import pipeline
from stepwell.lowering.precision import demand_precision
from stepwell.lowering.tensor.check_schedule import check_schedule
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.stage_work import StageWork
from stepwell.lowering.tensor.tile_cost import Tile, spills, step_of
from stepwell.sources import load_source

MACHINE = Machine(vector_bytes=64, vector_registers=32, l1_bytes=32 << 10, l2_bytes=1 << 20, l3_bytes=16 << 20)
Shape = Sequence[int | str]


def model(node: onnx.NodeProto, shape: Shape, weights: Sequence[int] = ()) -> onnx.ModelProto:
    """One operator on x, whose sizes may be names."""
    constants = [numpy_helper.from_array(numbers(*weights), "w")] if weights else []
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
             for name, dims in (("x", list(shape)), ("y", ["n", "c", "i", "j"]))]  # fmt: skip
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def depthwise(shape: Shape, taps: int, **attributes: Any) -> onnx.ModelProto:
    channels = int(shape[1])
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=channels, **attributes)
    return model(node, shape, (channels, 1, taps, taps))


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def lowered(source: onnx.ModelProto, landing: str, precision: str = "f32") -> Any:
    module, _ = load_source(source)
    demand_precision(module, precision)
    PassManager(pipeline.phases("graph", landing)).run(module, PassContext())
    return module


def sliding(source: onnx.ModelProto) -> list[KernelOp]:
    """The kernels whose root slides."""
    kernels = lowered(source, "tensor").walk_of(KernelOp)
    return [kernel for kernel in kernels if kernel.schedule is not None and kernel.schedule.slide]


def test_rows_are_loaded_once() -> None:
    """Rows h of x[h + kh, w + kw] slide along kh, which runs innermost: h + 4 loads of vectors for 5 h products."""
    source = depthwise([1, 4, 32, 32], 5)
    (kernel,) = sliding(source)
    assert kernel.schedule is not None
    rows = kernel.schedule.register_size("oh")
    vectors = kernel.schedule.register_size("ow") // kernel.schedule.lanes
    assert kernel.schedule.slide == "kh" and rows > 1
    whole = next(loop for loop in lowered(source, "loop").walk_of(ForOp) if loop.label == "kw")
    assert len(list(whole.walk_of(vector.LoadOp))) == (rows + 4) * vectors
    assert not any(loop.label == "kh" for loop in whole.walk_of(ForOp))


CASES = {
    "whole tiles": depthwise([1, 8, 32, 32], 5),
    "tails": depthwise([2, 8, 21, 37], 3, pads=[1, 1, 1, 1]),
    "strides": depthwise([1, 16, 29, 33], 3, strides=[2, 2]),
    "dilations": depthwise([1, 3, 26, 40], 3, dilations=[2, 2]),
    "any size": depthwise(["n", 4, "h", "w"], 3, pads=[1, 1, 1, 1]),
    "pool": model(helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), [1, 8, 30, 35]),
    "channels in blocks": depthwise([1, 64, 7, 9], 3, pads=[1, 1, 1, 1]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", ["cpu", "x86-64-v3", "x86-64"])
def test_results(name: str, target: str) -> None:
    source = CASES[name]
    dims = source.graph.input[0].type.tensor_type.shape.dim
    x = numbers(*(dim.dim_value or 23 for dim in dims))
    (expected,) = ReferenceEvaluator(source).run(None, {"x": x})
    np.testing.assert_allclose(stepwell.compile(source, target=target)(x), expected, rtol=2e-5, atol=2e-5)


def test_strict_sums_keep_their_order() -> None:
    """In order: kh, then kw. A schedule that says otherwise is refused."""
    module = lowered(CASES["whole tiles"], "tensor", "strict")
    (kernel,) = (k for k in module.walk_of(KernelOp) if any(op.has_reduction for op in k.walk_of(GenericOp)))
    schedule = kernel.schedule
    assert schedule is not None and not schedule.slide
    with pytest.raises(PassError, match="strict sums run in order, 'kh' not innermost"):
        check_schedule(kernel, attrs.evolve(schedule, slide="kh"))  # type: ignore[misc]


@pytest.mark.parametrize("name", ["oh", "ow", "x"])
def test_tiles_slide_along_what_is_reduced(name: str) -> None:
    (kernel,) = sliding(CASES["whole tiles"])
    schedule: Any = kernel.schedule
    check_schedule(kernel, schedule)
    with pytest.raises(PassError, match=f"no register tile slides along '{name}'"):
        check_schedule(kernel, attrs.evolve(schedule, slide=name))


def test_loads_and_registers_of_a_tile_that_slides() -> None:
    """Per step of five: 14 + 4 rows in two lines each, and a weight; five weights and one row beside the sums."""
    (kernel,) = sliding(CASES["whole tiles"])
    work = StageWork.of_op(next(op for op in kernel.walk_of(GenericOp) if op.has_reduction))
    oh, ow, kh = (work.space.names.index(name) for name in ("oh", "ow", "kh"))
    plain, slid = (Tile({oh: 14, ow: 16}, ow, 16, slide) for slide in ((-1, 1), (kh, 5)))
    assert step_of(work, plain, MACHINE).loads == 14 * 2 + 1
    assert step_of(work, slid, MACHINE).loads == pytest.approx((14 + 4) * 2 / 5 + 1)
    high = Tile({oh: 24, ow: 16}, ow, 16, (kh, 5))
    assert not spills(work, high, MACHINE)
    assert spills(work, attrs.evolve(high, sizes={oh: 25, ow: 16}), MACHINE)


def test_text() -> None:
    text = "#tensor.schedule<loops = [], register = {h: 14, w: 16}, vector = w by 16, slide = k>"
    made = parse_module(f"builtin.module attributes {{of = {text}}} {{}}").attributes["of"]
    assert isinstance(made, ScheduleAttr) and made.slide == "k" and str(made) == text
