"""Selections: the largest elements by counting, and positions that are known without looking at the data."""

from __future__ import annotations

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.selection import NonMaxSuppressionOp, NonZeroOp, TopKOp, UniqueOp
from stepwell.dialects.graph.shape import known_scalar, product
from stepwell.ir.affine_expr import dim
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.types import I64, FloatType
from stepwell.lowering.to_tensor.places import Places, dims, moved, reads_unsigned, reduced, result_type
from stepwell.lowering.to_tensor.rules import lowers


@lowers(TopKOp)
def top_k(op: TopKOp, c: Conversion) -> list[Value]:
    """graph.top_k %x  ->  rank[i] = number of elements that come before x[i]; place[r] = sum over i of (rank[i] == r ?
    i : 0); out[r] = x[place[r]]

    Equal elements are ranked by their positions, so that each rank is met once. Compares every pair of a row:
    rows of n elements take n * n steps."""
    result, axis = result_type(op), op.axis
    x, size, rank = c.new(op.x), shape_of(op.x)[axis], result.rank
    unsigned = reads_unsigned(op.x)
    others = [*dims(axis), dim(rank), *dims(rank - axis - 1, axis + 1)]

    def before(p: Places, mine: Value, other: Value) -> Value:
        """1 where the other element comes before this one."""
        mine, other = p.widened(mine), p.widened(other)
        better = p.compare("gt" if op.largest else "lt", other, mine, unsigned)
        same = p.compare("eq", other, mine, unsigned)
        if isinstance(mine.type, FloatType):  # NaN is larger than every number
            nan, other_nan = p.compare("ne", mine, mine), p.compare("ne", other, other)
            high, low = (other_nan, nan) if op.largest else (nan, other_nan)
            number = p.compare("eq", low, p.constant(0, low.type))
            better = p.either(better, p.both(high, number))
            same = p.either(same, p.both(nan, other_nan))
        earlier = p.compare("lt", p.at(rank), p.at(axis))
        return p.one_or_zero(p.either(better, p.both(same, earlier)), I64)

    zero = attribute_of(0, I64)
    ranks = reduced(
        c, result.with_shape(shape_of(op.x)).with_element(I64), [size], before, lambda p, a, b: p.add(a, b), zero,
        inputs=[x, x], maps=[dims(rank), others],
    )  # fmt: skip

    def place_of(p: Places, ranked: Value) -> Value:
        here = p.compare("eq", p.index_of(ranked, False), p.at(axis))
        return p.select(here, p.integer_of(p.at(rank), I64), p.constant(0, I64))

    places = reduced(
        c, result.with_element(I64), [size], place_of, lambda p, a, b: p.add(a, b), zero, inputs=[ranks], maps=[others]
    )

    def taken(p: Places, place: Value, source: Value) -> Value:
        at = [p.at(other) for other in range(rank)]
        at[axis] = p.index_of(place, False)
        return p.read(source, at)

    return [moved(c, result, taken, inputs=[places], maps=[dims(rank)], sources=[x]), places]


@lowers(NonZeroOp)
def non_zero(op: NonZeroOp, c: Conversion) -> Value:
    """graph.non_zero of a broadcast number that is not 0  ->  out[r, i] = i floordiv (sizes behind r) mod size of r"""
    result, shape = result_type(op), shape_of(op.x)
    scalar = known_scalar(op.x)
    if scalar is None:
        raise NoMatch("the positions depend on data")

    def body(p: Places) -> Value:
        found = p.whole(0)
        for axis, size in enumerate(shape):
            rest = p.maximum(p.size(product(shape[axis + 1 :])), p.whole(1))
            position = p.mod(p.floordiv(p.at(1), rest), p.maximum(p.size(size), p.whole(1)))
            found = p.select(p.compare("eq", p.at(0), p.whole(axis)), position, found)
        return p.integer_of(found, I64)

    return moved(c, result, body)


@lowers(UniqueOp, NonMaxSuppressionOp)
def sized_by_data(op: UniqueOp | NonMaxSuppressionOp, c: Conversion) -> Value:
    """Results whose sizes only the data tell need a program that is cut where the size is known."""
    raise NoMatch("the sizes of the results depend on data")
