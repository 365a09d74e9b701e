"""The best elements of lines: every way gives what sorting gives, ties and all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.dialects.graph.selection import TopKOp
from stepwell.ir.types import F16, F32, F64, SI8, SI32, SI64, UI8, UI32, UI64, Type, numpy_dtype
from stepwell.lowering.to_tensor import best
from stepwell.lowering.to_tensor.best import Plan, plan
from tests.lowering.to_tensor.descent import M, N, check, ints, tensor


def by_threshold(n: int, k: int, lines: int) -> Plan:
    return Plan(0, by_threshold=True)


def by_blocks(n: int, k: int, lines: int) -> Plan:
    """In blocks of 2 down to k elements, which a threshold tells apart."""
    return Plan(0, 2) if 0 < 2 * k < n else Plan(0, by_threshold=True)


@pytest.fixture(params=[by_threshold, by_blocks])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Plan]]:
    monkeypatch.setattr(best, "plan", request.param)
    yield request.param


def drawn(element: Type, *shape: int) -> Any:
    """Numbers of which many are equal, and the ends of the type."""
    random, dtype = np.random.default_rng(0), np.dtype(numpy_dtype(element))
    made = random.integers(0, 5, shape).astype(dtype)
    ends = [np.nan, np.inf, -np.inf, -0.0, 0.0] if dtype.kind == "f" else [np.iinfo(dtype).min, np.iinfo(dtype).max]
    for end in ends:
        made[random.random(shape) < 0.1] = end
    return made


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("element", [F32, F16, F64, SI8, UI8, SI32, UI32, SI64, UI64])
def test_elements_of_every_kind(element: Type, largest: bool) -> None:
    def build(x: Any) -> Any:
        return TopKOp(x, ints(4), axis=1, largest=largest)

    check([tensor(2, 11, element=element)], build, drawn(element, 2, 11))


@pytest.mark.parametrize(("shape", "axis"), [
    ((N, 9), 1), ((2, N), 1), ((N,), 0), ((N, M), 0), ((3, N, 2), 1), ((N, 9, M), 1), ((7, 2, N), 0),
])  # fmt: skip
def test_lines_along_any_axis(way: Any, shape: Any, axis: int) -> None:
    sizes = [{N: 8, M: 3}.get(size, size) for size in shape]
    check([tensor(*shape)], lambda x: TopKOp(x, ints(3), axis=axis), drawn(F32, *sizes))


@pytest.mark.parametrize("k", [0, 1, 8])
def test_none_one_and_all(way: Any, k: int) -> None:
    check([tensor(2, N)], lambda x: TopKOp(x, ints(k), axis=1), drawn(F32, 2, 8))


@pytest.mark.parametrize("element", [F32, SI32, SI64])
def test_nothing_behind_the_end_is_better_than_the_worst(way: Any, element: Type) -> None:
    dtype = np.dtype(numpy_dtype(element))
    worst = -np.inf if dtype.kind == "f" else np.iinfo(dtype).min
    check([tensor(2, 11, element=element)], lambda x: TopKOp(x, ints(4), axis=1), np.full((2, 11), worst, dtype))


def model(shape: Any, k: int, dtype: Any = np.float32, **attributes: Any) -> Any:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = helper.make_node("TopK", ["x", "k"], ["values", "places"], **attributes)
    results = [helper.make_tensor_value_info("values", element, None),
               helper.make_tensor_value_info("places", TensorProto.INT64, None)]  # fmt: skip
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", element, shape)], results,
                              [numpy_helper.from_array(np.array([k]), "k")])  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(("shape", "k", "largest"), [
    (["n", "m"], 40, 0), (["n", "m"], 300, 1), ([3, 5000], 5, 1), ([3, 5000], 40, 0), ([3, 5000], 300, 1),
])  # fmt: skip
def test_long_lines_as_they_are_planned(shape: Any, k: int, largest: int) -> None:
    compiled = stepwell.compile(model(shape, k, largest=largest))
    for count in (5000,) if shape[1] == 5000 else (5000, 301, k):
        for x in (drawn(F32, 3, count), np.random.default_rng(1).standard_normal((3, count)).astype(np.float32)):
            if largest:  # a stable descending sort, NaN first
                places = count - 1 - np.argsort(x[:, ::-1], axis=1, kind="stable")[:, ::-1][:, :k]
            else:
                places = np.argsort(x, axis=1, kind="stable")[:, :k]
            values, found = compiled(x)
            np.testing.assert_array_equal(found, places)
            np.testing.assert_array_equal(values, np.take_along_axis(x, places, 1))


def test_a_number_that_an_input_bounds() -> None:
    """k = min(7, n), as detectors have it."""
    proto = model(["m", "n"], 7)
    proto.graph.initializer.pop()
    nodes = [
        helper.make_node("Shape", ["x"], ["length"], start=1), helper.make_node("Min", ["length", "seven"], ["k"]),
    ]  # fmt: skip
    proto.graph.node.extend(nodes)
    proto.graph.node.append(proto.graph.node.pop(0))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([7]), "seven"))
    compiled = stepwell.compile(proto)
    for n in (100, 7, 3, 1):
        x = drawn(F32, 2, n)
        values, _ = compiled(x)
        assert values.shape == (2, min(n, 7))
        np.testing.assert_array_equal(values, np.sort(x, axis=1)[:, ::-1][:, :7])


def test_the_cheapest_way() -> None:
    assert plan(16, 3, 1) == Plan(16 * 19 + 8000)  # kernels that do nothing but start
    assert plan(32000, 50, 1).block and plan(9000, 1000, 1).by_threshold
