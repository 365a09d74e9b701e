"""Ranges, diagonals and triangles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.generate import EyeOp, RangeOp, TriluOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.shape import ShapeOp
from stepwell.ir.types import BF16, F16, F32, I1, SI8, SI64, Type, numpy_dtype
from tests.lowering.to_tensor.descent import M, N, check, constant, counted, tensor


@pytest.mark.parametrize("n", [0, 1, 5, 9])
def test_range_up_to_a_size(n: int) -> None:
    def build(x: Any) -> Any:
        size = GatherOp(ShapeOp(x, start=0, end=1).result, constant(np.int64(0)), axis=0).result
        return RangeOp(constant(np.int64(1)), size, constant(np.int64(2)))

    check([tensor(N)], build, counted(n))


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("element", [F32, F16, BF16])
def test_range_of_floats(element: Type, narrow: bool) -> None:
    dtype = numpy_dtype(element)

    def build(x: Any) -> Any:
        start, limit, delta = (constant(dtype.type(number)) for number in (0.1, 3.1, 0.3))
        return RangeOp(start, limit, delta, narrow=narrow)

    check([tensor(element=element)], build, dtype.type(1))


@pytest.mark.parametrize("k", [-1, 0, 2])
@pytest.mark.parametrize("element", [F32, SI8, I1])
def test_eye(k: int, element: Type) -> None:
    check([tensor(N, M)], lambda x: EyeOp(k=k, result_types=[tensor(N, M, element=element)]), counted(3, 5))


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("k", [None, -1, 1])
def test_trilu(upper: bool, k: int | None) -> None:
    def build(x: Any, *given: Any) -> Any:
        return TriluOp(x, *(given or (None,)), upper=upper)

    given = [] if k is None else [np.array(k)]
    types = [tensor(2, N, 5), *(tensor(element=SI64) for _ in given)]
    check(types, build, counted(2, 4, 5), *given)
