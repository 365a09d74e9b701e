"""Attention: types, what masks forbid, and words for operands that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.attention import AttentionOp, LinearAttentionOp, RotaryEmbeddingOp
from stepwell.errors import IRError, RuntimeError
from stepwell.ir.core import Block, Value
from stepwell.ir.dims import parse_dim
from stepwell.ir.types import F32, F64, I1, SI64, TensorType, Type


def value(shape: str, element: Type = F32) -> Value:
    """A value of a shape written as "2 n 3*m"."""
    return Block([TensorType(tuple(parse_dim(part) for part in shape.split()), element)]).arguments[0]


def shown(type_: Type) -> str:
    assert isinstance(type_, TensorType)
    return " ".join(map(str, type_.shape))


def test_types() -> None:
    op = AttentionOp(value("b 8 s 16"), value("b 2 t 16"), value("b 2 t 32"), scale=1, scores="raw")
    assert [shown(result.type) for result in op.results] == ["b 8 s 32", "b 8 s t"]


@pytest.mark.parametrize(
    ("shapes", "mask", "message"),
    [
        (("2 8 4 16", "3 8 4 16", "2 8 4 16"), None, "batches differ: 2, 3, 2"),
        (("2 8 4 16", "2 8 4 8", "2 8 4 16"), None, "head sizes of queries and keys differ: 16, 8"),
        (("2 8 4 16", "2 3 4 16", "2 3 4 16"), None, "8 query heads do not share out among 3 heads"),
        (("2 8 4 16", "2 8 5 16", "2 8 4 16"), None, "numbers of keys and values differ: 5, 4"),
        (("2 4 16", "2 8 5 16", "2 8 5 16"), None, "query needs rank 4, not 3"),
        (("2 8 4 16", "2 8 5 16", "2 8 5 16"), "4 6", "the mask is for 6 keys, there are 5"),
        (("1 2 4 16", "1 2 5 16", "1 2 5 16"), "7 2 4 5", "the mask has a size of 7 where the scores have 1"),
        (("2 8 4 16", "2 8 5 16", "2 8 5 16"), "3 5", "do not broadcast"),
    ],
)
def test_misfits(shapes: tuple[str, str, str], mask: str | None, message: str) -> None:
    with pytest.raises(IRError, match=message):
        AttentionOp(*map(value, shapes), value(mask) if mask else None, scale=1)


def allowed(queries: int, keys: int, operands: dict[str, Any], **fields: Any) -> list[str]:
    """Which keys each query of one head attends, as rows of 1 and 0."""
    given = {"mask": None, "lengths": None, "offset": None} | {
        name: (value(" ".join(map(str, array.shape)), I1 if array.dtype == bool else F32 if name == "mask" else SI64))
        for name, array in operands.items()
    }
    op = AttentionOp(
        value(f"1 1 {queries} 1"), value(f"1 1 {keys} 1"), value(f"1 1 {keys} 1"), *given.values(), scale=1,
        scores="probabilities", **fields,
    )  # fmt: skip
    arrays = [np.zeros((1, 1, n, 1), np.float32) for n in (queries, keys, keys)]
    _, probabilities = op.interpret(None, *arrays, *(operands[name] for name in given if name in operands))
    return ["".join("1" if p > 0 else "0" for p in row) for row in probabilities[0, 0]]


@pytest.mark.parametrize(
    ("operands", "fields", "expected"),
    [
        ({}, {}, ["1111", "1111"]),
        ({}, {"causal": True}, ["1000", "1100"]),
        ({"offset": np.array([2])}, {"causal": True}, ["1110", "1111"]),
        ({"offset": np.array([-1])}, {"causal": True}, ["0000", "1000"]),
        ({"offset": np.array([2])}, {"left": 1}, ["0111", "0011"]),
        ({}, {"left": 0, "right": 1}, ["1100", "0110"]),
        ({"lengths": np.array([3])}, {}, ["1110", "1110"]),
        ({"mask": np.array([[True, False, True]])}, {}, ["1010", "1010"]),
        ({"mask": np.array([[0, -np.inf]], np.float32)}, {}, ["1000", "1000"]),
        ({"mask": np.array([[False] * 4, [True] * 4])}, {"causal": True}, ["0000", "1100"]),
    ],
)
def test_what_is_attended(operands: dict[str, Any], fields: dict[str, Any], expected: list[str]) -> None:
    assert allowed(2, 4, operands, **fields) == expected


def test_forbidden_rows_are_zero_whatever_the_values() -> None:
    op = AttentionOp(value("1 1 1 1"), value("1 1 2 1"), value("1 1 2 1"), value("2", I1), scale=1)
    q, k = np.array([[[[np.inf]]]], np.float32), np.ones((1, 1, 2, 1), np.float32)
    made = op.interpret(None, q, k, k, np.array([False, False]))
    assert made[0].tolist() == [[[[0.0]]]]


def test_no_keys_give_zeros() -> None:
    op = AttentionOp(value("1 1 2 1"), value("1 1 0 1"), value("1 1 0 3"), scale=1)
    arrays = [np.ones(shape, np.float32) for shape in ((1, 1, 2, 1), (1, 1, 0, 1), (1, 1, 0, 3))]
    np.testing.assert_array_equal(op.interpret(None, *arrays)[0], np.zeros((1, 1, 2, 3)))


def test_probabilities_of_f64_stay_so_for_values_of_f32() -> None:
    """One third of 3 and two thirds of 0, to the last digit of an f64."""
    query, key = (Block([TensorType((1, 1, size, 1), F64)]).arguments[0] for size in (1, 2))
    op = AttentionOp(query, key, value("1 1 2 1"), scale=1)
    keys = np.array([0, np.log(2)]).reshape(1, 1, 2, 1)
    values = np.array([3, 0], np.float32).reshape(1, 1, 2, 1)
    (made,) = op.interpret(None, np.ones((1, 1, 1, 1)), keys, values)
    assert made.dtype == np.float64 and abs(made.item() - 1) < 1e-15


def test_rotation_by_a_quarter() -> None:
    op = RotaryEmbeddingOp(value("1 1 1 5"), value("1 1 2"), value("1 1 2"))
    turned = RotaryEmbeddingOp(value("1 1 1 5"), value("1 1 2"), value("1 1 2"), interleaved=True)
    x = np.array([[[[1, 2, 3, 4, 5]]]], np.float32)
    cos, sin = np.zeros((1, 1, 2), np.float32), np.ones((1, 1, 2), np.float32)
    assert op.interpret(None, x, cos, sin).tolist() == [[[[-3, -4, 1, 2, 5]]]]
    assert turned.interpret(None, x, cos, sin).tolist() == [[[[-2, 1, -4, 3, 5]]]]


def test_positions_outside_the_table_are_an_error() -> None:
    op = RotaryEmbeddingOp(value("1 1 1 2"), value("4 1"), value("4 1"), value("1 1", SI64))
    arrays = [np.zeros(shape, np.float32) for shape in ((1, 1, 1, 2), (4, 1), (4, 1))]
    with pytest.raises(RuntimeError, match="outside the 4 rows"):
        op.interpret(None, *arrays, np.array([[4]]))


def test_rotating_more_than_a_head_is_an_error() -> None:
    with pytest.raises(IRError, match="8 elements cannot be rotated in heads of 6"):
        RotaryEmbeddingOp(value("1 1 1 6"), value("1 1 4"), value("1 1 4"))


def test_state_of_linear_attention_must_fit() -> None:
    with pytest.raises(IRError, match="sizes of axis 2 of the state differ: 5, 4"):
        LinearAttentionOp(value("1 2 3 4"), value("1 2 3 4"), value("1 2 3 6"), value("1 2 5 6"), scale=1)
