"""Sampling at computed places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.sampling import AffineGridOp, ColToImOp, GridSampleOp, RoiAlignOp
from stepwell.dialects.graph.shape import ShapeOp
from stepwell.errors import PassError
from stepwell.ir.types import F16, F32, F64, SI32, SI64, IntegerType, Signedness, Type, numpy_dtype
from stepwell.lowering.to_tensor.convert import ToTensor
from tests.lowering.to_tensor.descent import M, N, check, counted, graph_module, ints, lowered, tensor

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


@pytest.mark.parametrize("half_pixel", [False, True])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_roi_align(reduce: str, half_pixel: bool) -> None:
    def build(x: Any, rois: Any, images: Any) -> Any:
        return RoiAlignOp(x, rois, images, height=2, width=3, samples=2, scale=0.5, half_pixel=half_pixel,
                            reduce=reduce)  # fmt: skip

    rois = np.array([[0, 0, 8, 8], [2.5, 3, 14, 12], [-9, -9, -4, -3]], np.float32)
    types = [tensor(2, 2, N, 6), tensor(M, 4), tensor(M, element=SI64)]
    check(types, build, counted(2, 2, 7, 6), rois, np.array([0, 1, 1]), tolerance=1e-4)


def test_roi_align_of_bins_sized_by_data_is_refused_with_words() -> None:
    module = graph_module(
        [tensor(2, 2, 6, 6), tensor(3, 4), tensor(3, element=SI64)],
        lambda x, rois, images: RoiAlignOp(x, rois, images, height=2, width=3, samples=0),
    )
    with pytest.raises(PassError, match=r"graph.roi_align.*samples.*depends on data"):
        lowered(module, [ToTensor()])


@pytest.mark.parametrize("element", [F32, F16, SI32])
def test_col_to_im(element: Type) -> None:
    def build(x: Any) -> Any:
        return ColToImOp(x, ints(4, 5), ints(2, 3), strides=(2, 1), pads=(1, 0, 1, 1), dilations=(1, 2))

    check([tensor(1, 12, 6, element=element)], build, counted(1, 12, 6, dtype=numpy_dtype(element)), tolerance=1e-5)
