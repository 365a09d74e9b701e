"""The largest and smallest elements, and positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.dialects.graph.selection import NonZeroOp, TopKOp, UniqueOp
from stepwell.dialects.graph.shape import ExpandOp, ShapeOp
from stepwell.ir.types import F16, F32, I1, SI32, SI64, IntegerType, Signedness, Type, numpy_dtype
from tests.lowering.to_tensor.by_data import check_by_data
from tests.lowering.to_tensor.descent import M, N, check, constant, counted, graph_module, ints, tensor

UI8 = IntegerType(8, Signedness.UNSIGNED)
ROWS = [[3, 1, 3, 7, 0, 7, 200, 5], [1, 1, 1, 1, 1, 1, 1, 1], [8, 7, 6, 5, 4, 3, 2, 1]]


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("element", [F32, F16, SI32, UI8])
def test_top_k_keeps_the_order_of_equal_elements(largest: bool, axis: int, element: Type) -> None:
    rows = np.array(ROWS).astype(numpy_dtype(element))
    data, shape = (rows, (N, 8)) if axis == 1 else (np.ascontiguousarray(rows.T), (8, N))

    def build(x: Any) -> Any:
        return TopKOp(x, ints(3), axis=axis, largest=largest)

    check([tensor(*shape, element=element)], build, data)


@pytest.mark.parametrize("largest", [True, False])
def test_top_k_of_nan_and_zeros(largest: bool) -> None:
    row = np.array([np.nan, 1, -0.0, 0.0, np.inf, np.nan, -np.inf], np.float32)
    check([tensor(N)], lambda x: TopKOp(x, ints(6), axis=0, largest=largest), row)


def test_positions_of_a_broadcast_one() -> None:
    def build(x: Any) -> Any:
        ones = ExpandOp(constant(np.array([1])), ShapeOp(x, start=0, end=2).result).result
        return NonZeroOp(ones)

    check([tensor(N, M)], build, counted(2, 3))


NAN = np.float32("nan")


@pytest.mark.parametrize("x", [
    np.array([[0, 2, 0], [1, 0, -3]], np.float32), np.zeros((2, 3), np.float32), np.array([[NAN, -0.0, 1]], np.float32),
])  # fmt: skip
def test_positions_of_what_is_not_zero(x: Any) -> None:
    check_by_data([tensor(N, 3)], lambda x: NonZeroOp(x), x, others=[[x[:0]], [np.tile(x, (50, 1))]])


def test_positions_of_truths_and_of_scalars() -> None:
    check_by_data([tensor(4, element=I1)], lambda x: NonZeroOp(x), np.array([True, False, True, True]))
    check_by_data([tensor()], lambda x: NonZeroOp(x), np.float32(2), others=[[np.float32(0)]])
    check_by_data([tensor(0)], lambda x: NonZeroOp(x), np.zeros(0, np.float32))


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
def test_top_k_of_a_length_and_a_number_known_at_run_time(axis: int, largest: bool) -> None:
    shape = (N, 3) if axis == 0 else (3, N)
    rows = np.array([[3, NAN, 3, 7, 0, 7, -1], [1, 1, 1, 1, 1, 1, 1], [8, 7, 6, NAN, NAN, 3, 2]], np.float32)
    data = np.ascontiguousarray(rows if axis == 1 else rows.T)
    long = np.resize(data, (3, 130) if axis == 1 else (130, 3))
    check_by_data(
        [tensor(*shape), tensor(1, element=SI64)], lambda x, k: TopKOp(x, k, axis=axis, largest=largest),
        data, np.array([5]), others=[[data, np.array([0])], [data, np.array([7])], [long, np.array([129])]],
        every_pass=largest,
    )  # fmt: skip


@pytest.mark.parametrize("k", [8, -1])
def test_top_k_of_more_than_there_are_is_an_error(k: int) -> None:
    module = graph_module([tensor(N), tensor(1, element=SI64)], lambda x, k: TopKOp(x, k, axis=0))
    model = stepwell.compile(module)
    with pytest.raises(stepwell.RuntimeError, match="decided by data"):
        model(np.zeros(7, np.float32), np.array([k]))
    assert model(np.zeros(7, np.float32), np.array([7]))[1].tolist() == list(range(7))


@pytest.mark.parametrize("sorted_", [True, False])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique(axis: int | None, sorted_: bool) -> None:
    x = np.array([[2, 1, 2], [0, NAN, 0], [2, 1, 2], [0, NAN, 0]], np.float32)
    check_by_data(
        [tensor(N, M)], lambda x: UniqueOp(x, axis=axis, sorted=sorted_), x,
        others=[[x[:1]], [counted(9, 2) % 7], [x[:0]], [x[:, :0]]], every_pass=sorted_ and axis != 1,
    )  # fmt: skip
