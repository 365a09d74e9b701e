"""Batches without padding: the tokens of all sequences one behind the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph.attention import AttentionOp
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.generate import RangeOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.logic import CompareOp
from stepwell.dialects.graph.movement import ConcatOp, SliceOp, SplitOp
from stepwell.dialects.graph.reduction import CumulativeOp, ReduceOp
from stepwell.dialects.graph.scatter import ScatterNDOp
from stepwell.dialects.graph.selection import TopKOp
from stepwell.dialects.graph.shape import ExpandOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.attention import merge_heads, scale_or_default, size_of, split_heads
from stepwell.frontends.onnx.rules.composing import cast, reshaped, scalar
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, added
from stepwell.frontends.onnx.rules.microsoft.contraction import product
from stepwell.frontends.onnx.shapes import int_list, rank_of
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, divide_exact
from stepwell.ir.types import SI64


@rule("PackedAttention", domain=DOMAIN)
def packed_attention(node: Node) -> Value:
    """Inputs x [tokens, k], weights [k, hidden + hidden + v_hidden], bias, token_offset and the sums of the sequences'
    lengths [b + 1]."""
    projected = added(node, product(node, node.input(0), node.input(1)), node.optional(2))
    columns = shape_of(projected)[1]
    sizes: Sequence[Dim | None] = node.ints("qkv_hidden_sizes", []) or [divide_exact(columns, 3)] * 3
    widths = [size for size in sizes if size is not None]
    if len(widths) != 3:
        raise node.unsupported(f"{columns} columns are not queries, keys and values", "give three qkv_hidden_sizes")
    return _packed(node, node.insert(SplitOp.into(projected, widths, 1)).parts, node.input(4), 5)


@rule("PackedMultiHeadAttention", domain=DOMAIN)
def packed_multi_head_attention(node: Node) -> Value:
    """Inputs query [tokens, hidden] or with keys and values [tokens, heads, 3, d], key, value, bias, token_offset and
    the sums of the sequences' lengths [b + 1]."""
    query = node.input(0)
    if rank_of(query) == 4:
        tokens, heads, _, size = shape_of(query)
        packed = node.insert(SplitOp.into(query, [1, 1, 1], 2)).parts
        parts = [reshaped(node, part, (tokens, heads * size)) for part in packed]
    else:
        parts = [query, node.input(1), node.input(2)]
    if node.has_input(3):
        rows = node.insert(SplitOp.into(node.input(3), [shape_of(part)[1] for part in parts], 0)).parts
        parts = [added(node, part, row) for part, row in zip(parts, rows, strict=True)]
    return _packed(node, parts, node.input(5), 6)


def _packed(node: Node, parts: Sequence[Value], sums: Value, bias: int) -> Value:
    """Attention of all tokens, of which each sees those of its sequence."""
    if node.has_input(bias):
        raise node.unsupported("an attention bias, which has the shape of padded sequences, is not supported")
    heads = node.int("num_heads")
    batched = [reshaped(node, part, (1, *shape_of(part))) for part in parts]
    query, key, value = (split_heads(node, part, heads, "input") for part in batched)
    owner = _sequence_of_each(node, sums, size_of(node, parts[0], 0))
    (count,) = shape_of(owner)
    row, column = reshaped(node, owner, (1, count)), reshaped(node, owner, (count, 1))
    mask = node.insert(CompareOp(row, column, predicate="eq")).result
    mask = reshaped(node, mask, (1, 1, *[shape_of(parts[0])[0]] * 2))
    scale = scale_or_default(node.float("scale", 0.0) or None, shape_of(query)[3])
    merged = merge_heads(node, node.insert(AttentionOp(query, key, value, mask, scale=scale)).output)
    return reshaped(node, merged, shape_of(merged)[1:])


def _sequence_of_each(node: Node, sums: Value, count: Value) -> Value:
    """[tokens]: how many of the sums of lengths are not above the token's place."""
    zero, one = (node.constant(np.array(number, np.int64)) for number in (0, 1))
    places = node.insert(RangeOp(zero, reshaped(node, count, ()), one)).result
    ends = cast(node, reshaped(node, sums, (*shape_of(sums), 1)), SI64)
    behind = node.insert(CompareOp(ends, reshaped(node, places, (1, *shape_of(places))), predicate="le")).result
    return node.insert(ReduceOp(cast(node, behind, SI64), kind="sum", axes=[0], keepdims=False)).result


@rule("RemovePadding", domain=DOMAIN)
def remove_padding(node: Node) -> Sequence[Value]:
    """Inputs x [b, s, h] and the tokens of each sequence [b]; outputs these tokens [n, h], the places of all of them
    and then of the padding [b, s], the sums of the numbers [b + 1] and the largest [1]."""
    x, counts = node.input(0), node.input(1)
    batch, length, hidden = shape_of(x)
    element = tensor_type(counts).element
    lengths = cast(node, counts, SI64)
    zero, one = (node.constant(np.array(number, np.int64)) for number in (0, 1))
    places = node.insert(RangeOp(zero, reshaped(node, size_of(node, x, 1), ()), one)).result
    column = reshaped(node, lengths, (batch, 1))
    real = node.insert(CompareOp(reshaped(node, places, (1, length)), column, predicate="lt")).result
    every = reshaped(node, cast(node, real, SI64), (batch * length,))
    order = node.insert(TopKOp(every, size_of(node, every, 0), axis=0)).indices
    total = node.insert(ReduceOp(lengths, kind="sum", axes=[0])).result
    kept = node.insert(SliceOp(order, int_list(node, [0]), total, axes=[0])).result
    tokens = node.insert(GatherOp(reshaped(node, x, (batch * length, hidden)), kept, axis=0)).result
    sums = node.insert(CumulativeOp(lengths, kind="sum", axis=0)).result
    sums = node.insert(ConcatOp([int_list(node, [0]), sums], axis=0)).result
    most = node.insert(ReduceOp(lengths, kind="max", axes=[0])).result
    offsets = reshaped(node, order, (batch, length))
    return [tokens, *(cast(node, value, element) for value in (offsets, sums, most))]


@rule("RestorePadding", domain=DOMAIN)
def restore_padding(node: Node) -> Value:
    """Inputs tokens [n, h] and the places of all of them and then of the padding [b, s] -> [b, s, h], with zeros where
    there is padding."""
    tokens, offsets = node.input(0), node.input(1)
    (count, hidden), (batch, length) = shape_of(tokens), shape_of(offsets)
    flat = reshaped(node, offsets, (batch * length,))
    used = node.insert(SliceOp(flat, int_list(node, [0]), size_of(node, tokens, 0), axes=[0])).result
    blank = node.insert(ExpandOp.to(scalar(node, 0, tokens), (batch * length, hidden))).result
    made = node.insert(ScatterNDOp(blank, reshaped(node, used, (count, 1)), tokens)).result
    return reshaped(node, made, (batch, length, hidden))
