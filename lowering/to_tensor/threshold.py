"""The best k keys of each row, by the largest key that k of them reach: it is found bit by bit, and what is above it,
and as many of those at it as are wanting, are put together by running sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.shape import product
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import AffineExpr, dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.types import I64, IntegerType, TensorType
from stepwell.lowering.to_tensor.compact import bisected, places_of_marks, running_sums
from stepwell.lowering.to_tensor.control import constant
from stepwell.lowering.to_tensor.places import Places, dims, lowest, moved, reduced, reshaped


@attrs.frozen
class Threshold:
    """Rows [rows, n] of at least k integers, of which the larger ones are better and of equal ones the first."""

    c: Conversion
    rows: Value
    k: int

    def places(self) -> Value:
        """[rows, k] i64: where the best k are, in ascending order."""
        c, rows, (count, n) = self.c, self.rows, tensor_type(self.rows).shape
        limits = self._limits()
        above = self._counts([limits], lambda p, key, limit: p.compare("gt", key, limit))
        marks, total = TensorType((count, n), I64), product([count, n])
        level = moved(
            c, marks, lambda p, key, limit: p.one_or_zero(p.compare("eq", key, limit), I64), inputs=[rows, limits],
            maps=[dims(2), [dim(0)]],
        )  # fmt: skip

        def is_chosen(p: Places, key: Value, limit: Value, larger: Value, sums: Value) -> Value:
            """Whether a key is above the limit, or one of the first at it that are wanting."""
            begin = p.mul(p.at(0), p.size(n))
            number = p.sub(p.read(sums, [p.add(begin, p.at(1))]), p.read(sums, [p.sub(begin, p.whole(1))]))
            first = p.compare("le", number, p.sub(p.constant(self.k, I64), larger))
            at_limit = p.both(p.compare("eq", key, limit), first)
            return p.one_or_zero(p.either(p.compare("gt", key, limit), at_limit), I64)

        chosen = moved(
            c, marks, is_chosen, inputs=[rows, limits, above], maps=[dims(2), [dim(0)], [dim(0)]],
            sources=[running_sums(c, reshaped(c, level, [total]))],
        )  # fmt: skip
        found = places_of_marks(c, running_sums(c, reshaped(c, chosen, [total])), product([count, self.k]))

        def in_row(p: Places, place: Value) -> Value:
            return p.sub(place, p.integer_of(p.mul(p.at(0), p.size(n)), I64))

        return moved(
            c, TensorType((count, self.k), I64), in_row, inputs=[reshaped(c, found, [count, self.k])], maps=[dims(2)]
        )

    def _limits(self) -> Value:
        """The largest key that at least k keys of a row reach: its bits from the highest one, which is the sign."""
        c, type_ = self.c, tensor_type(self.rows).element
        assert isinstance(type_, IntegerType)
        each = TensorType((tensor_type(self.rows).shape[0],), type_)

        def candidate(p: Places, *found: Value) -> Value:
            """What is found so far with the next bit; 0 at first, which is the lowest number with another sign."""
            return p.add(found[0], p.resized(found[1], type_, False)) if found else p.constant(0, type_)

        def next_(found: Sequence[Value], maps: Sequence[Sequence[AffineExpr]]) -> Value:
            counts = self._counts(found, lambda p, key, *found: p.compare("ge", key, candidate(p, *found)))

            def larger(p: Places, count: Value, *found: Value) -> Value:
                enough = p.compare("ge", count, p.constant(self.k, I64))
                least = found[0] if found else p.constant_of(lowest(type_, False))
                return p.select(enough, candidate(p, *found), least)

            return moved(c, each, larger, inputs=[counts, *found], maps=[dims(1), *maps])

        bit = constant(c, np.array(1 << (type_.width - 2), np.int64))
        return bisected(c, next_([], []), bit, lambda found, bit: next_([found, bit], [dims(1), []]))

    def _counts(self, given: Sequence[Value], holds: Callable[..., Value]) -> Value:
        """[rows] i64: of how many keys of a row something holds, which `given` values of the row or of all decide."""
        count, n = tensor_type(self.rows).shape
        maps = [[dim(0)] if tensor_type(value).rank else [] for value in given]
        return reduced(
            self.c, TensorType((count,), I64), [n],
            lambda p, key, *given: p.one_or_zero(holds(p, key, *given), I64), lambda p, a, b: p.add(a, b),
            attribute_of(0, I64), inputs=[self.rows, *given], maps=[dims(2), *maps],
        )  # fmt: skip
