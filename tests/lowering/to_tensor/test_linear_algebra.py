"""Determinants and inverses: against NumPy's, at every landing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.dialects.graph.linear_algebra import DetOp, InverseOp
from stepwell.errors import InputError, IRError
from stepwell.ir.types import BF16, F16, F32, F64, Type, numpy_dtype
from tests.lowering.to_tensor.descent import K, M, N, check, graph_module, tensor


def matrices(*shape: int, element: Type = F32) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(numpy_dtype(element))


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5, 5), (2, 3, 4, 4), (0, 3, 3), (2, 0, 0)])
def test_determinants(shape: Sequence[int]) -> None:
    types = [tensor(*[M] * (len(shape) - 2), N, N)] if len(shape) < 4 else [tensor(2, M, N, N)]
    check(types, DetOp, matrices(*shape), tolerance=2e-6)


@pytest.mark.parametrize("element, tolerance", [(F64, 1e-14), (F16, 4e-3), (BF16, 4e-2)])
def test_element_types(element: Type, tolerance: float) -> None:
    check([tensor(N, 4, 4, element=element)], DetOp, matrices(3, 4, 4, element=element), tolerance=tolerance)


@pytest.mark.parametrize(
    "matrix, expected",
    [
        ([[0, 1], [1, 0]], -1.0),  # a pivot of 0 is swapped away, which turns the sign
        ([[0, 0, 1], [1, 0, 0], [0, 1, 0]], 1.0),
        ([[1, 2], [2, 4]], 0.0),
        ([[0, 0], [0, 0]], 0.0),
        ([[0, 0, 0], [1, 2, 3], [4, 5, 6]], 0.0),
        ([[1e-30, 1], [1, 1]], -1.0),  # without pivoting the small one would lose all digits
        ([[np.nan, 1], [1, 1]], np.nan),
        ([[2, 0], [0, -np.inf]], -np.inf),
    ],
)
def test_values(matrix: Any, expected: float) -> None:
    array = np.array([matrix], np.float32)
    check([tensor(N, M, M)], DetOp, array, tolerance=1e-6)
    model = stepwell.compile(graph_module([tensor(N, M, M)], DetOp))
    np.testing.assert_allclose(model(array)[0], expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 4, 4), (0, 3, 3), (2, 0, 0)])
def test_inverses(shape: Sequence[int]) -> None:
    types = [tensor(*[M] * (len(shape) - 2), N, N)] if len(shape) < 4 else [tensor(2, M, N, N)]
    check(types, InverseOp, matrices(*shape) + 3 * np.eye(shape[-1], dtype=np.float32), tolerance=2e-6)


@pytest.mark.parametrize("element, tolerance", [(F64, 1e-14), (F16, 4e-3)])
def test_inverses_of_element_types(element: Type, tolerance: float) -> None:
    x = (matrices(3, 4, 4) + 3 * np.eye(4)).astype(numpy_dtype(element))
    check([tensor(N, 4, 4, element=element)], InverseOp, x, tolerance=tolerance)


@pytest.mark.parametrize("matrix", [[[0, 2], [4, 0]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]], [[1e-30, 1], [1, 1]]])
def test_values_of_inverses(matrix: Any) -> None:
    array = np.array([matrix], np.float32)
    model = stepwell.compile(graph_module([tensor(N, M, M)], InverseOp))
    np.testing.assert_allclose(model(array)[0], np.linalg.inv(array.astype(np.float64))[0], atol=1e-6)


def test_a_matrix_without_an_inverse() -> None:
    made = stepwell.compile(graph_module([tensor(N, M, M)], InverseOp))(np.array([[[1, 2], [2, 4]]], np.float32))
    assert not np.isfinite(made).all()


def test_matrices_that_are_not_square() -> None:
    with pytest.raises(IRError, match="sizes 3 and 4 differ"):
        graph_module([tensor(2, 3, 4)], DetOp)
    with pytest.raises(IRError, match="sizes 3 and 4 differ"):
        graph_module([tensor(2, 3, 4)], InverseOp)
    with pytest.raises(InputError, match="rows and columns of the matrices"):
        stepwell.compile(graph_module([tensor(N, M, K)], DetOp))(matrices(2, 3, 4))
    with pytest.raises(IRError, match="holds no matrix"):
        graph_module([tensor(4)], DetOp)
