"""Passes that change results are found, with the op; those that do not are left in peace."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs
import numpy as np
import pytest

from stepwell.check import CheckEach, ResultChanged, difference, interpret
from stepwell.dialects.graph.elementwise import AddOp, SubOp
from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import Pass, PassContext, PassManager
from stepwell.lowering.pipeline import phases

T = "tensor<4xf32>"
TEXT = f"""builtin.module {{
  func.func @main(%x: {T}, %y: {T}) -> ({T}, {T}) {{
    %a = graph.exp %x : ({T}) -> {T} loc("Exp_0")
    %b = graph.add %a, %y : ({T}, {T}) -> {T} loc("Add_1")
    %c = graph.mul %b, %x : ({T}, {T}) -> {T} loc("Mul_2")
    func.return %b, %c : {T}, {T}
  }}
}}"""
X, Y = np.array([1, -2, 3, 0], np.float32), np.array([0.5, 1.5, -1, 4], np.float32)


@attrs.frozen
class Wrong(Pass):
    """Subtract instead of adding."""

    name: ClassVar[str] = "wrong"

    def run(self, module: Operation, context: PassContext) -> None:
        for op in list(module.walk_of(AddOp)):
            made = SubOp(op.lhs, op.rhs, loc=op.loc)
            assert op.parent is not None
            op.parent.insert_before(op, made)
            op.replace_with(made.results)


@attrs.frozen
class Nothing(Pass):
    """Change nothing."""

    name: ClassVar[str] = "nothing"

    def run(self, module: Operation, context: PassContext) -> None:
        pass


def test_the_whole_way_down_is_checked() -> None:
    check = CheckEach([X, Y])
    PassManager(phases("graph", "loop"), [check]).run(parse_module(TEXT), PassContext())
    assert [outcome.skipped for outcome in check.outcomes if outcome.skipped] == []
    ways = ["graph -> graph", "graph -> tensor", "tensor -> tensor", "tensor -> loop", "loop -> loop"]
    assert list(dict.fromkeys(outcome.checked for outcome in check.outcomes)) == ways
    assert check.report().endswith("no pass changed a result\n")


def test_the_pass_and_the_op_are_named() -> None:
    check = CheckEach([X, Y])
    with pytest.raises(ResultChanged, match="the pass wrong changed a result: output 0") as caught:
        PassManager([Nothing(), Wrong(), Nothing()], [check]).run(parse_module(TEXT), PassContext())
    assert "first at Add_1: graph.add became graph.sub" in str(caught.value)
    assert [str(outcome) for outcome in check.outcomes] == ["nothing: checked (graph -> graph)"]


def test_what_takes_too_long_is_skipped_and_said_so() -> None:
    check = CheckEach([X, Y], budget=20)
    PassManager(phases("graph", "loop"), [check]).run(parse_module(TEXT), PassContext())
    assert check.outcomes[0].checked == "graph -> graph"
    assert check.outcomes[-1].skipped == "the program takes more than 20 interpreted operations"


def test_a_module_runs_at_every_landing() -> None:
    module = parse_module(TEXT)
    expected = interpret(module, [X, Y]).results
    PassManager(phases("graph", "loop")).run(module, PassContext())
    for a, b in zip(expected, interpret(module, [X, Y]).results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


ONES = np.ones(4, np.float32)


@pytest.mark.parametrize(
    ("change", "accumulation", "message"),
    [
        (lambda a: a, 1, None),
        (lambda a: a * np.float32(1 + 1e-6), 1, None),
        (lambda a: a * np.float32(1 + 1e-4), 1, "largest error"),
        (lambda a: a * np.float32(1 + 1e-4), 10_000, None),
        (lambda a: np.where(np.arange(4) == 1, np.float32(np.nan), a), 1, "NaN"),
        (lambda a: np.where(np.arange(4) == 1, np.float32(np.inf), a), 1, "NaN or inf"),
        (lambda a: a[:3], 1, r"float32\[4\] became float32\[3\]"),
        (lambda a: a.astype(np.float64), 1, r"became float64\[4\]"),
    ],
)
def test_differences(change: Callable[..., np.ndarray], accumulation: int, message: str | None) -> None:  # type: ignore[type-arg]
    found = difference(ONES, change(ONES), accumulation)
    assert found is None if message is None else found is not None and message.replace("\\", "") in found


def test_integers_are_compared_exactly_whatever_their_sign() -> None:
    a = np.array([200, 1], np.uint8)
    assert difference(a, a.view(np.int8), 1) is None
    assert difference(a, a + np.uint8(1), 1000) == "2 of 2 elements differ"


def test_special_values_at_the_same_places_agree() -> None:
    a = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    assert difference(a, a.copy(), 1) is None
    assert difference(a[:3], a[:3].copy(), 1) is None
    assert difference(a, np.array([np.nan, -np.inf, -np.inf, 1], np.float32), 1) is not None
