"""Types, errors and symbolic contents of elementwise ops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph import logic
from stepwell.dialects.graph.activation import GeluOp
from stepwell.dialects.graph.base import ConstantOp, content
from stepwell.dialects.graph.conversion import BitcastOp, CastOp
from stepwell.errors import IRError, VerifyError
from stepwell.ir.attributes import ElementsAttr, elements
from stepwell.ir.core import Block, Operation, Value
from stepwell.ir.dims import Dim, dim_broadcast, dim_max, evaluate, symbol
from stepwell.ir.parser import parse_module
from stepwell.ir.types import BF16, F32, F64, I1, SI8, SI32, SI64, StringType, TensorType, Type
from stepwell.ir.verifier import verify

N, M = symbol("n"), symbol("m")


def value(*shape: Dim, element: Type = F32) -> Value:
    return Block([TensorType(shape, element)]).arguments[0]


def sizes(*dims: Dim, element: Type = SI64) -> Value:
    """An integer tensor whose contents are known as dims."""
    found = value(len(dims), element=element)
    found.facts["content"] = dims
    return found


def type_of(op: Operation) -> TensorType:
    type_ = op.results[0].type
    assert isinstance(type_, TensorType)
    return type_


@pytest.mark.parametrize(
    ("left", "right", "shape"),
    [
        ((2, 3), (3,), (2, 3)), ((N, 3), (1, 1), (N, 3)), ((N, 1), (M,), (N, M)), ((), (N,), (N,)),
        ((N, 4), (N, 4), (N, 4)), ((N,), (7,), (7,)), ((N,), (M,), (dim_broadcast(N, M),)), ((0, 3), (1, 3), (0, 3)),
        ((N + 1,), (M + 2,), (dim_max(N + 1, M + 2),)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("cls", [graph.AddOp, graph.PowOp, graph.ModOp, graph.RemOp, graph.MaxOp])
def test_binary_ops_broadcast(cls: Any, left: Any, right: Any, shape: Any) -> None:
    assert type_of(cls(value(*left), value(*right))) is TensorType(shape, F32)
    assert type_of(logic.CompareOp(value(*left), value(*right), predicate="lt")) is TensorType(shape, I1)


def test_where_broadcasts_three_operands() -> None:
    op = logic.WhereOp(value(N, 1, element=I1), value(3, element=BF16), value(2, 1, 1, element=BF16))
    assert type_of(op) is TensorType((2, N, 3), BF16)


@pytest.mark.parametrize("cls", [logic.IsNanOp, logic.IsInfOp])
def test_predicates_give_i1(cls: Any) -> None:
    assert type_of(cls(value(N, 2))) is TensorType((N, 2), I1)


def test_casts_keep_the_shape() -> None:
    assert type_of(CastOp(value(N, 2), to=SI8)) is TensorType((N, 2), SI8)
    assert type_of(CastOp(value(N), to=StringType())) is TensorType((N,), StringType())
    assert type_of(BitcastOp(value(N, 2), to=SI32)) is TensorType((N, 2), SI32)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: graph.AddOp(value(2, 3), value(2)), "shapes 2x3 and 2 do not broadcast"),
        (lambda: graph.AddOp(value(2), value(2, element=F64)), "element types f32, f64 differ"),
        (lambda: logic.WhereOp(value(2, element=I1), value(3), value()), "do not broadcast"),
        (lambda: logic.WhereOp(value(element=I1), value(), value(element=SI32)), "element types f32, si32 differ"),
        (lambda: logic.CompareOp(value(), value(), predicate="almost"), "'almost' is not one of eq, ne, lt"),
        (
            lambda: logic.CompareOp(value(element=StringType()), value(element=StringType()), predicate="lt"),
            "has no order",
        ),
        (lambda: GeluOp(value(), approximate="sigmoid"), "'sigmoid' is not one of none, tanh"),
        (lambda: BitcastOp(value(), to=F64), "f32 of 32 bits cannot be read as f64 of 64 bits"),
        (lambda: BitcastOp(value(element=StringType()), to=F64), "has no bits"),
        (lambda: CastOp(value(), to=TensorType((), F32)), "is no number and no string"),
    ],
)
def test_misfits_are_named(build: Any, message: str) -> None:
    with pytest.raises(IRError, match=message):
        build()


@pytest.mark.parametrize(
    ("name", "element", "message"),
    [
        ("exp", "si32", "'x' must be a tensor of floats"),
        ("is_nan", "si32", "'x' must be a tensor of floats"),
        ("not", "f32", "'x' must be a tensor of integers or a tensor of i1"),
        ("neg", "i1", "'x' must be a tensor of numbers"),
    ],
)
def test_operand_types_are_verified(name: str, element: str, message: str) -> None:
    text = f'%x = "test.value"() : () -> tensor<2x{element}>\n'
    result = "i1" if name == "is_nan" else element
    module = parse_module(f"{text}%r = graph.{name} %x : (tensor<2x{element}>) -> tensor<2x{result}>", "bad.mlir")
    with pytest.raises(VerifyError, match=message):
        verify(module)



@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: graph.AddOp(sizes(N, 2), sizes(1)), (N + 1, 3)),
        (lambda: graph.ModOp(sizes(N, 7), sizes(4)), (N % 4, 3)),
        (lambda: graph.ModOp(sizes(N), sizes(M)), (N % M,)),
        (lambda: graph.DivOp(sizes(N * M), sizes(M + 1)), ((N * M) // (M + 1),)),
        (lambda: graph.DivOp(sizes(N - 1), sizes(M)), None),
        (lambda: graph.DivOp(sizes(N - 1, N), sizes(2)), (dim_max((N - 1) // 2, 0), N // 2)),
        (lambda: graph.PowOp(sizes(N), sizes(2)), (N * N,)),
        (lambda: graph.NegOp(sizes(N, 2)), (-N, -2)),
        (lambda: graph.AbsOp(sizes(N)), (N,)),
        (lambda: graph.AbsOp(sizes(N - 1)), None),
        (lambda: CastOp(sizes(N, 2), to=SI32), (N, 2)),
        (lambda: CastOp(sizes(N, 2), to=SI8), None),
        (lambda: CastOp(sizes(1, 0), to=I1), (1, 0)),
        (lambda: logic.CompareOp(sizes(N, 3), sizes(-1, 3), predicate="eq"), (0, 1)),
        (lambda: logic.CompareOp(sizes(N), sizes(3), predicate="eq"), None),
        (lambda: logic.CompareOp(sizes(N), sizes(N + 1), predicate="lt"), (1,)),
        (lambda: logic.NotOp(sizes(0, 1, element=I1)), (1, 0)),
        (lambda: logic.AndOp(sizes(0, 1, element=I1), sizes(1, element=I1)), (0, 1)),
        (lambda: logic.OrOp(sizes(0, 1, element=I1), sizes(1, element=I1)), (1, 1)),
        (lambda: logic.AndOp(sizes(6), sizes(3)), None),
        (lambda: logic.WhereOp(sizes(0, 1, element=I1), sizes(N), sizes(M)), (M, N)),
        (lambda: logic.WhereOp(value(2, element=I1), sizes(N, 4), sizes(N, 4)), (N, 4)),
        (lambda: logic.WhereOp(value(2, element=I1), sizes(N, 4), sizes(M, 4)), None),
    ],
)
def test_shape_arithmetic(build: Any, expected: Any) -> None:
    assert content(build().results[0]) == expected


def test_constants_fold() -> None:
    two = ConstantOp(value=elements(np.array([2, 3], np.float32)))
    folded = graph.MulOp(two.result, two.result).fold([two.value, two.value])
    assert folded is not None
    assert isinstance(folded[0], ElementsAttr)
    assert folded[0].numpy().tolist() == [4, 9]


def test_a_cast_to_the_same_type_is_its_operand() -> None:
    x = value(N)
    assert CastOp(x, to=F32).fold([None]) == [x]


@pytest.mark.parametrize("dividend", [N, N - 3, -N, 1 - 2 * N, 2 * N - 5])
@pytest.mark.parametrize("divisor", [1, 2, 3, -1, -2])
def test_sizes_are_divided_towards_zero(dividend: Dim, divisor: int) -> None:
    (quotient,) = content(graph.DivOp(sizes(dividend), sizes(divisor)).result) or ()
    for n in range(8):
        assert evaluate(quotient, {"n": n}) == int(evaluate(dividend, {"n": n}) / divisor)
