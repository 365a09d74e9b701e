"""Reductions, extreme places and running sums over one axis or several, of each type, and of nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.elementwise import SubOp
from stepwell.dialects.graph.reduction import ArgReduceOp, CumulativeOp, ReduceOp
from stepwell.dialects.tensor import GenericOp
from stepwell.ir.passes import PassContext
from stepwell.lowering.to_tensor.convert import ToTensor
from tests.lowering.to_tensor.descent import descend, f32, graph_module, types_of
from tests.lowering.to_tensor.test_elementwise import I8, ODD

RANDOM = np.random.default_rng(1)
CUBE = RANDOM.standard_normal((2, 3, 21)).astype(np.float32)
KINDS = ("sum", "prod", "max", "min", "mean", "log_sum_exp")
TIES = f32([[1, 3, 3, 0], [np.nan, 9, np.nan, 1], [-np.inf] * 4, [-0.0, 0.0, -0.0, 0.0]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axes", [[0], [1], [2], [0, 2], [0, 1, 2], []], ids=str)
@pytest.mark.parametrize("symbolic", [False, True])
def test_axes(kind: str, axes: list[int], symbolic: bool) -> None:
    descend(lambda x: ReduceOp(x, kind=kind, axes=axes), CUBE, symbolic=symbolic)
    descend(lambda x: ReduceOp(x, kind=kind, axes=axes, keepdims=False), CUBE, symbolic=symbolic)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("axes", "symbolic"), [([2], True), ([0, 1], False)])
def test_reductions_run_at_every_landing(kind: str, axes: list[int], symbolic: bool) -> None:
    descend(lambda x: ReduceOp(x, kind=kind, axes=axes), CUBE, symbolic=symbolic, loops=True, native=True, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", [ODD, f32([np.inf, 1]), f32([-np.inf, -np.inf]), f32([3e38, 3e38]), f32([])], ids=str)
def test_nan_infinities_and_empty_sets(kind: str, row: Any) -> None:
    descend(lambda x: ReduceOp(x, kind=kind, axes=[0]), row)


@pytest.mark.parametrize("kind", KINDS[:-1])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float64, np.float16])
def test_types(kind: str, dtype: Any) -> None:
    values = I8.view(np.uint8).astype(dtype) if dtype == np.uint8 else I8.astype(dtype)
    tolerance = 1e-3 if dtype == np.float16 else 1e-6
    descend(lambda x: ReduceOp(x, kind=kind, axes=[1]), values.reshape(2, 4), rtol=tolerance, symbolic=True)


def test_any_and_all() -> None:
    for kind in ("max", "min"):
        descend(lambda x, kind=kind: ReduceOp(x, kind=kind, axes=[1]), CUBE[0] > 0.5)


def test_readers_look_through_kept_dims() -> None:
    def centred(x: Any) -> Any:
        return SubOp(x, ReduceOp(x, kind="mean", axes=[2]).result)

    descend(centred, CUBE, symbolic=True, loops=True, native=True)
    module = graph_module(types_of([CUBE]), centred)
    ToTensor().run(module, PassContext())
    assert not [op for op in module.walk() if op.op_name == "tensor.reshape"]
    *_, last = module.walk_of(GenericOp)
    assert [str(m) for m in last.input_maps] == ["(d0, d1, d2) -> (d0, d1, d2)", "(d0, d1, d2) -> (d0, d1)"]


@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_places_of_ties_and_nan(kind: str, last: bool, axis: int) -> None:
    for values in (TIES, I8.reshape(2, 4), I8.view(np.uint8).reshape(2, 4), TIES.astype(np.float16)):
        descend(lambda x: ArgReduceOp(x, kind=kind, axis=axis, last=last), values, symbolic=True)


@pytest.mark.parametrize("last", [False, True])
def test_places_do_not_depend_on_the_order_of_merging(last: bool) -> None:
    rows = np.round(RANDOM.standard_normal((2, 75))).astype(np.float32)
    for axis in (0, 1):
        descend(lambda x, axis=axis: ArgReduceOp(x, kind="max", axis=axis, last=last, keepdims=False), rows,
                loops=True, native=True)  # fmt: skip


@pytest.mark.parametrize("kind", ["sum", "prod"])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_running_results(kind: str, exclusive: bool, reverse: bool) -> None:
    def running(x: Any, axis: int = 1) -> Any:
        return CumulativeOp(x, kind=kind, axis=axis, exclusive=exclusive, reverse=reverse)

    long = RANDOM.standard_normal((2, 70)).astype(np.float32)
    descend(running, long, symbolic=True, loops=True, rtol=1e-4)
    descend(running, long, native=True, rtol=1e-4)
    descend(lambda x: running(x, 0), long.T.copy(), rtol=1e-4)
    descend(running, CUBE, loops=True)
    descend(running, I8.reshape(2, 4))
    descend(running, TIES)
    descend(running, long.astype(np.float16), rtol=2e-3, atol=1e-2)
