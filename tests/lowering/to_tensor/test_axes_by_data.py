"""Axes that are numbers in a tensor."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.elementwise import SubOp
from stepwell.dialects.graph.reduction import CumulativeOp, ReduceOp
from stepwell.errors import IRError
from stepwell.ir.types import I1, SI8, SI32, SI64, Type
from tests.lowering.to_tensor.by_data import check_by_data, fails, serves
from tests.lowering.to_tensor.descent import Build, K, M, N, constant, counted, graph_module, tensor

INDICES = tensor(K, element=SI64)
LISTS: list[list[int]] = [[], [0], [-1], [1], [2, 0], [0, 1, -1]]


def axes(*values: int) -> Any:
    return np.array(values, np.int64)


@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min", "mean", "log_sum_exp"])
def test_every_kind_over_any_axes(kind: str) -> None:
    shapes = [(2, 3, 5), (1, 3, 1), (0, 3, 4), (4, 3, 33)]
    sets = [[counted(*shape) % 7 / 8, axes(*given)] for shape in shapes for given in LISTS]
    serves([tensor(N, 3, M), INDICES], lambda x, a: ReduceOp(x, a, kind=kind), *sets, tolerance=1e-6)


def test_every_pass_keeps_a_reduction() -> None:
    x = counted(2, 3)
    check_by_data(
        [tensor(N, 3), INDICES], lambda x, a: ReduceOp(x, a, kind="sum"), x, axes(1), others=[[x, axes()]]
    )  # fmt: skip


@pytest.mark.parametrize(("element", "kind", "dtype"), [(SI8, "mean", np.int8), (I1, "max", np.bool_)])
def test_types(element: Type, kind: str, dtype: Any) -> None:
    x = (counted(3, 4, 2) * 5 % 13 - 6).astype(np.int8).astype(dtype)
    sets = [[x, axes(*given)] for given in LISTS]
    serves([tensor(3, 4, 2, element=element), INDICES], lambda x, a: ReduceOp(x, a, kind=kind), *sets)


def test_no_axes_may_mean_none() -> None:
    x = counted(2, 3)
    types = [tensor(2, N), INDICES]
    serves(types, lambda x, a: ReduceOp(x, a, kind="sum", none_if_empty=True), [x, axes()], [x, axes(1)])


@pytest.mark.parametrize("count", [1, 2])
def test_dims_that_go(count: int) -> None:
    x = counted(2, 3, 4)
    sets = [[x, axes(*given)] for given in itertools.permutations(range(-3, 3), count) if _differ(given)]
    types = [tensor(2, N, M), tensor(count, element=SI64)]
    serves(types, lambda x, a: ReduceOp(x, a, kind="max", keepdims=False), *sets)


def _differ(given: tuple[int, ...]) -> bool:
    return len({axis % 3 for axis in given}) == len(given)


def test_what_is_kept_broadcasts() -> None:
    x = counted(2, 3, 4)

    def centred(x: Any, a: Any) -> Any:
        return SubOp(x, ReduceOp(x, a, kind="mean").result)

    serves([tensor(N, 3, M), INDICES], centred, *([x, axes(*given)] for given in LISTS), tolerance=1e-6)


def test_known_axes_make_known_types() -> None:
    module = graph_module([tensor(N, 3)], lambda x: ReduceOp(x, constant(axes(-1)), kind="sum"))
    assert next(module.walk_of(ReduceOp)).result.type is tensor(N, 1)
    module = graph_module([tensor(N, 3), tensor(2, element=SI64)], lambda x, a: ReduceOp(x, a, kind="sum"))
    assert next(module.walk_of(ReduceOp)).result.type is tensor(1, 1)


@pytest.mark.parametrize("kind", ["sum", "prod"])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_running_results(kind: str, exclusive: bool, reverse: bool) -> None:
    def build(x: Any, a: Any) -> Any:
        return CumulativeOp(x, a, kind=kind, exclusive=exclusive, reverse=reverse)

    sets = [[counted(*shape) / 64, np.int32(axis)] for shape in ((3, 4, 70), (0, 2, 3)) for axis in (-3, 1, 2)]
    serves([tensor(N, M, K), tensor(element=SI32)], build, *sets, tolerance=1e-5)


def test_running_sums_refuse_other_axes() -> None:
    types = [tensor(N, 3), tensor(element=SI64)]
    for axis in (2, -3, 1 << 40):
        fails(types, lambda x, a: CumulativeOp(x, a, kind="sum"), counted(2, 3), np.int64(axis),
              match="axis out of range for rank 2")  # fmt: skip


@pytest.mark.parametrize(("given", "words"), [
    ([2], "axis out of range for rank 2"), ([-3], "axis out of range for rank 2"), ([1 << 62], "out of range"),
    ([0, -2], "an axis is given twice"), ([0, 1, 1], "an axis is given twice"),
])  # fmt: skip
def test_axes_that_cannot_be_are_errors(given: list[int], words: str) -> None:
    types = [tensor(N, 3), INDICES]
    fails(types, lambda x, a: ReduceOp(x, a, kind="sum"), counted(2, 3), axes(*given), match=words)


@pytest.mark.parametrize(("build", "words"), [
    (lambda x, a: ReduceOp(x, a, kind="sum", axes=[0]), "an attribute or an operand"),
    (lambda x, a: ReduceOp(x, a, kind="sum", keepdims=False), "the number of axes.* is k"),
])  # fmt: skip
def test_what_is_refused_when_it_is_built(build: Build, words: str) -> None:
    with pytest.raises(IRError, match=words):
        graph_module([tensor(N, 3, 4), INDICES], build)
