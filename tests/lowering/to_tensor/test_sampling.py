"""Sampling at computed places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.sampling import AffineGridOp, ColToImOp, GridSampleOp
from stepwell.dialects.graph.shape import ShapeOp
from stepwell.ir.types import F16, F32, F64, SI32, SI64, IntegerType, Signedness, Type, numpy_dtype
from tests.lowering.to_tensor.descent import M, N, check, counted, ints, tensor

UI8 = IntegerType(8, Signedness.UNSIGNED)
GRID = np.linspace(-1.7, 1.6, 24).reshape(1, 3, 4, 2).astype(np.float32)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_grid_sample(mode: str, padding: str, align_corners: bool) -> None:
    def build(x: Any, grid: Any) -> Any:
        return GridSampleOp(x, grid, mode=mode, padding=padding, align_corners=align_corners)

    check([tensor(1, 2, N, 5), tensor(1, 3, 4, 2)], build, counted(1, 2, 4, 5), GRID, tolerance=2e-4,
          deep=mode == "linear")  # fmt: skip


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_the_nearest_element_stays_as_it_is(padding: str) -> None:
    """Integers that no float holds, and the sign of zero."""
    large = np.array([[[[2**63 - 1, -(2**63) + 1], [2**53 + 1, -7]]]], np.int64)
    grid = np.array([[[[-0.5, -0.5], [0.5, -0.5]], [[-0.5, 0.5], [3, 3]]]], np.float32)
    types = [tensor(1, 1, 2, N, element=SI64), tensor(1, 2, 2, 2)]
    check(types, lambda x, y: GridSampleOp(x, y, mode="nearest", padding=padding), large, grid)
    zeros = np.full((1, 1, 2, 2), -0.0, np.float32)
    check([tensor(1, 1, 2, 2), tensor(1, 2, 2, 2)], lambda x, y: GridSampleOp(x, y, mode="nearest", padding=padding),
          zeros, grid)  # fmt: skip


def test_grid_coordinates_that_are_no_numbers() -> None:
    grid = np.array([[[[np.nan, 0], [np.inf, 0], [0, -np.inf], [0.1, 0.2]]]], np.float32)
    for padding in ("zeros", "border", "reflection"):
        check([tensor(1, 1, 4, 4), tensor(1, 1, 4, 2)],
              lambda x, y, padding=padding: GridSampleOp(x, y, mode="linear", padding=padding),
              counted(1, 1, 4, 4), grid, tolerance=1e-5, deep=False)  # fmt: skip


@pytest.mark.parametrize("element", [F16, F64, UI8, SI32])
def test_element_types(element: Type) -> None:
    check([tensor(1, 2, 4, 5, element=element), tensor(1, 3, 4, 2)],
          lambda x, y: GridSampleOp(x, y, mode="linear"), counted(1, 2, 4, 5, dtype=numpy_dtype(element)), GRID,
          tolerance=2e-2 if element is F16 else 1e-4, deep=False)  # fmt: skip


def test_volumes() -> None:
    grid = np.linspace(-1.2, 1.2, 36).reshape(2, 2, 1, 3, 3).astype(np.float32)
    check([tensor(2, 1, 3, 4, 5), tensor(2, 2, 1, 3, 3)], lambda x, y: GridSampleOp(x, y, mode="linear"),
          counted(2, 1, 3, 4, 5), grid, tolerance=1e-4, deep=False)  # fmt: skip


@pytest.mark.parametrize("align_corners", [False, True])
def test_affine_grid(align_corners: bool) -> None:
    def build(theta: Any, y: Any) -> Any:
        return AffineGridOp(theta, ShapeOp(y, start=0, end=4).result, align_corners=align_corners)

    theta = np.linspace(-1, 1, 12).reshape(2, 2, 3).astype(np.float32)
    check([tensor(2, 2, 3), tensor(2, 1, N, M)], build, theta, counted(2, 1, 3, 4), tolerance=1e-5)
    check([tensor(2, 2, 3), tensor(2, 1, N, M)], build, theta, counted(2, 1, 1, 4), tolerance=1e-5, deep=False)


@pytest.mark.parametrize("element", [F32, F16, SI32])
def test_col_to_im(element: Type) -> None:
    def build(x: Any) -> Any:
        return ColToImOp(x, ints(4, 5), ints(2, 3), strides=(2, 1), pads=(1, 0, 1, 1), dilations=(1, 2))

    check([tensor(1, 12, 6, element=element)], build, counted(1, 12, 6, dtype=numpy_dtype(element)), tolerance=1e-5)
