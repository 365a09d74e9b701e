"""Activations of com.microsoft, compared with onnxruntime, or with NumPy where it has no kernel for a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.microsoft_harness import Array, check, floats
from tests.frontends.onnx.rule_harness import imported, node_model, onnxruntime_outputs, refused

SHAPES: dict[int, Sequence[int | str]] = {0: ["n", 8]}


@pytest.mark.parametrize("op_type", ["BiasGelu", "FastGelu"])
def test_gelus_of_sums(op_type: str) -> None:
    check(op_type, [floats(3, 8), floats(8)], shapes=SHAPES)
    narrow = [floats(3, 8).astype(np.float16), floats(8).astype(np.float16)]
    total = narrow[0].astype(np.float32) + narrow[1]
    model = node_model("FastGelu" if op_type == "FastGelu" else "Gelu", [total], domain="com.microsoft")
    expected = [y.astype(np.float16) for y in onnxruntime_outputs(model, [total])]
    check(op_type, narrow, shapes=SHAPES, expected=expected, tolerance=1e-3)


def test_gelus() -> None:
    check("Gelu", [floats(3, 8)], shapes=SHAPES, native=True)
    check("FastGelu", [floats(3, 8)], shapes=SHAPES)
    check("QuickGelu", [floats(3, 8)], shapes=SHAPES)
    check("QuickGelu", [floats(3, 8)], alpha=1.0)


def gelu(x: Array) -> Array:
    model = node_model("Gelu", [x], domain="com.microsoft")
    return np.asarray(onnxruntime_outputs(model, [x])[0])


def test_sums_with_biases() -> None:
    x, bias = floats(2, 3, 8), floats(8)
    left, right = np.split(x + bias, 2, axis=2)
    shapes: dict[int, Sequence[int | str]] = {0: ["n", "s", 8], 2: ["n", "s", 8]}
    check("BiasSplitGelu", [x, bias], shapes={0: shapes[0]}, expected=[left * gelu(np.ascontiguousarray(right))])
    check("BiasAdd", [x, bias, 2 * x], shapes=shapes, expected=[x + bias + 2 * x])
    with refused("9 has no halves", Unsupported):
        imported(node_model("BiasSplitGelu", [floats(2, 3, 9), floats(9)], domain="com.microsoft"))
