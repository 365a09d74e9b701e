"""Convolutions and pools over windows in every version, compared with onnxruntime: auto_pad, ceil_mode, indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.frontends.onnx.rule_harness import assert_matches, imported, node_model, onnxruntime_outputs, refused

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "Conv": [(2, 4, 9, 7), (6, 2, 3, 2), (6,)],
    "ConvTranspose": [(2, 4, 5, 4), (4, 3, 3, 2), (6,)],
    "MaxRoiPool": [(1, 2, 9, 8), (3, 5)],
}
CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("Conv", 1, {"group": 2, "pads": [1, 0, 2, 1]}),
    ("Conv", 1, {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    ("Conv", 11, {"group": 2, "auto_pad": "SAME_LOWER", "strides": [3, 2]}),
    ("Conv", 11, {"group": 2, "auto_pad": "VALID", "dilations": [2, 3]}),
    ("Conv", 11, {"group": 2, "auto_pad": "VALID", "kernel_shape": [3, 2]}),
    ("ConvTranspose", 11, {"group": 2, "strides": [2, 3], "output_padding": [1, 2], "pads": [1, 0, 0, 1]}),
    ("ConvTranspose", 11, {"group": 2, "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("ConvTranspose", 11, {"group": 2, "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ("ConvTranspose", 11, {"group": 2, "strides": [2, 2], "output_shape": [10, 7], "auto_pad": "SAME_UPPER"}),
    ("ConvTranspose", 11, {"group": 2, "strides": [2, 2], "output_shape": [10, 7]}),
    ("ConvTranspose", 1, {"group": 2, "dilations": [2, 1]}),
    ("MaxPool", 1, {"kernel_shape": [3, 2], "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("MaxPool", 8, {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "outputs": 2}),
    ("MaxPool", 8, {"kernel_shape": [3, 2], "storage_order": 1, "outputs": 2}),
    ("MaxPool", 10, {"kernel_shape": [2, 2], "strides": [3, 2], "ceil_mode": 1}),
    ("MaxPool", 12, {"kernel_shape": [2, 3], "dilations": [2, 2], "ceil_mode": 1, "strides": [2, 2], "outputs": 2}),
    ("AveragePool", 7, {"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("AveragePool", 7, {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0], "count_include_pad": 1}),
    ("AveragePool", 10, {"kernel_shape": [2, 2], "strides": [3, 2], "ceil_mode": 1}),
    ("AveragePool", 19, {"kernel_shape": [2, 2], "dilations": [2, 3], "ceil_mode": 1, "strides": [2, 2]}),
    ("AveragePool", 19, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1],
                         "count_include_pad": 1}),
    ("LpPool", 2, {"kernel_shape": [3, 2], "p": 3, "strides": [2, 2], "pads": [1, 0, 1, 0]}),
    ("GlobalLpPool", 2, {"p": 3}),
    ("GlobalLpPool", 2, {}),
    ("GlobalAveragePool", 1, {}),
    ("GlobalMaxPool", 1, {}),
    ("MaxRoiPool", 1, {"pooled_shape": [3, 2], "spatial_scale": 0.5}),
]  # fmt: skip


def arrays_of(op_type: str, shapes: list[tuple[int, ...]]) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    if op_type == "MaxRoiPool":
        arrays[1] = np.array([[0, 0, 0, 15, 17], [0, 3, 5, 8, 9], [0, 12, 12, 30, 40]], np.float32)
    return arrays


@pytest.mark.parametrize(("op_type", "version", "fields"), CASES)
@pytest.mark.parametrize("symbolic", [False, True])
def test_agrees_with_onnxruntime(op_type: str, version: int, fields: dict[str, Any], symbolic: bool) -> None:
    arrays = arrays_of(op_type, SHAPES.get(op_type, [(2, 3, 10, 7)]))
    model = node_model(op_type, arrays, version=version, **fields)
    expected = onnxruntime_outputs(model, arrays)
    shapes = {"x0": [f"n{axis}" for axis in range(arrays[0].ndim)]} if symbolic else None
    assert_matches(imported(model, shapes=shapes).run(arrays), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("op_type", "fields", "message"),
    [
        ("Conv", {"group": 2, "kernel_shape": [3, 3]}, r"kernel_shape \[3, 3\] differs from the weights' \[3, 2\]"),
        ("Conv", {"group": 2, "auto_pad": "SAME"}, "'auto_pad' is 'SAME'; in opset .* has NOTSET"),
        ("Conv", {"group": 2, "strides": [1]}, r"2 spatial axes need 2 strides, not \[1\]"),
        ("Conv", {"group": 4}, "data has 4 channels, weights expect 4 groups of 2"),
        ("MaxPool", {"kernel_shape": [3]}, "a kernel of 1 axes does not fit 2 spatial axes"),
        ("MaxPool", {}, "lacks its attribute 'kernel_shape'"),
        ("AveragePool", {"kernel_shape": [30, 1]}, "is shorter than the window's 30"),
    ],
)
def test_bad_nodes(op_type: str, fields: dict[str, Any], message: str) -> None:
    model = node_model(op_type, arrays_of(op_type, SHAPES.get(op_type, [(2, 3, 10, 7)])), version=11, **fields)
    with refused(message):
        imported(model)
