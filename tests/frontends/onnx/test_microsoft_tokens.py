"""Attention of batches without padding, compared with attention of each sequence alone by onnxruntime."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.microsoft_harness import Array, check, floats
from tests.frontends.onnx.rule_harness import i32, imported, node_model, onnxruntime_outputs, refused

SUMS = i32([0, 1, 4, 6])
OFFSETS = i32([[0, 3, 4], [5, 6, 7], [1, 2, 8]])
SHAPES: dict[int, Sequence[int | str]] = {0: ["n", 8], 4: ["b", "s"], 5: ["b + 1"]}


def each(op_type: str, parts: Sequence[Array], rest: Sequence[Array]) -> Array:
    """The node's result for every sequence of a batch, one behind the other."""
    made = []
    for start, end in itertools.pairwise(SUMS):
        inputs = [*(part[None, start:end] for part in parts), *rest]
        model = node_model(op_type, inputs, domain="com.microsoft", num_heads=2)
        made.append(onnxruntime_outputs(model, inputs)[0][0])
    return np.concatenate(made)


def test_packed_attention() -> None:
    x, weights, bias = floats(6, 5), floats(5, 24), floats(24)
    expected = [each("Attention", [x], [weights, bias])]
    shapes: dict[int, Sequence[int | str]] = {0: ["n", 5], 3: ["b", "s"], 4: ["b + 1"]}
    inputs = [x, weights, bias, OFFSETS, SUMS]
    check("PackedAttention", inputs, shapes=shapes, expected=expected, num_heads=2, native=True)
    model = node_model("PackedAttention", [*inputs, floats(1, 2, 3, 3)], domain="com.microsoft", num_heads=2)
    with refused("padded sequences", Unsupported):
        imported(model)


def test_packed_multi_head_attention() -> None:
    parts, bias = [floats(6, 8), floats(6, 8) * 2, floats(6, 8) * 3], floats(24)
    expected = [each("MultiHeadAttention", parts, [bias])]
    shapes = SHAPES | {1: ["n", 8], 2: ["n", 8]}
    inputs = [*parts, bias, OFFSETS, SUMS]
    check("PackedMultiHeadAttention", inputs, shapes=shapes, expected=expected, num_heads=2)
    packed = np.stack([part.reshape(6, 2, 4) for part in parts], 2)
    shapes = {0: ["n", 2, 3, 4], 4: ["b", "s"], 5: ["b + 1"]}
    inputs = [packed, None, None, bias, OFFSETS, SUMS]
    check("PackedMultiHeadAttention", inputs, shapes=shapes, expected=expected, num_heads=2)


def test_padding_removed_and_restored() -> None:
    x, counts = floats(3, 3, 4), i32([1, 3, 2])
    kept = np.arange(3) < counts[:, None]
    outputs = ["y", "offsets", "sums", "most"]
    expected = [x[kept], OFFSETS, SUMS, i32([3])]
    check("RemovePadding", [x, counts], outputs, shapes={0: ["b", "s", 4], 1: ["b"]}, expected=expected, native=True)
    expected = [np.where(kept[..., None], x, 0)]
    inputs = [x[kept], OFFSETS]
    check("RestorePadding", inputs, shapes={0: ["n", 4], 1: ["b", "s"]}, expected=expected, native=True)
