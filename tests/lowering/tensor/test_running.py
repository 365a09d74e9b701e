"""Softmax before a sum, part by part: which kernels are cut so, and that the parts make the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.dialects.schedule import PEAK, POWER, TOTAL, ScheduleAttr, StageSpec
from stepwell.dialects.tensor import KernelOp
from stepwell.errors import PassError
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering import pipeline
from stepwell.lowering.precision import demand_precision
from stepwell.lowering.tensor.check_schedule import check_schedule
from stepwell.lowering.tensor.common_rows import Rows
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.row_schedule import Parts, row_schedule
from stepwell.lowering.tensor.running import running
from stepwell.lowering.tensor.stages import stages_of
from stepwell.sources import load_source

node = helper.make_node
PLAIN = [node("MatMul", ["q", "k"], ["s"]), node("Softmax", ["s"], ["p"], axis=-1), node("MatMul", ["p", "v"], ["y"])]
MASKED = [
    node("MatMul", ["q", "k"], ["s"]), node("Add", ["s", "m"], ["t"]), node("Softmax", ["t"], ["p"], axis=-1),
    node("MatMul", ["p", "v"], ["y"]),
]  # fmt: skip
# exp(x) / sum(exp(x)) before a product is no softmax: nothing is the largest element.
UNSHIFTED = [
    node("MatMul", ["q", "k"], ["s"]), node("Exp", ["s"], ["e"]),
    node("ReduceSum", ["e", "axes"], ["t"], keepdims=1), node("Div", ["e", "t"], ["p"]),
    node("MatMul", ["p", "v"], ["y"]),
]  # fmt: skip


def model(nodes: Sequence[Any], s: int | str, t: int | str, element: int = TensorProto.FLOAT, d: int = 16) -> Any:
    """Attention of two heads with `s` queries and `t` keys."""
    shapes = {"q": [2, s, d], "k": [2, d, t], "v": [2, t, d], "m": [s, t]}
    used = {name for each in nodes for name in each.input}
    infos = [helper.make_tensor_value_info(n, element, shape) for n, shape in shapes.items() if n in used]
    result = helper.make_tensor_value_info("y", element, [2, s, d])
    constants = [numpy_helper.from_array(np.array([-1]), "axes")] if "axes" in used else []
    graph = helper.make_graph(list(nodes), "g", infos, [result], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def fused(source: onnx.ModelProto, precision: str = "f32", target: Any = None) -> tuple[Any, KernelOp]:
    """A model before its schedules are written, and its largest kernel."""
    module, _ = load_source(source)
    demand_precision(module, precision)
    passes = [each for phase in pipeline.phases("graph", "tensor") for each in phase.flat()]
    names = [each.name for each in passes]
    PassManager(passes[: names.index("schedule")]).run(module, PassContext(target))
    return module, max(module.walk_of(KernelOp), key=lambda kernel: len(stages_of(kernel)))


def in_parts(source: onnx.ModelProto, steps: int, target: Any = None) -> Any:
    """A model whose softmax is computed in parts of so many keys."""
    module, kernel = fused(source, target=target)
    rows = Rows.of(stages_of(kernel))
    assert rows is not None
    found = running(rows)
    assert found is not None
    kernel.schedule = row_schedule(rows, Machine.of(target), parts=Parts(found, steps))
    check_schedule(kernel, kernel.schedule)
    return module


def numbers(*shape: int) -> np.ndarray:
    """Of both signs; larger towards the end of the last axis, so that the peak moves from part to part."""
    made = np.random.default_rng(3).standard_normal(shape) * np.linspace(0.2, 4, shape[-1])
    return made.astype(np.float32)


def expected(q: np.ndarray, k: np.ndarray, v: np.ndarray, m: np.ndarray | float = 0.0) -> np.ndarray:
    """In f64."""
    with np.errstate(invalid="ignore"):
        scores = q.astype(np.float64) @ k + m
        e = np.exp(scores - scores.max(-1, keepdims=True))
        return np.asarray(e / e.sum(-1, keepdims=True) @ v)


def roles(schedule: ScheduleAttr | None) -> list[str]:
    """The roles of the stages, in order."""
    assert schedule is not None
    return [spec.role for spec in schedule.stages]


@pytest.mark.parametrize("target", ["x86-64", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("keys", [1, 15, 16, 17, 32, 33, 100])
def test_the_parts_make_the_whole(target: str, keys: int) -> None:
    q, k, v = numbers(2, 13, 16), numbers(2, 16, keys), numbers(2, keys, 16)
    made = stepwell.compile(in_parts(model(PLAIN, 13, keys), 16), target=target)(q, k, v)
    np.testing.assert_allclose(made, expected(q, k, v), rtol=3e-5, atol=2e-5)


@pytest.mark.parametrize("queries, keys", [(1, 1), (3, 16), (13, 17), (40, 64), (5, 79)])
def test_sizes_that_are_known_at_run_time(queries: int, keys: int) -> None:
    compiled = stepwell.compile(in_parts(model(PLAIN, "s", "t"), 16))
    q, k, v = numbers(2, queries, 16), numbers(2, 16, keys), numbers(2, keys, 16)
    np.testing.assert_allclose(compiled(q, k, v), expected(q, k, v), rtol=3e-5, atol=2e-5)


def first_part(m: np.ndarray) -> None:
    m[:, :20] = -np.inf


def last_part(m: np.ndarray) -> None:
    m[:, 20:] = -np.inf


def whole_row(m: np.ndarray) -> None:
    m[2] = -np.inf


def causal(m: np.ndarray) -> None:
    m[np.triu_indices(m.shape[0], 1, m.shape[1])] = -np.inf


def far_below(m: np.ndarray) -> None:
    m[:, :20] = -200.0


def not_a_number(m: np.ndarray) -> None:
    m[1, 3], m[2, 30] = np.nan, np.nan


def infinite(m: np.ndarray) -> None:
    m[1, 3], m[2, 30] = np.inf, np.inf


@pytest.mark.parametrize("forbid", [first_part, last_part, whole_row, causal, far_below, not_a_number, infinite])
@pytest.mark.parametrize("target", ["x86-64", "x86-64-v4"])
def test_forbidden_keys(target: str, forbid: Callable[[np.ndarray], None]) -> None:
    """Parts without any key that is allowed count for nothing; rows without are NaN, as without parts."""
    q, k, v, m = numbers(2, 9, 16), numbers(2, 16, 40), numbers(2, 40, 16), np.zeros((9, 40), np.float32)
    forbid(m)
    source = model(MASKED, 9, 40)
    named = {"q": q, "k": k, "v": v, "m": m}
    wanted = expected(**named)
    for each in (in_parts(source, 16), source):
        (made,) = stepwell.compile(each, target=target).run(named).values()
        np.testing.assert_allclose(made, wanted, rtol=3e-5, atol=2e-5)


def test_doubles() -> None:
    source = model(PLAIN, 13, 40, TensorProto.DOUBLE)
    q, k, v = (numbers(*shape).astype(np.float64) for shape in ((2, 13, 16), (2, 16, 40), (2, 40, 16)))
    made = stepwell.compile(in_parts(source, 16))(q, k, v)
    np.testing.assert_allclose(made, expected(q, k, v), rtol=1e-13, atol=1e-13)


def test_what_each_stage_is() -> None:
    _, kernel = fused(model(PLAIN, 64, 256))
    rows = Rows.of(stages_of(kernel))
    assert rows is not None
    found = running(rows)
    assert found is not None
    schedule = row_schedule(rows, Machine(), parts=Parts(found, 64))
    assert roles(schedule) == ["", PEAK, POWER, TOTAL]
    assert {spec.at for spec in schedule.stages} == {"k0"}


@pytest.mark.parametrize(
    "nodes, queries, precision",
    [(PLAIN, 1, "f32"), (PLAIN, 64, "strict"), (UNSHIFTED, 64, "f32"), (PLAIN[:2], 64, "f32")],
    ids=["one query", "strict", "no peak", "no sum behind it"],
)
def test_what_is_not_cut(nodes: Sequence[Any], queries: int, precision: str) -> None:
    if nodes == PLAIN[:2]:
        nodes = [nodes[0], node("Softmax", ["s"], ["y"], axis=-1)]
        source = model(nodes, queries, 16)
    else:
        source = model(nodes, queries, 256)
    _, kernel = fused(source, precision)
    rows = Rows.of(stages_of(kernel))
    assert rows is None or running(rows) is None


def long_keys(keys: int | str) -> ScheduleAttr | None:
    """The schedule of a kernel with so many keys."""
    module, _ = load_source(model(PLAIN, 512, keys, d=64))
    PassManager(pipeline.phases("graph", "tensor")).run(module, PassContext())
    (kernel,) = module.walk_of(KernelOp)
    return kernel.schedule


def test_the_cost_decides() -> None:
    assert not any(roles(long_keys(128)))
    assert roles(long_keys(1 << 16)) == ["", PEAK, POWER, TOTAL]


def test_any_number_of_keys() -> None:
    assert roles(long_keys("t")) == ["", PEAK, POWER, TOTAL]


def edited(schedule: ScheduleAttr, change: Callable[[StageSpec], StageSpec]) -> ScheduleAttr:
    """A schedule with other places of its stages."""
    return schedule.with_loops(schedule.loops, list(map(change, schedule.stages)))


def without_roles(spec: StageSpec) -> StageSpec:
    return StageSpec(spec.name, spec.at, spec.schedule)


def a_second_peak(spec: StageSpec) -> StageSpec:
    return StageSpec(spec.name, spec.at, spec.schedule, PEAK if spec.role == TOTAL else spec.role, spec.along)


def outside(spec: StageSpec) -> StageSpec:
    return StageSpec(spec.name, "m0" if spec.role == TOTAL else spec.at, spec.schedule, spec.role, spec.along)


@pytest.mark.parametrize("change", [without_roles, a_second_peak, outside])
def test_a_schedule_that_others_wrote(change: Callable[[StageSpec], StageSpec]) -> None:
    module = in_parts(model(PLAIN, 64, 256), 64)
    (kernel,) = (kernel for kernel in module.walk_of(KernelOp) if kernel.schedule is not None)
    assert kernel.schedule is not None
    with pytest.raises(PassError, match="belongs"):
        check_schedule(kernel, edited(kernel.schedule, change))


def test_parts_are_whole_panels() -> None:
    """Constant keys lie in panels as wide as the register tile; a part that ended within one would be gathered."""
    source = model(PLAIN, 64, 1024, d=64)
    del source.graph.input[1]
    source.graph.initializer.append(numpy_helper.from_array(numbers(2, 64, 1024), "k"))
    module = in_parts(source, 500)
    (schedule,) = (kernel.schedule for kernel in module.walk_of(KernelOp) if kernel.schedule is not None)
    scores = schedule.stages[0].schedule
    (loop,) = (spec for spec in schedule.loops if spec.label == "k0")
    assert loop.tile <= 500 and loop.tile % scores.register_size(scores.vector) == 0
