"""GroupQueryAttention: attention of decoders, with the cache of their keys and values.

The cache [b, groups, p, d] is either as long as the past, and the present s rows longer; or it has room for rows to
come, and the present is as long. The total number of rows, a number in a tensor, says which of them is the case:
total = p + s or total <= p, so that the present has max(total, p) rows. Batch entry i has seqlens_k[i] + 1 valid ones,
the new ones last. A call whose rows are all new (s = total) is a first prompt: it starts at 0, and its shorter
sequences are padded behind. What the present holds behind the valid rows is not defined."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from stepwell.dialects.graph.attention import AttentionOp
from stepwell.dialects.graph.base import content, shape_of
from stepwell.dialects.graph.elementwise import AddOp, SubOp
from stepwell.dialects.graph.logic import CompareOp, WhereOp
from stepwell.dialects.graph.movement import SliceOp, SplitOp
from stepwell.dialects.graph.normalization import RmsNormOp
from stepwell.dialects.graph.shape import ExpandOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.attention import merge_heads, scale_or_default, size_of, split_heads
from stepwell.frontends.onnx.rules.composing import cast, reshaped, scalar
from stepwell.frontends.onnx.rules.microsoft.cache import Kept, counted, written
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, added
from stepwell.frontends.onnx.rules.microsoft.rotation import counted_from, rotated
from stepwell.frontends.onnx.shapes import int_list
from stepwell.ir.core import Value
from stepwell.ir.dims import divide_exact, proven_equal, proven_lt
from stepwell.ir.types import SI64

QUERY, KEY, VALUE, PAST_KEY, PAST_VALUE, LENGTHS, TOTAL, COS, SIN, POSITIONS, BIAS, SINKS = range(12)
QUANTISED, QUERY_NORM, KEY_NORM = range(12, 14), 14, 15
SCORES = {0: None, 1: "capped", 2: "probabilities"}


@attrs.frozen
class Rows:
    """Which rows of the cache a call writes and reads: `total` [1] is the number of all, `first` [b or 1]
    the first new one's place; `prompt` whether they are all new, [1] where only the run tells."""

    total: Value
    first: Value
    prompt: Value | bool


@rule("GroupQueryAttention", domain=DOMAIN)
def group_query_attention(node: Node) -> Sequence[Value]:
    """Outputs y, the present keys and values, and for the attribute qk_output the scores with their bias (1) or the
    probabilities (2). The scores of keys that a query does not see are not defined."""
    _check(node)
    heads, groups = node.int("num_heads"), node.int("kv_num_heads")
    query, key, value = _operands(node, heads, groups)
    query, key = _normalized(node, query, QUERY_NORM), _normalized(node, key, KEY_NORM)
    rows = _rows(node, query)
    if node.int("do_rotary", 0):
        interleaved, positions = bool(node.int("rotary_interleaved", 0)), _positions(node, query, rows)
        tables = node.input(COS), node.input(SIN)
        query, key = (rotated(node, x, *tables, positions, interleaved) for x in (query, key))
    past = node.optional(PAST_KEY), node.optional(PAST_VALUE)
    keys, values = (_kept(node, old, new, rows) for old, new in zip(past, (key, value), strict=True))
    causal, window = bool(node.int("causal", 1)), node.int("local_window_size", -1)
    lengths = None if causal else node.insert(AddOp(node.input(LENGTHS), scalar(node, 1, node.input(LENGTHS)))).result
    made = node.insert(AttentionOp(
        query, keys.valid, values.valid, node.optional(BIAS), lengths,
        rows.first if causal else None, _sinks(node, query, heads),
        scale=scale_or_default(node.float("scale", 0.0) or None, shape_of(query)[3]), causal=causal or None,
        left=window - 1 if window > 0 else None, softcap=node.float("softcap", 0.0) or None,
        scores=SCORES[node.int("qk_output", 0)],
    ))  # fmt: skip
    exposed = made.exposed if node.int("qk_output", 0) != 1 else [added(node, made.exposed[0], node.optional(BIAS))]
    return [merge_heads(node, made.output), keys.present, values.present, *exposed]


