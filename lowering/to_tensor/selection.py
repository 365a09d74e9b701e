"""Selections: the largest elements, and the places of elements that are not zero."""

from __future__ import annotations

from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.selection import NonZeroOp, TopKOp
from stepwell.dialects.graph.shape import known_scalar, product
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import bounds
from stepwell.ir.types import I1, I64, FloatType, TensorType
from stepwell.lowering.to_tensor.best import Order, best_places, is_selected
from stepwell.lowering.to_tensor.born import as_size, bear
from stepwell.lowering.to_tensor.compact import places_of_marks, running_sums, total_of
from stepwell.lowering.to_tensor.places import Places, dims, moved, reads_unsigned, reshaped, result_type
from stepwell.lowering.to_tensor.rules import lowers
from stepwell.lowering.to_tensor.sort import sorted_rows


@lowers(TopKOp)
def top_k(op: TopKOp, c: Conversion) -> list[Value]:
    """graph.top_k %x  ->  the places of the best elements, selected or sorted; the elements there"""
    if op.new_dims:
        bear(op, c, {op.new_dims[0]: (as_size(c, op.k), shape_of(op.x)[op.axis])})
    result, axis, shape = result_type(op), op.axis, shape_of(op.x)
    order = Order(op.largest, reads_unsigned(op.x), result.element)
    outer, inner = product(shape[:axis]), [product(shape[axis + 1 :])] if axis + 1 < len(shape) else []
    lines = reshaped(c, c.new(op.x), [outer, shape[axis], *inner])
    if not is_selected(tensor_type(lines), result.shape[axis]):
        return _sorted(op, c)
    most = bounds(result.shape[axis])[1]
    assert most is not None
    found = best_places(c, lines, most, order)
    flat = TensorType((outer, result.shape[axis], *inner), result.element)

    def taken(p: Places, place: Value, source: Value) -> Value:
        return p.read(source, [p.at(0), p.index_of(place, False), *map(p.at, range(2, flat.rank))])

    def widened(p: Places, place: Value) -> Value:
        return p.resized(place, I64, False)

    values = moved(c, flat, taken, inputs=[found], maps=[dims(flat.rank)], sources=[lines])
    places = moved(c, flat.with_element(I64), widened, inputs=[found], maps=[dims(flat.rank)])
    return [reshaped(c, made, result.shape) for made in (values, places)]


def _sorted(op: TopKOp, c: Conversion) -> list[Value]:
    """The axis is last while rows are sorted."""
    result, x, axis = result_type(op), c.new(op.x), op.axis
    shape, order = shape_of(op.x), Order(op.largest, reads_unsigned(op.x), result.element)
    rest = [*shape[:axis], *shape[axis + 1 :]]
    turned = [*dims(axis), dim(result.rank - 1), *dims(result.rank - axis - 1, axis)]
    keys = moved(c, TensorType((*rest, shape[axis]), order.key_type), order.key, inputs=[x], maps=[turned])
    _, found = sorted_rows(c, reshaped(c, keys, [product(rest), shape[axis]]), larger)
    places = moved(
        c, result.with_element(I64), inputs=[reshaped(c, found, [*rest, shape[axis]])],
        maps=[[*dims(axis), *dims(result.rank - axis - 1, axis + 1), dim(axis)]],
    )  # fmt: skip

    def taken(p: Places, place: Value, source: Value) -> Value:
        at = [p.at(other) for other in range(result.rank)]
        at[axis] = p.index_of(place, False)
        return p.read(source, at)

    return [moved(c, result, taken, inputs=[places], maps=[dims(result.rank)], sources=[x]), places]


def larger(p: Places, a: Value, b: Value) -> Value:
    """Keys in falling order."""
    return p.compare("gt", a, b)


def comes_before(p: Places, a: Value, b: Value, largest: bool, unsigned: bool) -> Value:
    """Whether one element is better than another; NaN is larger than every number."""
    a, b = p.widened(a), p.widened(b)
    if a.type is I1:
        a, b = (p.one_or_zero(x, I64) for x in (a, b))
    better = p.compare("gt" if largest else "lt", a, b, unsigned)
    if isinstance(a.type, FloatType):
        high, low = (a, b) if largest else (b, a)
        better = p.either(better, p.both(p.is_nan(high), p.compare("eq", low, low)))
    return better


@lowers(NonZeroOp)
def non_zero(op: NonZeroOp, c: Conversion) -> Value:
    """graph.non_zero %x  ->  %sums = running sums of (x != 0); tensor.born; out[r, i] = the coordinate along r of the
    i-th one, its position floordiv (sizes behind r) mod size of r

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
