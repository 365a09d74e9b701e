"""Matrix products with packed weights, and other quantised operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, tensor_type
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.dialects.graph.quantization import DequantizeOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import reshaped
from stepwell.frontends.onnx.rules.contraction import as_matrices, transpose, without_unit_axes
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, added
from stepwell.ir.core import Value


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
