"""Attention whose heads are counted, and measured, when the model runs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.errors import InputError
from tests.symbolic_nodes import arrays, model, results

Array = np.ndarray[Any, Any]
FOUR = {"q": 4, "k": 4, "v": 4}
THREE = {"q": 3, "k": 3, "v": 3}


@functools.cache
def plain_attention() -> Any:
    return stepwell.compile(model("Attention", 23, FOUR, 1))


def check(made: Any, compiled: Any, shapes: Sequence[Sequence[int]]) -> None:
    for own, wanted in results(made, compiled, shapes):
        np.testing.assert_allclose(own, wanted, rtol=2e-5, atol=1e-6 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("attributes", [{}, {"is_causal": 1, "softcap": 2.0}, {"scale": 0.3}])
def test_attention(attributes: dict[str, Any]) -> None:
    """The scale, and which heads share keys and values, are found out by the call."""
    made = model("Attention", 23, FOUR, 1, **attributes)
    compiled = stepwell.compile(made)
    for heads, groups, s, t, d, e in ((4, 4, 3, 5, 8, 8), (6, 2, 3, 5, 8, 4), (3, 1, 1, 7, 5, 2), (1, 1, 2, 1, 1, 1),
                                      (9, 3, 17, 33, 16, 20)):  # fmt: skip
        check(made, compiled, [(2, heads, s, d), (2, groups, t, d), (2, groups, t, e)])


@pytest.mark.parametrize("shapes", [
    [(0, 2, 3, 4), (0, 2, 3, 4), (0, 2, 3, 4)],
    [(2, 0, 3, 4), (2, 0, 3, 4), (2, 0, 3, 4)],
    [(2, 2, 0, 4), (2, 2, 3, 4), (2, 2, 3, 4)],
    [(2, 2, 3, 4), (2, 2, 3, 4), (2, 2, 3, 0)],
])  # fmt: skip
def test_attention_over_nothing(shapes: Sequence[Sequence[int]]) -> None:
    found = plain_attention()(*arrays(shapes))
    assert found.shape == (*shapes[0][:3], shapes[2][3])


@pytest.mark.parametrize(("shapes", "reason"), [
    ([(2, 3, 3, 4), (2, 2, 3, 4), (2, 2, 3, 4)], "query heads share"),
    ([(2, 3, 3, 4), (2, 0, 3, 4), (2, 0, 3, 4)], "query heads share"),
    ([(2, 2, 3, 4), (2, 4, 3, 4), (2, 4, 3, 4)], "query heads share"),
    ([(2, 2, 3, 4), (2, 2, 3, 5), (2, 2, 3, 4)], "head sizes"),
    ([(2, 2, 3, 4), (2, 2, 3, 4), (2, 2, 4, 4)], "numbers of keys"),
    ([(2, 2, 3, 4), (2, 2, 3, 4), (2, 1, 3, 4)], "heads of keys and values"),
])  # fmt: skip
def test_heads_that_do_not_fit_together(shapes: Sequence[Sequence[int]], reason: str) -> None:
    with pytest.raises(InputError, match=rf"the_node.*{reason}"):
        plain_attention()(*arrays(shapes))


def test_a_mask_for_more_keys_than_there_are() -> None:
    compiled = stepwell.compile(model("Attention", 23, {**FOUR, "m": 2}, 1))
    shapes = [(2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4)]
    with pytest.raises(InputError, match=r"the_node.*keys of the mask"):
        compiled(*arrays([*shapes, (3, 6)]))
    with pytest.raises(InputError, match=r"the_node.*do not broadcast"):
        compiled(*arrays([*shapes, (2, 5)]))


def test_a_mask_for_more_queries_than_there_are() -> None:
    """One query does not broadcast to the rows of a mask."""
    compiled = stepwell.compile(model("Attention", 23, {**FOUR, "m": 2}, 1))
    with pytest.raises(InputError, match=r"the_node.*a size of the mask"):
        compiled(*arrays([(2, 2, 1, 4), (2, 2, 5, 4), (2, 2, 5, 4), (2, 5)]))


def test_attention_on_heads_side_by_side() -> None:
    made = model("Attention", 23, THREE, 3, q_num_heads=6, kv_num_heads=3)
    compiled = stepwell.compile(made)
    for s, t, d, e in ((3, 5, 8, 4), (1, 1, 1, 1), (4, 2, 3, 7)):
        check(made, compiled, [(2, s, 6 * d), (2, t, 3 * d), (2, t, 3 * e)])
    assert compiled(*arrays([(2, 0, 12), (2, 3, 6), (2, 3, 6)]))[0].shape == (2, 0, 12)


@pytest.mark.parametrize("shapes", [[(2, 3, 11), (2, 3, 6), (2, 3, 6)], [(2, 3, 12), (2, 3, 7), (2, 3, 6)]])
def test_hidden_sizes_that_do_not_split(shapes: Sequence[Sequence[int]]) -> None:
    with pytest.raises(InputError, match=r"the_node.*numbers of elements"):
        stepwell.compile(model("Attention", 23, THREE, 1, q_num_heads=6, kv_num_heads=3))(*arrays(shapes))


LINEAR = {"q": 3, "k": 3, "v": 3, "s": 4, "decay": 3, "beta": 3}


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (3, 1)])
def test_linear_attention(heads: int, groups: int) -> None:
    """A decay by head or by element of the key, and a beta for all heads or by head, which sizes tell."""
    made = model("LinearAttention", 27, LINEAR, 2, q_num_heads=heads, kv_num_heads=groups, update_rule="gated_delta")
    compiled = stepwell.compile(made)
    for t, d, e, fine, many in ((3, 4, 5, 0, 0), (3, 4, 5, 1, 0), (2, 1, 1, 1, 1), (1, 4, 3, 0, 1)):
        decay, beta = groups * (d if fine else 1), groups if many else 1
        check(made, compiled, [(2, t, heads * d), (2, t, groups * d), (2, t, groups * e), (2, groups, d, e),
                               (2, t, decay), (2, t, beta)])  # fmt: skip


@pytest.mark.parametrize(("decay", "beta", "reason"), [(6, 1, "decay"), (2, 3, "beta")])
def test_decays_of_no_head(decay: int, beta: int, reason: str) -> None:
    made = model("LinearAttention", 27, LINEAR, 2, q_num_heads=4, kv_num_heads=2, update_rule="gated_delta")
    with pytest.raises(InputError, match=rf"the_node.*{reason}"):
        stepwell.compile(made)(*arrays([(2, 3, 16), (2, 3, 8), (2, 3, 10), (2, 2, 4, 5), (2, 3, decay), (2, 3, beta)]))


ROTARY = {"x": 4, "cos": 3, "sin": 3}


def test_rotary_tables_for_all_rows_or_for_each() -> None:
    compiled = stepwell.compile(model("RotaryEmbedding", 23, ROTARY, 1))
    x = arrays([(3, 2, 5, 8)])[0]
    full = arrays([(3, 5, 4), (3, 5, 4)])
    for b, s in ((3, 5), (1, 5), (3, 1), (1, 1)):
        cos, sin = (table[:b, :s] for table in full)
        a, z = x[..., :4], x[..., 4:]
        expected = np.concatenate([cos[:, None] * a - sin[:, None] * z, sin[:, None] * a + cos[:, None] * z], axis=-1)
        np.testing.assert_allclose(compiled(x, cos, sin), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("table", [(2, 5, 4), (3, 4, 4), (3, 5, 5)])
def test_rotary_tables_that_do_not_fit(table: Sequence[int]) -> None:
    with pytest.raises(InputError, match="the_node"):
        stepwell.compile(model("RotaryEmbedding", 23, ROTARY, 1))(*arrays([(3, 2, 5, 8), table, table]))
