"""Distinct elements: equal ones stand together when all are sorted, and the first of each group is marked."""

from __future__ import annotations

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.selection import UniqueOp
from stepwell.dialects.graph.shape import product
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import dim
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.types import I64, StringType, TensorType
from stepwell.lowering.to_tensor.best import Order
from stepwell.lowering.to_tensor.born import bear
from stepwell.lowering.to_tensor.compact import BEYOND, places_of_marks, running_sums, total_of
from stepwell.lowering.to_tensor.control import rows_first
from stepwell.lowering.to_tensor.places import Places, dims, moved, reads_unsigned, reduced, reshaped, result_type
from stepwell.lowering.to_tensor.rules import lowers
from stepwell.lowering.to_tensor.selection import comes_before, larger
from stepwell.lowering.to_tensor.sort import Before, sorted_rows


@lowers(UniqueOp)
def unique(op: UniqueOp, c: Conversion) -> list[Value]:
    """graph.unique %x  ->  sort; marks where a group begins; tensor.born; the groups' first elements, places, counts

    Slices along an axis are sorted by their ranks, which compares every pair of them."""
    if op.sorted and isinstance(tensor_type(op.x).element, StringType):
        raise NoMatch("strings are sorted by what @string_rank says of them")
    unsigned = reads_unsigned(op.x)
    keys = _keys(op, c, unsigned) if op.axis is None else _ranks(op, c, unsigned)
    before: Before = larger if op.axis is None else _ascending
    total = tensor_type(keys).shape[0]
    keys, order = _sorted(c, keys, before)

    def begins(p: Places, source: Value) -> Value:
        previous, own = (p.read(source, [place]) for place in (p.sub(p.at(0), p.whole(1)), p.at(0)))
        first = p.compare("eq", p.at(0), p.whole(0))
        return p.one_or_zero(p.either(first, before(p, previous, own)), I64)

    sums = running_sums(c, moved(c, TensorType((total,), I64), begins, sources=[keys]))
    bear(op, c, {op.new_dims[0]: (total_of(c, sums), total)})
    places = result_type(op, 1)
    starts = places_of_marks(c, sums, places.shape[0])
    first = _taken(c, order, starts)

    def length(p: Places, own: Value, source: Value) -> Value:
        end = p.read(source, [p.add(p.at(0), p.whole(1))], p.integer_of(p.size(total), I64))
        return p.sub(end, own)

    counts = moved(c, places, length, inputs=[starts], maps=[dims(1)], sources=[starts])
    group = moved(c, tensor_type(sums), lambda p, n: p.sub(n, p.constant(1, I64)), inputs=[sums], maps=[dims(1)])
    inverse = _taken(c, group, _sorted(c, order, _ascending)[1])
    if not op.sorted:
        first, appearance = _sorted(c, first, _ascending)
        counts = _taken(c, counts, appearance)
        inverse = _taken(c, _sorted(c, appearance, _ascending)[1], inverse)
    return [_values(op, c, first), first, inverse, counts]


def _ascending(p: Places, a: Value, b: Value) -> Value:
    return p.compare("lt", a, b)


def _sorted(c: Conversion, keys: Value, before: Before) -> tuple[Value, Value]:
    """(a list in order, the positions before)"""
    size = tensor_type(keys).shape[0]
    made = sorted_rows(c, reshaped(c, keys, [1, size]), before)
    return reshaped(c, made[0], [size]), reshaped(c, made[1], [size])


def _taken(c: Conversion, x: Value, places: Value) -> Value:
    """out[i] = x[places[i]]"""
    result = TensorType(tensor_type(places).shape, tensor_type(x).element)
    return moved(
        c, result, lambda p, place, source: p.read(source, [p.index_of(place, False)]), inputs=[places],
        maps=[dims(1)], sources=[x],
    )  # fmt: skip


def _elements(op: UniqueOp, c: Conversion) -> Value:
    return reshaped(c, c.new(op.x), [product(shape_of(op.x))])


def _keys(op: UniqueOp, c: Conversion, unsigned: bool) -> Value:
    """Larger ones are of smaller elements."""
    order, elements = Order(False, unsigned, tensor_type(c.new(op.x)).element), _elements(op, c)
    return moved(c, tensor_type(elements).with_element(order.key_type), order.key, inputs=[elements], maps=[dims(1)])


def _ranks(op: UniqueOp, c: Conversion, unsigned: bool) -> Value:
    """rank[i] = number of slices that come before slice i in lexicographic order

    first[i, j] = the smallest 2 * l (+ 1 where slice i comes first) at which elements l of slices i and j differ"""
    assert op.axis is not None
    x, axis, shape = c.new(op.x), op.axis, shape_of(op.x)
    rest = [*shape[:axis], *shape[axis + 1 :]]
    rows = reshaped(c, rows_first(c, x, axis), [shape[axis], product(rest)])

    def differs(p: Places, mine: Value, other: Value) -> Value:
        later, earlier = (comes_before(p, a, b, False, unsigned) for a, b in ((other, mine), (mine, other)))
        place = p.integer_of(p.mul(p.at(2), p.whole(2)), I64)
        found = p.select(earlier, p.add(place, p.constant(1, I64)), p.constant(BEYOND, I64))
        return p.select(later, place, found)

    count = shape[axis]
    first = reduced(
        c, TensorType((count, count), I64), [product(rest)], differs, lambda p, a, b: p.minimum(a, b),
        attribute_of(BEYOND, I64), inputs=[rows, rows], maps=[[dim(0), dim(2)], [dim(1), dim(2)]],
    )  # fmt: skip

    def is_later(p: Places, place: Value) -> Value:
        odd = p.both(place, p.constant(1, I64))
        return p.sub(p.constant(1, I64), odd)

    return reduced(
        c, TensorType((count,), I64), [count], is_later, lambda p, a, b: p.add(a, b), attribute_of(0, I64),
        inputs=[first], maps=[dims(2)],
    )  # fmt: skip


def _values(op: UniqueOp, c: Conversion, first: Value) -> Value:
    if op.axis is None:
        return _taken(c, _elements(op, c), first)
    result, axis = result_type(op, 0), op.axis

    def slice_at(p: Places, place: Value, source: Value) -> Value:
        at = [p.at(other) for other in range(result.rank)]
        at[axis] = p.index_of(place, False)
        return p.read(source, at)

    return moved(c, result, slice_at, inputs=[first], maps=[[dim(axis)]], sources=[c.new(op.x)])
