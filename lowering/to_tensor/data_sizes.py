"""Ops whose result sizes are numbers in a tensor: the numbers are read and bound, and the places computed from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from stepwell.dialects import math
from stepwell.dialects.graph.base import content, shape_of
from stepwell.dialects.graph.generate import RangeOp
from stepwell.dialects.graph.indexing import OneHotOp
from stepwell.dialects.graph.movement import PadOp, SliceOp, SplitOp, TileOp, not_a_part, not_the_whole
from stepwell.dialects.graph.shape import ExpandOp, ReshapeOp, product
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import const
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, free_symbols
from stepwell.ir.types import F64, I1, I64, FloatType, IntegerType, is_unsigned
from stepwell.lowering.to_tensor.born import COUNT, Sizes, as_size, entry, sizes_by_data
from stepwell.lowering.to_tensor.movement import border_source
from stepwell.lowering.to_tensor.places import BORN, Places, moved, origin_place, reads_unsigned, result_type
from stepwell.lowering.to_tensor.rules import lowers

NO_SIZE = -1
"""What a size is that cannot be: it is reported where the size is bound."""


def numbers(c: Conversion, value: Value, count: int, body: Callable[..., Value]) -> Value:
    """body(p, the `count` integers in a graph value, as indices)  ->  tensor<i64>"""
    element = tensor_type(value).element
    assert isinstance(element, IntegerType)
    unsigned = is_unsigned(element)

    def read(p: Places, *entries: Value) -> Value:
        return p.integer_of(body(p, [p.index_of(number, unsigned) for number in entries]), I64)

    inputs = [c.new(value)] * count
    return moved(c, COUNT, read, inputs=inputs, maps=[[const(position)] for position in range(count)])


@sizes_by_data(RangeOp)
def range_sizes(op: RangeOp, c: Conversion) -> Sizes:
    """max(ceil((limit - start) / delta), 0); none where delta is 0, or the quotient not finite."""
    operands = [c.new(value) for value in (op.start, op.limit, op.delta)]
    unsigned = reads_unsigned(op.start)

    def body(p: Places, start: Value, limit: Value, delta: Value) -> Value:
        wrong = p.whole(NO_SIZE)
        if isinstance(start.type, FloatType):
            if not op.narrow:
                start, limit, delta = (p.widened(x) for x in (start, limit, delta))
            quotient = p.divf(p.sub(limit, start), delta)
            finite = p.compare("eq", p.sub(quotient, quotient), p.constant(0.0, quotient.type))
            steps = p.maximum(p.whole_of(p.unary(math.CeilOp, p.widened(quotient))), p.whole(0))
            return p.integer_of(p.select(finite, steps, wrong), I64)
        start, limit, delta = (p.index_of(x, unsigned) for x in (start, limit, delta))
        falls = p.compare("lt", delta, p.whole(0))
        distance = p.select(falls, p.sub(start, limit), p.sub(limit, start))
        step = p.select(falls, p.sub(p.whole(0), delta), delta)
        none = p.compare("eq", step, p.whole(0))
        steps = p.maximum(p.ceildiv(distance, p.select(none, p.whole(1), step)), p.whole(0))
        return p.integer_of(p.select(none, wrong, steps), I64)

    size = moved(c, COUNT, body, inputs=operands, maps=[origin_place(value) for value in operands])
    return {op.new_dims[0]: (size, None)}


@sizes_by_data(OneHotOp)
def one_hot_sizes(op: OneHotOp, c: Conversion) -> Sizes:
    """The depth."""
    return {op.new_dims[0]: (as_size(c, op.depth), None)}


@sizes_by_data(ExpandOp)
def expand_sizes(op: ExpandOp, c: Conversion) -> Sizes:
    """The target's numbers at the axes that bring a symbol."""
    assert op.shape is not None
    axes = _axes_of(op)
    target = int(str(shape_of(op.shape)[0]))
    front = tensor_type(op.result).rank - target
    return {name: (entry(c, op.shape, axis - front), None) for name, axis in axes.items()}


def _axes_of(op: ExpandOp | SliceOp) -> dict[str, int]:
    """The axis of the result whose size has each symbol that the op brings."""
    found = {}
    for axis, size in enumerate(tensor_type(op.result).shape):
        for name in free_symbols(size) & set(op.new_dims):
            found[name] = axis
    return found


