"""Attention of transformers, and the rotation of positions into its heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph.attention import AttentionOp, RotaryEmbeddingOp
from stepwell.dialects.graph.base import constant_array, shape_of, tensor_type
from stepwell.dialects.graph.conversion import CastOp
from stepwell.dialects.graph.movement import ConcatOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.attention import merge_heads, query_offset, scale_or_default, split_heads
from stepwell.frontends.onnx.rules.composing import reshaped
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, added
from stepwell.ir.core import Value
from stepwell.ir.dims import divide_exact
from stepwell.ir.types import I1, numpy_dtype


@rule("MultiHeadAttention", domain=DOMAIN)
def multi_head_attention(node: Node) -> Sequence[Value]:
    """Inputs query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value; outputs y and the present
    keys and values. Packed forms of query and key are not taken."""
    if not node.has_input(1) or not node.has_input(2) or len(shape_of(node.input(1))) not in (3, 4):
        raise node.unsupported("packed queries, keys and values are not supported", "pass them as three inputs")
    heads = node.int("num_heads")
    parts = [node.input(index) for index in range(3)]
    if node.has_input(3):
        parts = _biased(node, parts, node.input(3))
    query, key, value = (
        part if len(shape_of(part)) == 4 else split_heads(node, part, heads, "input") for part in parts
    )
    past, past_value = node.optional(6), node.optional(7)
    if past is not None and past_value is not None:
        key = node.insert(ConcatOp([past, key], axis=2)).result
        value = node.insert(ConcatOp([past_value, value], axis=2)).result
    mask = node.optional(5)
    if node.has_input(4):
        if mask is not None or len(shape_of(node.input(4))) != 2:
            raise node.unsupported("a key padding mask needs rank 2 and no attention bias beside it")
        batch, keys = shape_of(node.input(4))
        mask = reshaped(node, node.insert(CastOp(node.input(4), to=I1)).result, (batch, 1, 1, keys))
    causal = bool(node.int("unidirectional", 0)) or None
    scale = scale_or_default(node.float("scale", 0.0) or None, shape_of(query)[3])
    offset = query_offset(node, query, past, None) if causal else None
    made = node.insert(AttentionOp(query, key, value, mask, None, offset, scale=scale, causal=causal))
    return [merge_heads(node, made.output), key, value]


def _biased(node: Node, parts: Sequence[Value], bias: Value) -> list[Value]:
    """The three inputs plus their parts of one constant bias."""
    array = constant_array(bias)
    if array is None or any(len(shape_of(part)) != 3 for part in parts):
        raise node.unsupported("a bias needs to be constant, and inputs of rank 3")
    sizes = [shape_of(part)[2] for part in parts]
    if not all(isinstance(size, int) for size in sizes):
        raise node.unsupported("a bias needs inputs of known hidden sizes")
    ends = np.cumsum([int(size) for size in sizes if isinstance(size, int)])
    dtype = numpy_dtype(tensor_type(bias).element)
    rows = [node.constant(row.astype(dtype)) for row in np.split(array, ends[:-1])]
    return [added(node, part, row) for part, row in zip(parts, rows, strict=True)]


@rule("RotaryEmbedding", domain=DOMAIN)
def rotary_embedding(node: Node) -> Value:
    """Inputs x, positions [b, s], cos and sin tables; heads of a 3-D x are counted by num_heads, or are as wide as the
    tables say."""
    x, positions, cos, sin = (node.input(index) for index in range(4))
    if len(shape_of(positions)) != 2 or node.float("scale", 1.0) != 1 or node.int("is_packed_batching", 0):
        raise node.unsupported("a scale, packed batches or one position for all are not supported")
    flat, half = len(shape_of(x)) == 3, shape_of(cos)[-1]
    if flat:
        heads = node.int("num_heads", 0) or divide_exact(shape_of(x)[2], 2 * half)
        if not isinstance(heads, int):
            raise node.unsupported(f"the number of heads is not known: {heads}", "give num_heads")
        x = split_heads(node, x, heads, "input")
    interleaved = bool(node.int("interleaved", 0)) or None
    made = node.insert(RotaryEmbeddingOp(x, cos, sin, positions, interleaved=interleaved)).result
    return merge_heads(node, made) if flat else made
