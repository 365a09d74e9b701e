"""The largest and smallest elements, and positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.selection import NonZeroOp, TopKOp, UniqueOp
from stepwell.dialects.graph.shape import ExpandOp, ShapeOp
from stepwell.errors import PassError
from stepwell.ir.types import F16, F32, SI32, IntegerType, Signedness, Type, numpy_dtype
from stepwell.lowering.to_tensor.convert import ToTensor
from tests.lowering.to_tensor.stairs import M, N, check, counted, graph_module, lowered, tensor

UI8 = IntegerType(8, Signedness.UNSIGNED)
ROWS = [[3, 1, 3, 7, 0, 7, 200, 5], [1, 1, 1, 1, 1, 1, 1, 1], [8, 7, 6, 5, 4, 3, 2, 1]]


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("element", [F32, F16, SI32, UI8])
def test_top_k_keeps_the_order_of_equal_elements(largest: bool, axis: int, element: Type) -> None:
    rows = np.array(ROWS).astype(numpy_dtype(element))
    data, shape = (rows, (N, 8)) if axis == 1 else (np.ascontiguousarray(rows.T), (8, N))

    def build(g: Any, x: Any) -> Any:
        return g(TopKOp(x, g.ints(3), axis=axis, largest=largest))

    check([tensor(*shape, element=element)], build, data)


@pytest.mark.parametrize("largest", [True, False])
def test_top_k_of_nan_and_zeros(largest: bool) -> None:
    row = np.array([np.nan, 1, -0.0, 0.0, np.inf, np.nan, -np.inf], np.float32)
    check([tensor(N)], lambda g, x: g(TopKOp(x, g.ints(6), axis=0, largest=largest)), row)


def test_positions_of_a_broadcast_one() -> None:
    def build(g: Any, x: Any) -> Any:
        ones = g(ExpandOp(g.array(np.array([1])), g(ShapeOp(x, start=0, end=2))))
        return g(NonZeroOp(ones))

    check([tensor(N, M)], build, counted(2, 3))


def test_what_is_sized_by_data_is_refused_with_words() -> None:
    module = graph_module([tensor(6)], lambda g, x: g(UniqueOp(x)))
    with pytest.raises(PassError, match=r"graph.unique.*depend on data"):
        lowered(module, [ToTensor()])
