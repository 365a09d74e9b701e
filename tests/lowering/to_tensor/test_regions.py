"""Pooling over regions that data tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.dialects.graph.pooling import MaxRoiPoolOp
from stepwell.dialects.graph.sampling import RoiAlignOp
from stepwell.errors import RuntimeError
from stepwell.ir.types import F16, F64, SI64, Type, numpy_dtype
from tests.frontends.onnx.rule_harness import node_model
from tests.lowering.to_tensor.descent import M, N, check, counted, graph_module, tensor


def roi_align(samples: int, **parts: Any) -> Any:
    return lambda x, rois, images: RoiAlignOp(x, rois, images, height=2, width=3, samples=samples, scale=0.5, **parts)


@pytest.mark.parametrize("half_pixel", [False, True])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_roi_align(reduce: str, half_pixel: bool) -> None:
    build = roi_align(2, half_pixel=half_pixel, reduce=reduce)
    rois = np.array([[0, 0, 8, 8], [2.5, 3, 14, 12], [-9, -9, -4, -3]], np.float32)
    types = [tensor(2, 2, N, 6), tensor(M, 4), tensor(M, element=SI64)]
    check(types, build, counted(2, 2, 7, 6), rois, np.array([0, 1, 1]), tolerance=1e-4)


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_samples_outside_read_nothing(reduce: str) -> None:
    """Rows below the image give 0 also beside columns in it that hold NaN."""
    x = np.full((1, 1, 2, 2), np.nan, np.float32)
    build = roi_align(1, reduce=reduce, half_pixel=True)
    rois, images = np.array([[1, 1, 9, 40]], np.float32), np.array([0])
    check([tensor(1, 1, N, 2), tensor(M, 4), tensor(M, element=SI64)], build, x, rois, images, tolerance=0)
    model = stepwell.compile(graph_module([tensor(1, 1, 2, 2), tensor(1, 4), tensor(1, element=SI64)], build))
    assert model(x, rois, images)[0, 0, :, 2].tolist() == [0, 0]


ADAPTIVE = np.array(
    [[0, 0, 8, 8], [2.5, 3, 14, 12], [-9, -9, -4, -3], [-40, -2, 60, 9], [5, 5, 3, 2], [1, 1, 1, 1]], np.float32
)


@pytest.mark.parametrize("half_pixel", [False, True])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_roi_align_with_a_sample_per_element(reduce: str, half_pixel: bool) -> None:
    """As many samples as a bin has elements: none of a region turned about, most of a large one outside."""
    build, rois = roi_align(0, half_pixel=half_pixel, reduce=reduce), ADAPTIVE
    images = np.arange(len(rois)) % 2
    x = np.cos(np.arange(2 * 2 * 7 * 6)).reshape(2, 2, 7, 6).astype(np.float32)
    check([tensor(2, 2, N, 6), tensor(M, 4), tensor(M, element=SI64)], build, x, rois, images, tolerance=1e-4)
    none = [x, rois[:0], images[:0]]
    check([tensor(2, 2, N, 6), tensor(M, 4), tensor(M, element=SI64)], build, *none, tolerance=1e-4, deep=False)


@pytest.mark.parametrize("element", [F16, F64])
def test_max_roi_pool(element: Type) -> None:
    def build(x: Any, rois: Any) -> Any:
        return MaxRoiPoolOp(x, rois, pooled=[2, 3], spatial_scale=0.5)

    dtype = numpy_dtype(element)
    rois = np.array([[0, 0, 0, 8, 8], [1, 2.5, 3, 14, 12], [1, -9, -9, -4, -3], [0, 5, 5, 3, 2], [1, 40, 40, 50, 50]])
    x = np.cos(np.arange(2 * 2 * 7 * 6)).reshape(2, 2, 7, 6).astype(dtype)
    types = [tensor(2, 2, N, 6, element=element), tensor(M, 5, element=element)]
    check(types, build, x, rois.astype(dtype), tolerance=0)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_a_region_far_larger_than_the_image_takes_no_time(mode: str) -> None:
    """What lies outside counts, and is not visited."""
    x = np.ones((1, 1, 4, 4), np.float32)
    rois = np.array([[0, 0, 4e9, 4], [np.nan, 0, 1, 1]], np.float32)
    arrays = [x, rois, np.array([0, 0])]
    model = node_model("RoiAlign", arrays, version=10, mode=mode)
    made = stepwell.compile(model)(*arrays)
    np.testing.assert_allclose(made[0].reshape(-1), [1 if mode == "max" else 1e-9], rtol=0.3)


def test_an_image_that_is_not_there() -> None:
    arrays = [np.ones((2, 1, 4, 4), np.float32), np.array([[2, 0, 0, 1, 1]], np.float32)]
    compiled = stepwell.compile(node_model("MaxRoiPool", arrays, version=1, pooled_shape=[1, 1]))
    with pytest.raises(RuntimeError, match="index out of range for axis 0 of size 2"):
        compiled(*arrays)
