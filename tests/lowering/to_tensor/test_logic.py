"""Comparison, predicates and selection, broadcasts of unknown sizes among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.elementwise import AddOp, MulOp
from stepwell.dialects.graph.logic import AndOp, CompareOp, IsInfOp, IsNanOp, NotOp, WhereOp, XorOp
from stepwell.errors import PassError
from stepwell.ir.dims import symbol
from stepwell.ir.types import F32, TensorType
from stepwell.ir.verifier import verify
from tests.lowering.to_tensor.descent import descend, graph_module, main, types_of, walk_down
from tests.lowering.to_tensor.test_elementwise import DIVISORS, I8, ODD

PREDICATES = ("eq", "ne", "lt", "le", "gt", "ge")


@pytest.mark.parametrize("predicate", PREDICATES)
def test_comparisons_follow_sign_and_nan(predicate: str) -> None:
    def compare(a: Any, b: Any) -> Any:
        return CompareOp(a, b, predicate=predicate)

    descend(compare, ODD.reshape(-1, 1), ODD, native=True)
    descend(compare, I8, DIVISORS)
    descend(compare, I8.view(np.uint8), DIVISORS.view(np.uint8))
    descend(compare, I8 > 0, DIVISORS > 0)


def test_complex_numbers_are_not_compared() -> None:
    numbers = np.array([1j, 2], np.complex64)
    with pytest.raises(PassError, match="no type of scalar code"):
        descend(lambda a, b: CompareOp(a, b, predicate="eq"), numbers, numbers)


def test_predicates_of_floats() -> None:
    for dtype in (np.float32, np.float16):
        with np.errstate(over="ignore"):
            values = ODD.astype(dtype)
        descend(IsNanOp, values)
        descend(IsInfOp, values)
        descend(lambda x: IsInfOp(x, negative=False), values)
        descend(lambda x: IsInfOp(x, positive=False, negative=False), values)


def test_truths() -> None:
    a, b = I8 > 0, DIVISORS > 0
    descend(NotOp, a)
    descend(AndOp, a, b, native=True)
    descend(XorOp, a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.bool_])
def test_selection_moves_bits_as_they_are(dtype: Any) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        x = ODD.astype(dtype)
    descend(lambda c, x, y: WhereOp(c, x, y), ODD.reshape(-1, 1) > 0, x, x[:1], loops=dtype == np.float32)


A, B = symbol("a"), symbol("b")


@pytest.mark.parametrize(("left", "right"), [(7, 7), (1, 7), (7, 1), (1, 1)])
def test_sizes_that_may_broadcast_are_told_apart_at_run_time(left: int, right: int) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((2, left)).astype(np.float32)
    y = random.standard_normal((2, right)).astype(np.float32)
    module = graph_module(types_of([x, y]), lambda x, y: MulOp(AddOp(x, y).result, y))
    function = main(module)
    for argument, size in zip(function.arguments, (A, B), strict=True):
        argument.type = TensorType((2, size), F32)
    for op in function.body.block:
        for result, type_ in zip(op.results, op.infer_types() if op.results else (), strict=True):
            result.type = type_
    function.update_type()
    verify(module)
    expected = (x + y) * y
    walk_down(module, [x, y], [expected], 0, 0)
