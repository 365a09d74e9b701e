"""Attention and what goes with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph import attention as graph
from stepwell.dialects.graph.base import shape_of
from stepwell.frontends.onnx.exports.composing import (
    Item,
    as_int64,
    cast,
    finish,
    integers,
    number_of,
    reshaped,
    scalar,
    wide,
)  # fmt: skip
from stepwell.frontends.onnx.registry import Unsupported
from stepwell.frontends.onnx.writer import Writer, element_of, exports
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, divide_exact
from stepwell.ir.types import I1

SCORES = ("raw", "capped", "biased", "probabilities")


@exports(graph.AttentionOp)
def attention(op: graph.AttentionOp, writer: Writer) -> None:
    """graph.attention %q, %k, %v, %mask -> Attention(q, k, v, mask)

    What forbids keys by their position (lengths, an offset, windows) becomes part of the mask:

        allowed = mask and (key < length) and (key <= position) and (position - left <= key <= position + right)
        Attention(q, k, v, allowed), for a mask of floats Attention(q, k, v, where(allowed, mask, -inf))

    What ONNX does otherwise, scores that are filled in and queries whose softmax is not defined, is written out.
    """
    if op.sinks is not None:
        raise Unsupported("attention with scores that have no key")
    if op.undefined != "masked" or op.fill != -np.inf:
        _write_out(op, writer)
        return
    mask, causal = _mask(op, writer)
    outputs: list[Value | None] = [op.output, None, None, *op.exposed]
    writer.node(
        "Attention", [op.query, op.key, op.value, mask], outputs if op.scores else [op.output],
        scale=writer.float32(op, "scale", op.scale), is_causal=int(causal) or None,
        softcap=writer.float32(op, "softcap", op.softcap) or None,
        softmax_precision=None if op.precision is None else number_of(op.precision),
        qk_matmul_output_mode=SCORES.index(op.scores) if op.scores else None,
    )  # fmt: skip


def _write_out(op: graph.AttentionOp, writer: Writer) -> None:
    """MatMul(softmax(MatMul(scale * q, transpose(k)) + mask), v), in f32 for narrower floats"""
    by_position = [op.lengths, op.offset]
    if op.scale is None:
        raise Unsupported("attention without a scale that is written out")
    if op.undefined == "masked" or op.scores or op.causal or max(op.left, op.right) >= 0 or any(by_position):
        raise Unsupported("attention that fills scores in, or keeps NaN, and forbids keys by their position")
    element = wide(element_of(op.query))
    query, key, value = (cast(writer, x, element) for x in (op.query, op.key, op.value))
    heads = shape_of(op.query)[1]
    key, value = (_repeated(writer, x, shape_of(of), heads) for x, of in ((key, op.key), (value, op.value)))
    scaled = writer.make("Mul", [query, scalar(writer, op.scale, element)])
    scores = writer.make("MatMul", [scaled, writer.make("Transpose", [key], perm=[0, 1, 3, 2])])
    if op.softcap > 0:
        cap = scalar(writer, op.softcap, element)
        scores = writer.make("Mul", [writer.make("Tanh", [writer.make("Div", [scores, cap])]), cap])
    if op.mask is not None and element_of(op.mask) is I1:
        scores = writer.make("Where", [op.mask, scores, scalar(writer, op.fill, element)])
    elif op.mask is not None:
        scores = writer.make("Add", [scores, cast(writer, op.mask, element)])
    weights = writer.make("Softmax", [scores], axis=3)
    if op.undefined == "zero":
        weights = writer.make("Where", [writer.make("IsNaN", [weights]), scalar(writer, 0, element), weights])
    finish(writer, writer.make("MatMul", [weights, value]), element, op.output)


def _repeated(writer: Writer, x: Item, shape: Sequence[Dim], heads: Dim) -> Item:
    """[b, groups, t, d] -> [b, heads, t, d], each group for as many heads; itself where there are as many."""
    b, groups, t, size = shape
    if groups == heads:
        return x
    times = divide_exact(heads, groups)
    if times is None:
        raise Unsupported("query heads and groups of unknown number")
    apart = reshaped(writer, x, (b, groups, 1, t, size))
    every = writer.make("Expand", [apart, writer.shape((b, groups, times, t, size))])
    return reshaped(writer, every, (b, heads, t, size))


def _mask(op: graph.AttentionOp, writer: Writer) -> tuple[Item | None, bool]:
    """(the mask, whether queries only see the keys up to their own index)"""
    given = None if op.mask is None else _completed(op, writer, op.mask)
    plain = op.offset is None and op.lengths is None and op.left < 0 and op.right < 0
    if plain:
        return given, op.causal
    allowed = _allowed(op, writer)
    if given is None or op.mask is None or not allowed:
        return (allowed or given), False
    if element_of(op.mask) is I1:
        return writer.make("And", [given, allowed]), False
    return writer.make("Where", [allowed, given, scalar(writer, -np.inf, element_of(op.mask))]), False


def _completed(op: graph.AttentionOp, writer: Writer, mask: Value) -> Item:
    """The mask with a place for every key, those behind its last forbidden, and of rank 2 at least."""
    keys, own = shape_of(op.key)[2], shape_of(mask)
    item: Item = mask
    if len(own) == 1:
        item = reshaped(writer, item, (1, *own))
    if own[-1] == keys:
        return item
    rank = max(len(own), 2)
    lack: Dim = keys - own[-1]
    pads = writer.shape([*[0] * (2 * rank - 1), lack])
    if element_of(mask) is I1:
        return writer.make("Pad", [item, pads])
    return writer.make("Pad", [item, pads, scalar(writer, -np.inf, element_of(mask))])


def _allowed(op: graph.AttentionOp, writer: Writer) -> str | None:
    """[b or 1, 1, s or 1, t]: which keys are allowed by their position; None: all."""
    queries, keys = (_range(writer, dims[2]) for dims in (shape_of(op.query), shape_of(op.key)))
    column = writer.make("Unsqueeze", [queries, integers(writer, [1])])
    position: Item = column
    if op.offset is not None:
        start = reshaped(writer, as_int64(writer, op.offset), (*shape_of(op.offset), 1, 1, 1))
        position = writer.make("Add", [start, column])
    tests: list[str] = []
    if op.lengths is not None:
        ends = reshaped(writer, as_int64(writer, op.lengths), (*shape_of(op.lengths), 1, 1, 1))
        tests.append(writer.make("Less", [keys, ends]))
    if op.causal:
        tests.append(writer.make("LessOrEqual", [keys, position]))
    if op.left >= 0:
        first = writer.make("Sub", [position, integers(writer, [op.left])])
        tests.append(writer.make("GreaterOrEqual", [keys, first]))
    if op.right >= 0:
        last = writer.make("Add", [position, integers(writer, [op.right])])
        tests.append(writer.make("LessOrEqual", [keys, last]))
    if not tests:
        return None
    made = tests[0]
    for test in tests[1:]:
        made = writer.make("And", [made, test])
    full = writer.shape((1, 1, shape_of(op.query)[2], shape_of(op.key)[2]))
    return writer.make("Expand", [made, full])


def _range(writer: Writer, size: Dim) -> str:
    """0, 1, ..., size - 1"""
    if isinstance(size, int):
        return writer.constant(np.arange(size, dtype=np.int64), "places")
    end = writer.make("Reshape", [writer.shape([size]), integers(writer, [])])
    return writer.make("Range", [scalar_int(writer, 0), end, scalar_int(writer, 1)])


def scalar_int(writer: Writer, number: int) -> str:
    """A constant of rank 0 in int64."""
    return writer.constant(np.array(number, np.int64), "scalar")


@exports(graph.RotaryEmbeddingOp)
def rotary_embedding(op: graph.RotaryEmbeddingOp, writer: Writer) -> None:
    """graph.rotary_embedding %x, %cos, %sin, %positions -> RotaryEmbedding(x, cos, sin, positions); where it is not
    known how many elements are rotated, of that part of x, with the rest behind it"""
    half, size = shape_of(op.cos)[-1], shape_of(op.x)[-1]
    positions = None if op.positions is None else as_int64(writer, op.positions)
    tables: list[Item | None] = [*(_for_every_row(writer, table, op) for table in (op.cos, op.sin)), positions]
    interleaved = int(op.interleaved) or None
    if 2 * half == size or isinstance(half, int):
        dim = 2 * half if isinstance(half, int) and 2 * half != size else None
        writer.node("RotaryEmbedding", [op.x, *tables], op.results, interleaved=interleaved, rotary_embedding_dim=dim)
        return
    start, middle, end = (writer.shape([place]) for place in (0, 2 * half, np.iinfo(np.int64).max))
    axis = integers(writer, [3])
    turned, rest = (writer.make("Slice", [op.x, *ends, axis]) for ends in ((start, middle), (middle, end)))
    turned = writer.make("RotaryEmbedding", [turned, *tables], interleaved=interleaved)
    writer.node("Concat", [turned, rest], op.results, axis=3)


def _for_every_row(writer: Writer, table: Value, op: graph.RotaryEmbeddingOp) -> Item:
    """[b or 1, s or 1, r / 2] -> [b, s, r / 2]; a table that positions index as it is"""
    b, _, s, _ = shape_of(op.x)
    whole = (b, s, shape_of(table)[-1])
    if op.positions is not None or shape_of(table) == whole:
        return table
    return writer.make("Expand", [table, writer.shape(whole)])


@exports(graph.LinearAttentionOp)
def linear_attention(op: graph.LinearAttentionOp, writer: Writer) -> None:
    """graph.linear_attention %q, %k, %v, %state, %decay, %beta -> split(LinearAttention(merge(q), merge(k), merge(v),
    state, merge(decay), merge(beta))), where merging puts heads side by side"""
    heads, groups = shape_of(op.query)[1], shape_of(op.key)[1]
    if not isinstance(heads, int) or not isinstance(groups, int):
        raise Unsupported(f"LinearAttention needs known numbers of heads, not {heads} and {groups}")
    operands = [op.query, op.key, op.value, None, op.decay, op.beta]
    merged: list[Item | None] = [None if value is None else _merged(writer, value) for value in operands]
    merged[3] = op.state
    rule = {(False, False): "linear", (True, False): "gated", (False, True): "delta", (True, True): "gated_delta"}
    flat = writer.fresh("attention")
    writer.node(
        "LinearAttention", merged, [flat, op.final], q_num_heads=heads, kv_num_heads=groups,
        scale=writer.float32(op, "scale", op.scale),
        update_rule=rule[op.decay is not None, op.beta is not None],
    )  # fmt: skip
    b, _, t, _ = shape_of(op.query)
    split = reshaped(writer, flat, (b, t, heads, shape_of(op.value)[3]))
    writer.node("Transpose", [split], [op.output], perm=[0, 2, 1, 3])


def _merged(writer: Writer, x: Value) -> str:
    """[b, heads, t, d] -> [b, t, heads * d]"""
    b, heads, t, d = shape_of(x)
    return reshaped(writer, writer.make("Transpose", [x], perm=[0, 2, 1, 3]), (b, t, heads * d))
