"""Types, errors and symbolic contents of reductions, arg reductions, cumulative ops and the softmax family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.base import content
from stepwell.dialects.graph.reduction import ArgReduceOp, CumulativeOp, ReduceOp
from stepwell.dialects.graph.softmax import HardmaxOp, LogSoftmaxOp, SoftmaxOp
from stepwell.errors import IRError
from stepwell.ir.dims import dim_max, symbol
from stepwell.ir.types import F32, I1, SI32, SI64, TensorType
from tests.dialects.graph.test_elementwise import sizes, type_of, value

N, M = symbol("n"), symbol("m")


@pytest.mark.parametrize(
    ("axes", "keepdims", "shape"),
    [
        ([0], True, (1, 3, M)), ([0], False, (3, M)), ([1, 2], False, (N,)), ([0, 1, 2], False, ()),
        ([], False, (N, 3, M)),
    ],
)  # fmt: skip
def test_reduced_shapes(axes: list[int], keepdims: bool, shape: Any) -> None:
    op = ReduceOp(value(N, 3, M), kind="sum", axes=axes, keepdims=keepdims)
    assert type_of(op) is TensorType(shape, F32)


@pytest.mark.parametrize(("keepdims", "shape"), [(True, (N, 1)), (False, (N,))])
def test_arg_reduction_gives_indices(keepdims: bool, shape: Any) -> None:
    assert type_of(ArgReduceOp(value(N, M), kind="max", axis=1, keepdims=keepdims)) is TensorType(shape, SI64)


@pytest.mark.parametrize("cls", [SoftmaxOp, LogSoftmaxOp, HardmaxOp])
def test_softmax_keeps_the_type(cls: Any) -> None:
    assert type_of(cls(value(N, 3), axes=[0, 1])) is TensorType((N, 3), F32)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ReduceOp(value(2, 3), kind="sum", axes=[2]), "axis 2 is out of range for rank 2"),
        (lambda: ReduceOp(value(2, 3), kind="sum", axes=[-1]), r"\[-1\] must be ascending and counted from the front"),
        (lambda: ReduceOp(value(2, 3), kind="sum", axes=[1, 0]), "must be ascending"),
        (lambda: ReduceOp(value(2, 3), kind="sum", axes=[1, 1]), "name an axis twice"),
        (lambda: ReduceOp(value(2, 3), kind="median", axes=[1]), "'median' is not one of sum, prod"),
        (lambda: ReduceOp(value(2, element=I1), kind="sum", axes=[0]), "a sum of i1 is not defined"),
        (lambda: ReduceOp(value(2, element=SI32), kind="log_sum_exp", axes=[0]), "takes floats, not si32"),
        (lambda: ArgReduceOp(value(2), kind="max", axis=-1), "axis -1 must be counted from the front"),
        (lambda: ArgReduceOp(value(), kind="max", axis=0), "axis 0 is out of range for rank 0"),
        (lambda: ArgReduceOp(value(2, 0), kind="min", axis=1), "axis 1 of size 0 has no minimum"),
        (lambda: CumulativeOp(value(2), kind="sum", axis=1), "axis 1 is out of range"),
        (lambda: SoftmaxOp(value(2, 3, 4), axes=[0, 2]), "must be one or more consecutive axes"),
        (lambda: SoftmaxOp(value(2, 3, 4), axes=[]), "must be one or more consecutive axes"),
    ],
)
def test_misfits_are_named(build: Any, message: str) -> None:
    with pytest.raises(IRError, match=message):
        build()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("prod", (6 * N * M,)), ("sum", (N + M + 6,)), ("max", (dim_max(N, dim_max(M, 6)),)), ("mean", None)],
)  # fmt: skip
def test_shape_arithmetic(kind: str, expected: Any) -> None:
    assert content(ReduceOp(sizes(N, M, 6), kind=kind, axes=[0], keepdims=False).results[0]) == expected


def test_products_of_no_sizes_are_one() -> None:
    assert content(ReduceOp(sizes(), kind="prod", axes=[0]).results[0]) == (1,)
    assert content(ReduceOp(sizes(), kind="max", axes=[0]).results[0]) is None


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_softmax_over_several_axes_is_softmax_of_their_elements(axes: tuple[int, ...]) -> None:
    x = np.random.default_rng(3).standard_normal((2, 3, 4)).astype(np.float32)
    soft = SoftmaxOp(value(2, 3, 4), axes=axes).interpret(None, x)
    hard = HardmaxOp(value(2, 3, 4), axes=axes).interpret(None, x)
    np.testing.assert_allclose(soft, np.exp(x) / np.exp(x).sum(axes, keepdims=True), 1e-5)
    np.testing.assert_array_equal(hard, x == x.max(axes, keepdims=True))
