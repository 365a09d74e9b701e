"""The QLinear operators of com.microsoft, compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.quantized_harness import Array, check, scale, whole
from tests.frontends.onnx.rule_harness import given, imported, node_model, refused

TYPES = [np.uint8, np.int8]
POWERS = [np.float32(2.0**-k) for k in (3, 1, 2)]  # sums and products fall on halves
RANDOM = [scale(), scale(), scale()]


def every(dtype: Any) -> tuple[Array, Array]:
    """All pairs of numbers of a type, as a column and a row."""
    info = np.iinfo(dtype)
    numbers = np.arange(info.min, int(info.max) + 1).astype(dtype)
    return numbers.reshape(-1, 1), numbers


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("scales", [POWERS, RANDOM])
@pytest.mark.parametrize("op_type", ["QLinearAdd", "QLinearMul"])
def test_sums_and_products_of_all_pairs(op_type: str, scales: list[Any], dtype: Any) -> None:
    """onnxruntime adds with one rounding for a product and a sum; where that decides a half, one quantum apart."""
    a, b = every(dtype)
    inputs = [a, scales[0], dtype(5), b, scales[1], dtype(12), scales[2], dtype(21)]
    check(op_type, inputs, quanta=int(op_type == "QLinearAdd" and scales is RANDOM))


@pytest.mark.parametrize("op_type", ["QLinearAdd", "QLinearMul"])
def test_sums_and_products_broadcast(op_type: str) -> None:
    a, b = whole(np.int8, 2, 1, 5), whole(np.int8, 3, 1)
    check(op_type, [a, scale(), np.int8(2), b, scale(), np.int8(5), scale()])
    check(op_type, [a, scale(), np.int8(3), b[0, 0], scale(), np.int8(-4), scale(), np.int8(-3)])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("scales", [POWERS, RANDOM])
def test_activations_of_all_numbers(dtype: Any, scales: list[Any]) -> None:
    x = every(dtype)[1]
    for op_type, y_scale, fields in (
        ("QLinearSigmoid", np.float32(1 / 256), {}), ("QLinearLeakyRelu", scales[1], {}),
        ("QLinearLeakyRelu", scales[1], {"alpha": 0.25}),
    ):  # fmt: skip
        check(op_type, [x, scales[0], dtype(100), y_scale, dtype(3)], **fields)


@pytest.mark.parametrize("op_type", ["QLinearAdd", "QLinearSigmoid", "QLinearAveragePool"])
def test_zero_points_may_be_absent(op_type: str) -> None:
    """Against zeros that are written out: onnxruntime refuses absent ones or ends the process."""
    x, results = whole(np.int8, 1, 2, 3, 4), []
    fields = {"kernel_shape": [2, 2]} if op_type == "QLinearAveragePool" else {}
    for zero in (np.int8(0), None):
        inputs = [x, np.float32(0.1), zero, np.float32(1 / 128), zero]
        inputs = [*inputs[:3], *inputs] if op_type == "QLinearAdd" else inputs
        model = node_model(op_type, inputs, domain="com.microsoft", **fields)
        results.append(imported(model).run(given(inputs))[0])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("dtype", TYPES)
def test_choices(dtype: Any) -> None:
    a, b = every(dtype)
    condition = np.arange(256) % 3 == 0
    check("QLinearWhere", [condition, a, scale(), dtype(7), b, scale(), dtype(9), scale(), dtype(11)])


@pytest.mark.parametrize("dtype", TYPES)
def test_concatenation(dtype: Any) -> None:
    y_scale, parts = scale(), [whole(dtype, 2, n, 3) for n in (2, 3, 1)]
    inputs: list[Any] = [y_scale, dtype(9), parts[0], scale(), dtype(1), parts[1], y_scale, dtype(9)]
    check("QLinearConcat", [*inputs, parts[2], y_scale, dtype(8)], constants=[0, 1, 3, 4, 6, 7, 9, 10], axis=-2)
    model = node_model("QLinearConcat", inputs, domain="com.microsoft", constants=[0, 1, 3, 4, 6, 7], axis=1)
    assert [op.op_name for op in imported(model).ops].count("graph.quantize") == 1  # the second part is as it is


@pytest.mark.parametrize("fields", [{"axis": -1, "opset": 13}, {"axis": 1, "opset": 13}, {"axis": 1, "opset": 12}])
@pytest.mark.parametrize("dtype", TYPES)
def test_softmax(dtype: Any, fields: dict[str, int]) -> None:
    """onnxruntime looks exponentials up in a table of whole numbers: one quantum apart."""
    lowest = dtype(np.iinfo(dtype).min)
    check("QLinearSoftmax", [whole(dtype, 2, 5, 6), scale(), dtype(3), np.float32(1 / 256), lowest], quanta=1, **fields)


@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("scales", [POWERS, RANDOM])
def test_pools(dtype: Any, scales: list[Any], channels_last: int) -> None:
    operands = [whole(dtype, 2, 5, 6, 8), scales[0], dtype(50), scales[1], dtype(9)]
    check("QLinearGlobalAveragePool", operands, channels_last=channels_last)
    for more in ({}, {"count_include_pad": 1}, {"ceil_mode": 1}):
        fields = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1], **more}
        check("QLinearAveragePool", operands, channels_last=channels_last, **fields)
    check("QLinearAveragePool", operands, kernel_shape=[2, 2], auto_pad="SAME_UPPER")


@pytest.mark.parametrize(("axes", "keepdims"), [([1], 0), ([-1, 0], 1), (None, 1)])
def test_mean_over_axes(axes: list[int] | None, keepdims: int) -> None:
    """onnxruntime has a schema and no kernel for it: judged by the definition."""
    x, x_scale, y_scale = whole(np.uint8, 2, 3, 4), np.float32(0.5), np.float32(0.25)
    inputs = [x, x_scale, np.uint8(7), y_scale, np.uint8(100)]
    fields = {"keepdims": keepdims} | ({} if axes is None else {"axes": axes})
    made = imported(node_model("QLinearReduceMean", inputs, domain="com.microsoft", **fields)).run(given(inputs))
    over = None if axes is None else tuple(axes)
    mean = ((x.astype(np.float32) - 7) * x_scale).mean(axis=over, keepdims=bool(keepdims), dtype=np.float32)
    wanted = np.clip(np.rint(mean / y_scale) + 100, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(made[0], wanted)


@pytest.mark.parametrize("channels_last", [0, 1])
def test_convolution(channels_last: int) -> None:
    x = whole(np.uint8, 1, 6, 5, 4) if channels_last else whole(np.uint8, 1, 4, 6, 5)
    weights, bias = whole(np.int8, 6, 2, 3, 2), np.arange(-3, 3, dtype=np.int32) * 300
    inputs = [x, scale(), np.uint8(9), weights, scale(6), np.zeros(6, np.int8), np.float32(0.9), np.uint8(100), bias]
    fields = {"group": 2, "pads": [1, 0, 1, 1], "strides": [1, 2], "channels_last": channels_last}
    check("QLinearConv", inputs, symbolic=False, **fields)
    shapes = {0: ["n", "h", "w", 4] if channels_last else ["n", 4, "h", "w"]}
    known = range(1, 9)
    model = node_model("QLinearConv", inputs, domain="com.microsoft", shapes=shapes, constants=known, **fields)
    imported(model).run([x])


X = whole(np.uint8, 3)


@pytest.mark.parametrize(
    ("op_type", "inputs", "fields", "words"),
    [
        ("QLinearAdd", [X, scale(3), None, X, scale(), None, scale()], {}, r"input 1 is \[3\] where one scale and one"),
        ("QLinearMul", [X, scale(), X, X, scale(), None, scale()], {}, r"input 2 is \[3\] where one scale"),
        ("QLinearConcat", [scale(), np.uint8(1), X, scale()], {"axis": 0}, "4 inputs are not a scale"),
        ("QLinearGlobalAveragePool", [whole(np.uint8, 3, 4), scale(), np.uint8(1), scale(), np.uint8(1)],
         {"channels_last": 1}, "not rank 2"),
    ],
)  # fmt: skip
def test_refusals(op_type: str, inputs: list[Any], fields: dict[str, Any], words: str) -> None:
    with refused(words, Unsupported):
        imported(node_model(op_type, inputs, domain="com.microsoft", **fields))