@sizes_by_data(ReshapeOp)
def reshape_sizes(op: ReshapeOp, c: Conversion) -> Sizes:
    """The target's numbers, with 0 and -1 resolved; none where the numbers of elements differ."""
    assert op.shape is not None
    shape, rank = shape_of(op.x), tensor_type(op.result).rank

    def size(axis: int) -> Callable[..., Value]:
        def body(p: Places, target: Sequence[Value]) -> Value:
            one, total = p.whole(1), p.size(product(shape))
            copied = list(target)
            if not op.allow_zero:
                for place, dim in enumerate(shape[:rank]):
                    zero = p.compare("eq", target[place], p.whole(0))
                    copied[place] = p.select(zero, p.size(dim), target[place])
            known, free, wide = one, p.whole(0), p.constant(1.0, F64)
            for number in copied:
                is_free = p.compare("eq", number, p.whole(-1))
                counted = p.select(is_free, one, number)
                known, wide = p.mul(known, counted), p.mul(wide, p.float_of(counted))
                free = p.add(free, p.select(is_free, one, p.whole(0)))
            left = p.floordiv(total, p.maximum(known, one))
            whole = p.mul(known, p.select(p.compare("eq", free, p.whole(0)), one, left))
            exact = p.compare("eq", wide, p.float_of(known))  # or the product does not fit an index
            fits = p.all_of([p.compare("eq", whole, total), p.compare("le", free, one), exact])
            number = p.select(p.compare("eq", copied[axis], p.whole(-1)), left, copied[axis])
            return p.select(fits, number, p.whole(NO_SIZE))

        return body

    return {name: (numbers(c, op.shape, rank, size(axis)), None) for axis, name in enumerate(op.new_dims)}


@sizes_by_data(SplitOp)
def split_sizes(op: SplitOp, c: Conversion) -> Sizes:
    """The sizes; they add up to that of the axis."""
    assert op.sizes is not None
    whole, parts = shape_of(op.x)[op.axis], len(op.parts)

    def size(number: int) -> Callable[..., Value]:
        def body(p: Places, sizes: Sequence[Value]) -> Value:
            limit, total = p.size(whole), p.whole(0)
            for one in sizes:
                p.require(p.compare("le", one, limit, unsigned=True), one, not_a_part(op.axis))
                total = p.add(total, one)
            p.require(p.compare("eq", total, limit), total, not_the_whole(op.axis))
            return sizes[number]

        return body

    return {name: (numbers(c, op.sizes, parts, size(number)), whole) for number, name in enumerate(op.new_dims)}


@sizes_by_data(TileOp)
def tile_sizes(op: TileOp, c: Conversion) -> Sizes:
    """size * repeats"""
    shape = shape_of(op.x)
    return {
        name: (_computed(c, op.repeats, axis, lambda p, n, size=size: p.mul(n, p.size(size))), None)
        for axis, (name, size) in enumerate(zip(op.new_dims, shape, strict=True))
    }


def _computed(c: Conversion, value: Value, position: int, body: Callable[..., Value]) -> Value:
    return numbers(c, value, position + 1, lambda p, found: body(p, found[position]))


@lowers(TileOp)
def tile_by_data(op: TileOp, c: Conversion) -> Value:
    """graph.tile %x  ->  out[i, j] = x[i mod size 0, j mod size 1]"""
    _needs_bound(op)
    shape = shape_of(op.x)

    def body(p: Places, source: Value) -> Value:
        ones = p.whole(1)
        return p.read(source, [p.mod(p.at(axis), p.maximum(p.size(size), ones)) for axis, size in enumerate(shape)])

    return moved(c, result_type(op), body, sources=[c.new(op.x)])


def _needs_bound(op: TileOp | PadOp | SliceOp) -> None:
    if BORN not in op.attributes:
        raise NoMatch("")


@sizes_by_data(PadOp)
def pad_sizes(op: PadOp, c: Conversion) -> Sizes:
    """before + size + after; no size where there is nothing that a border could be made of"""
    shape = shape_of(op.x)
    rank = len(shape)

    def size(axis: int) -> Callable[..., Value]:
        def body(p: Places, pads: Sequence[Value]) -> Value:
            side = _Side.of(p, shape[axis], pads[axis], pads[rank + axis])
            if op.mode == "constant":
                return side.total
            zero = p.whole(0)
            none = p.both(p.compare("le", side.window, zero), p.compare("gt", side.total, zero))
            return p.select(none, p.whole(NO_SIZE), side.total)

        return body

    return {name: (numbers(c, op.pads, 2 * rank, size(axis)), None) for axis, name in enumerate(op.new_dims)}


@attrs.frozen(eq=False)
class _Side:
    """An axis with borders: the first of its own elements that stay, how many do, how many elements are put before
    them, and how many there are in the end."""

    low: Value
    window: Value
    front: Value
    total: Value

    @staticmethod
    def of(p: Places, dim: Dim, before: Value, after: Value) -> _Side:
        """A negative border takes elements away."""
        size, zero = p.size(dim), p.whole(0)
        low = p.maximum(p.sub(zero, before), zero)
        window = p.add(p.sub(size, low), p.minimum(after, zero))
        return _Side(low, window, p.maximum(before, zero), p.add(p.add(before, size), after))


