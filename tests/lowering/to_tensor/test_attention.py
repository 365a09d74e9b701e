"""Attention with masks, windows and groups; rotary embedding: the graph's results at every landing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.dialects.graph.attention import AttentionOp, RotaryEmbeddingOp
from stepwell.dialects.graph.base import ConstantOp
from stepwell.dialects.graph.movement import TransposeOp
from stepwell.errors import IRError
from stepwell.ir.attributes import elements
from stepwell.ir.core import Operation, Value
from stepwell.ir.types import F16
from tests.lowering.to_tensor.descent import N, descend, graph_module, tensor

RANDOM = np.random.default_rng(7)


def normal(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


Q, K, V = normal(2, 4, 3, 8), normal(2, 2, 5, 8), normal(2, 2, 5, 6)


@pytest.mark.parametrize(
    "options",
    [{}, {"causal": True}, {"left": 1, "right": 0}, {"softcap": 2.0}, {"scores": "raw"}, {"scores": "probabilities"},
     {"scale": -0.5}],
    ids=str,
)  # fmt: skip
def test_options(options: dict[str, Any]) -> None:
    descend(lambda q, k, v: AttentionOp(q, k, v, **{"scale": 0.35, **options}), Q, K, V, loops=not options, native=True)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (1, 5), (2, 1, 3, 5), (3, 4)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_masks(shape: tuple[int, ...], dtype: Any) -> None:
    mask = normal(*shape) if dtype is np.float32 else RANDOM.integers(0, 2, shape).astype(np.bool_)
    descend(lambda q, k, v, m: AttentionOp(q, k, v, m, scale=0.5), Q, K, V, mask, native=True)


@pytest.mark.parametrize(("scored", "others"), [(np.float64, np.float32), (np.float32, np.float64)])
def test_values_and_masks_of_another_type(scored: Any, others: Any) -> None:
    q, k, v, mask = Q.astype(scored), K.astype(scored), V.astype(others), normal(3, 5).astype(others)
    descend(lambda q, k, v, m: AttentionOp(q, k, v, m, scale=0.5), q, k, v, mask, native=True)


def test_forbidden_scores_do_not_matter() -> None:
    """The score of an infinite key is NaN for one query and infinite for the other."""
    k = K.copy()
    k[:, :, 3:] = np.inf
    mask = np.arange(5) < 3
    first = descend(lambda q, k, v, m: AttentionOp(q, k, v, m), Q, k, V, mask, native=True).results[0]
    causal = descend(lambda q, k, v: AttentionOp(q, k, v, causal=True), Q, k, V, native=True).results[0]
    assert np.isfinite(first).all() and np.isfinite(causal).all()


def test_rows_without_keys_are_zeros() -> None:
    mask = np.array([[False] * 5, [True] * 5, [False] * 5])
    results = descend(lambda q, k, v, m: AttentionOp(q, k, v, m, scale=0.5), Q, K, V, mask, native=True).results
    assert not results[0][:, :, [0, 2]].any() and results[0][:, :, 1].all()


def test_lengths_and_offsets() -> None:
    lengths, offset = np.array([5, 2]), np.array([2, 0])
    descend(lambda q, k, v, n, o: AttentionOp(q, k, v, None, n, o, scale=0.5, causal=True), Q, K, V, lengths,
            offset, native=True)  # fmt: skip


def test_symbolic_sizes() -> None:
    descend(lambda q, k, v: AttentionOp(q, k, v, scale=0.5, causal=True), normal(2, 2, 3, 8), normal(2, 2, 5, 8),
            normal(2, 2, 5, 8), symbolic=True, native=True)  # fmt: skip


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("half", [4, 3])
def test_rotary_embedding(interleaved: bool, half: int) -> None:
    x, cos, sin = normal(2, 4, 3, 8), normal(2, 3, half), normal(2, 3, half)
    descend(lambda x, c, s: RotaryEmbeddingOp(x, c, s, interleaved=interleaved), x, cos, sin, loops=True, native=True)
    tables, positions = (normal(9, half), normal(9, half)), np.array([[0, 8, 1], [3, 2, 2]])
    descend(lambda x, c, s, p: RotaryEmbeddingOp(x, c, s, p, interleaved=interleaved), x, *tables, positions,
            symbolic=True, native=True)  # fmt: skip


INFINITY = np.inf
SPECIAL_MASK = np.array(
    [[0, -INFINITY, 1, 0, 0], [-INFINITY] * 5, [INFINITY, 0, 0, 0, 0]], np.float32
)  # one key forbidden; no key left; a score that softmax cannot take


@pytest.mark.parametrize("undefined", ["masked", "zero", "nan"])
@pytest.mark.parametrize("value", [1.0, np.nan, np.inf])
def test_queries_whose_softmax_is_not_defined(undefined: str, value: float) -> None:
    q, v = Q.copy(), V.copy()
    q[1, 0, 0, 0] = value
    v[0, 0, 0, 0] = value
    found = descend(
        lambda q, k, v, m: AttentionOp(q, k, v, m, scale=0.5, undefined=undefined), q, K, v, SPECIAL_MASK, native=True
    )
    if value == 1.0:
        nan_rows = {"masked": [2], "zero": [], "nan": [1, 2]}[undefined]
        assert [row for row in range(3) if np.isnan(found.results[0][0, 0, row]).any()] == nan_rows


@pytest.mark.parametrize("fill", [-1e9, 2.5])
def test_filled_scores(fill: float) -> None:
    mask = RANDOM.integers(0, 2, (3, 5)).astype(np.bool_)
    mask[1] = False
    descend(lambda q, k, v, m: AttentionOp(q, k, v, m, scale=0.5, fill=fill), Q, K, V, mask, native=True)


def test_filled_scores_need_a_mask_for_all_keys() -> None:
    mask = ConstantOp(value=elements(np.ones((3, 4), np.bool_))).result
    q, k, v = (ConstantOp(value=elements(x)).result for x in (Q, K, V))
    with pytest.raises(IRError, match="for all 5 keys, not for 4"):
        AttentionOp(q, k, v, mask, scale=1.0, fill=-1e9)


@pytest.mark.parametrize("order", [[0, 2, 1, 3], [0, 1, 3, 2], [1, 0, 2, 3]], ids=str)
def test_operands_that_lie_in_another_order(order: list[int]) -> None:
    back = [order.index(n) for n in range(4)]

    def build(q: Value, k: Value, v: Value) -> Operation:
        q, k, v = (TransposeOp(x, permutation=back).result for x in (q, k, v))
        return AttentionOp(q, k, v, scale=0.5)

    descend(build, *(np.ascontiguousarray(x.transpose(order)) for x in (Q, K, V)), native=True)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("interleaved", [False, True])
def test_rotation_by_tables_that_broadcast(batch: int, rows: int, interleaved: bool) -> None:
    x, cos, sin = normal(2, 4, 3, 8), normal(batch, rows, 4), normal(batch, rows, 4)
    descend(lambda x, c, s: RotaryEmbeddingOp(x, c, s, interleaved=interleaved), x, cos, sin, native=True)


@pytest.mark.parametrize("order", [[0, 2, 1, 3], [0, 1, 3, 2]], ids=str)
def test_rotation_of_heads_that_lie_in_another_order(order: list[int]) -> None:
    back = [order.index(n) for n in range(4)]
    x = np.ascontiguousarray(normal(2, 4, 3, 8).transpose(order))
    descend(lambda x, c, s: RotaryEmbeddingOp(TransposeOp(x, permutation=back).result, c, s), x, normal(2, 3, 4),
            normal(2, 3, 4), native=True)  # fmt: skip


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("fields", [{}, {"causal": True}, {"softcap": 2.0}, {"scores": "probabilities"}])
def test_every_step_in_half_precision(fields: dict[str, Any], queries: int) -> None:
    """A `narrow` op rounds to f16 after every step, so that it gives what single operators give."""
    rng = np.random.default_rng(3)
    q, k, v = (rng.uniform(0, 1, (2, 2, size, 8)).astype(np.float16) for size in (queries, 5, 5))
    model = stepwell.compile(graph_module(
        [tensor(2, 2, queries, 8, element=F16), *[tensor(2, 2, N, 8, element=F16)] * 2],
        lambda q, k, v: AttentionOp(q, k, v, None, None, None, scale=0.35, narrow=True, **fields),
    ))  # fmt: skip
    made = model(q, k, v)
    root = np.float16(np.sqrt(0.35))
    scores = np.matmul(q * root, np.swapaxes(k * root, 2, 3))
    if "softcap" in fields:
        scores = np.float16(2) * np.tanh(scores / np.float16(2))
    if "causal" in fields:
        scores = np.where(np.arange(5) <= np.arange(queries)[:, None], scores, np.float16(-np.inf))
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    weights = powers / powers.sum(-1, keepdims=True)
    expected = np.matmul(weights, v)
    np.testing.assert_allclose(made[0] if isinstance(made, tuple) else made, expected, rtol=0, atol=6e-4)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"scores": "probabilities"}, {"undefined": "zero"}], ids=str)
def test_sinks(options: dict[str, Any]) -> None:
    sinks = np.array([0.0, 3.0, -2.0, 120.0], np.float32)
    descend(lambda q, k, v, s: AttentionOp(q, k, v, None, None, None, s, scale=0.5, **options), Q, K, V, sinks,
            native=True)  # fmt: skip


def test_a_sink_alone_leaves_nothing() -> None:
    mask, sinks = np.zeros((3, 5), np.bool_), np.ones(4, np.float32)
    made = descend(lambda q, k, v, m, s: AttentionOp(q, k, v, m, None, None, s, scale=0.5), Q, K, V, mask, sinks,
                   native=True)  # fmt: skip
    assert not made.results[0].any()
