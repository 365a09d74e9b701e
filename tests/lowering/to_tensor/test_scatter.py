"""Writing through indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.scatter import ScatterElementsOp, ScatterNDOp, TensorScatterOp
from stepwell.ir.types import F16, F32, I1, SI32, SI64, IntegerType, Signedness, Type, numpy_dtype
from tests.lowering.to_tensor.descent import M, N, check, counted, tensor

UI8 = IntegerType(8, Signedness.UNSIGNED)
REDUCTIONS = ("none", "add", "mul", "max", "min")


def small(*shape: int, dtype: Any) -> Any:
    low = 0 if np.dtype(dtype).kind in "ub" else -3
    return (np.arange(int(np.prod(shape))) % 7 + low).astype(dtype).reshape(shape)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("element", [F32, F16, SI32, UI8])
def test_scatter_elements(reduction: str, element: Type) -> None:
    dtype = numpy_dtype(element)

    def build(x: Any, i: Any, u: Any) -> Any:
        return ScatterElementsOp(x, i, u, axis=0, reduction=reduction)

    indices = np.array([[0, 2, -1, 1], [1, 2, 2, -3], [1, 0, -1, 2]])
    types = [tensor(3, N, element=element), tensor(3, N, element=SI64), tensor(3, N, element=element)]
    check(types, build, small(3, 4, dtype=dtype), indices, small(3, 4, dtype=dtype)[::-1] + dtype.type(1))


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_scatter_elements_into_some_lines(reduction: str) -> None:
    def build(x: Any, i: Any, u: Any) -> Any:
        return ScatterElementsOp(x, i, u, axis=1, reduction=reduction)

    check([tensor(4, 5), tensor(N, 2, element=SI64), tensor(N, 2)], build, counted(4, 5), np.array([[0, -1], [3, 3]]),
          counted(2, 2) * 10)  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("element", [F32, I1])
def test_scatter_nd(reduction: str, element: Type) -> None:
    dtype = numpy_dtype(element)
    if element is I1 and reduction != "none":
        return

    def build(x: Any, i: Any, u: Any) -> Any:
        return ScatterNDOp(x, i, u, reduction=reduction)

    places = np.array([[[0], [3]], [[-1], [1]]])
    types = [tensor(4, M, element=element), tensor(N, 2, 1, element=SI64), tensor(N, 2, M, element=element)]
    check(types, build, small(4, 3, dtype=dtype), places, small(2, 2, 3, dtype=dtype))
    types = [tensor(4, 3, element=element), tensor(N, 2, element=SI64), tensor(N, element=element)]
    check(types, build, small(4, 3, dtype=dtype), np.array([[0, 1], [-1, 2], [2, 0]]), small(3, dtype=dtype))


def test_no_updates_change_nothing() -> None:
    check([tensor(4), tensor(N, 1, element=SI64), tensor(N)], lambda x, i, u: ScatterNDOp(x, i, u), counted(4),
          np.zeros((0, 1), np.int64), np.zeros(0, np.float32), deep=False)  # fmt: skip


@pytest.mark.parametrize("circular", [False, True])
def test_tensor_scatter(circular: bool) -> None:
    def build(x: Any, u: Any, i: Any) -> Any:
        return TensorScatterOp(x, u, i, axis=1, circular=circular)

    types = [tensor(2, N, 3), tensor(2, M, 3), tensor(2, element=SI64)]
    check(types, build, counted(2, 6, 3), -counted(2, 2, 3), np.array([4, 5 if circular else 0]))
    if circular:
        check(types, build, counted(2, 3, 3), -counted(2, 8, 3), np.array([1, 2]))


def test_tensor_scatter_at_the_start() -> None:
    check([tensor(2, 6, 3), tensor(2, N, 3)], lambda x, u: TensorScatterOp(x, u, None, axis=1), counted(2, 6, 3),
          -counted(2, 2, 3))  # fmt: skip
