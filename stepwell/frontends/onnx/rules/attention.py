"""Attention and what goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.attention import AttentionOp, LinearAttentionOp, RotaryEmbeddingOp, default_scale
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.convolution import ConvOp
from stepwell.dialects.graph.elementwise import MulOp, SigmoidOp, SubOp
from stepwell.dialects.graph.movement import ConcatOp, PadOp, SplitOp
from stepwell.dialects.graph.shape import ShapeOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import cast, reshaped
from stepwell.frontends.onnx.rules.contraction import transpose
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, floordiv
from stepwell.ir.types import F16, I1, is_float

SCORES = ("raw", "capped", "biased", "probabilities")


def split_heads(node: Node, x: Value, heads: int, what: str) -> Value:
    """[b, s, heads * size] -> [b, heads, s, size]"""
    batch, length, hidden = shape_of(x)
    if heads < 1 or (isinstance(hidden, int) and hidden % heads):
        raise node.unsupported(f"the {what}'s last axis of {hidden} does not split into {heads} heads")
    size = floordiv(hidden, heads)  # what is left over, the reshape forbids
    return transpose(node, reshaped(node, x, (batch, length, heads, size)), (0, 2, 1, 3))


def merge_heads(node: Node, x: Value) -> Value:
    """[b, heads, s, size] -> [b, s, heads * size]"""
    batch, heads, length, size = shape_of(x)
    return reshaped(node, transpose(node, x, (0, 2, 1, 3)), (batch, length, heads * size))


def size_of(node: Node, x: Value, axis: int) -> Value:
    """One size of x, as a list of one si64."""
    return node.insert(ShapeOp(x, start=axis, end=axis + 1)).result


def scale_or_default(given: float | None, size: Dim) -> float | None:
    """The given scale, else 1 / sqrt(head size); None where that is left to the run."""
    return given if given is not None or not isinstance(size, int) else default_scale(size)


def query_offset(node: Node, query: Value, past: Value | None, lengths: Value | None) -> Value | None:
    """The position of the first query: behind the past, or where the last valid key is the last query's."""
    if past is not None:
        return size_of(node, past, 2)
    if lengths is not None:
        return node.insert(SubOp(lengths, size_of(node, query, 2))).result
    return None


@rule("Attention", since=23)
def attention(node: Node) -> Sequence[Value]:
    """Past and present are concatenations outside the op; 3-D operands are split into heads and merged again."""
    query, key, value = (node.input(index) for index in range(3))
    flat = len(shape_of(query)) == 3
    if flat:
        heads, groups = node.int("q_num_heads", 0), node.int("kv_num_heads", 0)
        query = split_heads(node, query, heads, "query")
        key, value = split_heads(node, key, groups, "key"), split_heads(node, value, groups, "value")
    past, past_value, lengths = node.optional(4), node.optional(5), node.optional(6)
    if (past is None) != (past_value is None):
        raise node.unsupported("past_key and past_value are given together or not at all")
    if past is not None and past_value is not None:
        key = node.insert(ConcatOp([past, key], axis=2)).result
        value = node.insert(ConcatOp([past_value, value], axis=2)).result
    causal = bool(node.int("is_causal", 0)) or None
    left, right = node.int("left_window_size", -1), node.int("right_window_size", -1)
    positional = causal or left >= 0 or right >= 0
    scale = scale_or_default(node.float("scale") if node.has("scale") else None, shape_of(query)[3])
    mode = node.int("qk_matmul_output_mode", 0)
    if not 0 <= mode < len(SCORES):
        raise node.unsupported(f"qk_matmul_output_mode {mode} is not 0 to 3")
    mask = node.optional(3)
    if mask is not None and tensor_type(mask).element is not I1 and not is_float(mask.type):
        mask = cast(node, mask, tensor_type(query).element)  # integers may be added to scores as well
    op = AttentionOp(
        query, key, value, mask, lengths,
        query_offset(node, query, past, lengths) if positional else None,
        scale=scale, causal=causal, left=left if left >= 0 else None, right=right if right >= 0 else None,
        softcap=node.float("softcap", 0.0) or None,
        precision=node.element_type("softmax_precision") if node.int("softmax_precision", 0) else None,
        scores=SCORES[mode] if node.has_output(3) else None,
        narrow=(_rounds_every_step(node, query) and (scale is None or scale >= 0)) or None,
    )  # fmt: skip
    made = node.insert(op)
    output = merge_heads(node, made.output) if flat else made.output
    return [output, key, value, *made.exposed]


