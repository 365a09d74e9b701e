"""Attention of transformers: of queries, keys and values that are given, and of their projection from one input.

A mask of integers does not forbid keys, it adds `mask_filter_value` (-10000) to their scores, so that a query all of
whose keys are masked sees them all again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph.attention import AttentionOp
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.conversion import CastOp
from stepwell.dialects.graph.elementwise import AddOp, MaxOp
from stepwell.dialects.graph.generate import RangeOp
from stepwell.dialects.graph.logic import AndOp, CompareOp, WhereOp
from stepwell.dialects.graph.movement import ConcatOp, SliceOp, SplitOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.attention import merge_heads, scale_or_default, size_of, split_heads
from stepwell.frontends.onnx.rules.composing import binary, cast, reshaped, scalar
from stepwell.frontends.onnx.rules.microsoft.cache import Kept, grown, shared
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, added
from stepwell.frontends.onnx.rules.microsoft.contraction import product
from stepwell.frontends.onnx.shapes import as_list, int_list, rank_of
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, divide_exact, proven_different, proven_equal
from stepwell.ir.types import I1, SI64, numpy_dtype

Heads = Sequence[Value]
"""Queries [b, heads, s, d], keys [b, heads, t, d] and values [b, heads, t, e]."""


@rule("MultiHeadAttention", domain=DOMAIN)
def multi_head_attention(node: Node) -> Sequence[Value]:
    """Inputs query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value, past_sequence_length and
    cache_indirection; outputs y, the present keys and values, and the scores.

    query is [b, s, hidden], or with keys and values [b, s, heads, 3, d]; key is [b, t, hidden], or with values [b, t,
    heads, 2, d]; keys and values of cross attention may be [b, heads, t, d]."""
    _forbid(node, 9, "the order of beams in the cache")
    bias = node.optional(3)
    if rank_of(node.input(0)) == 5:
        parts = _unpacked(node, node.input(0), bias, 3)
    elif node.has_input(1) and rank_of(node.input(1)) == 5:
        parts = _parts(node, [node.input(0), *_columns(node, node.input(1), 2)], bias)
    elif node.has_input(1) and node.has_input(2):
        parts = _parts(node, [node.input(0), node.input(1), node.input(2)], bias)
    else:
        raise node.unsupported("a query of rank 3 needs keys and values", "pass them as three inputs")
    kept = _cached(node, parts, (node.optional(6), node.optional(7)), node.optional(8))
    return _attended(node, parts[0], *kept, mask=node.optional(4), bias=node.optional(5), exposes=node.has_output(3))


@rule("DecoderMaskedMultiHeadAttention", domain=DOMAIN)
def decoder_masked_multi_head_attention(node: Node) -> Sequence[Value]:
    """MultiHeadAttention of one query, with its inputs in another order: query, key, value, mask_index, attention_bias,
    past_key, past_value, past_sequence_length, beam_width, cache_indirection, bias."""
    _forbid(node, 9, "the order of beams in the cache")
    query, bias = node.input(0), node.optional(10)
    if node.has_input(1):
        parts = _parts(node, [query, node.input(1), node.input(2)], bias)
    else:
        size = divide_exact(shape_of(query)[2], 3)
        if size is None:
            raise node.unsupported(f"{shape_of(query)[2]} columns are not queries, keys and values of one size")
        parts = _parts(node, node.insert(SplitOp.into(query, [size] * 3, 2)).parts, bias)
    crossed = node.has_input(1) and rank_of(node.input(1)) == 4
    past = (None, None) if crossed else (node.optional(5), node.optional(6))
    place = node.optional(7) if node.int("past_present_share_buffer", 0) else None
    kept = _cached(node, parts, past, place)
    return _attended(node, parts[0], *kept, mask=node.optional(3), bias=node.optional(4), exposes=node.has_output(3))


@rule("Attention", domain=DOMAIN)
def attention(node: Node) -> Sequence[Value]:
    """Inputs x [b, s, k], weights [k, hidden + hidden + v_hidden], bias, mask_index, past [2, b, heads, p, d],
    attention_bias and past_sequence_length; outputs y and the present as one tensor of keys and values."""
    projected = added(node, product(node, node.input(0), node.input(1)), node.optional(2))
    return of_projection(
        node, projected, mask=node.optional(3), past=node.optional(4), bias=node.optional(5), length=node.optional(6)
    )


def of_projection(
    node: Node, projected: Value, *, mask: Value | None, past: Value | None, bias: Value | None = None,
    length: Value | None = None,
) -> Sequence[Value]:  # fmt: skip
    """Attention of queries, keys and values that stand beside each other, [b, s, hidden + hidden + v_hidden]; `length`
    is how much of a shared cache is filled."""
    if node.int("do_rotary", 0):
        reason = "rotation inside of attention is not supported"
        raise node.unsupported(reason, "fuse the model to RotaryEmbedding and MultiHeadAttention")
    columns = shape_of(projected)[2]
    sizes: Sequence[Dim | None] = node.ints("qkv_hidden_sizes", []) or [divide_exact(columns, 3)] * 3
    if len(sizes) != 3 or any(size is None for size in sizes):
        raise node.unsupported(f"{columns} columns are not queries, keys and values", "give three qkv_hidden_sizes")
    widths = [size for size in sizes if size is not None]
    parts = _parts(node, node.insert(SplitOp.into(projected, widths, 2)).parts, None)
    halves: Sequence[Value | None] = (None, None) if past is None else _halves(node, past)
    is_shared = bool(node.int("past_present_share_buffer", 0)) and past is not None
    place = length if is_shared else None
    if is_shared and length is None:
        raise node.unsupported("a cache that is shared needs the length of its past (past_sequence_length)")
    kept = _cached(node, parts, halves, place)
    if mask is not None and rank_of(mask) == 4 and node.int("unidirectional", 0):
        raise node.unsupported("a mask of rank 4 says itself what each query sees: it needs unidirectional = 0")
    y, keys, values = _attended(node, parts[0], *kept, mask=mask, bias=bias)
    if not node.has_output(1):
        return [y]
    both = [reshaped(node, part, (1, *shape_of(part))) for part in (keys, values)]
    return [y, node.insert(ConcatOp(both, axis=0)).result]


def _forbid(node: Node, index: int, what: str) -> None:
    if node.has_input(index):
        raise node.unsupported(f"{what} (input {index}) is not supported")


def _columns(node: Node, packed: Value, count: int) -> list[Value]:
    """[b, t, heads, count, d] -> count of [b, t, heads * d]"""
    batch, rows, heads, _, size = shape_of(packed)
    parts = node.insert(SplitOp.into(packed, [1] * count, 3)).parts
    return [reshaped(node, part, (batch, rows, heads * size)) for part in parts]


def _unpacked(node: Node, packed: Value, bias: Value | None, count: int) -> Heads:
    return _parts(node, _columns(node, packed, count), bias)


def _halves(node: Node, past: Value) -> list[Value]:
    """[2, ...] -> two of [...]"""
    parts = node.insert(SplitOp.into(past, [1, 1], 0)).parts
    return [reshaped(node, part, shape_of(part)[1:]) for part in parts]


def _parts(node: Node, parts: Sequence[Value], bias: Value | None) -> Heads:
    """Queries, keys and values plus their parts of a bias [hidden + hidden + v_hidden], split into heads. Those that
    have their heads apart get no bias."""
    heads = node.int("num_heads")
    if bias is not None:
        sizes = [_width(part) for part in parts]
        rows = node.insert(SplitOp.into(bias, sizes, 0)).parts
        parts = [added(node, part, row) if rank_of(part) == 3 else part for part, row in zip(parts, rows, strict=True)]
    named = zip(parts, ("query", "key", "value"), strict=True)
    return [part if rank_of(part) == 4 else split_heads(node, part, heads, what) for part, what in named]


def _width(part: Value) -> Dim:
    shape = shape_of(part)
    return shape[2] if len(shape) == 3 else shape[1] * shape[3]


def _cached(
    node: Node, parts: Heads, past: Sequence[Value | None], place: Value | None
) -> tuple[Kept, Kept, Value | None]:
    """Keys and values with those of the past, and the place of the first query among them, [1]."""
    keys, values = past
    if (keys is None) != (values is None):
        raise node.unsupported("past keys and past values are given together or not at all")
    rows, new = shape_of(parts[0])[2], shape_of(parts[1])[2]
    if node.int("unidirectional", 0) and proven_different(rows, new):
        raise node.unsupported(f"unidirectional attention of {rows} queries to {new} keys is not defined")
    if keys is None or values is None:
        return Kept(parts[1], parts[1]), Kept(parts[2], parts[2]), None
    if place is None:
        return grown(node, keys, parts[1]), grown(node, values, parts[2]), size_of(node, keys, 2)
    first = as_list(node, cast(node, place, SI64))
    return shared(node, keys, parts[1], first), shared(node, values, parts[2], first), first


def _attended(
    node: Node, query: Value, keys: Kept, values: Kept, first: Value | None, *, mask: Value | None, bias: Value | None,
    exposes: bool = False,
) -> list[Value]:  # fmt: skip
    """The results, the present keys and values and, where they are asked for, the scores with all that is added to
    them: the least number for keys behind a query."""
    causal = bool(node.int("unidirectional", 0))
    if mask is not None:
        bias = added(node, _mask_bias(node, mask, query, keys.valid, first), bias)
    scale = scale_or_default(node.float("scale", 0.0) or None, shape_of(query)[3])
    made = node.insert(AttentionOp(
        query, keys.valid, values.valid, bias, None, first if causal else None, scale=scale, causal=causal or None,
        scores="biased" if exposes else None,
    ))  # fmt: skip
    outputs = [merge_heads(node, made.output), keys.present, values.present, *made.exposed]
    if exposes and causal:
        least = float(np.finfo(numpy_dtype(outputs[3].type)).min)
        outputs[3] = binary(node, MaxOp, outputs[3], least)
    return outputs


def _mask_bias(node: Node, mask: Value, query: Value, keys: Value, first: Value | None) -> Value:
    """What a mask of integers adds to the scores: [b, 1, 1 or s, t] of 0 and `mask_filter_value`."""
    allowed = _allowed(node, mask, query, keys, first)
    far = scalar(node, node.float("mask_filter_value", -10000.0), query)
    return node.insert(WhereOp(allowed, scalar(node, 0, query), far)).result


def _allowed(node: Node, mask: Value, query: Value, keys: Value, first: Value | None) -> Value:
    """Which keys a mask of [b, t], [b, s, t] or [b, 1, most, most], or one of positions, lets the queries see."""
    shape, rows = shape_of(mask), shape_of(query)[2]
    if len(shape) == 1:
        return _between(node, mask, shape_of(query)[0], keys)
    if len(shape) == 4:
        start = int_list(node, [0]) if first is None else first
        end = node.insert(AddOp(start, size_of(node, query, 2))).result
        mask = node.insert(SliceOp(mask, start, end, axes=[2])).result
        mask = node.insert(SliceOp(mask, int_list(node, [0]), size_of(node, keys, 2), axes=[3])).result
        mask = reshaped(node, mask, (*shape[:2], rows, shape_of(keys)[2]))
    elif len(shape) in (2, 3):
        mask = reshaped(node, mask, (shape[0], 1, 1, shape[1]) if len(shape) == 2 else (shape[0], 1, *shape[1:]))
    else:
        raise node.unsupported(f"a mask needs rank 1 to 4, not {len(shape)}")
    return node.insert(CastOp(mask, to=I1)).result


def _between(node: Node, mask: Value, batch: Dim, keys: Value) -> Value:
    """[b] ends, or [2 * b] ends and starts; of [3 * b + 2] the first b are the ends."""
    (count,) = shape_of(mask)
    kinds = [times for times, size in enumerate((batch, 2 * batch, 3 * batch + 2)) if proven_equal(count, size)]
    if len(kinds) != 1:
        raise node.unsupported(f"a mask of {count} positions for a batch of {batch} is not ends, or ends and starts")
    zero, one = (node.constant(np.array(end, np.int64)) for end in (0, 1))
    most = reshaped(node, size_of(node, keys, 2), ())
    places = cast(node, node.insert(RangeOp(zero, most, one)).result, tensor_type(mask).element)
    places = reshaped(node, places, (1, 1, 1, shape_of(keys)[2]))

    def positions(which: int) -> Value:
        size = shape_of(mask)[0]
        parts = [mask] if not kinds[0] else node.insert(SplitOp.into(mask, [batch, size - batch], 0)).parts
        return reshaped(node, parts[which], (batch, 1, 1, 1))

    allowed = node.insert(CompareOp(places, positions(0), predicate="lt")).result
    if kinds[0] != 1:
        return allowed
    from_start = node.insert(CompareOp(places, positions(1), predicate="ge")).result
    return node.insert(AndOp(allowed, from_start)).result
