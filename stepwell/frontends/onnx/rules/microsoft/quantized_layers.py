"""Layers of transformers and recurrent networks with quantised weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.elementwise import AddOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.logic import CompareOp
from stepwell.dialects.graph.movement import SliceOp
from stepwell.dialects.graph.normalization import LayerNormOp
from stepwell.dialects.graph.quantization import DequantizeOp
from stepwell.dialects.graph.recurrent import LstmOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.dialects.graph.shape import ExpandOp, ShapeOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, reshaped, scalar
from stepwell.frontends.onnx.rules.contraction import transpose
from stepwell.frontends.onnx.rules.microsoft.attention import of_projection
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, added
from stepwell.frontends.onnx.rules.microsoft.packed_weights import known_size
from stepwell.frontends.onnx.rules.microsoft.quantization import one_number, scale_of
from stepwell.frontends.onnx.rules.microsoft.quantized_products import product_in_floats
from stepwell.frontends.onnx.rules.recurrent import common_fields, import_layer
from stepwell.frontends.onnx.shapes import int_list
from stepwell.ir.core import Value
from stepwell.ir.types import F32, SI32


@rule("QAttention", domain=DOMAIN)
def qattention(node: Node) -> Sequence[Value]:
    """Inputs x, weights, bias, the scales of x and of the weights, mask_index, their zero points, past: Attention of an
    exact product of integers."""
    x = node.input(0), scale_of(node, 3), one_number(node, 6)
    weights = node.input(1), node.input(4), node.optional(7)
    projected = added(node, product_in_floats(node, x, weights), node.input(2))
    return of_projection(node, projected, mask=node.optional(5), past=node.optional(8))


@rule("DynamicQuantizeLSTM", domain=DOMAIN)
def dynamic_quantize_lstm(node: Node) -> Sequence[Value]:
    """An LSTM whose weights W [d, inputs, 4 * hidden] and R [d, hidden, 4 * hidden] are dequantised. onnxruntime also
    rounds x and every state to 8 bits, to multiply integers; here they stay floats."""
    w, r = _recurrent_weights(node, 1, 8), _recurrent_weights(node, 2, 10)
    rest = [node.optional(index) for index in range(3, 8)]
    coupled = bool(node.int("input_forget", 0)) or None
    op = LstmOp(node.input(0), w, r, *rest, input_forget=coupled, **common_fields(node, LstmOp))
    return import_layer(node, op)


def _recurrent_weights(node: Node, index: int, scales: int) -> Value:
    """[d, k, rows] with scales and zero points [d] or [d, rows] -> [d, rows, k] in f32"""
    x, scale, zero = node.input(index), node.input(scales), node.optional(scales + 1)
    shape = shape_of(x)
    if len(shape) != 3:
        raise node.unsupported(f"its weights (input {index}) need rank 3, not {len(shape)}", "The model is malformed.")
    if len(shape_of(scale)) < 2:
        made = node.insert(DequantizeOp(x, scale, zero, axis=0, element=F32)).result
        return transpose(node, made, (0, 2, 1))
    k = known_size(node, shape[1], f"weights (input {index}), whose columns have scales,")
    rows = (shape[0], 1, shape[2])
    scale, zero = reshaped(node, scale, rows), None if zero is None else reshaped(node, zero, rows)
    made = node.insert(DequantizeOp(x, scale, zero, axis=1, block_size=max(k, 1), element=F32)).result
    return transpose(node, made, (0, 2, 1))


@rule("QEmbedLayerNormalization", domain=DOMAIN)
def qembed_layer_normalization(node: Node) -> Sequence[Value]:
    """Inputs word ids, segment ids, the tables of words, positions and segments, gamma, beta, mask, then the scales and
    then the zero points of the five tensors; outputs the normalised sum of the embeddings and how many words the mask
    lets through (0 without a mask)."""
    words = node.input(0)
    count = node.insert(ShapeOp(words, start=1, end=2)).result
    position = node.insert(SliceOp(node.input(3), int_list(node, [0]), count, axes=[0])).result
    total = binary(node, AddOp, _rows(node, 2, 0, words), _embedded(node, position, 1))
    given = [node.has_input(index) for index in (1, 4, 10, 15)]
    if any(given):
        if not all(given):
            raise node.unsupported("segment ids, their table, its scale and its zero point are given together")
        total = binary(node, AddOp, total, _rows(node, 4, 2, node.input(1)))
    gamma, beta = (_embedded(node, node.input(index), which) for index, which in ((5, 3), (6, 4)))
    y = node.insert(LayerNormOp(total, gamma, beta, axes=[2], epsilon=node.float("epsilon", 1e-12))).y
    if not node.has_input(7):
        return [y, node.insert(ExpandOp.to(node.constant(np.array(0, np.int32)), shape_of(words)[:1])).result]
    mask = node.input(7)
    there = node.insert(CompareOp(mask, scalar(node, 1, mask), predicate="eq")).result
    return [y, node.insert(ReduceOp(cast(node, there, SI32), kind="sum", axes=(1,), keepdims=False)).result]


def _rows(node: Node, table: int, which: int, ids: Value) -> Value:
    """The rows that ids name, of the table at an input: gathered as they are, then dequantised."""
    return _embedded(node, node.insert(GatherOp(node.input(table), ids, axis=0)).result, which)


def _embedded(node: Node, x: Value, which: int) -> Value:
    """x, less the zero point of tensor `which` of the five and times its scale."""
    return node.insert(DequantizeOp(x, scale_of(node, 8 + which), one_number(node, 13 + which), element=F32)).result
