"""Matrix products and Einstein sums: shapes in -> types out, and words for operands that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.dialects.graph.contraction import EinsumOp, MatmulIntegerOp, MatmulOp
from stepwell.errors import IRError
from stepwell.ir.core import Block, Value
from stepwell.ir.dims import parse_dim
from stepwell.ir.types import BF16, F16, F32, F64, SI32, UI8, TensorType, Type, numpy_dtype


def value(shape: str, element: Type = F32) -> Value:
    """A value of a shape written as "2 n 3*m"."""
    return Block([TensorType(tuple(parse_dim(part) for part in shape.split()), element)]).arguments[0]


def shown(type_: Type) -> str:
    assert isinstance(type_, TensorType)
    return " ".join(map(str, type_.shape))


@pytest.mark.parametrize(
    ("lhs", "rhs", "expected"),
    [
        ("2 3", "3 4", "2 4"),
        ("m k", "k n", "m n"),
        ("b 1 m 3", "h 3 n", "b h m n"),
        ("8 m 3", "1 3 4", "8 m 4"),
        ("2 0", "0 4", "2 4"),
    ],
)
def test_matmul_type(lhs: str, rhs: str, expected: str) -> None:
    assert shown(MatmulOp(value(lhs), value(rhs)).result.type) == expected


@pytest.mark.parametrize(
    ("lhs", "rhs", "message"),
    [
        ("2 3", "4 5", "the inner sizes 3 and 4 of a matrix product differ"),
        ("3", "3 4", "rank 2 or more, not 1 and 2"),
        ("2 2 3", "3 3 4", "do not broadcast"),
    ],
)
def test_matmul_of_misfits(lhs: str, rhs: str, message: str) -> None:
    with pytest.raises(IRError, match=message):
        MatmulOp(value(lhs), value(rhs))


def test_matmul_of_two_element_types() -> None:
    with pytest.raises(IRError, match="element types f32, f64 differ"):
        MatmulOp(value("2 3"), value("3 4", F64))


@pytest.mark.parametrize("element", [F16, BF16])
def test_narrow_floats_are_summed_in_f32(element: Type) -> None:
    """4096 ones make 4096: in f16 or bf16 the sum would stop growing earlier."""
    op = MatmulOp(value("1 4096", element), value("4096 1", element))
    ones = np.ones((1, 4096), numpy_dtype(element))
    made = op.interpret(None, ones, ones.T)
    assert made.dtype == ones.dtype
    assert float(made[0, 0]) == 4096


@pytest.mark.parametrize(("zero", "expected"), [([5], [[0, 5]]), ([5, 10], [[0, 0]])])
def test_zero_point_of_columns(zero: list[int], expected: list[list[int]]) -> None:
    op = MatmulIntegerOp(value("1 1", UI8), value("1 2", UI8), None, value(str(len(zero)), UI8))
    assert op.result.type is TensorType((1, 2), SI32)
    made = op.interpret(
        None, np.array([[1]], np.uint8), np.array([[5, 10]], np.uint8), np.array(zero, np.uint8)
    )
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("ij,jk->ik", ["m 3", "3 n"], "m n"),
        ("ii->i", ["4 4"], "4"),
        ("bij,bij->b", ["b i j", "1 i j"], "b"),
        ("i,j->ij", ["2", "n"], "2 n"),
        (",i->i", ["", "n"], "n"),
        ("ij->", ["2 n"], ""),
    ],
)
def test_einsum_type(equation: str, shapes: list[str], expected: str) -> None:
    assert shown(EinsumOp([value(shape) for shape in shapes], equation=equation).result.type) == expected


@pytest.mark.parametrize(
    ("equation", "shapes", "message"),
    [
        ("ij,jk", ["2 3", "3 4"], "is not of the form"),
        ("i j->ij", ["2 3"], "is not of the form"),
        ("ij->ii", ["2 3"], "result labels must be distinct"),
        ("ij->k", ["2 3"], "result labels must be distinct and occur in an operand"),
        ("ij,jk->ik", ["2 3", "4 5"], "'j' has sizes 3 and 4"),
        ("ij->i", ["2"], "'ij' labels 2 axes of a tensor of rank 1"),
        ("ij->i", ["2 3", "2 3"], "names 1 operands, there are 2"),
    ],
)
def test_einsum_of_misfits(equation: str, shapes: list[str], message: str) -> None:
    with pytest.raises(IRError, match=message):
        EinsumOp([value(shape) for shape in shapes], equation=equation)
