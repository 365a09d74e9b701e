"""Selections: the largest elements by counting, and the places of elements that are not zero."""

from __future__ import annotations

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.selection import NonMaxSuppressionOp, NonZeroOp, TopKOp, UniqueOp
from stepwell.dialects.graph.shape import known_scalar, product
from stepwell.ir.affine_expr import dim
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.types import I1, I64, FloatType, TensorType
from stepwell.lowering.to_tensor.born import bear
from stepwell.lowering.to_tensor.compact import places_of_marks, running_sums, total_of
from stepwell.lowering.to_tensor.places import Places, dims, moved, reads_unsigned, reduced, reshaped, result_type
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
    """graph.non_zero %x  ->  %sums = running sums of (x != 0); tensor.born; out[r, i] = the position of the i-th one as a
    coordinate, p[i] floordiv (sizes behind r) mod size of r

    All elements of a broadcast number that is not 0 are found without a look at them."""
    shape, x = shape_of(op.x), c.new(op.x)
    scalar = known_scalar(op.x)
    positions: Value | None = None
    if scalar is None:
        flat = reshaped(c, x, [product(shape)])
        sums = running_sums(c, moved(c, TensorType((product(shape),), I64), _is_marked, inputs=[flat], maps=[dims(1)]))
        if op.new_dims:
            bear(op, c, {op.new_dims[0]: (total_of(c, sums), product(shape))})
        positions = places_of_marks(c, sums, shape_of(op.result)[1])
    result = result_type(op)

    def body(p: Places, *found: Value) -> Value:
        position = p.index_of(found[0], False) if found else p.at(1)
        coordinate = p.whole(0)
        for axis, size in enumerate(shape):
            rest = p.maximum(p.size(product(shape[axis + 1 :])), p.whole(1))
            along = p.mod(p.floordiv(position, rest), p.maximum(p.size(size), p.whole(1)))
            coordinate = p.select(p.compare("eq", p.at(0), p.whole(axis)), along, coordinate)
        return p.integer_of(coordinate, I64)

    inputs = [] if positions is None else [positions]
    return moved(c, result, body, inputs=inputs, maps=[[dim(1)]] * len(inputs))


def _is_marked(p: Places, x: Value) -> Value:
    """1 for what is not zero, NaN included."""
    x = p.widened(x)
    return p.one_or_zero(x if x.type is I1 else p.compare("ne", x, p.constant(0, x.type)), I64)


@lowers(UniqueOp, NonMaxSuppressionOp)
def sized_by_data(op: UniqueOp | NonMaxSuppressionOp, c: Conversion) -> Value:
    """Results whose sizes only the data tell need a program that is cut where the size is known."""
    raise NoMatch("the sizes of the results depend on data")
