"""Errors that only a run can find: the same at every landing, and no guard where none can strike."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from stepwell.dialects.check import RequireOp
from stepwell.dialects.graph import elementwise as e
from stepwell.dialects.graph import indexing as i
from stepwell.dialects.graph import movement as m
from stepwell.dialects.graph import reduction as r
from stepwell.dialects.graph import scatter as s
from stepwell.dialects.graph.attention import RotaryEmbeddingOp
from stepwell.ir.passes import PassContext
from stepwell.lowering.to_tensor.convert import ToTensor

from .descent import constant, descend, f32, fails_alike, graph_module, types_of

X = np.arange(5 * 19, dtype=np.float32).reshape(5, 19)
ROW = np.arange(19, dtype=np.int64)


def with_bad(array: Any, place: Any, value: int) -> Any:
    made = np.array(array)
    made[place] = value
    return made


IN_RANGE = np.arange(-5, 5)[np.arange(38) % 10].reshape(2, 19)
DIVISOR = np.arange(1, 20, dtype=np.int32)

FAILING: dict[str, tuple[Any, tuple[Any, ...], str]] = {
    "gather": (lambda x, k: i.GatherOp(x, k, axis=0), (X, np.array([0, 5])), r"axis 0 of size 5 \(value 5\)"),
    "gather from behind": (lambda x, k: i.GatherOp(x, k, axis=0), (X, np.array([-5, -6])), r"\(value -6\)"),
    "gather columns": (lambda x, k: i.GatherOp(x, k, axis=1), (X, with_bad(ROW, 18, 19)), r"axis 1 of .* \(value 19\)"),
    "gather elements": (lambda x, k: i.GatherElementsOp(x, k, axis=0), (X, with_bad(IN_RANGE, (1, 18), -77)), "-77"),
    "gather nd": (lambda x, k: i.GatherNDOp(x, k), (X, np.array([[4], [5]])), r"axis 0 of .* \(value 5\)"),
    "scatter elements": (
        lambda x, k, u: s.ScatterElementsOp(x, k, u, axis=0), (X, with_bad(IN_RANGE, (0, 3), 9), X[:2]), "value 9"),
    "scatter add": (
        lambda x, k, u: s.ScatterElementsOp(x, k, u, axis=0, reduction="add"),
        (X, with_bad(IN_RANGE, (1, 18), 5), X[:2]), "value 5"),
    "scatter nd": (lambda x, k, u: s.ScatterNDOp(x, k, u), (X, np.array([[2], [-8]]), X[:2]), "value -8"),
    "a cache overflows": (
        lambda x, u, k: s.TensorScatterOp(x, u, k, axis=1), (X[:2], X[:2, :4], np.array([15, 16])), "value 16"),
    "sequence too long": (
        lambda x, k: m.ReverseSequenceOp(x, k, batch_axis=1, time_axis=0), (X, with_bad(ROW % 6, 4, 6)), "value 6"),
    "rotation tables": (
        lambda x, c, t, k: RotaryEmbeddingOp(x, c, t, k),
        (X[:2, :16].reshape(1, 2, 2, 8), X[:, :4], X[:, 4:8], np.array([[4, 5]])), "value 5"),
    "div": (e.DivOp, (DIVISOR + 3, with_bad(DIVISOR, 18, 0)), r"graph.div: division .* zero \(value 22\)"),
    "mod": (e.ModOp, (DIVISOR + 3, with_bad(DIVISOR, 0, 0)), r"graph.mod: division .* zero \(value 4\)"),
    "rem": (e.RemOp, (DIVISOR.astype(np.uint8), with_bad(DIVISOR, 7, 0).astype(np.uint8)), r"graph.rem: .* 8\)"),
    "pow": (e.PowOp, (with_bad(DIVISOR, 17, 0), with_bad(DIVISOR, 17, -3)), r"zero to a negative .* \(value -3\)"),
}  # fmt: skip


@pytest.mark.parametrize(("build", "words"), [
    (lambda x: r.ReduceOp(x, kind="mean", axes=[1]), r"graph.reduce: the mean of no integers is not defined"),
    (lambda x: r.ArgReduceOp(x, kind="max", axis=1), r"graph.arg_reduce: axis 1 of size 0 has no maximum"),
])  # fmt: skip
def test_what_has_no_elements(build: Any, words: str) -> None:
    assert re.search(words, str(fails_alike(build, np.zeros((2, 0), np.int32), symbolic=True)))
    descend(build, np.zeros((0, 0), np.int32), types=types_of([np.zeros((0, 2), np.int32)], symbolic=True), native=True)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("name", FAILING)
def test_every_landing_fails_alike(name: str, symbolic: bool) -> None:
    build, inputs, words = FAILING[name]
    error = fails_alike(build, *inputs, symbolic=symbolic)
    assert re.search(words, str(error)), str(error)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (lambda x, k: i.GatherOp(x, k, axis=0), (X, np.array([[0, -5], [4, -1]], np.int32))),
        (lambda x, k: i.GatherElementsOp(x, k, axis=0), (X, IN_RANGE)),
        (e.DivOp, (DIVISOR * 7, DIVISOR)),
        (e.ModOp, (-DIVISOR * 7, DIVISOR)),
        (e.DivOp, (DIVISOR * 7, np.full((), 3, np.int32))),
    ],
)
def test_lanes_beyond_the_end_do_not_fail(build: Any, inputs: tuple[Any, ...], symbolic: bool) -> None:
    descend(build, *inputs, symbolic=symbolic, loops=True, native=True)


def test_each_number_of_an_index_tuple_is_checked() -> None:
    error = fails_alike(lambda x, k: i.GatherNDOp(x, k), X, np.array([[1, 18], [4, 19]]))
    assert str(error).endswith("index out of range for axis 1 of size 19 (value 19)")


def test_nothing_fails_where_nothing_is_computed() -> None:
    descend(e.DivOp, np.zeros((0, 3), np.int32), np.zeros(3, np.int32), symbolic=True, loops=True, native=True)
    descend(lambda x, k: i.GatherOp(x, k, axis=0), X[:0], np.zeros(0, np.int64), symbolic=True, loops=True, native=True)


def requirements(build: Any, *inputs: Any) -> int:
    module = graph_module(types_of(inputs), build)
    ToTensor().run(module, PassContext())
    return len(list(module.walk_of(RequireOp)))


@pytest.mark.parametrize(
    ("build", "inputs", "expected"),
    [
        (lambda x, k: i.GatherOp(x, k, axis=0), (X, np.array([0, 1])), 1),
        (lambda x: i.GatherOp(x, constant(np.array([0, 4, -5])), axis=0), (X,), 0),
        (lambda k: i.GatherOp(constant(np.zeros(256, np.float32)), k, axis=0), (np.array([3], np.uint8),), 0),
        (lambda k: i.GatherOp(constant(np.zeros(255, np.float32)), k, axis=0), (np.array([3], np.uint8),), 1),
        (lambda x: e.DivOp(x, constant(np.int32(3))), (DIVISOR,), 0),
        (lambda x: e.DivOp(x, constant(np.int32(-1))), (DIVISOR,), 0),
        (lambda x: e.ModOp(x, constant(DIVISOR)), (DIVISOR,), 0),
        (lambda x: e.ModOp(x, constant(DIVISOR - 1)), (DIVISOR,), 1),
        (e.DivOp, (X, X), 0),
        (e.PowOp, (DIVISOR.astype(np.uint32), DIVISOR.astype(np.uint32)), 0),
    ],
)
def test_guards_that_never_strike_are_not_written(build: Any, inputs: tuple[Any, ...], expected: int) -> None:
    assert requirements(build, *inputs) == expected


def test_a_constant_divisor_without_zero_divides_in_masked_tails() -> None:
    descend(lambda x: e.DivOp(x, constant(DIVISOR)), DIVISOR * 7, loops=True, native=True)


def test_fusion_keeps_the_requirement() -> None:
    def chain(x: Any, y: Any, k: Any) -> Any:
        picked = i.GatherOp(e.MulOp(x, x).result, k, axis=0)
        return e.AddOp(picked.result, y)

    y = f32(np.ones((2, 19)))
    descend(chain, X, y, np.array([4, -5]), loops=True, native=True)
    assert fails_alike(chain, X, y, np.array([4, -6])).value == -6
