"""Stable sorting of rows: short runs are sorted by counting, and merged by twos until a row is one run.

Counting ranks each element of a run against every other one. Each element of a merged run finds by bisection how many
elements of the first run come before it (the merge path of Odeh, Green, Mwassi, Shmueli and Birk, "Merge Path -
Parallel Merging Made Simple", 2012), so that a round is a map over independent elements, and rows of n elements take
n * log(n)^2 steps."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.tensor import WhileOp, YieldOp, tensor_type
from stepwell.ir.affine_expr import dim
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.dims import Dim, bounds, ceildiv
from stepwell.ir.types import I1, I32, I64, IntegerType, TensorType
from stepwell.lowering.to_tensor.compact import SCALAR, bisected
from stepwell.lowering.to_tensor.control import constant
from stepwell.lowering.to_tensor.places import Places, dims, moved, reduced, reshaped

LONGEST_RUN = 256  # elements that are sorted by counting
OPEN_RUN = 64  # where rows are as long as run time tells

Before = Callable[[Places, Value, Value], Value]
"""Whether one key comes before another, and not where they are equal."""


def sorted_rows(c: Conversion, keys: Value, before: Before) -> tuple[Value, Value]:
    """(the keys [rows, n] of each row in order, their positions before [rows, n] i64); equal keys stay in order."""
    type_ = tensor_type(keys)
    size = type_.shape[1]
    length = run_length(size)
    places = _sorted_runs(c, keys, length, before)
    run = constant(c, np.array(length, np.int64))
    starts = [_below(c, run, size), run, along_rows(c, keys, places), places]
    block = Block([value.type for value in starts])
    outside, c.builder = c.builder, Builder.at_end(block, c.builder.loc)
    _, run, rows, numbers = block.arguments
    taken = _merged(c, rows, run, before)
    doubled = moved(c, SCALAR, lambda p, x: p.add(x, x), inputs=[run], maps=[[]])
    following = [along_rows(c, rows, taken), along_rows(c, numbers, taken)]
    c.insert(YieldOp([_below(c, doubled, size), doubled, *following]))
    c.builder = outside
    made = c.insert(WhileOp(starts, regions=[Region([block])], result_types=[value.type for value in starts]))
    wide = type_.with_element(I64)
    found = moved(c, wide, lambda p, x: p.resized(x, I64, False), inputs=[made.outputs[3]], maps=[dims(2)])
    return made.outputs[2], found


def run_length(size: Dim) -> int:
    """Of the runs that are sorted by counting; a power of two."""
    if not isinstance(size, int):
        return OPEN_RUN
    return min(LONGEST_RUN, 1 << max(size - 1, 0).bit_length())


def place_type(size: Dim) -> IntegerType:
    """The type of places in a row."""
    most = bounds(size)[1]
    return I32 if most is not None and most < 1 << 31 else I64


def _sorted_runs(c: Conversion, keys: Value, length: int, before: Before) -> Value:
    """out[r, b * length + i] = the place of the i-th element of run b

    rank[r, b, i] = number of elements of the run that come before element i; the place of the one whose rank is i"""
    rows, size = tensor_type(keys).shape
    element = place_type(size)
    runs = TensorType((rows, ceildiv(size, length), length), element)

    def place(p: Places, axis: int) -> Value:
        return p.add(p.mul(p.at(1), p.whole(length)), p.at(axis))

    def comes_before(p: Places, source: Value) -> Value:
        mine, other = (p.read(source, [p.at(0), place(p, axis)]) for axis in (2, 3))
        earlier = p.both(p.compare("lt", p.at(3), p.at(2)), p.compare("eq", before(p, mine, other), p.constant(0, I1)))
        exists = p.compare("lt", place(p, 3), p.size(size))
        return p.one_or_zero(p.both(exists, p.either(before(p, other, mine), earlier)), element)

    def add(p: Places, a: Value, b: Value) -> Value:
        return p.add(a, b)

    zero = attribute_of(0, element)
    ranks = reduced(c, runs, [length], comes_before, add, zero, sources=[keys])

    def is_here(p: Places, rank: Value) -> Value:
        exists = p.compare("lt", place(p, 3), p.size(size))
        here = p.both(exists, p.compare("eq", rank, p.integer_of(p.at(2), element)))
        return p.select(here, p.integer_of(place(p, 3), element), p.constant(0, element))

    found = reduced(c, runs, [length], is_here, add, zero, inputs=[ranks], maps=[[dim(0), dim(1), dim(3)]])
    flat = reshaped(c, found, [rows, runs.shape[1] * length])
    return moved(c, runs.with_shape([rows, size]), inputs=[flat], maps=[dims(2)])


def _below(c: Conversion, run: Value, size: Dim) -> Value:
    """Whether there is more than one run."""
    return moved(
        c, TensorType((), I1), lambda p, x: p.compare("lt", p.index_of(x, False), p.size(size)), inputs=[run],
        maps=[[]],
    )  # fmt: skip


def along_rows(c: Conversion, x: Value, places: Value) -> Value:
    """out[r, i] = x[r, places[r, i]]"""

    def body(p: Places, place: Value, source: Value) -> Value:
        return p.read(source, [p.at(0), p.index_of(place, False)])

    type_ = tensor_type(places).with_element(tensor_type(x).element)
    return moved(c, type_, body, inputs=[places], maps=[dims(2)], sources=[x])


def _merged(c: Conversion, keys: Value, run: Value, before: Before) -> Value:
    """The place of the element that comes i-th when neighbouring runs are merged."""
    element = place_type(tensor_type(keys).shape[1])
    type_ = tensor_type(keys).with_element(element)
    ends = RunEnds(tensor_type(keys).shape[1])

    def first_wins(p: Places, source: Value, first: Value, second: Value) -> Value:
        """Whether an element of the first run goes before one of the second: it does where they are equal."""
        a, b = (p.read(source, [p.at(0), place]) for place in (first, second))
        return p.compare("eq", before(p, b, a), p.constant(0, I1))

    def least(p: Places, length: Value) -> Value:
        _, middle, end, order = ends.of(p, length)
        return p.integer_of(p.maximum(p.sub(order, p.sub(end, middle)), p.whole(0)), element)

    def step(p: Places, length: Value, found: Value, bit: Value, source: Value) -> Value:
        begin, middle, _, order = ends.of(p, length)
        candidate = p.add(p.index_of(found, False), p.index_of(bit, False))
        most = p.minimum(order, p.sub(middle, begin))
        last = p.sub(p.add(begin, candidate), p.whole(1))
        wins = first_wins(p, source, last, p.add(middle, p.sub(order, candidate)))
        moves = p.both(p.compare("le", candidate, most), wins)
        return p.integer_of(p.select(moves, candidate, p.index_of(found, False)), element)

    def place(p: Places, length: Value, found: Value, source: Value) -> Value:
        begin, middle, end, order = ends.of(p, length)
        number = p.index_of(found, False)
        first, second = p.add(begin, number), p.add(middle, p.sub(order, number))
        left, right = p.compare("lt", first, middle), p.compare("ge", second, end)
        takes_first = p.both(left, p.either(right, first_wins(p, source, first, second)))
        return p.integer_of(p.select(takes_first, first, second), element)

    found = bisected(
        c, moved(c, type_, least, inputs=[run], maps=[[]]), run, lambda found, bit: moved(
            c, type_, step, inputs=[run, found, bit], maps=[[], dims(2), []], sources=[keys]
        )
    )  # fmt: skip
    return moved(c, type_, place, inputs=[run, found], maps=[[], dims(2)], sources=[keys])


@attrs.frozen
class RunEnds:
    """The two runs that the element at (row, i) of a merged row comes from; their length is a power of two."""

    size: Dim

    def of(self, p: Places, run: Value) -> tuple[Value, Value, Value, Value]:
        """(begin of the first, begin of the second, its end, how many elements of the two come before i)"""
        length, total = p.index_of(run, False), p.size(self.size)
        both = p.maximum(p.add(length, length), p.whole(1))
        inside = p.both(p.integer_of(p.at(1), I64), p.integer_of(p.sub(both, p.whole(1)), I64))
        begin = p.sub(p.at(1), p.index_of(inside, False))
        middle = p.minimum(p.add(begin, length), total)
        return begin, middle, p.minimum(p.add(middle, length), total), p.sub(p.at(1), begin)
