"""Matrix products of com.microsoft, compared with onnxruntime, or with NumPy where it has no kernel for a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.microsoft_harness import Array, check, floats
from tests.frontends.onnx.rule_harness import imported, node_model, onnxruntime_outputs, refused, symbols_by_size

A, B, C = floats(3, 4), floats(4, 5), floats(5)


@pytest.mark.parametrize(
    ("a", "b", "fields"),
    [
        ((2, 3), (3, 4), {"alpha": 0.5}),
        ((5, 3, 2), (5, 3, 4), {"transA": 1}),
        ((5, 2, 3), (5, 4, 3), {"transB": 1, "alpha": 2.0}),
        ((2, 5, 3), (5, 3, 4), {"transBatchA": 1}),
        ((5, 2, 3), (3, 5, 4), {"transBatchB": 1}),
        ((4, 6, 5, 3), (6, 5, 3, 2), {"transBatchA": 1}),
        ((3, 5, 2), (5, 3, 4), {"transBatchA": 1, "transA": 1}),
        ((3,), (3, 4), {"transA": 1}),
    ],
)
def test_fused_matmul(a: tuple[int, ...], b: tuple[int, ...], fields: dict[str, Any]) -> None:
    inputs = [floats(*a), floats(*b)]
    shapes = symbols_by_size(inputs)
    check("FusedMatMul", inputs, shapes=shapes, **fields)
    check("FusedMatMul", [x.astype(np.float64) for x in inputs], tolerance=1e-6, **fields)
    if not any(name.startswith("transBatch") for name in fields):
        check("TransposeMatMul", inputs, shapes=shapes, **fields)


@pytest.mark.parametrize(
    ("activation", "parameters"),
    [
        ("Relu", {}), ("Tanh", {}), ("Sigmoid", {}), ("Softplus", {}), ("Softsign", {}),
        ("LeakyRelu", {"alpha": 0.2}), ("Elu", {"alpha": 0.3}), ("Celu", {"alpha": 0.4}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.1}), ("Selu", {"alpha": 0.3, "gamma": 2.0}),
        ("ThresholdedRelu", {"alpha": 0.5}), ("ScaledTanh", {"alpha": 0.5, "beta": 2.0}),
        ("ParametricSoftplus", {"alpha": 0.5, "beta": 2.0}),
    ],
)  # fmt: skip
def test_fused_gemm(activation: str, parameters: dict[str, float]) -> None:
    fields = {f"activation_{name}": value for name, value in parameters.items()}
    check("FusedGemm", [A, B, C], shapes={0: ["m", 4]}, activation=activation, **fields)


def test_fused_gemm_of_transposed_operands() -> None:
    fields = {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0, "activation": "Relu"}
    check("FusedGemm", [A.T.copy(), B.T.copy(), C], constants=[1, 2], native=True, **fields)


def test_products_without_a_kernel() -> None:
    check("FusedMatMulActivation", [A, B], shapes={0: ["m", 4]}, expected=[np.maximum(0.5 * (A @ B), 0)], alpha=0.5,
          activation="Relu")  # fmt: skip
    total = A @ B + C
    model = node_model("FastGelu", [total], domain="com.microsoft")
    check("GemmFastGelu", [A, B, C], shapes={0: ["m", 4]}, expected=onnxruntime_outputs(model, [total]))


X, W, BIAS = floats(1, 3, 6, 5), floats(4, 3, 3, 3), floats(4)
IMAGES: dict[int, Sequence[int | str]] = {0: ["n", 3, "h", "w"], 3: ["n", 4, "h", "w"]}


@pytest.mark.parametrize(
    ("activation", "parameters"),
    [("Relu", []), ("Tanh", []), ("Sigmoid", []), ("HardSwish", []), ("LeakyRelu", [0.2]), ("Clip", [-1.0, 1.0]),
     ("HardSigmoid", [0.2, 0.4])],
)  # fmt: skip
def test_fused_conv(activation: str, parameters: list[float]) -> None:
    fields: dict[str, Any] = {"pads": [1] * 4, "activation": activation}
    if parameters:
        fields["activation_params"] = parameters
    check("FusedConv", [X, W, BIAS], shapes={0: IMAGES[0]}, constants=[1, 2], **fields)


def test_fused_conv_with_a_sum() -> None:
    other = floats(1, 4, 6, 5)
    fields: dict[str, Any] = {"pads": [1] * 4, "activation": "Relu"}
    check("FusedConv", [X, W, BIAS, other], shapes=IMAGES, constants=[1, 2], native=True, **fields)
    check("FusedConv", [X, W, None, other], shapes=IMAGES, **fields)
    check("FusedConv", [X, floats(6, 1, 3, 3), floats(6)], group=3, strides=[2, 2])


def test_channels_last() -> None:
    def turned(x: Array) -> Array:
        return np.ascontiguousarray(np.moveaxis(x, 1, -1))

    other, fields = floats(1, 4, 6, 5), {"pads": [1] * 4}
    plain = onnxruntime_outputs(node_model("Conv", [X, W, BIAS], **fields), [X, W, BIAS])[0]
    shapes: dict[int, Sequence[int | str]] = {0: ["n", "h", "w", 3], 3: ["n", "h", "w", 4]}
    check("NhwcConv", [turned(X), W, BIAS], shapes={0: shapes[0]}, expected=[turned(plain)], **fields)
    check("NhwcFusedConv", [turned(X), W, BIAS, turned(other)], shapes=shapes, activation="Relu",
          expected=[turned(np.maximum(plain + other, 0))], **fields)  # fmt: skip
    pooled = (floats(2, 7, 6, 3) * 50).astype(np.int8)
    fields = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
    check("NhwcMaxPool", [pooled], shapes={0: shapes[0]}, **fields)
    check("NhwcMaxPool", [pooled.astype(np.uint8)], ceil_mode=1, **fields)


@pytest.mark.parametrize(
    ("op_type", "inputs", "fields", "words"),
    [
        ("FusedConv", [X, W], {"activation": "Sinh"}, "'Sinh' is not one of Affine"),
        ("FusedConv", [X, W], {"activation": "LeakyRelu"}, "takes alpha, not"),
        ("FusedGemm", [A, B], {"activation": "Selu", "activation_alpha": 1.0}, "takes alpha, gamma"),
        ("NhwcConv", [A, B], {}, "not rank 2"),
    ],
)
def test_refusals(op_type: str, inputs: Sequence[Array], fields: dict[str, Any], words: str) -> None:
    with refused(words, Unsupported):
        imported(node_model(op_type, inputs, domain="com.microsoft", **fields))
