"""Identities of elementwise ops that hold for every bit pattern: NaN, infinities and both zeros included.

x + 0.0 is not among them (-0.0 + 0.0 is 0.0); x + -0.0 is. x * 0 is not for floats (NaN, infinities, signs)."""

from __future__ import annotations

import math

import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import ConstantOp, constant_array, shape_of, tensor_type
from stepwell.dialects.graph.elementwise import BinaryOp, is_float_element, splat_value
from stepwell.ir.attributes import elements
from stepwell.ir.core import Operation, Value
from stepwell.ir.rewrite import Rewriter, constant_value
from stepwell.lowering.graph.simplify import simplifies_each


def _is_splat(value: Value, number: float) -> bool:
    """Whether a value is a constant whose elements are all that number, the sign of zero included."""
    found = splat_value(constant_value(value))
    if found is None or found != number:
        return False
    if not is_float_element(value.type) or number != 0:
        return True
    array = constant_array(value)
    return array is not None and bool(np.all(np.signbit(array) == np.signbit(number)))


def _keep(op: Operation, value: Value, rewriter: Rewriter) -> bool:
    """Replace an op by one of its operands, where that has the result's type."""
    if value.type is not op.results[0].type:
        return False
    rewriter.replace(op, value)
    return True


@simplifies_each(graph.AddOp)
def drop_neutral_sum(op: BinaryOp, rewriter: Rewriter) -> bool:
    """x + -0.0 -> x for floats, x + 0 -> x for integers"""
    zero = -0.0 if is_float_element(op.results[0].type) else 0
    return any(_is_splat(b, zero) and _keep(op, a, rewriter) for a, b in ((op.lhs, op.rhs), (op.rhs, op.lhs)))


@simplifies_each(graph.SubOp)
def drop_neutral_difference(op: BinaryOp, rewriter: Rewriter) -> bool:
    """x - 0 -> x"""
    return _is_splat(op.rhs, 0.0) and _keep(op, op.lhs, rewriter)


@simplifies_each(graph.MulOp)
def drop_neutral_factor(op: BinaryOp, rewriter: Rewriter) -> bool:
    """x * 1 -> x"""
    return any(_is_splat(b, 1) and _keep(op, a, rewriter) for a, b in ((op.lhs, op.rhs), (op.rhs, op.lhs)))


@simplifies_each(graph.DivOp)
def drop_neutral_divisor(op: BinaryOp, rewriter: Rewriter) -> bool:
    """x / 1 -> x"""
    return _is_splat(op.rhs, 1) and _keep(op, op.lhs, rewriter)


@simplifies_each(graph.DivOp)
def multiply_by_reciprocal(op: BinaryOp, rewriter: Rewriter) -> bool:
    """x / 2^k -> x * 2^-k for floats: the reciprocal of a power of two is exact, and so is the product's rounding"""
    divisor = splat_value(constant_value(op.rhs))
    if divisor is None or not is_float_element(op.rhs.type) or not _has_exact_reciprocal(float(divisor)):
        return False
    array = constant_array(op.rhs)
    if array is None or array.dtype.itemsize < 4:
        return False
    value = elements(np.reciprocal(array), tensor_type(op.rhs), "reciprocal")
    rewriter.replace_with(op, graph.MulOp(op.lhs, rewriter.insert(ConstantOp(value=value)).result))
    return True


def _has_exact_reciprocal(number: float) -> bool:
    return abs(math.frexp(number)[0]) == 0.5 and 2.0**-64 < abs(number) < 2.0**64


@simplifies_each(graph.MaxOp, graph.MinOp)
def drop_equal_operands(op: BinaryOp, rewriter: Rewriter) -> bool:
    """max(x, x) -> x, min(x, x) -> x"""
    return op.lhs is op.rhs and _keep(op, op.lhs, rewriter)


@simplifies_each(graph.NegOp)
def drop_double_negation(op: graph.UnaryOp, rewriter: Rewriter) -> bool:
    """neg(neg(x)) -> x"""
    inner = op.x.defining_op
    return isinstance(inner, graph.NegOp) and _keep(op, inner.operands[0], rewriter)


@simplifies_each(graph.ReluOp, graph.AbsOp)
def drop_idempotent(op: graph.UnaryOp, rewriter: Rewriter) -> bool:
    """relu(relu(x)) -> relu(x), abs(abs(x)) -> abs(x)"""
    return type(op.x.defining_op) is type(op) and _keep(op, op.x, rewriter)


@simplifies_each(graph.ReluOp)
def drop_relu_of_non_negative(op: graph.UnaryOp, rewriter: Rewriter) -> bool:
    """relu(sigmoid(x)) -> sigmoid(x), likewise for exp: neither is negative or -0.0, and NaN stays NaN"""
    return isinstance(op.x.defining_op, (graph.SigmoidOp, graph.ExpOp)) and _keep(op, op.x, rewriter)


@simplifies_each(graph.AbsOp)
def drop_sign_before_abs(op: graph.UnaryOp, rewriter: Rewriter) -> bool:
    """abs(neg(x)) -> abs(x)"""
    inner = op.x.defining_op
    if not isinstance(inner, graph.NegOp):
        return False
    rewriter.replace_with(op, type(op)(inner.operands[0]))
    return True


@simplifies_each(graph.AddOp)
def subtract_negated(op: BinaryOp, rewriter: Rewriter) -> bool:
    """x + neg(y) -> x - y, neg(x) + y -> y - x: floats are subtracted by adding the negated value"""
    for a, b in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
        negation = b.defining_op
        if isinstance(negation, graph.NegOp) and shape_of(negation.operands[0]) == shape_of(b):
            rewriter.replace_with(op, graph.SubOp(a, negation.operands[0]))
            return True
    return False


@simplifies_each(graph.SubOp)
def add_negated(op: BinaryOp, rewriter: Rewriter) -> bool:
    """x - neg(y) -> x + y"""
    negation = op.rhs.defining_op
    if not isinstance(negation, graph.NegOp):
        return False
    rewriter.replace_with(op, graph.AddOp(op.lhs, negation.operands[0]))
    return True
