"""Quantising and dequantising in the domain com.microsoft, compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.frontends.onnx.quantized_harness import check, real, whole
from tests.frontends.onnx.rule_harness import assert_matches, imported, model_of, onnxruntime_outputs

GRANULARITIES: list[tuple[tuple[int, ...], dict[str, int]]] = [((), {}), ((1,), {}), ((4,), {}), ((3,), {"axis": -2})]


@pytest.mark.parametrize(("shape", "fields"), GRANULARITIES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_both_directions(dtype: Any, shape: tuple[int, ...], fields: dict[str, int]) -> None:
    scales, zeros = np.linspace(0.01, 0.02, int(np.prod(shape)), dtype=np.float32).reshape(shape), whole(dtype, *shape)
    check("QuantizeLinear", [real(3, 4), scales, zeros], **fields)
    check("DequantizeLinear", [whole(dtype, 3, 4), scales, zeros], **fields)


def test_without_zero_point() -> None:
    check("QuantizeLinear", [np.abs(real(3, 4)), np.float32(0.01)])
    check("DequantizeLinear", [whole(np.int32, 3, 4), np.float32(0.01)])


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4])
def test_four_bits_there_and_back(dtype: Any) -> None:
    """Between the two, since onnxruntime's Python interface has no arrays of such a type."""
    from onnx import numpy_helper

    zero = numpy_helper.from_array(np.array([3, 1, 2]).astype(dtype), "zero")
    scales = numpy_helper.from_array(np.array([0.5, 0.25, 1], np.float32), "scale")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], domain="com.microsoft", axis=0),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], domain="com.microsoft", axis=0),
    ]
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, "n"])]
    model, x = model_of(nodes, ports, ["y"], 21, [zero, scales], ["com.microsoft"]), real(3, 40) * 4
    assert_matches(imported(model).run([x]), onnxruntime_outputs(model, [x]))
