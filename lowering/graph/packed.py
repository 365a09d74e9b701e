"""A sequence as two tensors: all its elements in one list, and for each tensor a row of numbers, its rank and sizes.

[x : f32[2, 3], y : f32[4]]  =  data f32[10], shapes si64[2, 9] = [[2, 2, 3, 1, ..], [1, 4, 1, 1, ..]]

What an op does to a sequence is written here as graph ops on the two."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from stepwell.dialects.graph import elementwise as arithmetic
from stepwell.dialects.graph.base import ConstantOp, shape_of, tensor_type
from stepwell.dialects.graph.conversion import CastOp
from stepwell.dialects.graph.generate import RangeOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.logic import AndOp, CompareOp, WhereOp
from stepwell.dialects.graph.movement import ConcatOp, SliceOp
from stepwell.dialects.graph.pack import RequiredOp, UnpackOp
from stepwell.dialects.graph.reduction import CumulativeOp, ReduceOp
from stepwell.dialects.graph.scatter import ScatterElementsOp
from stepwell.dialects.graph.shape import ExpandOp, ReshapeOp, ShapeOp, product
from stepwell.dialects.sequence_types import RANKS
from stepwell.errors import PassError
from stepwell.ir.attributes import elements
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import SI64, TensorType, Type, numpy_dtype

WIDTH = 1 + RANKS
"""Numbers in the row of a tensor: its rank, its sizes, ones."""

OUTSIDE = "a place outside of the sequence"
EMPTY = "an empty sequence is concatenated"
DIFFERENT = "the tensors of a sequence that are concatenated differ in size along another axis"
NO_PARTS = "an axis cannot be split into parts of this size"
NOT_WHOLE = "the sizes of the parts do not add up to that of the axis"


@attrs.frozen
class Packed:
    """A sequence: the elements, the shapes."""

    data: Value
    shapes: Value


class Code:
    """Writes graph ops at one place."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    def op(self, op: Operation) -> Value:
        """Insert an op of one result."""
        return self.builder.insert(op).results[0]

    # Numbers

    def number(self, value: int) -> Value:
        """A scalar."""
        return self.op(ConstantOp(value=elements(np.array(value, np.int64), TensorType((), SI64))))

    def numbers(self, *values: int) -> Value:
        """A list."""
        return self.op(ConstantOp(value=elements(np.array(values, np.int64), TensorType((len(values),), SI64))))

    def binary(self, name: str, a: Value, b: Value | int) -> Value:
        """a op b, for the name of an op class without `Op`"""
        return self.op(getattr(arithmetic, f"{name}Op")(a, b if isinstance(b, Value) else self.number(b)))

    def add(self, a: Value, b: Value | int) -> Value:
        """a + b"""
        return self.binary("Add", a, b)

    def sub(self, a: Value, b: Value | int) -> Value:
        """a - b"""
        return self.binary("Sub", a, b)

    def mul(self, a: Value, b: Value | int) -> Value:
        """a * b"""
        return self.binary("Mul", a, b)

    def divided(self, a: Value, b: Value) -> tuple[Value, Value]:
        """(a div b, a mod b) of numbers that are not negative; b = 0 counts as 1."""
        divisor = self.binary("Max", b, 1)
        quotient = self.binary("Div", a, divisor)
        return quotient, self.sub(a, self.mul(quotient, divisor))

    def test(self, a: Value, predicate: str, b: Value | int) -> Value:
        """Whether a stands in a relation to b."""
        return self.op(CompareOp(a, b if isinstance(b, Value) else self.number(b), predicate=predicate))

    def select(self, condition: Value, a: Value | int, b: Value | int) -> Value:
        """condition ? a : b"""
        return self.op(WhereOp(condition, *(x if isinstance(x, Value) else self.number(x) for x in (a, b))))

    def total(self, x: Value, axis: int = 0, kind: str = "sum") -> Value:
        """A reduction along an axis, which goes."""
        return self.op(ReduceOp(x, kind=kind, axes=(axis,), keepdims=False))

    def size(self, x: Value) -> Value:
        """The length along the first axis, as a scalar."""
        return self.reshape(self.op(ShapeOp(x, start=0, end=1)), ())

    def upto(self, limit: Value, step: Value | None = None) -> Value:
        """0, 1, .. below a scalar, or by steps"""
        return self.op(RangeOp(self.number(0), limit, self.number(1) if step is None else step))

    def require(self, x: Value, holds: Value, message: str) -> Value:
        """A number, where the condition holds; else the run ends."""
        one = self.op(RequiredOp(self.reshape(x, (1,)), self.reshape(holds, (1,)), message=message))
        return self.reshape(one, shape_of(x))

    def zero_if(self, holds: Value, message: str) -> Value:
        """The scalar 0 where a condition holds; else the run ends."""
        return self.require(self.number(0), holds, message)

    # Elements

    def reshape(self, x: Value, dims: Sequence[Dim]) -> Value:
        """The same elements under other sizes."""
        return x if shape_of(x) == tuple(dims) else self.op(ReshapeOp.to(x, dims))

    def flat(self, x: Value) -> Value:
        """The elements as a list."""
        return self.reshape(x, (product(shape_of(x)),))

    def gather(self, x: Value, places: Value) -> Value:
        """Entries along the first axis; a place outside ends the run."""
        return self.op(GatherOp(x, places, axis=0))

    def concat(self, *values: Value, axis: int = 0) -> Value:
        """Values behind each other."""
        return values[0] if len(values) == 1 else self.op(ConcatOp(values, axis=axis))

    def part(self, x: Value, start: Value, end: Value) -> Value:
        """x[start:end]"""
        return self.op(SliceOp(x, self.reshape(start, (1,)), self.reshape(end, (1,)), axes=[0]))

    def column(self, rows: Value, number: int) -> Value:
        """One number of each row."""
        return self.reshape(self.columns(rows, number, number + 1), shape_of(rows)[:1])

    def columns(self, rows: Value, start: int, end: int) -> Value:
        """Some numbers of each row."""
        return self.op(SliceOp(rows, self.numbers(start), self.numbers(end), axes=[1]))

    # Sequences

    def empty(self, element: Type) -> Packed:
        """No tensors."""
        none = np.zeros(0, numpy_dtype(element))
        data = self.op(ConstantOp(value=elements(none, TensorType((0,), element))))
        rows = elements(np.zeros((0, WIDTH), np.int64), TensorType((0, WIDTH), SI64))
        return Packed(data, self.op(ConstantOp(value=rows)))

    def row(self, x: Value, dropped: int | None = None) -> Value:
        """The row of a tensor, perhaps without one of its axes. Raises PassError where it has too many dims."""
        rank = tensor_type(x).rank
        cuts = [(0, rank)] if dropped is None else [(0, dropped), (dropped + 1, rank)]
        left = sum(end - start for start, end in cuts)
        if left > RANKS:
            raise PassError(f"{self.builder.loc.label}: a tensor of {left} dims in a sequence; {RANKS} at most")
        sizes = [self.op(ShapeOp(x, start=start, end=end)) for start, end in cuts if start < end]
        ones = [self.numbers(*[1] * (RANKS - left))] if left < RANKS else []
        return self.reshape(self.concat(self.numbers(left), *sizes, *ones), (1, WIDTH))

    def packed(self, xs: Sequence[Value], element: Type) -> Packed:
        """A sequence of tensors."""
        if not xs:
            return self.empty(element)
        return Packed(self.concat(*map(self.flat, xs)), self.concat(*map(self.row, xs)))

    def counts(self, s: Packed) -> Value:
        """How many elements each tensor has."""
        return self.total(self.columns(s.shapes, 1, WIDTH), 1, "prod")

    def starts(self, counts: Value) -> Value:
        """Where each of a row of parts begins."""
        return self.op(CumulativeOp(counts, kind="sum", axis=0, exclusive=True))

    def place(self, s: Packed, position: Value | None, more: int = 0) -> Value:
        """A position, absent that of the last tensor, counted from the front, as a list of one si64. Ends the run where
        it is outside; that of an insertion may be one `more`."""
        count = self.size(s.shapes)
        if position is None:
            position = self.number(-1)
        elif tensor_type(position).element is not SI64:
            position = self.op(CastOp(position, to=SI64))
        place = self.reshape(position, (1,))
        place = self.select(self.test(place, "lt", 0), self.add(place, count), place)
        inside = self.op(AndOp(self.test(place, "ge", 0), self.test(place, "lt", self.add(count, more))))
        return self.require(place, inside, OUTSIDE)

    def at(self, s: Packed, position: Value, known: Sequence[int], new_dims: Sequence[str]) -> Value:
        """The tensor at a position, which has these sizes where they are not -1."""
        place = self.place(s, position)
        row = self.reshape(self.gather(s.shapes, place), (WIDTH,))
        sizes = self.op(SliceOp(row, self.numbers(1), self.numbers(1 + len(known)), axes=[0]))
        start = self.gather(self.starts(self.counts(s)), place)
        return self.op(UnpackOp(s.data, start, sizes, known=known, new_dims=new_dims))

    def inserted(self, s: Packed, x: Value, position: Value | None) -> Packed:
        """One more tensor, before the one at a position."""
        data, rows = self.concat(s.data, self.flat(x)), self.concat(s.shapes, self.row(x))
        if position is None:
            return Packed(data, rows)
        place = self.place(s, position, 1)
        start = self.gather(self.starts(self.concat(self.counts(s), self.numbers(0))), place)
        return Packed(self._moved_in(data, s.data, start), self._moved_in(rows, s.shapes, place))

    def _moved_in(self, whole: Value, before: Value, start: Value) -> Value:
        """What stands at the end of a list, behind what was `before`, goes to place `start`."""
        places, old = self.upto(self.size(whole)), self.size(before)
        length = self.sub(self.size(whole), old)
        inside = self.test(places, "lt", self.add(start, length))
        source = self.select(inside, self.add(self.sub(places, start), old), self.sub(places, length))
        return self.gather(whole, self.select(self.test(places, "lt", start), places, source))

    def erased(self, s: Packed, position: Value | None) -> Packed:
        """One tensor less."""
        place = self.place(s, position)
        counts = self.counts(s)
        start = self.gather(self.starts(counts), place)
        end = self.add(start, self.gather(counts, place))
        data = self.concat(self.part(s.data, self.numbers(0), start), self.part(s.data, end, self.size(s.data)))
        places = self.upto(self.sub(self.size(s.shapes), 1))
        source = self.select(self.test(places, "lt", place), places, self.add(places, 1))
        return Packed(data, self.gather(s.shapes, source))

    # One tensor of all, and parts of one tensor

    def owners(self, lengths: Value, total: Value) -> tuple[Value, Value]:
        """(where the part begins that holds each place along an axis, how long it is); a place is in the part of which
        as many have ended up to there as are before it"""
        starts = self.starts(lengths)
        none = self.mul(self.upto(self.add(total, 1)), 0)
        ones = self.op(ExpandOp.to(self.numbers(1), shape_of(lengths)))
        ended = self.op(ScatterElementsOp(none, self.add(starts, lengths), ones, axis=0, reduction="add"))
        owner = self.op(CumulativeOp(self.part(ended, self.numbers(0), total), kind="sum", axis=0))
        return self.gather(starts, owner), self.gather(lengths, owner)

    def concatenated(self, s: Packed, axis: int, new: bool, known: Sequence[int], new_dims: Sequence[str]) -> Value:
        """All tensors along an axis, which is perhaps new; `known` has the sizes of the result."""
        rank = len(known) - new
        some = self.test(self.size(s.shapes), "gt", 0)
        first = self.gather(s.shapes, self.require(self.numbers(0), some, EMPTY))
        sizes = self.columns(s.shapes, 1, 1 + rank) if rank else None
        others = [number for number in range(rank) if new or number != axis]
        for number in others:
            assert sizes is not None
            same = self.test(self.column(sizes, number), "eq", self.column(first, 1 + number))
            wrong = self.total(self.op(CastOp(same, to=SI64)), 0, "min")
            first = self.add(first, self.zero_if(self.test(wrong, "ge", 1), DIFFERENT))
        row = self.reshape(first, (WIDTH,))
        mine = [self.reshape(self.gather(row, self.numbers(1 + number)), (1,)) for number in range(rank)]
        if new:
            lengths = self.op(ExpandOp.to(self.numbers(1), shape_of(s.shapes)[:1]))
            mine.insert(axis, self.numbers(1))
        else:
            assert sizes is not None
            lengths = self.column(sizes, axis)
        total = self.total(lengths)
        behind = self._product(mine[axis + 1 :])
        data = s.data
        if axis:
            data = self.gather(data, self._in_parts(data, lengths, total, self._product(mine[:axis]), behind))
        mine[axis] = self.reshape(total, (1,))
        return self.op(UnpackOp(data, self.numbers(0), self.concat(*mine), known=known, new_dims=new_dims))

    def _product(self, factors: Sequence[Value]) -> Value:
        found = self.number(1)
        for factor in factors:
            found = self.mul(found, self.reshape(factor, ()))
        return found

    def _in_parts(self, whole: Value, lengths: Value, total: Value, before: Value, behind: Value) -> Value:
        """For each place of a tensor [before, total, behind] as a list, the place in the list of its parts along the
        middle axis, one after the other."""
        begin, length = self.owners(lengths, total)
        rest, last = self.divided(self.upto(self.size(whole)), behind)
        first, middle = self.divided(rest, total)
        begin, length = self.gather(begin, middle), self.gather(length, middle)
        inner = self.add(self.mul(first, length), self.sub(middle, begin))
        ahead = self.mul(begin, before)
        return self.add(self.mul(self.add(ahead, inner), behind), last)

    def split(self, x: Value, sizes: Value | None, axis: int, keeps: bool) -> Packed:
        """The parts of a tensor along an axis."""
        shape = shape_of(x)
        total = self.reshape(self.op(ShapeOp(x, start=axis, end=axis + 1)), ())
        lengths = self._lengths(sizes, total, shape[axis])
        data = self.flat(x)
        if axis:
            before, behind = (self._product([self.op(ShapeOp(x, start=n, end=n + 1)) for n in group])
                              for group in (range(axis), range(axis + 1, len(shape))))  # fmt: skip
            places = self._in_parts(data, lengths, total, before, behind)
            data = self.op(ScatterElementsOp(data, places, data, axis=0))
        count = shape_of(lengths)[0]
        row = self.row(x, None if keeps else axis)
        parts = [self.op(ExpandOp.to(row, (count, WIDTH)))]
        if keeps:
            parts = [self.columns(parts[0], 0, 1 + axis), self.reshape(lengths, (count, 1)),
                     self.columns(parts[0], 2 + axis, WIDTH)]  # fmt: skip
        return Packed(data, self.concat(*parts, axis=1))

    def _lengths(self, sizes: Value | None, total: Value, length: Dim) -> Value:
        """How long each part is. Ends the run where the parts are not the whole."""
        if sizes is None:
            return self.op(ExpandOp.to(self.numbers(1), (length,)))
        if tensor_type(sizes).element is not SI64:
            sizes = self.op(CastOp(sizes, to=SI64))
        if tensor_type(sizes).rank:
            least = self.total(self.concat(sizes, self.numbers(0)), 0, "min")
            sizes = self.add(sizes, self.zero_if(self.test(least, "ge", 0), NO_PARTS))
            return self.add(sizes, self.zero_if(self.test(self.total(sizes), "eq", total), NOT_WHOLE))
        step = self.require(sizes, self.test(sizes, "ge", 1), NO_PARTS)
        starts = self.upto(total, step)
        return self.binary("Min", self.sub(self.reshape(total, (1,)), starts), step)
