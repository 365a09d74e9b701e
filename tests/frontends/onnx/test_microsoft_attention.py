"""MultiHeadAttention and Attention of com.microsoft, compared with onnxruntime, or with what it runs unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.microsoft_harness import Array, check, floats
from tests.frontends.onnx.rule_harness import given, i32, imported, node_model, onnxruntime_outputs, refused

Q, K, V = floats(2, 3, 8), floats(2, 5, 8), floats(2, 5, 12)
PAST = floats(2, 2, 4, 4)
SHAPES: dict[int, Sequence[int | str]] = {
    0: ["b", "s", 8], 1: ["b", "t", 8], 2: ["b", "t", 12], 6: ["b", 2, "p", 4], 7: ["b", 2, "p", 4],
}  # fmt: skip
SELF = SHAPES | {1: ["b", "s", 8], 2: ["b", "s", 8]}
PADDED = i32([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
BITS = np.random.default_rng(3).integers(0, 2, (2, 3, 5)).astype(np.int32)


def multi_head(inputs: Sequence[Array | None], outputs: int = 1, **fields: Any) -> None:
    names = ["y", "key", "value", "scores"][:outputs]
    shapes = fields.pop("shapes", SHAPES)
    check("MultiHeadAttention", inputs, names, shapes=shapes, typed=["scores"], num_heads=2, **fields)


def test_operands_of_multi_head_attention() -> None:
    multi_head([Q, K, V], native=True)
    multi_head([Q, K, V], 4)
    multi_head([Q, K, V], scale=0.3)
    multi_head([Q, K, V, floats(28)], constants=[3])
    multi_head([Q, K, V, floats(28)])
    heads: dict[int, Sequence[int | str]] = {0: ["b", "s", 8], 1: ["b", 2, "t", 4], 2: ["b", 2, "t", 4]}
    cross = [Q, floats(2, 2, 5, 4), floats(2, 2, 5, 4) * 2]
    multi_head(cross, shapes=heads)
    multi_head([*cross, floats(24)], shapes=heads)


@pytest.mark.parametrize(
    ("mask", "shape"),
    [
        (i32([2, 5]), ["b"]),
        (PADDED, ["b", "t"]),
        (BITS, ["b", "s", "t"]),
        (i32([3, 5, 0, 3, 6, 0, 5, 10]), ["3*b + 2"]),
    ],
    ids=["ends", "keys", "keys by query", "ends and sums"],
)
def test_masks_of_multi_head_attention(mask: Array, shape: Sequence[int | str]) -> None:
    shapes = SHAPES | {4: shape}
    multi_head([Q, K, V, None, mask], shapes=shapes)
    multi_head([Q, K, V, None, mask], shapes=shapes, mask_filter_value=-3.0)
    bias = floats(2, 2, 3, 5)
    multi_head([Q, K, V, None, mask, bias], 4, shapes=shapes | {5: ["b", 2, "s", "t"]})


def test_queries_without_keys_see_all() -> None:
    """With -10000 added, scores keep three digits behind the point, which differ by the order of sums."""
    mask = i32([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0]])
    multi_head([Q, K, V, None, mask], shapes=SHAPES | {4: ["b", "t"]}, mask_filter_value=-30.0)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("batch", [1, 2])
def test_bias_of_multi_head_attention(batch: int, heads: int) -> None:
    shapes = SHAPES | {5: ["b" if batch > 1 else 1, heads, "s", "t"]}
    multi_head([Q, K, V, None, None, floats(batch, heads, 3, 5)], shapes=shapes)


@pytest.mark.parametrize("causal", [0, 1])
def test_past_of_multi_head_attention(causal: int) -> None:
    fields = {"shapes": SELF, "unidirectional": causal}
    multi_head([Q, 2 * Q, 3 * Q, None, None, None, PAST, PAST * 2], 4, **fields)
    multi_head([Q, 2 * Q, 3 * Q], 4, **fields)
    for mask, shape in ((i32([2, 3]), ["b"]), (PADDED[:, :3], ["b", "s"]), (BITS[:, :, :3], ["b", "s", "s"])):
        sizes = SELF | {4: shape}
        multi_head([Q, 2 * Q, 3 * Q, None, mask], shapes=sizes, unidirectional=causal, mask_filter_value=-3.0)
    mask = np.random.default_rng(4).integers(0, 2, (2, 7)).astype(np.int32)
    fields["shapes"] = SELF | {4: ["b", "p + s"]}
    multi_head([Q, 2 * Q, 3 * Q, floats(24), mask, None, PAST, PAST * 2], 3, native=True, **fields)


@pytest.mark.parametrize("rows", [1, 3])
def test_cache_with_room_of_multi_head_attention(rows: int) -> None:
    new, held = floats(2, rows, 8), floats(2, 2, 9, 4)
    inputs = [new, 2 * new, 3 * new, None, None, None, held, held * 2, i32([4])]

    def valid(index: int, array: Array) -> Array:
        return array[:, :, : 4 + rows] if index else array

    shapes = SELF | {6: ["b", 2, "room", 4], 7: ["b", 2, "room", 4]}
    multi_head(inputs, 3, shapes=shapes, unidirectional=1, defined=valid, native=rows == 1)


def test_packed_operands_of_multi_head_attention() -> None:
    """onnxruntime's kernel for a CPU takes operands apart only."""
    packed = floats(2, 3, 2, 3, 4)
    apart = [packed[:, :, :, n].reshape(2, 3, 8) for n in range(3)]
    for bias in (None, floats(24)):
        expected = onnxruntime_outputs(
            node_model("MultiHeadAttention", [*apart, bias], domain="com.microsoft", num_heads=2),
            given([*apart, bias]),
        )
        multi_head([packed, None, None, bias], shapes={0: ["b", "s", 2, 3, 4]}, expected=expected)
    pair = floats(2, 5, 2, 2, 4)
    apart = [Q, *(pair[:, :, :, n].reshape(2, 5, 8) for n in range(2))]
    expected = onnxruntime_outputs(node_model("MultiHeadAttention", apart, domain="com.microsoft", num_heads=2), apart)
    multi_head([Q, pair], shapes={0: ["b", "s", 8], 1: ["b", "t", 2, 2, 4]}, expected=expected)


