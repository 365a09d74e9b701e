"""Sizes computed in floats and in tensors of higher rank, as dims."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import ConstantOp, content
from stepwell.dialects.graph.conversion import CastOp
from stepwell.dialects.graph.movement import ConcatOp, SliceOp, TransposeOp
from stepwell.dialects.graph.ratios import Ratio
from stepwell.dialects.graph.shape import ReshapeOp
from stepwell.ir.attributes import ElementsAttr, elements
from stepwell.ir.core import Block, Value
from stepwell.ir.dims import Dim, ceildiv, symbol
from stepwell.ir.types import F16, F32, SI64, FloatType, TensorType

N, M = symbol("n"), symbol("m")


def sizes(*dims: Dim, shape: tuple[int, ...] | None = None) -> Value:
    found = Block([TensorType((len(dims),) if shape is None else shape, SI64)]).arguments[0]
    found.facts["content"] = dims
    return found


def floats(*dims: Dim, element: FloatType = F32) -> Value:
    return CastOp(sizes(*dims), to=element).result


def number(*values: float) -> Value:
    attribute = elements(np.array(values, np.float32), TensorType((len(values),), F32))
    assert isinstance(attribute, ElementsAttr)
    return ConstantOp(value=attribute).result


def integers(*values: int) -> Value:
    attribute = elements(np.array(values, np.int64), TensorType((len(values),), SI64))
    assert isinstance(attribute, ElementsAttr)
    return ConstantOp(value=attribute).result


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: floats(N, 3), (N, 3)),
        (lambda: graph.MulOp(floats(N), number(2.0)).result, (2 * N,)),
        (lambda: graph.MulOp(floats(N), number(0.5)).result, (N // 2,)),
        (lambda: graph.FloorOp(graph.DivOp(floats(N), number(3.0)).result).result, (N // 3,)),
        (lambda: graph.CeilOp(graph.DivOp(floats(N), number(4.0)).result).result, (ceildiv(N, 4),)),
        (lambda: graph.AddOp(graph.MulOp(floats(N), number(0.25)).result, number(0.75)).result, ((N + 3) // 4,)),
        (lambda: graph.PowOp(number(16.0), number(0.5)).result, (4,)),
        (lambda: graph.PowOp(floats(16), number(0.5)).result, (4,)),
        (lambda: graph.PowOp(floats(N), number(0.5)).result, None),
        (lambda: graph.SubOp(floats(N), number(3.0)).result, None),  # may be negative, which is cut towards zero
        (lambda: graph.MulOp(floats(N), number(0.1)).result, None),  # 0.1 is not a short fraction
        (lambda: graph.DivOp(floats(N), floats(M)).result, None),
        (lambda: graph.MulOp(floats(N), number(float("inf"))).result, None),
        (lambda: floats(N, element=F16), None),
    ],
)
def test_sizes_in_floats(build: Any, expected: Any) -> None:
    assert content(CastOp(build(), to=SI64).result) == expected


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda x: ReshapeOp.to(x, [4]).result, (N, 1, 2, M)),
        (lambda x: TransposeOp(x, permutation=(1, 0)).result, (N, 2, 1, M)),
        (lambda x: ConcatOp([x, x], axis=1).result, (N, 1, N, 1, 2, M, 2, M)),
        (lambda x: SliceOp(x, integers(-1), integers(-9), integers(-1), axes=(0,)).result, (2, M, N, 1)),
        (lambda x: SliceOp(x, integers(0, 1), integers(1, 2), axes=(0, 1)).result, (1,)),
        (lambda x: graph.AddOp(x, sizes(1, N)).result, (N + 1, N + 1, 3, M + N)),
    ],
)
def test_contents_of_rank_two(build: Any, expected: Any) -> None:
    assert content(build(sizes(N, 1, 2, M, shape=(2, 2)))) == expected


def test_ratios_are_exact() -> None:
    third = Ratio(N, 3)
    assert (third + third).floor() == 2 * N // 3
    assert (third - Ratio(1, 2)).whole() is None
    assert third / Ratio(N, 1) is None
    assert (third * Ratio(3, 1)).ceil() == N
