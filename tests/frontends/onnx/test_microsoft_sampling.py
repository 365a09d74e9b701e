"""Crops of com.microsoft, compared with onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.microsoft_harness import check, floats
from tests.frontends.onnx.rule_harness import i32, imported, node_model, refused

BOXES = np.array([[0, 0, 1, 1], [0.2, 0.1, 0.7, 1.3], [0.9, 0.8, 0.1, -0.2]], np.float32)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(3, 4), (1, 1), (1, 3)])
def test_crops(mode: str, size: tuple[int, int]) -> None:
    inputs = [floats(2, 3, 5, 6), BOXES, i32([0, 1, 1]), i32(size)]
    shapes = {0: ["n", 3, "h", "w"], 1: ["r", 4], 2: ["r"]}
    check("CropAndResize", inputs, shapes=shapes, constants=[3], mode=mode, extrapolation_value=9.0)


def test_crops_of_rows() -> None:
    inputs = [floats(2, 3, 1, 6), BOXES, i32([0, 1, 1]), i32([2, 2])]
    check("CropAndResize", inputs, constants=[3], native=True)


def test_refusals() -> None:
    inputs = [floats(2, 3, 5, 6), BOXES, i32([0, 1, 1]), i32([2, 2])]
    with refused("crop size .input 3. must be known", Unsupported):
        imported(node_model("CropAndResize", inputs, domain="com.microsoft"))
    with refused("'area' is neither", Unsupported):
        imported(node_model("CropAndResize", inputs, domain="com.microsoft", constants=[3], mode="area"))
