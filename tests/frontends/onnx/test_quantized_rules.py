"""Operators on quantised tensors with scales per channel, row and column, compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.frontends.onnx.rule_harness import assert_matches, given, imported, node_model, onnxruntime_outputs

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(3)


def u8(*shape: int) -> Array:
    return RNG.integers(0, 256, shape, np.uint8)


def i8(*shape: int) -> Array:
    return RNG.integers(-128, 128, shape, np.int8)


def scale(*shape: int) -> Array:
    return RNG.uniform(0.01, 0.02, shape).astype(np.float32)


Y = [np.float32(0.7), np.uint8(120)]
CASES: list[tuple[str, int, list[Any], dict[str, Any]]] = [
    ("MatMulInteger", 10, [u8(3, 5), i8(5, 4), np.uint8(7), i8(4)], {}),
    ("MatMulInteger", 10, [u8(2, 3, 5), u8(5, 4)], {}),
    ("ConvInteger", 10, [u8(1, 4, 6, 5), u8(6, 2, 3, 2), np.uint8(9), np.uint8(3)], {"group": 2, "pads": [1, 0, 1, 1]}),
    ("QLinearMatMul", 10, [u8(3, 5), scale(), np.uint8(7), i8(5, 4), scale(4), i8(4), *Y], {}),
    ("QLinearMatMul", 10, [u8(2, 3, 5), scale(), np.uint8(7), u8(5, 4), scale(), np.uint8(1), *Y], {}),
    ("QLinearConv", 10, [u8(1, 4, 6, 5), scale(), np.uint8(9), i8(6, 2, 3, 2), scale(6), np.zeros(6, np.int8), *Y,
                         RNG.integers(-900, 900, 6, np.int32)], {"group": 2, "auto_pad": "SAME_UPPER"}),
    ("QLinearConv", 10, [u8(1, 4, 6), scale(), np.uint8(9), u8(6, 4, 3), scale(), np.uint8(4), *Y], {}),
    ("QuantizeLinear", 10, [RNG.normal(0, 40, (3, 4)).astype(np.float32), np.float32(0.5), np.uint8(3)], {}),
    ("QuantizeLinear", 13, [RNG.normal(0, 40, (3, 4)).astype(np.float32), scale(3) * 30, i8(3)], {"axis": -2}),
    ("QuantizeLinear", 13, [RNG.normal(0, 40, (3, 4)).astype(np.float32), np.float32(0.5)], {}),
    ("DequantizeLinear", 10, [i8(3, 4), np.float32(0.5), np.int8(3)], {}),
    ("DequantizeLinear", 13, [RNG.integers(-(2**31), 2**31, (3, 4), np.int32), scale(4)], {"axis": 1}),
    ("DynamicQuantizeLinear", 11, [RNG.normal(0, 40, (3, 4)).astype(np.float32)], {}),
]  # fmt: skip


@pytest.mark.parametrize(("op_type", "version", "operands", "fields"), CASES)
def test_agrees_with_onnxruntime(op_type: str, version: int, operands: list[Any], fields: dict[str, Any]) -> None:
    outputs = 3 if op_type.startswith("Dynamic") else 1
    model = node_model(op_type, operands, version=version, outputs=outputs, **fields)
    arrays = given(operands)
    assert_matches(imported(model).run(arrays), onnxruntime_outputs(model, arrays), rtol=1e-6, atol=0)