def test_decoder_masked_attention() -> None:
    one, keys, values = floats(2, 1, 8), floats(2, 1, 8) * 2, floats(2, 1, 8) * 3
    shapes: dict[int, Sequence[int | str]] = {
        0: ["b", 1, 8], 1: ["b", 1, 8], 2: ["b", 1, 8], 5: ["b", 2, "room", 4], 6: ["b", 2, "room", 4],
    }  # fmt: skip
    held, mask = floats(2, 2, 9, 4), i32([[1, 0, 1, 1, 1], [1, 1, 1, 1, 1]])

    def valid(index: int, array: Array) -> Array:
        return array[:, :, :5] if index else array

    def decoder(inputs: Sequence[Array | None], outputs: int, shapes: Any, **fields: Any) -> None:
        names = ["y", "key", "value", "scores"][:outputs]
        check("DecoderMaskedMultiHeadAttention", inputs, names, shapes=shapes, typed=["scores"], num_heads=2,
              defined=valid, **fields)  # fmt: skip

    room = [held, held * 2, i32([4])]
    decoder([one, keys, values, None, None, *room], 3, shapes, past_present_share_buffer=1)
    masked = shapes | {3: ["b", "total"], 4: [1, 2, 1, "total"]}
    decoder([one, keys, values, mask, floats(1, 2, 1, 5), *room], 4, masked, output_qk=1, past_present_share_buffer=1)
    decoder([one, keys, values, None, None, *room, None, None, floats(24)], 3, shapes, past_present_share_buffer=1)
    cross = [one, floats(2, 2, 5, 4), floats(2, 2, 5, 4) * 2]
    decoder(cross, 1, {0: ["b", 1, 8], 1: ["b", 2, "t", 4], 2: ["b", 2, "t", 4]})


X, WEIGHTS, BIAS = floats(2, 3, 6), floats(6, 24), floats(24)
ATTENTION: dict[int, Sequence[int | str]] = {0: ["b", "s", 6]}
HELD = floats(2, 2, 2, 4, 4)


def projected(inputs: Sequence[Array | None], outputs: int = 1, **fields: Any) -> None:
    shapes = ATTENTION | fields.pop("shapes", {})
    check("Attention", inputs, ["y", "present"][:outputs], shapes=shapes, **{"num_heads": 2, **fields})


def test_attention() -> None:
    projected([X, WEIGHTS, BIAS], constants=[1, 2], native=True)
    projected([X, WEIGHTS, BIAS], 2, scale=0.3, unidirectional=1)
    projected([X, floats(6, 28), floats(28)], qkv_hidden_sizes=[8, 8, 12])
    for batch, heads in ((1, 1), (2, 2), (2, 1)):
        bias = {5: ["b" if batch > 1 else 1, heads, "s", "s"]}
        projected([X, WEIGHTS, BIAS, None, None, floats(batch, heads, 3, 3)], shapes=bias)


