"""Index arithmetic: ops with constants folded as they are built, dims as code, and linear forms over loop variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from stepwell.dialects import arith, loop, vector
from stepwell.dialects.arith import constant_int
from stepwell.dialects.arith_proofs import known_lanes
from stepwell.errors import IRError
from stepwell.ir.builder import Builder
from stepwell.ir.core import BlockArgument, Value
from stepwell.ir.dims import Dim, DimExpr


class IndexBuilder:
    """Inserts index ops through a builder; operations on constants give constants, and what was built is used again.

    Invariant: everything inserted through it is in one block, in order, so that an earlier op dominates later uses."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self._made: dict[object, Value] = {}

    def constant(self, value: int) -> Value:
        """`value` as an index."""
        if value not in self._made:
            self._made[value] = self.builder.insert(arith.index_constant(value)).result
        return self._made[value]

    def _binary(self, cls: type[arith.BinaryOp], a: Value, b: Value) -> Value:
        key = (cls, a, b)
        if key not in self._made:
            self._made[key] = self.builder.insert(cls(a, b)).result
        return self._made[key]

    def add(self, a: Value, b: Value) -> Value:
        """a + b"""
        x, y = constant_int(a), constant_int(b)
        if x is not None and y is not None:
            return self.constant(x + y)
        return a if y == 0 else b if x == 0 else self._binary(arith.AddIOp, a, b)

    def sub(self, a: Value, b: Value) -> Value:
        """a - b"""
        x, y = constant_int(a), constant_int(b)
        if x is not None and y is not None:
            return self.constant(x - y)
        return a if y == 0 else self._binary(arith.SubIOp, a, b)

    def mul(self, a: Value, b: Value) -> Value:
        """a * b"""
        x, y = constant_int(a), constant_int(b)
        if x is not None and y is not None:
            return self.constant(x * y)
        if x == 0 or y == 0:
            return self.constant(0)
        return a if y == 1 else b if x == 1 else self._binary(arith.MulIOp, a, b)

    def minimum(self, a: Value, b: Value) -> Value:
        """min(a, b)"""
        x, y = constant_int(a), constant_int(b)
        if x is not None and y is not None:
            return self.constant(min(x, y))
        return self._binary(arith.MinSIOp, a, b)

    def maximum(self, a: Value, b: Value) -> Value:
        """max(a, b)"""
        x, y = constant_int(a), constant_int(b)
        if x is not None and y is not None:
            return self.constant(max(x, y))
        return self._binary(arith.MaxSIOp, a, b)

    def floordiv(self, a: Value, b: Value) -> Value:
        """a // b, rounded down, b > 0. A b that is not known counts as at least 1, as it is wherever the quotient is
        used, so that the division may run anywhere."""
        x, y = constant_int(a), constant_int(b)
        if x is not None and y is not None:
            return self.constant(x // y)
        return a if y == 1 else self._binary(arith.FloorDivSIOp, a, self.maximum(b, self.constant(1)))

    def mod(self, a: Value, b: Value) -> Value:
        """a - b * (a // b), b > 0"""
        x, y = constant_int(a), constant_int(b)
        if x is not None and y is not None:
            return self.constant(x % y)
        return self.sub(a, self.mul(self.floordiv(a, b), b))

    def dim(self, dim: Dim, symbols: Mapping[str, Value]) -> Value:
        """A symbolic dim as code. Raises IRError for a symbol without a value."""
        if not isinstance(dim, DimExpr):
            return self.constant(int(dim))

        def leaf(name: str) -> Value:
            if name not in symbols:
                raise IRError(f"the size {name!r} is not known here")
            return symbols[name]

        return dim.fold(
            self.constant, leaf, self.add, self.mul, self.floordiv, self.mod, self.maximum, self.minimum
        )


def known_multiple(value: Value) -> int:
    """A number that divides an index for certain (0 stands for the constant 0)."""
    constant = constant_int(value)
    if constant is not None:
        return abs(constant)
    op = value.defining_op
    if isinstance(op, (arith.AddIOp, arith.SubIOp)):
        return math.gcd(known_multiple(op.lhs), known_multiple(op.rhs))
    if isinstance(op, arith.MulIOp):
        return known_multiple(op.lhs) * known_multiple(op.rhs)
    if isinstance(value, BlockArgument) and value.index == 0:
        owner = value.block.parent_op
        if isinstance(owner, (loop.ForOp, loop.ParallelOp)):
            return math.gcd(known_multiple(owner.lower), known_multiple(owner.step))
    return 1


def known_range(value: Value) -> tuple[int | None, int | None]:
    """Inclusive bounds of an index, in all lanes, as far as they are known."""
    constant = constant_int(value)
    if constant is not None:
        return constant, constant
    if isinstance(value, BlockArgument) and value.index == 0:
        owner = value.block.parent_op
        if isinstance(owner, (loop.ForOp, loop.ParallelOp)):
            low, high, step = constant_int(owner.lower), constant_int(owner.upper), constant_int(owner.step)
            last = None if high is None else high - 1
            if low is not None and high is not None and step:
                last = max(low, low + (high - 1 - low) // step * step)
            return low, last
    lanes = known_lanes(value)
    if lanes is not None:
        return min(lanes), max(lanes)
    op = value.defining_op
    if isinstance(op, vector.ExtractOp):
        return known_range(op.operands[0])
    if isinstance(op, (arith.MinSIOp, arith.MaxSIOp)):
        lows, highs = zip(known_range(op.lhs), known_range(op.rhs), strict=True)
        if isinstance(op, arith.MinSIOp):
            return _if_known(min, lows, all), _if_known(min, highs, any)
        return _if_known(max, lows, any), _if_known(max, highs, all)
    return None, None


def _if_known(pick: Callable[..., int], edges: Sequence[int | None], enough: Callable[..., bool]) -> int | None:
    """The least or largest of the edges that are known, where `enough` (all or any) of them are."""
    known = [edge for edge in edges if edge is not None]
    return pick(known) if known and enough(edge is not None for edge in edges) else None


@attrs.frozen
class Lane:
    """The position within a vector, 0 to lanes - 1; a term of linear forms."""

    lanes: int


Term = Any  # a Value or a Lane


@attrs.frozen(eq=False)
class LinearIndex:
    """sum of coefficient * term + constant, over index values and the lane. Operators follow affine maps' needs:
    + and * with ints, // and % by positive ints, which split the sum where multiples and ranges are known.

    Raises IRError from // and % where a quotient cannot be split; callers fall back to computing it lane by lane."""

    terms: Mapping[Term, int]
    constant: int
    builder: IndexBuilder

    def __add__(self, other: LinearIndex | int) -> LinearIndex:
        if isinstance(other, int):
            return LinearIndex(self.terms, self.constant + other, self.builder)
        terms = dict(self.terms)
        for term, factor in other.terms.items():
            terms[term] = terms.get(term, 0) + factor
        return LinearIndex({t: f for t, f in terms.items() if f}, self.constant + other.constant, self.builder)

    def __mul__(self, factor: int) -> LinearIndex:
        if factor == 0:
            return LinearIndex({}, 0, self.builder)
        return LinearIndex({t: f * factor for t, f in self.terms.items()}, self.constant * factor, self.builder)

    def starts_at(self, step: int) -> bool:
        """Whether the first lane is known to be at a multiple of a number."""
        terms = {term: factor for term, factor in self.terms.items() if not isinstance(term, Lane)}
        return self.constant % step == 0 and all(factor * _multiple(term) % step == 0 for term, factor in terms.items())

    def _split(self, divisor: int) -> tuple[dict[Term, int], dict[Term, int], int, int] | None:
        """(terms that are multiples, other terms, quotient and rest of the constant) where the rest stays in range."""
        whole = {t: f for t, f in self.terms.items() if f * _multiple(t) % divisor == 0}
        rest = {t: f for t, f in self.terms.items() if t not in whole}
        quotient, remainder = divmod(self.constant, divisor)
        low, high = remainder, remainder
        for term, factor in rest.items():
            first, last = _range(term)
            if first is None or last is None:
                return None
            low += min(factor * first, factor * last)
            high += max(factor * first, factor * last)
        return (whole, rest, quotient, remainder) if low >= 0 and high < divisor else None

    def __floordiv__(self, divisor: int) -> LinearIndex:
        parts = self._split(divisor)
        if parts is None:
            return self._start(divisor)._opaque("floordiv", divisor)
        whole, _, quotient, _ = parts
        total = LinearIndex({}, quotient, self.builder)
        for term, factor in whole.items():
            if factor % divisor == 0:
                total = total + LinearIndex({term: factor // divisor}, 0, self.builder)
            else:
                common = math.gcd(factor, divisor)
                smaller = self.builder.floordiv(term, self.builder.constant(divisor // common))
                total = total + LinearIndex({smaller: factor // common}, 0, self.builder)
        return total

    def __mod__(self, divisor: int) -> LinearIndex:
        parts = self._split(divisor)
        if parts is None:
            start = self._start(divisor)
            return start._opaque("mod", divisor) + (self + start * -1)
        return LinearIndex(parts[1], parts[3], self.builder)

    def _start(self, divisor: int) -> LinearIndex:
        """The form without what its lanes add, where that never leads to another quotient: start and divisor are
        multiples of a number below which the lanes stay. Raises IRError where it may."""
        lanes = {t: f for t, f in self.terms.items() if isinstance(t, Lane)}
        if not lanes:
            return self
        start = {t: f for t, f in self.terms.items() if t not in lanes}
        step = math.gcd(divisor, *(f * _multiple(t) for t, f in start.items()))
        within = LinearIndex(lanes, self.constant % step, self.builder)
        if not within.is_within(step):
            raise IRError("the quotient differs from lane to lane")
        return LinearIndex(start, self.constant - within.constant, self.builder)

    def _opaque(self, kind: str, divisor: int) -> LinearIndex:
        value = getattr(self.builder, kind)(self.value(), self.builder.constant(divisor))
        return LinearIndex({value: 1}, 0, self.builder)

    @property
    def lane_factor(self) -> int:
        """How far the index moves from one lane to the next."""
        return sum(factor for term, factor in self.terms.items() if isinstance(term, Lane))

    def is_within(self, size: int) -> bool:
        """Whether the index is in [0, size) for certain, in all lanes."""
        low = high = self.constant
        for term, factor in self.terms.items():
            first, last = _range(term)
            if first is None or last is None:
                return False
            low += min(factor * first, factor * last)
            high += max(factor * first, factor * last)
        return low >= 0 and high < size

    @property
    def key(self) -> tuple[frozenset[tuple[Term, int]], int]:
        """Equal for equal forms."""
        return frozenset(self.terms.items()), self.constant

    def value(self) -> Value:
        """The index of lane 0 as code; the constant is added last, so that the rest is shared and leaves loops."""
        total = self.builder.constant(0)
        for term, factor in self.terms.items():
            if not isinstance(term, Lane):
                total = self.builder.add(total, self.builder.mul(term, self.builder.constant(factor)))
        return self.builder.add(total, self.builder.constant(self.constant)) if self.constant else total

    def at_lane(self, lane: int) -> LinearIndex:
        """The form with the lane's number in place of the lane."""
        terms = {t: f for t, f in self.terms.items() if not isinstance(t, Lane)}
        return LinearIndex(terms, self.constant + lane * self.lane_factor, self.builder)


def _multiple(term: Term) -> int:
    return 1 if isinstance(term, Lane) else known_multiple(term)


def _range(term: Term) -> tuple[int | None, int | None]:
    return (0, term.lanes - 1) if isinstance(term, Lane) else known_range(term)
