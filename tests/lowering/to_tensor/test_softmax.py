"""Softmax and its relatives: masks, fully masked rows, several axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.softmax import HardmaxOp, LogSoftmaxOp, SoftmaxOp
from tests.lowering.to_tensor.descent import descend, f32

ROWS = np.random.default_rng(2).standard_normal((3, 37)).astype(np.float32) * 4
MASKED = f32([[1, -np.inf, 3], [-np.inf] * 3, [np.inf, 1, np.inf], [np.nan, 1, 2], [1e30, -1e30, 0], [2, 2, 2]])
OPS = [SoftmaxOp, LogSoftmaxOp, HardmaxOp]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("symbolic", [False, True])
def test_one_axis_at_every_landing(op: Any, axis: int, symbolic: bool) -> None:
    descend(lambda x: op(x, axes=[axis]), ROWS, symbolic=symbolic, loops=True, native=True)


@pytest.mark.parametrize("op", OPS)
def test_masks(op: Any) -> None:
    descend(lambda x: op(x, axes=[1]), MASKED, native=True)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_types(op: Any, dtype: Any) -> None:
    descend(lambda x: op(x, axes=[1]), ROWS.astype(dtype), rtol=1e-3 if dtype == np.float16 else 1e-12, atol=1e-6)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("symbolic", [False, True])
def test_several_axes_are_one_set(op: Any, symbolic: bool) -> None:
    descend(lambda x: op(x, axes=[1, 2]), ROWS.reshape(3, 37, 1).repeat(2, 2), symbolic=symbolic)


@pytest.mark.parametrize("op", OPS)
def test_no_elements(op: Any) -> None:
    descend(lambda x: op(x, axes=[1]), np.zeros((2, 0), np.float32))
    descend(lambda x: op(x, axes=[1]), np.zeros((0, 2), np.float32))
