"""How a step from one version of an operator to the next is written down: the same node on both sides of it."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

N = np.float32
X = np.arange(6, dtype=N).reshape(2, 3)


@attrs.frozen
class Side:
    """A node under a version: its inputs, and what it gives; words of the refusal where it has to be refused."""

    version: int
    expected: Any
    inputs: tuple[Any, ...]
    outputs: int
    attributes: dict[str, Any]


def at(version: int, expected: Any, *inputs: Any, outputs: int = 1, **attributes: Any) -> Side:
    """A side; `expected` is an array, a list of them, or a string that the refusal matches."""
    return Side(version, expected, inputs, outputs, attributes)


def ints(*values: int) -> Any:
    """A list of i64."""
    return np.array(values, np.int64)


def f32(*values: Any) -> Any:
    """A list of f32, or what is nested so."""
    return np.array(values, N)
