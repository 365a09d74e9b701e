"""The rotation of positions into the heads of queries and keys."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.graph.attention import RotaryEmbeddingOp
from stepwell.dialects.graph.base import Array, shape_of
from stepwell.dialects.graph.elementwise import AddOp
from stepwell.dialects.graph.generate import RangeOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.logic import WhereOp
from stepwell.dialects.graph.movement import SplitOp
from stepwell.dialects.graph.shape import ExpandOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.attention import merge_heads, size_of, split_heads
from stepwell.frontends.onnx.rules.composing import reshaped
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, divide_exact


def counted_from(node: Node, first: Value, x: Value) -> Value:
    """[b or 1] positions -> [b, s]: first, first + 1, ... for the s rows of x [b, heads, s, d]"""
    batch, _, rows, _ = shape_of(x)
    start, step = node.constant(np.array(0, np.int64)), node.constant(np.array(1, np.int64))
    places = node.insert(RangeOp(start, reshaped(node, size_of(node, x, 2), ()), step)).result
    column = reshaped(node, first, (shape_of(first)[0], 1))
    positions = node.insert(AddOp(column, reshaped(node, places, (1, rows)))).result
    return positions if shape_of(positions)[0] == batch else node.insert(ExpandOp.to(positions, (batch, rows))).result


def rotated(node: Node, x: Value, cos: Value, sin: Value, positions: Value, interleaved: bool) -> Value:
    """x [b, heads, s, d] rotated by the rows of two tables [rows, r / 2] at positions [b, s]."""
    return node.insert(RotaryEmbeddingOp(x, cos, sin, positions, interleaved=interleaved or None)).result


@rule("RotaryEmbedding", domain=DOMAIN)
def rotary_embedding(node: Node) -> Value:
    """Inputs x [b, s, heads * d] or [b, heads, s, d], positions [b, s] or the first one [1], and the tables. Heads of a
    3-D x are counted by num_heads, or are as wide as the tables say. `scale` changes nothing, as in onnxruntime."""
    x, positions, cos, sin = (node.input(index) for index in range(4))
    half, turned = shape_of(cos)[-1], node.int("rotary_embedding_dim", 0)
    if node.int("is_packed_batching", 0):
        raise node.unsupported("ragged batches are not supported", "pad the sequences to one length")
    if turned and not node.int("num_heads", 0) and len(shape_of(x)) == 3:
        raise node.unsupported("rotary_embedding_dim is given without num_heads")
    if turned and isinstance(half, int) and turned != 2 * half:
        raise node.unsupported(f"cos_cache has {half} columns where {turned} elements are rotated")
    flat = len(shape_of(x)) == 3
    x = _in_heads(node, x, half) if flat else x
    if len(shape_of(positions)) == 1:
        positions = counted_from(node, positions, x)
    made = rotated(node, x, cos, sin, positions, bool(node.int("interleaved", 0)))
    return merge_heads(node, made) if flat else made


def _in_heads(node: Node, x: Value, half: Dim) -> Value:
    """[b, s, heads * d] -> [b, heads, s, d]: so many heads as the node says, or as wide ones as the tables"""
    heads = node.int("num_heads", 0) or divide_exact(shape_of(x)[2], 2 * half)
    if not isinstance(heads, int):
        raise node.unsupported(f"the number of heads is not known: {heads}", "give num_heads")
    return split_heads(node, x, heads, "input")


@rule("MRotaryEmbedding", domain=DOMAIN)
def multimodal_rotary_embedding(node: Node) -> Value:
    """RotaryEmbedding with three positions [3, b, s] for each row, in time, height and width: which of them chooses a
    column of the tables says mrope_section, one section behind the other or (mrope_layout 1) in turns."""
    x, positions, cos, sin = (node.input(index) for index in range(4))
    sections, half = node.ints("mrope_section"), shape_of(cos)[-1]
    if node.int("is_packed_batching", 0):
        raise node.unsupported("ragged batches are not supported", "pad the sequences to one length")
    if len(sections) != 3 or min(sections) < 0 or sum(sections) != half:
        raise node.unsupported(f"mrope_section {sections} does not share out the {half} columns of the tables")
    streams = np.repeat(np.arange(3), sections)
    if node.int("mrope_layout", 0):
        columns = np.arange(sum(sections))
        turns = [(columns % 3 == axis) & (columns < 3 * sections[axis]) for axis in (1, 2)]
        streams = np.where(turns[0], 1, np.where(turns[1], 2, 0))
    tables = [_by_stream(node, table, positions, streams) for table in (cos, sin)]
    flat, interleaved = len(shape_of(x)) == 3, bool(node.int("interleaved", 0)) or None
    x = _in_heads(node, x, half) if flat else x
    made = node.insert(RotaryEmbeddingOp(x, *tables, interleaved=interleaved)).result
    return merge_heads(node, made) if flat else made


def _by_stream(node: Node, table: Value, positions: Value, streams: Array) -> Value:
    """[b, s, columns]: each column of the table's row at the position of its stream."""
    _, batch, length = shape_of(positions)
    rows = node.insert(GatherOp(table, positions, axis=0)).result
    parts = node.insert(SplitOp.into(rows, [1, 1, 1], 0)).parts
    first, *others = (reshaped(node, part, (batch, length, len(streams))) for part in parts)
    for stream, other in enumerate(others, start=1):
        first = node.insert(WhereOp(node.constant(streams == stream), other, first)).result
    return first
