"""Matrix products and Einstein sums."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.contraction import EinsumOp, MatmulIntegerOp, MatmulOp
from stepwell.dialects.graph.elementwise import AddOp, MulOp
from stepwell.dialects.graph.movement import TransposeOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import reshaped
from stepwell.ir.core import Value
from stepwell.ir.types import FloatType, numpy_dtype


def transpose(node: Node, x: Value, permutation: Sequence[int]) -> Value:
    """x with its axes in another order."""
    if list(permutation) == list(range(len(permutation))):
        return x
    return node.insert(TransposeOp(x, permutation=tuple(permutation))).result


def as_matrices(node: Node, lhs: Value, rhs: Value) -> tuple[Value, Value, int, int]:
    """MatMul's operands with rank >= 2, and how many axes (0 or 1) that put in front of the last and last."""
    left, right = shape_of(lhs), shape_of(rhs)
    if not left or not right:
        raise node.unsupported("MatMul of a scalar is not defined", "use Mul")
    row, column = int(len(left) == 1), int(len(right) == 1)
    lhs = reshaped(node, lhs, (1, *left)) if row else lhs
    rhs = reshaped(node, rhs, (*right, 1)) if column else rhs
    return lhs, rhs, row, column


def without_unit_axes(node: Node, product: Value, row: int, column: int) -> Value:
    """A product less the axes that `as_matrices` put in."""
    shape = list(shape_of(product))
    if column:
        del shape[-1]
    if row:
        del shape[-1 if column else -2]
    return reshaped(node, product, shape)


@rule("MatMul")
def matmul(node: Node) -> Value:
    """A vector is a matrix of one row (left) or one column (right)."""
    lhs, rhs, row, column = as_matrices(node, node.input(0), node.input(1))
    return without_unit_axes(node, node.insert(MatmulOp(lhs, rhs)).result, row, column)


@rule("MatMulInteger", since=10)
def matmul_integer(node: Node) -> Value:
    """(A - a_zero) x (B - b_zero) in si32."""
    lhs, rhs, row, column = as_matrices(node, node.input(0), node.input(1))
    made = node.insert(MatmulIntegerOp(lhs, rhs, node.optional(2), node.optional(3))).result
    return without_unit_axes(node, made, row, column)


def scaled(node: Node, x: Value, factor: float) -> Value:
    """x * factor, in x's element type."""
    if factor == 1:
        return x
    element = tensor_type(x).element
    if not isinstance(element, FloatType) and factor != int(factor):
        raise node.unsupported(f"the factor {factor} of an integer product is not an integer")
    return node.insert(MulOp(x, node.constant(np.array(factor, numpy_dtype(element))))).result


@rule("Gemm")
def gemm(node: Node) -> Value:
    """alpha * A' x B' + beta * C. Up to version 6, `broadcast` says whether C may be smaller; that is allowed here
    always."""
    a, b = node.input(0), node.input(1)
    for which, value in (("A", a), ("B", b)):
        if len(shape_of(value)) != 2:
            raise node.unsupported(f"{which} needs rank 2, not {len(shape_of(value))}")
    a = transpose(node, a, (1, 0)) if node.int("transA", 0) else a
    b = transpose(node, b, (1, 0)) if node.int("transB", 0) else b
    product = scaled(node, node.insert(MatmulOp(a, b)).result, node.float("alpha", 1.0))
    c, beta = node.optional(2), node.float("beta", 1.0)
    if c is None or beta == 0:
        return product
    return node.insert(AddOp(product, scaled(node, c, beta))).result


def explicit_equation(node: Node, equation: str, ranks: Sequence[int]) -> str:
    """An Einsum equation with explicit result and letters in the place of ellipses.

    "...i,...i" of ranks 3 and 2 -> "ABi,Bi->AB"."""
    text = re.sub(r"\s", "", equation)
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise node.unsupported(f"the equation {equation!r} names {len(terms)} operands, there are {len(ranks)}")
    free = [letter for letter in string.ascii_uppercase + string.ascii_lowercase if letter not in text]
    plain = [len(term.replace("...", "")) for term in terms]
    widths = [rank - n if "..." in term else 0 for term, n, rank in zip(terms, plain, ranks, strict=True)]
    if min(widths) < 0 or max(widths) > len(free):
        raise node.unsupported(f"the equation {equation!r} does not fit operands of ranks {list(ranks)}")
    batch = "".join(free[: max(widths)])
    named = [term.replace("...", batch[len(batch) - width :]) for term, width in zip(terms, widths, strict=True)]
    if arrow:
        result = right.replace("...", batch)
    else:
        letters = left.replace("...", "").replace(",", "")
        result = batch + "".join(letter for letter in sorted(set(letters)) if letters.count(letter) == 1)
    return f"{','.join(named)}->{result}"


@rule("Einsum", since=12)
def einsum(node: Node) -> Value:
    """The equation made explicit; a batched matrix product stays an einsum, which is as general."""
    values = node.inputs()
    equation = explicit_equation(node, node.string("equation"), [len(shape_of(value)) for value in values])
    return node.insert(EinsumOp(values, equation=equation)).result