@lowers(PadOp)
def pad_by_data(op: PadOp, c: Conversion) -> Value:
    """graph.pad %x, %pads  ->  out[i] = x[i - pads[axis]], or the value where that is outside what stays of x"""
    _needs_bound(op)
    result, rank = result_type(op), len(shape_of(op.x))
    unsigned = reads_unsigned(op.pads)
    inputs = [c.new(op.pads)] * (2 * rank)
    maps = [[const(position)] for position in range(2 * rank)]
    if op.value is not None:
        inputs.append(c.new(op.value))
        maps.append(origin_place(inputs[-1]))

    def body(p: Places, *args: Value) -> Value:
        *given, source = args
        pads = [p.index_of(number, unsigned) for number in given[: 2 * rank]]
        sides = [_Side.of(p, dim, pads[axis], pads[rank + axis]) for axis, dim in enumerate(shape_of(op.x))]
        if op.mode != "constant":
            return p.read(source, [
                border_source(p, op.mode, p.at(axis), side.low, side.window, side.front)
                for axis, side in enumerate(sides)
            ])  # fmt: skip
        otherwise = given[2 * rank] if op.value is not None else p.constant(0, result.element)
        places, inside = [], p.constant(1, I1)
        for axis, side in enumerate(sides):
            place = p.sub(p.at(axis), side.front)
            inside = p.both(inside, p.compare("lt", place, side.window, unsigned=True))
            places.append(p.add(place, side.low))
        return p.select(inside, p.read(source, places, otherwise), otherwise)

    return moved(c, result, body, inputs=inputs, maps=maps, sources=[c.new(op.x)])


@sizes_by_data(SliceOp)
def slice_sizes(op: SliceOp, c: Conversion) -> Sizes:
    """The number of elements along each axis whose bounds depend on data."""
    numbers_of = {axis: number for number, axis in enumerate(op.axes)}
    found = {}
    for name, axis in _axes_of(op).items():
        given = _Triple(op, c, numbers_of[axis])

        def body(p: Places, *args: Value, axis: int = axis, given: _Triple = given) -> Value:
            return p.integer_of(_slice_range(p, shape_of(op.x)[axis], given.values(p, args))[1], I64)

        found[name] = moved(c, COUNT, body, inputs=given.inputs, maps=given.maps), shape_of(op.x)[axis]
    return found


class _Triple:
    """Start, end and step of a slice along one axis: known, or read from data."""

    def __init__(self, op: SliceOp, c: Conversion, number: int) -> None:
        self.parts: list[Dim | bool] = []  # a known number, or whether data are read without a sign
        self.inputs: list[Value] = []
        self.maps = []
        for value in (op.starts, op.ends, op.steps):
            known = (1,) * len(op.axes) if value is None else content(value)
            if known is not None:
                self.parts.append(known[number])
                continue
            assert value is not None
            self.parts.append(reads_unsigned(value))
            self.inputs.append(c.new(value))
            self.maps.append([const(number)])

    def values(self, p: Places, args: Sequence[Value]) -> list[Value]:
        """The three numbers as indices."""
        rest = iter(args)
        return [p.index_of(next(rest), part) if isinstance(part, bool) else p.size(part) for part in self.parts]


def _slice_range(p: Places, dim: Dim, numbers_: Sequence[Value]) -> tuple[Value, Value]:
    """(first position, number of elements) of a slice: ends are clamped after they were counted from the front; no
    number where the step is 0."""
    start, end, step = numbers_
    size, zero, one = p.size(dim), p.whole(0), p.whole(1)
    start, end = p.wrapped(start, size), p.wrapped(end, size)
    rises = p.compare("gt", step, zero)
    last = p.sub(size, one)
    first = p.select(rises, p.between(start, zero, size), p.between(start, zero, last))
    stop = p.select(rises, p.between(end, zero, size), p.between(end, p.whole(-1), last))
    length = p.select(rises, p.sub(stop, first), p.sub(first, stop))
    pace = p.maximum(p.select(rises, step, p.sub(zero, step)), one)
    count = p.maximum(p.ceildiv(length, pace), zero)
    return first, p.select(p.compare("eq", step, zero), p.whole(NO_SIZE), count)


@lowers(SliceOp)
def slice_by_data(op: SliceOp, c: Conversion) -> Value:
    """graph.slice %x, %s, %e  ->  out[i] = x[first + i * step], computed from the numbers"""
    _needs_bound(op)
    result, x = result_type(op), c.new(op.x)
    triples = [_Triple(op, c, number) for number in range(len(op.axes))]
    inputs = [value for triple in triples for value in triple.inputs]
    maps = [place for triple in triples for place in triple.maps]

    def body(p: Places, *args: Value) -> Value:
        *given, source = args
        places = [p.at(axis) for axis in range(result.rank)]
        for axis, triple in zip(op.axes, triples, strict=True):
            own, given = given[: len(triple.inputs)], given[len(triple.inputs) :]
            parts = triple.values(p, own)
            first, _ = _slice_range(p, shape_of(op.x)[axis], parts)
            places[axis] = p.add(first, p.mul(places[axis], parts[2]))
        return p.read(source, places)

    return moved(c, result, body, inputs=inputs, maps=maps, sources=[x])