def test_attention_without_bias() -> None:
    """onnxruntime's kernel reads a bias that is not there."""
    expected = onnxruntime_outputs(
        node_model("Attention", [X, WEIGHTS, 0 * BIAS], domain="com.microsoft", num_heads=2), [X, WEIGHTS, 0 * BIAS]
    )
    projected([X, WEIGHTS], expected=expected)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize(
    ("mask", "shape"),
    [
        (i32([2, 3]), ["b"]),
        (i32([3, 2, 1, 0]), ["2*b"]),
        (i32([2, 3, 0, 3, 6, 0, 2, 5]), ["3*b + 2"]),
        (i32([[1, 1, 0], [0, 0, 0]]), ["b", "s"]),
        (BITS[:, :, :3], ["b", "s", "s"]),
    ],
    ids=["ends", "ends and starts", "ends and sums", "keys", "keys by query"],
)
def test_masks_of_attention(mask: Array, shape: Sequence[int | str], causal: int) -> None:
    projected([X, WEIGHTS, BIAS, mask], shapes={3: shape}, unidirectional=causal)
    projected([X, WEIGHTS, BIAS, mask], shapes={3: shape}, unidirectional=causal, mask_filter_value=-3.0)


@pytest.mark.parametrize("causal", [0, 1])
def test_past_of_attention(causal: int) -> None:
    past = {4: [2, "b", 2, "p", 4]}
    projected([X, WEIGHTS, BIAS, None, HELD], 2, shapes=past, unidirectional=causal)
    projected([X, WEIGHTS, BIAS, i32([7, 6]), HELD], 2, shapes=past | {3: ["b"]}, unidirectional=causal)
    mask = np.random.default_rng(4).integers(0, 2, (2, 7)).astype(np.int32)
    shapes = past | {3: ["b", "p + s"]}
    projected([X, WEIGHTS, BIAS, mask, HELD], 2, shapes=shapes, unidirectional=causal)


def test_forms_that_no_kernel_for_a_cpu_has() -> None:
    """A mask of rank 4 is a mask of rank 3 cut out at the past; a cache with room is one without, when it is cut."""
    whole = np.tril(np.ones((2, 1, 9, 9), np.int32))
    past: dict[str, Any] = {"shapes": {4: [2, "b", 2, "p", 4]}}
    model = node_model("Attention", [X, WEIGHTS, BIAS, whole[:, 0, 4:7, :7], HELD], outputs=["y", "present"],
                       domain="com.microsoft", num_heads=2)  # fmt: skip
    expected = onnxruntime_outputs(model, [X, WEIGHTS, BIAS, whole[:, 0, 4:7, :7], HELD])
    projected([X, WEIGHTS, BIAS, whole, HELD], 2, expected=expected, **past)
    room = np.concatenate([HELD, floats(2, 2, 2, 5, 4)], 3)
    expected[1] = np.concatenate([expected[1], room[:, :, :, 7:]], 3)
    inputs = [X, WEIGHTS, BIAS, whole[:, 0, 4:7, :7], room, None, i32([4])]
    projected(inputs, 2, expected=expected, past_present_share_buffer=1, **past)


@pytest.mark.parametrize(
    ("op_type", "inputs", "fields", "words"),
    [
        ("MultiHeadAttention", [Q], {}, "needs keys and values"),
        ("MultiHeadAttention", [Q, K, V, None, None, None, PAST], {}, "past keys and past values"),
        ("MultiHeadAttention", [Q, K, V, None, i32([1, 2, 3])], {}, "3 positions for a batch of 2"),
        ("MultiHeadAttention", [Q, K, V], {"unidirectional": 1}, "3 queries to 5 keys"),
        ("MultiHeadAttention", [Q, K, V], {"num_heads": 3}, "does not split into 3 heads"),
        ("Attention", [X, WEIGHTS, BIAS], {"do_rotary": 1}, "rotation inside"),
        ("Attention", [X, floats(6, 28), floats(28)], {}, "28 columns"),
    ],
)
def test_refusals(op_type: str, inputs: Sequence[Array | None], fields: dict[str, Any], words: str) -> None:
    with refused(words, Unsupported):
        imported(node_model(op_type, inputs, domain="com.microsoft", **{"num_heads": 2, **fields}))
