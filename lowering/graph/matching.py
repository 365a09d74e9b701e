"""What patterns ask about values: the number a constant holds, which ops lead to it, which polynomial it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import Array, ConstantOp, constant_array, shape_of, tensor_type
from stepwell.dialects.graph.elementwise import BinaryOp, splat_value
from stepwell.dialects.graph.movement import SliceOp, SplitOp
from stepwell.dialects.graph.shape import known_scalar
from stepwell.ir.attributes import elements
from stepwell.ir.core import Operation, OpT, Value
from stepwell.ir.dims import Dim, proven_equal
from stepwell.ir.rewrite import Rewriter, constant_value
from stepwell.ir.types import FloatType, TensorType, numpy_dtype

SPLAT_LIMIT = 1 << 12  # elements that are compared to find out whether a constant is one number


def made_by(value: Value, cls: type[OpT]) -> OpT | None:
    """The op of a class that makes a value."""
    op = value.defining_op
    return op if isinstance(op, cls) else None


def only_user(value: Value) -> Operation | None:
    """The one op that reads a value, once or twice; None where there are several."""
    users = set(value.users)
    return users.pop() if len(users) == 1 else None


def either_order(op: BinaryOp) -> Iterator[tuple[Value, Value]]:
    """The operands of a commutative op, in both orders."""
    yield op.lhs, op.rhs
    yield op.rhs, op.lhs


def number(value: Value) -> float | None:
    """The number that all elements of a constant of floats are."""
    if not isinstance(tensor_type(value).element, FloatType):
        return None
    scalar = known_scalar(value)
    if scalar is not None:
        return float(scalar)
    type_ = tensor_type(value)
    if not isinstance(value.defining_op, ConstantOp) or math.prod(type_.static_shape) > SPLAT_LIMIT:
        return None
    found = splat_value(constant_value(value))
    return None if found is None else float(found)


def near(made: float, wanted: float) -> bool:
    """Whether an exporter may have meant a number: they agree to five digits."""
    return math.isclose(made, wanted, rel_tol=1e-5)


def scaled(value: Value) -> tuple[Value, float]:
    """What a value is a multiple of, and the factor: products with and quotients by numbers of one element each.

    mul(div(%x, 8.0), 2.0)  ->  (%x, 0.25)"""
    factor = 1.0
    while (step := _one_factor(value)) is not None:
        value, by = step
        factor *= by
    return value, factor


def _one_factor(value: Value) -> tuple[Value, float] | None:
    op = value.defining_op
    if isinstance(op, graph.MulOp):
        for inner, other in either_order(op):
            by = number(other)
            if by is not None and inner.type is value.type:
                return inner, by
    elif isinstance(op, graph.DivOp) and op.lhs.type is value.type:
        by = number(op.rhs)
        return (op.lhs, 1 / by) if by else None
    return None


def fits(value: Value, shape: Sequence[Dim]) -> bool:
    """Whether a value broadcasts to a shape and leaves it as it is, as far as known sizes prove it."""
    own = shape_of(value)
    return len(own) <= len(shape) and all(
        size == 1 or proven_equal(size, other) for size, other in zip(reversed(own), reversed(shape), strict=False)
    )


def swapped(rank: int, a: int, b: int) -> list[int]:
    """The permutation of a number of axes that swaps two of them, which may be counted from the back."""
    order = list(range(rank))
    order[a], order[b] = order[b], order[a]
    return order


def scalar_constant(rewriter: Rewriter, value: float, like: Value) -> Value:
    """A constant without axes, of the element type of another value."""
    type_ = TensorType((), tensor_type(like).element)
    return rewriter.insert(ConstantOp(value=elements(np.array(value, numpy_dtype(type_)), type_))).result


def constant_like(rewriter: Rewriter, array: Array, value: Value, name: str) -> Value:
    """A constant of an array, in the element type of a value."""
    type_ = TensorType(array.shape, tensor_type(value).element)
    return rewriter.insert(ConstantOp(value=elements(np.ascontiguousarray(array), type_, name))).result


def part_of(value: Value) -> tuple[Value, int, Dim, Dim] | None:
    """(whole, axis, first element, number of them) of a value cut out along one axis."""
    op = value.defining_op
    if isinstance(op, SliceOp) and len(op.axes) == 1:
        bounds = op.bounds()[0]
        return (op.x, op.axes[0], bounds[0], bounds[1]) if bounds is not None and bounds[2] == 1 else None
    if isinstance(op, SplitOp) and not op.new_dims:
        start: Dim = 0
        for part in op.parts:
            if part is value:
                return op.x, op.axis, start, shape_of(part)[op.axis]
            start = start + shape_of(part)[op.axis]
    return None


# Polynomials: what a tree of sums and products means, whatever the order in which it is written

Polynomial = Mapping[tuple[int, ...], float]  # the degree in each unknown -> the coefficient
MAX_TREE = 24  # ops that are looked at
MAX_DEGREE = 4


def polynomial(value: Value, unknowns: Sequence[Value]) -> Polynomial | None:
    """A value as a polynomial of others, of the same type; None where anything else takes part.

    mul(mul(%x, 0.5), add(%e, 1.0)) of (%x, %e)  ->  {(1, 0): 0.5, (1, 1): 0.5}"""
    return _Expansion(unknowns).of(value)


class _Expansion:
    def __init__(self, unknowns: Sequence[Value]) -> None:
        self.unknowns = list(unknowns)
        self.budget = MAX_TREE

    def of(self, value: Value) -> Polynomial | None:
        """The polynomial of one value."""
        none = (0,) * len(self.unknowns)
        for index, unknown in enumerate(self.unknowns):
            if value is unknown:
                return {(*none[:index], 1, *none[index + 1 :]): 1.0}
        constant = number(value)
        if constant is not None:
            return {none: constant} if constant else {}
        self.budget -= 1
        op = value.defining_op
        return self._of_op(op) if op is not None and self.budget >= 0 else None

    def _of_op(self, op: Operation) -> Polynomial | None:
        if isinstance(op, graph.NegOp):
            return _times(self.of(op.operands[0]), {(0,) * len(self.unknowns): -1.0})
        if isinstance(op, graph.PowOp):
            return self._power(op)
        if not isinstance(op, (graph.AddOp, graph.SubOp, graph.MulOp, graph.DivOp)):
            return None
        lhs, rhs = self.of(op.lhs), self.of(op.rhs)
        if isinstance(op, graph.MulOp):
            return _times(lhs, rhs)
        if isinstance(op, graph.DivOp):
            return _divided(lhs, rhs)
        return _plus(lhs, rhs, -1.0 if isinstance(op, graph.SubOp) else 1.0)

    def _power(self, op: BinaryOp) -> Polynomial | None:
        base, degree = self.of(op.lhs), number(op.rhs)
        if base is None or degree not in (1.0, 2.0, 3.0):
            return None
        made: Polynomial | None = base
        for _ in range(int(degree) - 1):
            made = _times(made, base)
        return made


def _plus(a: Polynomial | None, b: Polynomial | None, sign: float) -> Polynomial | None:
    if a is None or b is None:
        return None
    made = dict(a)
    for degrees, coefficient in b.items():
        made[degrees] = made.get(degrees, 0.0) + sign * coefficient
    return made


def _times(a: Polynomial | None, b: Polynomial | None) -> Polynomial | None:
    if a is None or b is None:
        return None
    made: dict[tuple[int, ...], float] = {}
    for left, x in a.items():
        for right, y in b.items():
            degrees = tuple(m + n for m, n in zip(left, right, strict=True))
            if sum(degrees) > MAX_DEGREE:
                return None
            made[degrees] = made.get(degrees, 0.0) + x * y
    return made


def _divided(a: Polynomial | None, b: Polynomial | None) -> Polynomial | None:
    if a is None or b is None or len(b) != 1:
        return None
    ((degrees, divisor),) = b.items()
    return {key: x / divisor for key, x in a.items()} if not any(degrees) else None


def is_polynomial(value: Value, unknowns: Sequence[Value], wanted: Polynomial) -> bool:
    """Whether a value is that polynomial of others, its coefficients rounded as exporters round them."""
    found = polynomial(value, unknowns)
    return found is not None and found.keys() == wanted.keys() and all(near(found[key], wanted[key]) for key in wanted)


def result_of_polynomial(start: Value, unknowns: Sequence[Value], wanted: Polynomial, steps: int = 5) -> Value | None:
    """The value, up to some readers behind `start`, that is a polynomial of others."""
    value = start
    for _ in range(steps):
        user = only_user(value)
        if not isinstance(user, (BinaryOp, graph.NegOp)) or user.results[0].type is not start.type:
            return None
        value = user.results[0]
        if is_polynomial(value, unknowns, wanted):
            return value
    return None


def array_of(value: Value) -> Array | None:
    """The array of a constant of numbers."""
    array = constant_array(value)
    return array if array is not None and array.dtype.kind in "fiub" else None
