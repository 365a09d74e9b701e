"""The sum of embeddings at the head of a transformer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.movement import SliceOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.dialects.graph.shape import ExpandOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.attention import size_of
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, rounded_like, summed
from stepwell.frontends.onnx.rules.microsoft.normalization import layer_normalized
from stepwell.frontends.onnx.shapes import int_list
from stepwell.ir.core import Value


@rule("EmbedLayerNormalization", domain=DOMAIN)
def embed_layer_normalization(node: Node) -> Sequence[Value]:
    """Inputs words [b, s], segments [b, s], their tables and that of positions (words, positions, segments), gamma,
    beta, mask [b, s] and positions [b or 1, s]; outputs the normalised sum of rows, how many words of each sequence the
    mask keeps (0 without one), and the sum. Without positions they are 0, 1, ..."""
    words = node.input(0)
    rows = [node.insert(GatherOp(node.input(2), words, axis=0)).result]
    if node.has_input(8):
        rows.append(node.insert(GatherOp(node.input(3), node.input(8), axis=0)).result)
    else:
        first = node.insert(SliceOp(node.input(3), int_list(node, [0]), size_of(node, words, 1), axes=[0])).result
        rows.append(first)
    if node.has_input(1) != node.has_input(4):
        raise node.unsupported("segments and their embeddings are given together or not at all")
    if node.has_input(1):
        rows.append(node.insert(GatherOp(node.input(4), node.input(1), axis=0)).result)
    total = summed(node, *rows)
    y, *_ = layer_normalized(node, total, node.input(5), node.input(6), 1e-12)
    if node.has_input(7):
        kept = node.insert(ReduceOp(node.input(7), kind="sum", axes=[1], keepdims=False)).result
    else:
        kept = node.insert(ExpandOp.to(node.constant(np.array(0, np.int32)), (shape_of(words)[0],))).result
    y, total = (rounded_like(node, value, rows[0]) for value in (y, total))
    return [y, kept, total]
