"""Mixtures of experts of com.microsoft, compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.frontends.onnx.quantized_harness import RNG, Array, check, real, scale, whole
from tests.frontends.onnx.rule_harness import given, imported, node_model, refused

TOKENS, WIDTH, INNER, EXPERTS = 5, 32, 16, 4
SWIGLU = {"activation_type": "swiglu", "swiglu_fusion": 1}
LIMITED = SWIGLU | {"activation_alpha": 1.702, "activation_beta": 1.0, "swiglu_limit": 0.3}


def layer(n: int, k: int, bits: int, block: int, points: bool) -> list[Any]:
    """Packed weights, scales, bias and zero points."""
    weights = whole(np.uint8, EXPERTS, n, k * bits // 8)
    bias = real(EXPERTS, n)
    if block:
        zeros = whole(np.uint8, EXPERTS, n, -(-k // block * bits // 8))
        return [weights, scale(EXPERTS, n, k // block), bias, zeros if points else None]
    return [weights, scale(EXPERTS, n), bias, whole(np.uint8, EXPERTS, -(-n * bits // 8)) if points else None]


def packed(bits: int = 4, block: int = 0, points: bool = False, fused: bool = False, third: bool = False) -> list[Any]:
    """Inputs of QMoE."""
    first = layer(INNER * (1 + fused), WIDTH, bits, block, points)
    second = layer(WIDTH, INNER, bits, block, points)
    last = layer(INNER, WIDTH, bits, block, points) if third else [None] * 4
    zeros = [part[3] for part in (first, second, last)]
    inputs = [real(TOKENS, WIDTH), real(TOKENS, EXPERTS), *first[:3], *second[:3], *last[:3], *zeros]
    while inputs[-1] is None:
        inputs.pop()
    return inputs


def checked(inputs: list[Any], **fields: Any) -> None:
    """Weights are constants for onnxruntime."""
    fixed = [index for index in range(2, len(inputs)) if inputs[index] is not None and index != 14]
    check("QMoE", inputs, symbolic=False, fixed=fixed, rtol=1e-4, atol=2e-5, normalize_routing_weights=1, **fields)


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {"k": 2}), ({}, {"k": 1}), ({}, {"k": EXPERTS}), ({"bits": 2}, {"k": 2}), ({"points": True}, {"k": 2}),
        ({"block": 16}, {"block_size": 16, "k": 2}), ({"block": 16, "points": True}, {"block_size": 16, "k": 2}),
        ({}, {"activation_type": "gelu"}), ({}, {"activation_type": "silu"}), ({}, {"activation_type": "identity"}),
        ({"fused": True}, SWIGLU), ({"fused": True}, LIMITED),
    ],
)  # fmt: skip
def test_packed_experts(options: dict[str, Any], fields: dict[str, Any]) -> None:
    checked(packed(**options), expert_weight_bits=options.get("bits", 4), **fields)


def test_eight_bits() -> None:
    """In rows, since onnxruntime multiplies blocks of 8 bits by x rounded to 8 bits."""
    inputs = packed(8, points=True)
    for scales in (3, 6):
        inputs[scales] /= 100
    checked(inputs, expert_weight_bits=8, k=2)


def test_factors_apart_from_the_router() -> None:
    inputs = packed()
    inputs += [None] * (14 - len(inputs)) + [np.abs(real(TOKENS, EXPERTS)) + 0.1]
    checked(inputs, k=2)
    checked([inputs[0][None], *inputs[1:]], k=2)


def experts_in_floats(fused: bool = False) -> list[Array]:
    """Inputs of MoE."""
    rows = INNER * (1 + fused)
    first, second = [real(EXPERTS, rows, WIDTH) / 4, real(EXPERTS, rows)], [real(EXPERTS, WIDTH, INNER) / 4]
    return [real(TOKENS, WIDTH), real(TOKENS, EXPERTS), *first, *second, real(EXPERTS, WIDTH)]


@pytest.mark.parametrize("normalised", [0, 1])
@pytest.mark.parametrize("fields", [{}, {"activation_type": "gelu"}, {"activation_type": "silu"}, SWIGLU, LIMITED])
def test_experts_in_floats(fields: dict[str, Any], normalised: int) -> None:
    inputs = experts_in_floats("swiglu_fusion" in fields)
    check("MoE", inputs, rtol=1e-4, atol=2e-5, k=2, normalize_routing_weights=normalised, **fields)


def test_factors_that_are_not_normalised() -> None:
    """Packed experts as experts in floats: onnxruntime normalises the factors of packed ones always."""
    inputs = packed()
    floats = [inputs[0], inputs[1]]
    for weights, scales, bias in (inputs[2:5], inputs[5:8]):
        numbers = np.stack([weights & 15, weights >> 4], -1).reshape(*weights.shape[:2], -1).astype(np.float32)
        floats += [((numbers - 8) * scales[..., None]).astype(np.float32), bias]
    made = imported(node_model("QMoE", inputs, domain="com.microsoft", k=2)).run(given(inputs))
    wanted = imported(node_model("MoE", floats, domain="com.microsoft", k=2)).run(floats)
    np.testing.assert_allclose(made[0], wanted[0], rtol=1e-5, atol=1e-5)


def test_the_two_parts_of_swiglu() -> None:
    """In turns, one after the other, and as layers of their own."""
    x, logits, w1, b1, w2, b2 = experts_in_floats(True)
    results = []
    halves = [np.concatenate([part[:, ::2], part[:, 1::2]], 1) for part in (w1, b1)]
    apart = [part for half in (0, 1) for part in (w1[:, half::2], b1[:, half::2])]
    for fusion, inputs in (
        (1, [x, logits, w1, b1, w2, b2]), (2, [x, logits, *halves, w2, b2]),
        (0, [x, logits, *apart[:2], w2, b2, *apart[2:]]),
    ):  # fmt: skip
        fields = {"activation_type": "swiglu", "swiglu_fusion": fusion, "k": 2}
        results.append(imported(node_model("MoE", inputs, domain="com.microsoft", **fields)).run(inputs)[0])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-5, atol=1e-6)


def test_any_number_of_tokens() -> None:
    inputs = packed(third=True, points=True)
    shapes = {0: ["b", "s", WIDTH], 1: ["t", EXPERTS]}
    arrays = given([RNG.standard_normal((1, TOKENS, WIDTH)).astype(np.float32), *inputs[1:]])
    fields = {"activation_type": "silu", "k": 2}
    plain = imported(node_model("QMoE", inputs, domain="com.microsoft", **fields)).run([arrays[0][0], *arrays[1:]])
    wide = node_model("QMoE", [arrays[0], *inputs[1:]], domain="com.microsoft", shapes=shapes, **fields)
    np.testing.assert_allclose(imported(wide).run(arrays)[0][0], plain[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"quant_type": "fp8"}, "quant_type 'fp8'"),
        ({"weights_prepacked": 1}, "another device's kernel"),
        ({"use_sparse_mixer": 1}, "sparse mixer"),
        ({"expert_weight_bits": 3}, "numbers of 3 bits"),
        ({"fc2_expert_weight_bits": 5}, "numbers of 5 bits"),
        ({"block_size": 48}, "blocks of 48 do not divide"),
        ({"activation_type": "tanh"}, "the activation 'tanh'"),
        ({"activation_type": "swiglu"}, "there are no two parts"),
        ({"k": 9}, "the top 9 of 4 elements"),
    ],
)
def test_refusals(fields: dict[str, Any], words: str) -> None:
    with refused(words):
        imported(node_model("QMoE", packed(), domain="com.microsoft", **fields))
