"""Layers with quantised weights of com.microsoft, compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepwell
from tests.frontends.onnx.quantized_harness import RNG, Array, check, real, scale, whole
from tests.frontends.onnx.rule_harness import given, imported, node_model, refused

T, BATCH, WIDTH, HIDDEN = 6, 3, 5, 4


MASK = np.array([[0, 1, 1, 0, 1], [2, 1, 1, 1, 1]], np.int32)
WIDE, HEADS, LONG = 8, 2, 5


def attention(dtype: Any, by_column: bool = False, mask: Any = None, past: int = 0, points: bool = True) -> list[Any]:
    """Inputs of QAttention."""
    size = (3 * WIDE,) if by_column else ()
    zeros = [np.uint8(120), whole(dtype, *size)] if points else [None, None]
    kept = real(2, 2, HEADS, past, WIDE // HEADS) if past else None
    weights, scales = whole(dtype, WIDE, 3 * WIDE), (scale(*size) / 4).astype(np.float32)
    inputs = [whole(np.uint8, 2, LONG, WIDE), weights, real(3 * WIDE), scale(), scales, mask, *zeros, kept]
    while inputs[-1] is None:
        inputs.pop()
    return inputs


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {}), ({"by_column": True}, {"scale": 0.3}), ({"points": False}, {}), ({}, {"unidirectional": 1}),
        ({"mask": MASK > 0}, {}), ({"mask": MASK > 0}, {"mask_filter_value": -5.0, "unidirectional": 1}),
        ({"mask": np.array([2, LONG])}, {}), ({"mask": np.array([2, LONG, 0, 1])}, {}), ({"past": 3}, {}),
        ({"past": 3, "by_column": True}, {"unidirectional": 1}),
    ],
)  # fmt: skip
def test_attention(options: dict[str, Any], fields: dict[str, Any], dtype: Any) -> None:
    if "mask" in options:
        options = options | {"mask": options["mask"].astype(np.int32)}
    inputs = attention(dtype, **options)
    fixed = [index for index in (1, 4, 7) if index < len(inputs) and inputs[index] is not None]
    outputs = 2 if "past" in options else 1
    masked = "mask" in options and options["mask"].ndim == 1
    fields = fields | {"num_heads": HEADS, "symbolic": not masked, "rtol": 1e-4, "atol": 1e-5}
    check("QAttention", inputs, outputs, fixed=fixed, **fields)


def test_attention_that_is_refused() -> None:
    inputs = attention(np.int8, past=3)
    for fields, words in (({"do_rotary": 1}, "rotation"), ({"past_present_share_buffer": 1}, "the length of its past")):
        with refused(words):
            imported(node_model("QAttention", inputs, outputs=2, domain="com.microsoft", num_heads=HEADS, **fields))


def lstm(directions: int, by_column: bool, dtype: Any, bias: bool = False, states: bool = False) -> list[Any]:
    """Inputs of DynamicQuantizeLSTM."""
    shape: tuple[int, ...] = (directions, 4 * HIDDEN) if by_column else (directions,)
    middle = 0 if dtype is np.int8 else 128
    weights: list[Array] = [
        (RNG.integers(-127, 128, (directions, k, 4 * HIDDEN)) + middle).clip(-128 + middle, 127 + middle).astype(dtype)
        for k in (WIDTH, HIDDEN)
    ]
    zero, state = np.full(shape, middle, dtype), (directions, BATCH, HIDDEN)
    lengths = np.array([6, 4, 2], np.int32)
    rest = [lengths, real(*state), real(*state), real(directions, 3 * HIDDEN) / 10] if states else [None] * 4
    given = real(directions, 8 * HIDDEN) if bias or states else None
    scales = [(scale(*shape) / 10).astype(np.float32) for _ in range(2)]
    return [real(T, BATCH, WIDTH), *weights, given, *rest, scales[0], zero, scales[1], zero]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(("direction", "by_column"), [("forward", False), ("reverse", True), ("bidirectional", True)])
def test_lstm(direction: str, by_column: bool, dtype: Any) -> None:
    """onnxruntime rounds x and the states to 8 bits of their range: a quantum of about 4 / 255 times weights of 0.5."""
    directions = 2 if direction == "bidirectional" else 1
    for options in ({}, {"bias": True}, {"states": True}):
        inputs = lstm(directions, by_column, dtype, **options)
        fields = {"hidden_size": HIDDEN, "direction": direction}
        check("DynamicQuantizeLSTM", inputs, 3, symbolic=False, fixed=[1, 2, 8, 9, 10, 11], atol=4e-2, rtol=0, **fields)


def test_lstm_is_that_of_dequantised_weights() -> None:
    """With sizes that are symbols."""
    inputs = lstm(2, True, np.int8, states=True)
    x, w, r, *rest = inputs[:8]
    floats = [
        np.ascontiguousarray((packed * scales[:, None]).astype(np.float32).transpose(0, 2, 1))
        for packed, scales in ((w, inputs[8]), (r, inputs[10]))
    ]
    fields = {"hidden_size": HIDDEN, "direction": "bidirectional"}
    wanted = imported(node_model("LSTM", [x, *floats, *rest], outputs=3, **fields)).run([x, *floats, *rest])
    shapes = {0: ["t", "b", WIDTH], 4: ["b"], 5: [2, "b", HIDDEN], 6: [2, "b", HIDDEN]}
    model = node_model("DynamicQuantizeLSTM", inputs, outputs=3, domain="com.microsoft", shapes=shapes, **fields)
    for made, other in zip(imported(model).run(inputs), wanted, strict=True):
        np.testing.assert_allclose(made, other, rtol=1e-6, atol=1e-6)


def test_sizes_of_weights_that_a_call_tells() -> None:
    inputs = lstm(1, True, np.int8)
    shapes = {0: ["t", "b", "k"], 1: [1, "k", 4 * HIDDEN]}
    model = stepwell.compile(
        node_model("DynamicQuantizeLSTM", inputs, domain="com.microsoft", shapes=shapes, hidden_size=HIDDEN)
    )
    assert model.is_specialised
    plain = imported(node_model("DynamicQuantizeLSTM", inputs, domain="com.microsoft", hidden_size=HIDDEN))
    np.testing.assert_allclose(model(*given(inputs)), plain.run(given(inputs))[0], rtol=1e-5, atol=1e-6)


def embedding(dtype: Any, segments: bool, mask: Any) -> list[Any]:
    """Inputs of QEmbedLayerNormalization."""
    ids, kinds = (RNG.integers(0, n, (2, 5)).astype(np.int32) for n in (10, 2))
    tables: list[Any] = [whole(dtype, n, 8) for n in (10, 7, 2)]
    scales: list[Any] = [scale() for _ in range(5)]
    zeros: list[Any] = [whole(dtype) for _ in range(5)]
    if not segments:
        kinds = tables[2] = scales[2] = zeros[2] = None
    return [ids, kinds, *tables, whole(dtype, 8), whole(dtype, 8), mask, *scales, *zeros]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(("segments", "mask"), [(True, None), (False, MASK), (True, MASK)])
def test_embedding(dtype: Any, segments: bool, mask: Any) -> None:
    check("QEmbedLayerNormalization", embedding(dtype, segments, mask), 2, epsilon=1e-5, rtol=1e-4, atol=1e-5)


def test_refusals() -> None:
    inputs = embedding(np.uint8, True, None)
    inputs[4] = None
    with refused("segment ids, their table, its scale and its zero point are given together"):
        imported(node_model("QEmbedLayerNormalization", inputs, outputs=2, domain="com.microsoft"))
    inputs = lstm(1, True, np.int8)
    with refused(r"the size k of its weights \(input 1\), whose columns have scales, must be known"):
        shapes = {1: [1, "k", 4 * HIDDEN]}
        imported(node_model("DynamicQuantizeLSTM", inputs, domain="com.microsoft", shapes=shapes, hidden_size=HIDDEN))
    inputs[1] = inputs[1][0]
    with refused("need rank 3, not 2"):
        imported(node_model("DynamicQuantizeLSTM", inputs, domain="com.microsoft", hidden_size=HIDDEN))
