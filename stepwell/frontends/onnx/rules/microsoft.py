"""Operators of the domain com.microsoft, which onnxruntime's optimiser and exporters put into models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.activation import GeluOp
from stepwell.dialects.graph.attention import AttentionOp, RotaryEmbeddingOp
from stepwell.dialects.graph.base import Array, constant_array, shape_of, tensor_type
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.dialects.graph.conversion import CastOp
from stepwell.dialects.graph.elementwise import AddOp, MulOp, SigmoidOp
from stepwell.dialects.graph.movement import ConcatOp
from stepwell.dialects.graph.normalization import LayerNormOp, RmsNormOp
from stepwell.dialects.graph.quantization import DequantizeOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.attention import merge_heads, query_offset, scale_or_default, split_heads
from stepwell.frontends.onnx.rules.composing import reshaped
from stepwell.frontends.onnx.rules.contraction import as_matrices, scaled, transpose, without_unit_axes
from stepwell.ir.core import Value
from stepwell.ir.dims import divide_exact
from stepwell.ir.types import I1, numpy_dtype

DOMAIN = "com.microsoft"


def added(node: Node, first: Value, *others: Value | None) -> Value:
    """The sum of what is present."""
    for other in others:
        if other is not None:
            first = node.insert(AddOp(first, other)).result
    return first


@rule("FusedMatMul", domain=DOMAIN)
def fused_matmul(node: Node) -> Value:
    """alpha * A' x B'; transBatchA and transBatchB move the first axis to the place before the last."""
    sides = []
    for index, which in enumerate("AB"):
        value = node.input(index)
        order = list(range(len(shape_of(value))))
        if len(order) > 1 and node.int(f"transBatch{which}", 0):
            order = [*order[1:-1], 0, order[-1]]
        if len(order) > 1 and node.int(f"trans{which}", 0):
            order[-2:] = order[-1], order[-2]
        sides.append(transpose(node, value, order))
    lhs, rhs, row, column = as_matrices(node, *sides)
    product = without_unit_axes(node, node.insert(MatmulOp(lhs, rhs)).result, row, column)
    return scaled(node, product, node.float("alpha", 1.0))


@rule("Gelu", "BiasGelu", domain=DOMAIN)
def gelu(node: Node) -> Value:
    """gelu(x + bias), by the error function."""
    return node.insert(GeluOp(added(node, node.input(0), node.optional(1)))).result


@rule("FastGelu", domain=DOMAIN)
def fast_gelu(node: Node) -> Value:
    """gelu(x + bias), by the hyperbolic tangent."""
    return node.insert(GeluOp(added(node, node.input(0), node.optional(1)), approximate="tanh")).result


@rule("QuickGelu", domain=DOMAIN)
def quick_gelu(node: Node) -> Value:
    """x * sigmoid(alpha * x)"""
    x = node.input(0)
    return node.insert(MulOp(x, node.insert(SigmoidOp(scaled(node, x, node.float("alpha", 1.702)))).result)).result


@rule("SkipLayerNormalization", domain=DOMAIN)
def skip_layer_normalization(node: Node) -> Sequence[Value]:
    """Inputs x, skip, gamma, beta, bias; outputs y, mean, inverse deviation, and the sum that was normalised."""
    total = added(node, node.input(0), node.input(1), node.optional(4))
    axes, epsilon = [len(shape_of(total)) - 1], node.float("epsilon", 1e-12)
    op = node.insert(LayerNormOp(total, node.input(2), node.optional(3), axes=axes, epsilon=epsilon))
    return [op.y, op.mean, op.inverse_deviation, total]


@rule("SkipSimplifiedLayerNormalization", domain=DOMAIN)
def skip_simplified_layer_normalization(node: Node) -> Sequence[Value]:
    """Inputs x, skip, gamma, bias; outputs y, nothing, inverse root, and the sum that was normalised."""
    total = added(node, node.input(0), node.input(1), node.optional(3))
    op = node.insert(
        RmsNormOp(total, node.input(2), axes=[len(shape_of(total)) - 1], epsilon=node.float("epsilon", 1e-12))
    )
    return [op.y, op.inverse_rms, op.inverse_rms, total]


@rule("SimplifiedLayerNormalization")
def simplified_layer_normalization(node: Node) -> Sequence[Value]:
    """RMS normalisation of the axes from `axis` on, which onnxruntime keeps in the default domain."""
    x = node.input(0)
    rank = len(shape_of(x))
    axes = list(range(node.int("axis", -1) % rank, rank))
    op = node.insert(RmsNormOp(x, node.input(1), axes=axes, epsilon=node.float("epsilon", 1e-5)))
    return [op.y, op.inverse_rms]


def unpacked(packed: Array, bits: int, count: int) -> Array:
    """[..., bytes] -> [..., count]: numbers of `bits` bits, the lowest bits of a byte first."""
    per_byte = 8 // bits
    parts = (packed[..., None] >> (np.arange(per_byte, dtype=np.uint8) * bits)) & ((1 << bits) - 1)
    return parts.reshape(*packed.shape[:-1], -1)[..., :count].astype(np.uint8)


@rule("MatMulNBits", domain=DOMAIN)
def matmul_n_bits(node: Node) -> Value:
    """A x B' with B [n, k] of 2, 4 or 8 bits in blocks along k: unpacked here, dequantised in the graph."""
    n, k, bits, block = node.int("N"), node.int("K"), node.int("bits", 4), node.int("block_size")
    packed, points = node.constant_input(1), node.constant_input(3)
    if bits not in (2, 4, 8) or packed is None or (node.has_input(3) and points is None) or node.has_input(4):
        raise node.unsupported("constant weights of 2, 4 or 8 bits without g_idx are supported")
    blocks = -(-k // block)
    scale = reshaped(node, node.input(2), (n, blocks))
    if points is not None and points.dtype != np.uint8:
        raise node.unsupported(f"zero points of type {points.dtype} are not supported, uint8 are")
    dtype = np.dtype(np.uint8) if bits == 8 else _small_dtype(bits)
    middle = np.full((n, blocks), 1 << (bits - 1), np.uint8)
    zeros = middle if points is None else unpacked(points.reshape(n, -1), bits, blocks)
    weights = unpacked(packed.reshape(n, blocks, -1), bits, block).reshape(n, -1)[:, :k]
    b = node.insert(
        DequantizeOp(
            node.constant(weights.astype(dtype)), scale, node.constant(zeros.astype(dtype)), axis=1, block_size=block,
            element=tensor_type(node.input(0)).element,
        )
    ).result  # fmt: skip
    lhs, rhs, row, column = as_matrices(node, node.input(0), transpose(node, b, (1, 0)))
    product = without_unit_axes(node, node.insert(MatmulOp(lhs, rhs)).result, row, column)
    return added(node, product, node.optional(5))


def _small_dtype(bits: int) -> np.dtype[Any]:
    import ml_dtypes

    found: np.dtype[Any] = np.dtype(ml_dtypes.uint4 if bits == 4 else ml_dtypes.uint2)
    return found


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
