"""Recurrent layers: types, lengths, and words for operands that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.recurrent import GruOp, LstmOp, RecurrentOp, RnnOp
from stepwell.errors import IRError
from stepwell.ir.core import Block, Value
from stepwell.ir.dims import parse_dim
from stepwell.ir.types import F32, SI32, TensorType, Type


def value(shape: str, element: Type = F32) -> Value:
    """A value of a shape written as "2 n 3*m"."""
    return Block([TensorType(tuple(parse_dim(part) for part in shape.split()), element)]).arguments[0]


def shown(type_: Type) -> str:
    assert isinstance(type_, TensorType)
    return " ".join(map(str, type_.shape))


def functions(cls: type[RecurrentOp], directions: int = 1) -> dict[str, Any]:
    """Default activations."""
    names = {RnnOp: ["tanh"], GruOp: ["sigmoid", "tanh"], LstmOp: ["sigmoid", "tanh", "tanh"]}[cls] * directions
    return {"activations": names, "alphas": [0.0] * len(names), "betas": [0.0] * len(names)}


@pytest.mark.parametrize(
    ("cls", "direction", "w", "r", "expected"),
    [
        (RnnOp, "forward", "1 4 3", "1 4 4", ["t 1 n 4", "1 n 4"]),
        (GruOp, "reverse", "1 12 3", "1 12 4", ["t 1 n 4", "1 n 4"]),
        (LstmOp, "bidirectional", "2 16 3", "2 16 4", ["t 2 n 4", "2 n 4", "2 n 4"]),
    ],
)
def test_types(cls: type[RecurrentOp], direction: str, w: str, r: str, expected: list[str]) -> None:
    fields = functions(cls, 2 if direction == "bidirectional" else 1)
    op = cls(value("t n 3"), value(w), value(r), direction=direction, **fields)
    assert [shown(result.type) for result in op.results] == expected


@pytest.mark.parametrize(
    ("w", "r", "fields", "message"),
    [
        ("1 4 3", "1 12 4", {}, r"w needs shape \[1, 12, 3\], not \[1, 4, 3\]"),
        ("1 12 3", "1 8 4", {}, r"r needs shape \[1, 12, 4\], not \[1, 8, 4\]"),
        ("12 3", "1 12 4", {}, r"w needs shape \[1, 12, 3\], not \[12, 3\]"),
        ("1 12 3", "12 4", {}, "r needs rank 3, not 2"),
        ("1 12 3", "1 12 4", {"activations": ["sigmoid"]}, "2 activations with their parameters are needed, not 1"),
        ("1 12 3", "1 12 4", {"activations": ["sigmoid", "sine"]}, "activation 'sine' is not one of relu, tanh"),
        ("1 12 3", "1 12 4", {"direction": "up"}, "'up' is not one of forward, reverse, bidirectional"),
    ],
)
def test_misfits(w: str, r: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(IRError, match=message):
        GruOp(value("5 2 3"), value(w), value(r), **({"direction": "forward"} | functions(GruOp) | fields))


@pytest.mark.parametrize(
    ("direction", "y", "final"),
    [("forward", [[1, 1], [3, 3], [0, 6]], [3, 6]), ("reverse", [[3, 6], [2, 5], [0, 3]], [3, 6])],
)
def test_sequences_end_at_their_lengths(direction: str, y: list[list[float]], final: list[float]) -> None:
    """A running sum of 1, 2, 3: of the first sequence only two elements count."""
    op = RnnOp(
        value("3 2 1"), value("1 1 1"), value("1 1 1"), None, value("2", SI32), direction=direction,
        activations=["relu"], alphas=[0], betas=[0],
    )  # fmt: skip
    x = np.array([[1, 1], [2, 2], [3, 3]], np.float32)[..., None]
    one = np.ones((1, 1, 1), np.float32)
    made = op.interpret(None, x, one, one, np.array([2, 3], np.int32))
    np.testing.assert_array_equal(made[0][:, 0, :, 0], y)
    np.testing.assert_array_equal(made[1][0, :, 0], final)


def test_no_steps_keep_the_initial_state() -> None:
    op = LstmOp(value("0 2 3"), value("1 16 3"), value("1 16 4"), None, None, value("1 2 4"), direction="forward",
                **functions(LstmOp))  # fmt: skip
    arrays = [np.zeros(shape, np.float32) for shape in ((0, 2, 3), (1, 16, 3), (1, 16, 4))]
    y, h, c = op.interpret(None, *arrays, np.full((1, 2, 4), 7, np.float32))
    assert y.shape == (0, 1, 2, 4)
    assert (h == 7).all()
    assert (c == 0).all()
