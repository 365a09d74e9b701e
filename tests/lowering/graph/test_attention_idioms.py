"""Attention and rotary embedding that exporters wrote out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.attention import AttentionOp, RotaryEmbeddingOp
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.logic import IsNanOp, WhereOp
from stepwell.dialects.graph.movement import ConcatOp, SplitOp, TransposeOp
from stepwell.dialects.graph.shape import ExpandOp, ReshapeOp
from stepwell.dialects.graph.softmax import SoftmaxOp
from stepwell.ir.core import Operation, Value
from tests.lowering.graph.recognition import kinds, normal, number, recognised
from tests.lowering.to_tensor.descent import constant

Q, K, V = normal(2, 3, 5, 8), normal(2, 3, 7, 8), normal(2, 3, 7, 6)
SPECIAL = np.array([[0, 1, -np.inf, 0, 2, -1, 0], [-np.inf] * 7, [0] * 7, [np.inf] + [0] * 6, [1] * 7], np.float32)


def turned(k: Value) -> Value:
    rank = len(shape_of(k))
    return TransposeOp(k, permutation=[*range(rank - 2), rank - 1, rank - 2]).result


def times(x: Value, factor: float) -> Value:
    return graph.MulOp(x, number(factor, x)).result


def scores(q: Value, k: Value) -> Value:
    return MatmulOp(q, turned(k)).result


def weights(x: Value) -> Value:
    return SoftmaxOp(x, axes=[len(shape_of(x)) - 1]).result


def guarded(x: Value) -> Value:
    p = weights(x)
    return WhereOp(IsNanOp(p).result, constant(np.float32(0)), p).result


def the_attention(ops: list[Operation]) -> AttentionOp:
    (op,) = (op for op in ops if isinstance(op, AttentionOp))
    return op


SCALES: list[Callable[[Value, Value], Value]] = [
    lambda q, k: scores(q, k),
    lambda q, k: times(scores(q, k), 0.25),
    lambda q, k: graph.DivOp(scores(q, k), constant(np.float32(3.0))).result,
    lambda q, k: scores(times(q, 0.25), k),
    lambda q, k: scores(q, times(k, 0.25)),
    lambda q, k: MatmulOp(times(q, 0.5), times(turned(k), 0.5)).result,
    lambda q, k: times(graph.TanhOp(times(scores(q, k), 0.05)).result, 5.0),
]


@pytest.mark.parametrize(
    ("index", "scale", "softcap"),
    [(0, 1.0, 0.0), (1, 0.25, 0.0), (2, 1 / 3, 0.0), (3, 0.25, 0.0), (4, 0.25, 0.0), (5, 0.25, 0.0), (6, 0.25, 5.0)],
)
def test_where_the_scale_stands(index: int, scale: float, softcap: float) -> None:
    ops = recognised(lambda q, k, v: MatmulOp(weights(SCALES[index](q, k)), v), Q, K, V)
    op = the_attention(ops)
    assert kinds(ops) == ["attention"]
    assert (op.scale, op.softcap) == (pytest.approx(scale), softcap)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("shape", [(5, 7), (1, 7), (2, 1, 5, 7), (2, 1, 1, 7), (7,)], ids=str)
@pytest.mark.parametrize("softmax", [weights, guarded])
def test_added_masks(softmax: Callable[[Value], Value], shape: tuple[int, ...], symbolic: bool) -> None:
    mask = normal(*shape)
    ops = recognised(
        lambda q, k, v, m: MatmulOp(softmax(graph.AddOp(times(scores(q, k), 0.25), m).result), v), Q, K, V, mask,
        symbolic=symbolic,
    )  # fmt: skip
    assert kinds(ops) == ["attention"]
    assert the_attention(ops).undefined == ("zero" if softmax is guarded else "nan")


@pytest.mark.parametrize("value", [1.0, np.nan, np.inf])
@pytest.mark.parametrize("softmax", [weights, guarded])
def test_undefined_rows_stay_what_they_were(softmax: Callable[[Value], Value], value: float) -> None:
    q, v = Q.copy(), V.copy()
    q[1, 0, 0, 0] = v[0, 0, 0, 0] = value
    build = lambda q, k, v, m: MatmulOp(softmax(graph.AddOp(scores(q, k), m).result), v)  # noqa: E731
    assert kinds(recognised(build, q, K, v, SPECIAL)) == ["attention"]


@pytest.mark.parametrize("fill", [-np.inf, -1e9])
@pytest.mark.parametrize("inverted", [False, True])
def test_chosen_scores(fill: float, inverted: bool) -> None:
    def build(q: Value, k: Value, v: Value, m: Value) -> Operation:
        x, other = scores(q, k), constant(np.float32(fill))
        return MatmulOp(weights(WhereOp(m, *((other, x) if inverted else (x, other))).result), v)

    mask = np.tri(5, 7, dtype=np.bool_)
    mask[3] = inverted
    ops = recognised(build, Q, K, V, mask)
    assert kinds(ops) == (["not", "attention"] if inverted else ["attention"])
    assert the_attention(ops).fill == np.float32(fill)


@pytest.mark.parametrize("rank", [2, 3])
def test_other_ranks_become_views(rank: int) -> None:
    q, k, v = (x.reshape(-1, *x.shape[-2:])[0] if rank == 2 else x.reshape(-1, *x.shape[-2:]) for x in (Q, K, V))
    ops = recognised(lambda q, k, v: MatmulOp(weights(times(scores(q, k), 0.5)), v), q, k, v)
    assert kinds(ops) == ["reshape", "reshape", "reshape", "attention", "reshape"]


def repeated(x: Value) -> Value:
    """[b, 3, t, d] -> [b, 6, t, d]"""
    b, g, t, d = shape_of(x)
    wide = ExpandOp.to(ReshapeOp.to(x, [b, g, 1, t, d]).result, [b, g, 2, t, d]).result
    return ReshapeOp.to(wide, [b, 6, t, d]).result


def test_repeated_heads_become_groups() -> None:
    q = normal(2, 6, 5, 8)
    ops = recognised(lambda q, k, v: MatmulOp(weights(scores(q, repeated(k))), repeated(v)), q, K, V)
    assert "expand" not in kinds(ops)
    assert shape_of(the_attention(ops).key)[1] == 3


def test_repeated_keys_alone_stay_repeated() -> None:
    q, v = normal(2, 6, 5, 8), normal(2, 6, 7, 6)
    ops = recognised(lambda q, k, v: MatmulOp(weights(scores(q, repeated(k))), v), q, K, v)
    assert "expand" in kinds(ops)
    assert shape_of(the_attention(ops).key)[1] == 6


def test_keys_turned_behind_a_reshape_are_read_as_they_lie() -> None:
    def build(q: Value, k: Value, v: Value) -> Operation:
        heads = TransposeOp(k, permutation=[0, 2, 1, 3]).result
        flat = ReshapeOp.to(heads, [6, 7, 8]).result
        key = ReshapeOp.to(turned(flat), [2, 3, 8, 7]).result
        return MatmulOp(weights(MatmulOp(q, key).result), v)

    ops = recognised(build, Q, np.ascontiguousarray(K.transpose(0, 2, 1, 3)), V)
    assert kinds(ops) == ["transpose", "attention"]


def other_axis(q: Value, k: Value, v: Value) -> Operation:
    return MatmulOp(SoftmaxOp(scores(q, k), axes=[2]).result, v)


def scores_leave(q: Value, k: Value, v: Value) -> list[Value]:
    x = scores(q, k)
    return [MatmulOp(weights(x), v).result, x]


def weights_leave(q: Value, k: Value, v: Value) -> list[Value]:
    p = weights(scores(q, k))
    return [p, MatmulOp(p, v).result]


def mask_of_one_key(q: Value, k: Value, v: Value) -> Operation:
    return MatmulOp(weights(graph.AddOp(scores(q, k), constant(normal(5, 1))).result), v)


def guard_of_one(q: Value, k: Value, v: Value) -> Operation:
    p = weights(scores(q, k))
    return MatmulOp(WhereOp(IsNanOp(p).result, constant(np.float32(1)), p).result, v)


@pytest.mark.parametrize("build", [other_axis, scores_leave, weights_leave, mask_of_one_key, guard_of_one])
def test_what_is_nearly_attention_stays(build: Any) -> None:
    assert "attention" not in kinds(recognised(build, Q, K, V))


HEADS = normal(2, 3, 5, 8)
ANGLES = normal(2, 5, 4)


def doubled(table: Value) -> Value:
    return ConcatOp([table, table], axis=len(shape_of(table)) - 1).result


def halves(x: Value) -> tuple[Value, Value]:
    half = shape_of(x)[-1] // 2
    low, high = SplitOp.into(x, [half, half], len(shape_of(x)) - 1).parts
    return low, high


def rotated(x: Value, cos: Value, sin: Value) -> Value:
    low, high = halves(x)
    turned_x = ConcatOp([graph.NegOp(high).result, low], axis=len(shape_of(x)) - 1).result
    return graph.AddOp(graph.MulOp(x, cos).result, graph.MulOp(turned_x, sin).result).result


def tables(angles: Value, axis: int) -> tuple[Value, Value]:
    """cos and sin of doubled angles, with an axis for heads."""
    b, s, r = shape_of(angles)
    shape = [b, s, 2 * r]
    shape.insert(axis, 1)
    both = doubled(angles)
    return ReshapeOp.to(graph.CosOp(both).result, shape).result, ReshapeOp.to(graph.SinOp(both).result, shape).result


@pytest.mark.parametrize("batch", [1, 2])
def test_rotation(batch: int) -> None:
    ops = recognised(lambda x, a: [rotated(x, *tables(a, 1))], HEADS, ANGLES[:batch])
    assert sorted(kinds(ops)) == ["cos", "rotary_embedding", "sin"]


def test_heads_behind_positions() -> None:
    x = np.ascontiguousarray(HEADS.transpose(0, 2, 1, 3))
    ops = recognised(lambda x, a: [TransposeOp(rotated(x, *tables(a, 2)), permutation=[0, 2, 1, 3]).result], x, ANGLES)
    assert sorted(kinds(ops)) == ["cos", "rotary_embedding", "sin", "transpose"]


def test_tables_that_positions_index() -> None:
    table = np.concatenate([normal(9, 4)] * 2, axis=1)
    places = np.array([[0, 3, 8, 1, 1]])

    def build(x: Value, places: Value) -> list[Value]:
        cos, sin = (ReshapeOp.to(GatherOp(constant(t), places, axis=0).result, [1, 1, 5, 8]).result
                    for t in (table, -table))  # fmt: skip
        return [rotated(x, cos, sin)]

    ops = recognised(build, HEADS, places)
    (op,) = (op for op in ops if isinstance(op, RotaryEmbeddingOp))
    assert shape_of(op.cos) == (1, 5, 4)


def not_doubled(x: Value, a: Value) -> Value:
    cos, sin = (ReshapeOp.to(constant(normal(1, 5, 8)), [1, 1, 5, 8]).result for _ in range(2))
    del a
    return rotated(x, cos, sin)


def wrong_sign(x: Value, a: Value) -> Value:
    cos, sin = tables(a, 1)
    low, high = halves(x)
    other = ConcatOp([high, graph.NegOp(low).result], axis=3).result
    return graph.AddOp(graph.MulOp(x, cos).result, graph.MulOp(other, sin).result).result


@pytest.mark.parametrize("build", [not_doubled, wrong_sign])
def test_what_is_nearly_a_rotation_stays(build: Any) -> None:
    assert "rotary_embedding" not in kinds(recognised(lambda x, a: [build(x, a)], HEADS, ANGLES))