def _rounds_every_step(node: Node, query: Value) -> bool:
    """Whether the operator's definition computes in f16 throughout."""
    return tensor_type(query).element is F16 and not node.int("softmax_precision", 0)


@rule("RotaryEmbedding", since=23)
def rotary_embedding(node: Node) -> Value:
    """Inputs X, cos_cache, sin_cache, position_ids; a 3-D X is split into heads."""
    x = node.input(0)
    flat = len(shape_of(x)) == 3
    if flat:
        x = split_heads(node, x, node.int("num_heads", 0), "input")
    cos, sin = node.input(1), node.input(2)
    rotated, half = node.int("rotary_embedding_dim", 0) or shape_of(x)[3], shape_of(cos)[-1]
    if isinstance(rotated, int) and isinstance(half, int) and rotated != 2 * half:
        raise node.unsupported(f"cos_cache has {half} columns where {rotated} elements are rotated")
    interleaved = bool(node.int("interleaved", 0)) or None
    made = node.insert(RotaryEmbeddingOp(x, cos, sin, node.optional(3), interleaved=interleaved)).result
    return merge_heads(node, made) if flat else made


@rule("LinearAttention", since=27)
def linear_attention(node: Node) -> Sequence[Value]:
    """The update rule says which of decay and beta are given; `chunk_size` is only a hint."""
    heads, groups = node.int("q_num_heads"), node.int("kv_num_heads")
    update = node.string("update_rule", "gated_delta")
    if update not in ("linear", "gated", "delta", "gated_delta"):
        raise node.unsupported(f"the update rule {update!r} is not known")
    query = split_heads(node, node.input(0), heads, "query")
    key, value = (split_heads(node, node.input(i), groups, w) for i, w in ((1, "key"), (2, "value")))
    decay, beta = node.optional(4), node.optional(5)
    for what, given, needed in (("decay", decay, "gated" in update), ("beta", beta, "delta" in update)):
        if (given is not None) != needed:
            raise node.unsupported(f"the update rule {update!r} {'needs' if needed else 'forbids'} {what}")
    if decay is not None:
        decay = split_heads(node, decay, groups, "decay")
    if beta is not None:
        beta = transpose(node, reshaped(node, beta, (*shape_of(beta), 1)), (0, 2, 1, 3))
    scale = scale_or_default(node.float("scale", 0.0) or None, shape_of(query)[3])
    made = node.insert(LinearAttentionOp(query, key, value, node.optional(3), decay, beta, scale=scale))
    return [merge_heads(node, made.output), made.final]


@rule("CausalConvWithState", since=27)
def causal_conv_with_state(node: Node) -> Sequence[Value]:
    """Depthwise convolution over the past k - 1 elements (zeros without a past) and the new ones."""
    x, weight, past = node.input(0), node.input(1), node.optional(3)
    channels = shape_of(weight)[0]
    one = node.constant(np.array([1], np.int64))
    lack = node.insert(SubOp(size_of(node, weight, 2), one)).result
    if past is not None:
        padded = node.insert(ConcatOp([past, x], axis=2)).result
    else:
        before, behind = (node.constant(np.zeros(count, np.int64)) for count in (2, 3))
        padded = node.insert(PadOp(x, node.insert(ConcatOp([before, lack, behind], axis=0)).result)).result
    groups = channels if isinstance(channels, int) else 0
    fields: dict[str, Any] = {"strides": [1], "dilations": [1], "pads": [0, 0], "groups": groups}
    made = node.insert(ConvOp(padded, weight, node.optional(2), **fields)).result
    activation = node.string("activation", "none")
    if activation not in ("none", "silu", "swish"):
        raise node.unsupported(f"the activation {activation!r} is not known")
    if activation != "none":
        made = node.insert(MulOp(made, node.insert(SigmoidOp(made)).result)).result
    kept = shape_of(weight)[2] - 1
    present = node.insert(SplitOp.into(padded, [shape_of(padded)[2] - kept, kept], 2)).parts[1]
    return [made, present]