def _check(node: Node) -> None:
    """Refuses what no kernel of onnxruntime's for a CPU takes, or is about a quantised cache."""
    if any(node.string(f"{which}_quant_type", "NONE") != "NONE" for which in "kv") or any(
        map(node.has_input, QUANTISED)
    ):
        raise node.unsupported("a quantised cache of keys and values is not supported", "keep the cache in floats")
    if node.int("sliding_window_cache", 0):
        raise node.unsupported("a cache of the window's size is not supported", "keep the whole sequence in the cache")
    if node.int("qk_output", 0) not in SCORES:
        raise node.unsupported(f"qk_output {node.int('qk_output', 0)} is not 0, 1 or 2")
    if node.has_output(3) and not node.int("qk_output", 0):
        raise node.unsupported("its fourth output is asked for without the attribute qk_output")
    if not node.int("causal", 1) and node.int("local_window_size", -1) > 0:
        raise node.unsupported("a local window is for causal attention")
    for first, second, what in ((PAST_KEY, PAST_VALUE, "past_key and past_value"), (KEY, VALUE, "key and value"),
                                (QUERY_NORM, KEY_NORM, "q_norm_weight and k_norm_weight")):  # fmt: skip
        if node.has_input(first) != node.has_input(second):
            raise node.unsupported(f"{what} are given together or not at all")


def _operands(node: Node, heads: int, groups: int) -> tuple[Value, Value, Value]:
    """Queries [b, heads, s, d], keys and values [b, groups, s, d], of three inputs or of one that has them side by
    side."""
    query = node.input(QUERY)
    if groups < 1 or heads < 1 or heads % groups:
        raise node.unsupported(f"{heads} query heads do not share out among {groups} heads of keys and values")
    if node.has_input(KEY):
        parts = [query, node.input(KEY), node.input(VALUE)]
    else:
        size = divide_exact(shape_of(query)[2], heads + 2 * groups)
        if size is None:
            reason = f"{shape_of(query)[2]} columns are not {heads} query heads and twice {groups} others"
            raise node.unsupported(reason)
        parts = list(node.insert(SplitOp.into(query, [heads * size, groups * size, groups * size], 2)).parts)
    counts = zip(parts, (heads, groups, groups), ("query", "key", "value"), strict=True)
    split = [split_heads(node, part, count, what) for part, count, what in counts]
    return split[0], split[1], split[2]


def _normalized(node: Node, x: Value, weight: int) -> Value:
    """x by the root of the mean square of each head, where weights for that are given."""
    if not node.has_input(weight):
        return x
    return node.insert(RmsNormOp(x, node.input(weight), axes=[3], epsilon=node.float("qk_norm_epsilon", 1e-6))).y


def _rows(node: Node, query: Value) -> Rows:
    """first = 0 for a prompt, else seqlens_k + 1 - s"""
    fresh, (batch, _, count, _) = size_of(node, query, 2), shape_of(query)
    past = node.optional(PAST_KEY)
    total = fresh
    if past is not None:
        most = node.insert(AddOp(size_of(node, past, 2), fresh)).result
        total = counted(node, node.input(TOTAL), most)
    (rows,) = content(total) or (count,)
    if past is None or proven_equal(rows, count):
        return Rows(total, node.constant(np.zeros(1, np.int64)), True)
    lengths = reshaped(node, cast(node, node.input(LENGTHS), SI64), (batch,))
    if count == 1:  # of one row, seqlens_k is its place also if it is the first
        return Rows(total, lengths, False)
    behind = node.insert(SubOp(lengths, node.insert(SubOp(fresh, scalar(node, 1, fresh))).result)).result
    if proven_lt(count, rows):
        return Rows(total, behind, False)
    prompt = node.insert(CompareOp(fresh, total, predicate="eq")).result
    return Rows(total, node.insert(WhereOp(prompt, scalar(node, 0, behind), behind)).result, prompt)


def _positions(node: Node, query: Value, rows: Rows) -> Value:
    """[b, s]: the given ones, those of a prompt from the first of them on; or the places in the cache."""
    if not node.has_input(POSITIONS):
        return counted_from(node, rows.first, query)
    given = node.input(POSITIONS)
    if rows.prompt is False:
        return given
    zero, one = int_list(node, [0, 0]), int_list(node, [1, 1])
    corner = node.insert(SliceOp(given, zero, one, axes=[0, 1])).result
    counted = counted_from(node, reshaped(node, corner, (1,)), query)
    return counted if isinstance(rows.prompt, bool) else node.insert(WhereOp(rows.prompt, counted, given)).result


def _kept(node: Node, past: Value | None, new: Value, rows: Rows) -> Kept:
    return Kept(new, new) if past is None else written(node, past, new, rows.first, rows.total)


def _sinks(node: Node, query: Value, heads: int) -> Value | None:
    """The score of each head that has no key: given, or 0 for a smooth softmax."""
    if node.has_input(SINKS):
        return node.input(SINKS)
    return (
        node.insert(ExpandOp.to(scalar(node, 0, query), (heads,))).result if node.int("smooth_softmax", 0) > 0 else None
    )
