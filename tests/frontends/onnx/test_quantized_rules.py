"""Operators on quantised tensors with scales per channel, row and column, compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from tests.frontends.onnx.contraction_harness import assert_matches, import_model, run

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


@pytest.mark.parametrize("index", range(len(CASES)))
def test_agrees_with_onnxruntime(index: int) -> None:
    op_type, version, operands, fields = CASES[index]
    arrays = [np.asarray(operand) for operand in operands]
    infos = [
        helper.make_tensor_value_info(f"x{i}", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for i, a in enumerate(arrays)
    ]
    outputs = ["y", "s", "z"] if op_type.startswith("Dynamic") else ["y"]
    numbers = {"DequantizeLinear": 1, "MatMulInteger": 6, "ConvInteger": 6, "QuantizeLinear": 2}
    number = helper.np_dtype_to_tensor_dtype(arrays[2].dtype) if op_type == "QuantizeLinear" and len(arrays) == 3 else (
        numbers.get(op_type, 2)
    )
    types = [1 if name == "s" else number for name in outputs]
    results = [helper.make_tensor_value_info(name, t, None) for name, t in zip(outputs, types, strict=True)]
    node = helper.make_node(op_type, [info.name for info in infos], outputs, **fields)
    graph = helper.make_graph([node], "one", infos, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {f"x{i}": array for i, array in enumerate(arrays)})
    assert_matches(run(import_model(model), arrays), expected, rtol=1e-6, atol=0)
