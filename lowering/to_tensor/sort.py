"""Stable sorting of rows: runs of one element are merged into runs of two, four, .. until a row is one run.

Each element of a merged run finds by bisection how many elements of the first run come before it (the merge path of
Odeh, Green, Mwassi, Shmueli and Birk, "Merge Path - Parallel Merging Made Simple", 2012), so that a round is a map over
independent elements, and rows of n elements take n * log(n)^2 steps."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from stepwell.dialects.tensor import WhileOp, YieldOp, tensor_type
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import I1, I64, TensorType
from stepwell.lowering.to_tensor.compact import SCALAR, bisected
from stepwell.lowering.to_tensor.control import constant
from stepwell.lowering.to_tensor.places import Places, dims, moved

Before = Callable[[Places, Value, Value], Value]
"""Whether one key comes before another, and not where they are equal."""


def sorted_rows(c: Conversion, keys: Value, before: Before) -> tuple[Value, Value]:
    """(the keys [rows, n] of each row in order, their positions before [rows, n] i64); equal keys stay in order."""
    type_ = tensor_type(keys)
    size = type_.shape[1]
    places = moved(c, type_.with_element(I64), lambda p: p.integer_of(p.at(1), I64))
    run = constant(c, np.array(1, np.int64))
    starts = [_below(c, run, size), run, keys, places]
    block = Block([value.type for value in starts])
    outside, c.builder = c.builder, Builder.at_end(block, c.builder.loc)
    _, run, rows, numbers = block.arguments
    taken = _merged(c, rows, run, before)
    doubled = moved(c, SCALAR, lambda p, x: p.add(x, x), inputs=[run], maps=[[]])
    following = [along_rows(c, rows, taken), along_rows(c, numbers, taken)]
    c.insert(YieldOp([_below(c, doubled, size), doubled, *following]))
    c.builder = outside
    made = c.insert(WhileOp(starts, regions=[Region([block])], result_types=[value.type for value in starts]))
    return made.outputs[2], made.outputs[3]


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

    return moved(c, tensor_type(x), body, inputs=[places], maps=[dims(2)], sources=[x])


def _merged(c: Conversion, keys: Value, run: Value, before: Before) -> Value:
    """The place of the element that comes i-th when neighbouring runs are merged."""
    type_ = tensor_type(keys).with_element(I64)
    ends = RunEnds(tensor_type(keys).shape[1])

    def first_wins(p: Places, source: Value, first: Value, second: Value) -> Value:
        """Whether an element of the first run goes before one of the second: it does where they are equal."""
        a, b = (p.read(source, [p.at(0), place]) for place in (first, second))
        return p.compare("eq", before(p, b, a), p.constant(0, I1))

    def least(p: Places, length: Value) -> Value:
        _, middle, end, order = ends.of(p, length)
        return p.integer_of(p.maximum(p.sub(order, p.sub(end, middle)), p.whole(0)), I64)

    def step(p: Places, length: Value, found: Value, bit: Value, source: Value) -> Value:
        begin, middle, _, order = ends.of(p, length)
        candidate = p.add(p.index_of(found, False), p.index_of(bit, False))
        most = p.minimum(order, p.sub(middle, begin))
        last = p.sub(p.add(begin, candidate), p.whole(1))
        wins = first_wins(p, source, last, p.add(middle, p.sub(order, candidate)))
        moves = p.both(p.compare("le", candidate, most), wins)
        return p.integer_of(p.select(moves, candidate, p.index_of(found, False)), I64)

    def place(p: Places, length: Value, found: Value, source: Value) -> Value:
        begin, middle, end, order = ends.of(p, length)
        number = p.index_of(found, False)
        first, second = p.add(begin, number), p.add(middle, p.sub(order, number))
        left, right = p.compare("lt", first, middle), p.compare("ge", second, end)
        takes_first = p.both(left, p.either(right, first_wins(p, source, first, second)))
        return p.integer_of(p.select(takes_first, first, second), I64)

    found = bisected(
        c, moved(c, type_, least, inputs=[run], maps=[[]]), run, lambda found, bit: moved(
            c, type_, step, inputs=[run, found, bit], maps=[[], dims(2), []], sources=[keys]
        )
    )  # fmt: skip
    return moved(c, type_, place, inputs=[run, found], maps=[[], dims(2)], sources=[keys])


@attrs.frozen
class RunEnds:
    """The two runs that the element at (row, i) of a merged row comes from."""

    size: Dim

    def of(self, p: Places, run: Value) -> tuple[Value, Value, Value, Value]:
        """(begin of the first, begin of the second, its end, how many elements of the two come before i)"""
        length, total = p.index_of(run, False), p.size(self.size)
        both = p.maximum(p.add(length, length), p.whole(1))
        begin = p.mul(p.floordiv(p.at(1), both), both)
        middle = p.minimum(p.add(begin, length), total)
        return begin, middle, p.minimum(p.add(middle, length), total), p.sub(p.at(1), begin)
