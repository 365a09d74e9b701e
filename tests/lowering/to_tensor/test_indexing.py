"""Reading through indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.indexing import GatherElementsOp, GatherNDOp, GatherOp, OneHotOp
from stepwell.ir.types import F64, SI8, SI32, SI64, IntegerType, Signedness, Type
from tests.lowering.to_tensor.descent import M, N, check, constant, counted, ints, tensor

UI8 = IntegerType(8, Signedness.UNSIGNED)
UI64 = IntegerType(64, Signedness.UNSIGNED)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("element", "dtype"), [(SI64, np.int64), (SI32, np.int32)])
def test_gather(axis: int, element: Type, dtype: Any) -> None:
    indices = np.array([[0, 3, -1], [-4, 2, 1]], dtype)
    check([tensor(4, 4, 4), tensor(2, N, element=element)], lambda x, i: GatherOp(x, i, axis=axis),
          counted(4, 4, 4), indices)  # fmt: skip
    check([tensor(M, 4, 4), tensor(3, element=element)], lambda x, i: GatherOp(x, i, axis=axis),
          counted(4, 4, 4), indices[0])  # fmt: skip


@pytest.mark.parametrize("found", [0, -1, [1], [0, 2], [3, 2, 1, 0], [0, 1, 2, 3], [0, 1, 3], [[0], [2]]])
@pytest.mark.parametrize("axis", [0, 1])
def test_gather_by_known_indices(found: Any, axis: int) -> None:
    def build(x: Any) -> Any:
        return GatherOp(x, constant(np.array(found, np.int64)), axis=axis)

    check([tensor(4, 4)], build, counted(4, 4))
    check([tensor(N, M)], build, counted(4, 4))


def test_large_unsigned_indices_are_not_negative() -> None:
    check([tensor(256), tensor(2, element=UI8)], lambda x, i: GatherOp(x, i, axis=0), counted(256),
          np.array([255, 3], np.uint8))  # fmt: skip


def test_rows_of_a_table_of_narrow_floats() -> None:
    table = counted(5, 8, dtype=np.float16)
    from stepwell.ir.types import F16

    check([tensor(5, 8, element=F16), tensor(2, N, element=SI64)], lambda x, i: GatherOp(x, i, axis=0), table,
          np.array([[1], [4]]))  # fmt: skip


@pytest.mark.parametrize("axis", [0, 1])
def test_gather_elements(axis: int) -> None:
    check([tensor(3, N), tensor(2, M, element=SI64)], lambda x, i: GatherElementsOp(x, i, axis=axis),
          counted(3, 4), np.array([[0, -1, 2], [1, 1, -3]]))  # fmt: skip


def test_gather_nd() -> None:
    check([tensor(3, N, 2), tensor(2, 2, 2, element=SI64)], lambda x, i: GatherNDOp(x, i), counted(3, 4, 2),
          np.array([[[0, 1], [2, -1]], [[1, 0], [-3, 3]]]))  # fmt: skip
    check([tensor(2, 3, N), tensor(2, 5, 1, element=SI64)], lambda x, i: GatherNDOp(x, i, batch_dims=1),
          counted(2, 3, 4), np.array([[[0], [1], [2], [-1], [0]]] * 2))  # fmt: skip
    check([tensor(3, 4), tensor(3, 2, element=SI64)], lambda x, i: GatherNDOp(x, i), counted(3, 4),
          np.array([[0, 1], [2, -1], [1, 0]]))  # fmt: skip


@pytest.mark.parametrize(("element", "dtype"), [(SI64, np.int64), (SI8, np.int8), (UI8, np.uint8), (F64, np.float64)])
def test_one_hot(element: Type, dtype: Any) -> None:
    indices = np.array([0, 4, 7, 2]).astype(dtype)
    if dtype is not np.uint8:
        indices = np.concatenate([indices, np.array([-1, -5, -6], dtype)])

    def build(i: Any, values: Any) -> Any:
        return OneHotOp(i, ints(5), values, axis=1)

    check([tensor(N, element=element), tensor(2)], build, indices, counted(2))


def test_one_hot_along_the_first_axis() -> None:
    check([tensor(2, N, element=SI64), tensor(2, element=SI32)],
          lambda i, values: OneHotOp(i, constant(np.int64(4)), values, axis=0), np.array([[0, 1, 3], [2, 9, -1]]),
          np.array([7, 9], np.int32))  # fmt: skip


def test_one_hot_of_floats_that_are_no_index() -> None:
    check([tensor(4, element=F64), tensor(2)], lambda i, values: OneHotOp(i, ints(3), values, axis=1),
          np.array([2.7, np.inf, -np.inf, 1e300]), counted(2))  # fmt: skip


def test_one_hot_of_unsigned_numbers_that_are_large() -> None:
    """As signed ones they would count from the back."""
    check([tensor(2, element=UI64), tensor(2)], lambda i, values: OneHotOp(i, ints(5), values, axis=1),
          np.array([1, 2**64 - 3], np.uint64), counted(2))  # fmt: skip
