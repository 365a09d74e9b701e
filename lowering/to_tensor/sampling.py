"""Sampling at computed places: grids, affine grids, and folding of columns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from stepwell.dialects import arith, math
from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import content, shape_of
from stepwell.dialects.graph.sampling import (
    GRID_CUBIC_A,
    NOT_ALL_BLOCKS,
    NOT_BLOCKS,
    AffineGridOp,
    ColToImOp,
    GridSampleOp,
)
from stepwell.dialects.graph.shape import product
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import const, dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, dim_max, symbol
from stepwell.ir.types import F32, F64, I64, FloatType, TensorType, Type, bit_width
from stepwell.lowering.to_tensor.born import COUNT, Sizes, entry, sizes_by_data
from stepwell.lowering.to_tensor.numbers import as_float, from_float
from stepwell.lowering.to_tensor.places import (
    Places,
    dims,
    moved,
    reads_unsigned,
    reduced,
    result_type,
)
from stepwell.lowering.to_tensor.rules import lowers

NOWHERE = -(1 << 48)  # a column that stays negative whatever is added
FAR_OUTSIDE = -100.0  # where NaN and infinite coordinates are taken to lie


def at_least_f32(element: Type) -> FloatType:
    """The float type that numbers of an element type are computed in: f64 for what f32 does not hold."""
    if isinstance(element, FloatType):
        return element if element.width >= 32 else F32
    return F32 if bit_width(element) <= 16 else F64


class GridPlaces:
    """Where a grid's coordinates lie in an image, along one axis."""

    def __init__(self, p: Places, op: GridSampleOp, size: Dim, type_: FloatType) -> None:
        self.p, self.op, self.type = p, op, type_
        self.size = size
        self.count = p.float_of(p.size(size), type_)
        self.last = p.sub(self.count, self.number(1.0))

    def number(self, value: float) -> Value:
        """A constant."""
        return self.p.constant(value, self.type)

    def taps(self, coordinate: Value) -> list[tuple[Value, Value]]:
        """(position as an index, weight) of every element that one axis contributes."""
        p, op = self.p, self.op
        at = self._place(coordinate)
        if op.mode != "cubic":
            at = self._inside(at)
        finite = p.compare("lt", p.magnitude(at), self.number(float("inf")))
        at = p.select(finite, at, self.number(FAR_OUTSIDE))
        return [self._tap(position, weight) for position, weight in self._neighbours(at)]

    def _place(self, coordinate: Value) -> Value:
        p = self.p
        if self.op.align_corners:
            return p.mul(p.mul(p.add(coordinate, self.number(1.0)), self.number(0.5)), self.last)
        moved_ = p.sub(p.mul(p.add(coordinate, self.number(1.0)), self.count), self.number(1.0))
        return p.mul(moved_, self.number(0.5))

    def _neighbours(self, at: Value) -> list[tuple[Value, Value]]:
        p = self.p
        if self.op.mode == "nearest":
            return [(p.unary(math.RoundEvenOp, at), self.number(1.0))]
        base = p.floor(at)
        if self.op.mode == "linear":
            part = p.sub(at, base)
            return [(base, p.sub(self.number(1.0), part)), (p.add(base, self.number(1.0)), part)]
        places = [p.add(base, self.number(float(k))) for k in (-1, 0, 1, 2)]
        return [(place, p.keys(p.magnitude(p.sub(place, at)), GRID_CUBIC_A)) for place in places]

    def _tap(self, position: Value, weight: Value) -> tuple[Value, Value]:
        p = self.p
        moved_ = self._inside(position) if self.op.mode == "cubic" else position
        if self.op.padding == "zeros":
            valid = p.both(p.compare("ge", moved_, self.number(0.0)), p.compare("le", moved_, self.last))
            weight = p.select(valid, weight, self.number(0.0))
        return p.whole_of(self._held(moved_)), weight

    def _held(self, at: Value) -> Value:
        return self.p.minimum(self.p.maximum(at, self.number(0.0)), self.last)

    def _inside(self, at: Value) -> Value:
        if self.op.padding == "border":
            return self._held(at)
        if self.op.padding == "reflection":
            return self._held(self._reflected(at))
        return at

    def _reflected(self, at: Value) -> Value:
        """Mirrored at the borders until it lies between them."""
        p = self.p
        low = self.number(0.0 if self.op.align_corners else -0.5)
        span = self.last if self.op.align_corners else self.count
        twice = p.mul(span, self.number(2.0))
        rest = p.emit(arith.RemFOp(p.sub(at, low), twice))
        folded = p.select(p.compare("lt", rest, self.number(0.0)), p.add(rest, twice), rest)
        mirrored = p.add(low, p.minimum(folded, p.sub(twice, folded)))
        return p.select(p.compare("gt", span, self.number(0.0)), mirrored, self.number(0.0))


@lowers(GridSampleOp)
def grid_sample(op: GridSampleOp, c: Conversion) -> Value:
    """graph.grid_sample %x, %g  ->  out[n, c, o] = sum over the neighbours of g[n, o] of weight * x[n, c, neighbour]"""
    result = result_type(op)
    sizes, rank = shape_of(op.x)[2:], result.rank
    grid, unsigned = c.new(op.grid), reads_unsigned(op.x)
    place_type = at_least_f32(tensor_type(grid).element)
    value_type = at_least_f32(result.element)
    computed = place_type if place_type.width > value_type.width else value_type
    axes = len(sizes)

    def body(p: Places, *args: Value) -> Value:
        *coordinates, source = args
        taps = [
            GridPlaces(p, op, size, place_type).taps(p.narrowed(coordinate, place_type))
            for size, coordinate in zip(sizes, coordinates, strict=True)
        ]
        if op.mode == "nearest":  # no number of the image is computed with
            read = p.read(source, [p.at(0), p.at(1), *(place for ((place, _),) in taps)])
            outside = p.constant(0, result.element)
            for ((_, weight),) in taps:
                read = p.select(p.compare("ne", weight, p.constant(0.0, place_type)), read, outside)
            return read
        total = p.constant(0.0, computed)
        for choice in itertools.product(*taps):
            weight = choice[0][1]
            for _, other in choice[1:]:
                weight = p.mul(weight, other)
            weight = p.narrowed(weight, computed)
            read = p.read(source, [p.at(0), p.at(1), *(place for place, _ in choice)])
            zero = p.constant(0.0, computed)
            product = p.mul(as_float(p, read, computed, unsigned), weight)
            total = p.add(total, p.select(p.compare("ne", weight, zero), product, zero))
        return from_float(p, total, result.element, unsigned, round_=False)

    maps = [[dim(0), *dims(rank - 2, 2), const(axes - 1 - axis)] for axis in range(axes)]
    return moved(c, result, body, inputs=[grid] * axes, maps=maps, sources=[c.new(op.x)])


@sizes_by_data(AffineGridOp)
def affine_grid_sizes(op: AffineGridOp, c: Conversion) -> Sizes:
    """The spatial sizes that are given."""
    return {name: (entry(c, op.size, 2 + axis), None) for axis, name in enumerate(op.new_dims)}


@lowers(AffineGridOp)
def affine_grid(op: AffineGridOp, c: Conversion) -> Value:
    """graph.affine_grid %t  ->  out[n, y, x, j] = t[n, j, 0] * x' + t[n, j, 1] * y' + t[n, j, 2]

    with x' and y' in [-1, 1]."""
    result, theta = result_type(op), c.new(op.theta)
    axes = result.rank - 2
    computed = at_least_f32(result.element)

    def coordinate(p: Places, axis: int) -> Value:
        position, size = p.float_of(p.at(1 + axis)), p.float_of(p.size(result.shape[1 + axis]))
        one, two = p.constant(1.0, F64), p.constant(2.0, F64)
        if op.align_corners:
            step = p.divf(two, p.maximum(p.sub(size, one), one))
            return p.narrowed(p.sub(p.mul(position, step), one), computed)
        middle = p.add(p.mul(two, position), one)
        return p.narrowed(p.sub(p.divf(middle, size), one), computed)

    def body(p: Places, *row: Value) -> Value:
        wide = [p.widened(value) for value in row]
        total = wide[-1]
        for k, value in enumerate(wide[:-1]):
            total = p.add(total, p.mul(value, coordinate(p, axes - 1 - k)))
        return p.narrowed(total, result.element)

    maps = [[dim(0), dim(axes + 1), const(k)] for k in range(axes + 1)]
    return moved(c, result, body, inputs=[theta] * (axes + 1), maps=maps)


@sizes_by_data(ColToImOp)
def col_to_im_sizes(op: ColToImOp, c: Conversion) -> Sizes:
    """Of blocks and images that data tell: the channels, rows / elements of a block; the image's sizes; the block's."""
    axes, (_, rows, columns) = len(op.strides), shape_of(op.x)
    lists = [c.new(value) for value in (op.image_shape, op.block_shape)]
    unsigned = [reads_unsigned(value) for value in (op.image_shape, op.block_shape)]

    def read(number: Callable[[Places, list[Value], list[Value]], Value]) -> Value:
        """number(p, image, block), of blocks that make up all columns"""

        def body(p: Places, *args: Value) -> Value:
            image = [p.index_of(value, unsigned[0]) for value in args[:axes]]
            block = [p.index_of(value, unsigned[1]) for value in args[axes:]]
            one, whole, total = p.whole(1), p.size(rows), p.whole(1)
            for size in block:
                held = p.between(size, one, p.maximum(whole, one))
                p.require(p.compare("eq", held, size), whole, NOT_BLOCKS)
                total = p.minimum(p.mul(total, held), p.add(whole, one))
            p.require(p.compare("eq", p.mod(whole, total), p.whole(0)), whole, NOT_BLOCKS)
            count, exact = one, p.constant(1.0, F64)
            for axis in range(axes):
                some = p.compare("ge", image[axis], p.whole(0))
                held = p.maximum(_block_count(p, op, axis, image[axis], block[axis]), p.whole(0))
                held = p.select(some, held, p.whole(0))
                count, exact = p.mul(count, held), p.mul(exact, p.float_of(held))
            same = p.both(p.compare("eq", count, p.size(columns)), p.compare("eq", exact, p.float_of(count)))
            p.require(same, p.size(columns), NOT_ALL_BLOCKS)
            return p.integer_of(number(p, image, block), I64)

        inputs = [lists[0]] * axes + [lists[1]] * axes
        return moved(c, COUNT, body, inputs=inputs, maps=[[const(axis)] for axis in range(axes)] * 2)

    def one_of(number: int) -> Value:
        """One of the image's sizes, or of the block's behind them."""
        return read(lambda p, image, block: [*image, *block][number])

    born: list[str] = list(op.new_dims)
    found: dict[str, tuple[Value, Dim | None]] = {}
    if content(op.block_shape) is None:
        found[born.pop(0)] = read(lambda p, image, block: _quotient(p, p.size(rows), block)), None
        for axis, name in enumerate(_block_names(op)):
            found[name] = one_of(axes + axis), dim_max(rows, 1)
    for axis, name in enumerate(born):
        found[name] = one_of(axis), None
    return found


def _block_names(op: ColToImOp) -> list[str]:
    return [f"{op.new_dims[0]}.block{axis}" for axis in range(len(op.strides))]


def _quotient(p: Places, number: Value, below: Sequence[Value]) -> Value:
    for size in below:
        number = p.floordiv(number, size)
    return number


def _block_count(p: Places, op: ColToImOp, axis: int, image: Value, block: Value) -> Value:
    """How many blocks stand along an axis; not positive for none."""
    span = p.add(p.mul(p.sub(block, p.whole(1)), p.whole(op.dilations[axis])), p.whole(1))
    padded = p.add(image, p.whole(op.pads[axis] + op.pads[len(op.strides) + axis]))
    return p.add(p.floordiv(p.sub(padded, span), p.whole(op.strides[axis])), p.whole(1))


@lowers(ColToImOp)
def col_to_im(op: ColToImOp, c: Conversion) -> Value:
    """graph.col_to_im %x  ->  out[n, c, y] = sum over k of x[n, c * block + k, (y + pad - k * dilation) / stride] where
    that is a whole place"""
    result, axes = result_type(op), len(op.strides)
    block: Sequence[Dim] | None = content(op.block_shape)
    if block is None:
        block = [symbol(name) for name in _block_names(op)]
    image, rank = result.shape[2:], result.rank
    unsigned, element = reads_unsigned(op.x), result.element
    narrow = isinstance(element, FloatType) and element.width < 32
    accumulator: Type = F32 if narrow else element

    counts = [_block_count_of(op, axis, image[axis], block[axis]) for axis in range(axes)]

    def columns_along(axis: int) -> Value:
        """[image, block] -> the part of the column's number that an axis decides, negative where no block is."""

        def body(p: Places) -> Value:
            offset = p.mul(p.at(1), p.whole(op.dilations[axis]))
            distance, stride = p.sub(p.add(p.at(0), p.whole(op.pads[axis])), offset), p.whole(op.strides[axis])
            place = p.floordiv(distance, stride)
            exact = p.compare("eq", p.mul(place, stride), distance)
            inside = p.both(p.compare("ge", place, p.whole(0)), p.compare("lt", place, p.size(counts[axis])))
            column = p.mul(place, p.size(product(counts[axis + 1 :])))
            return p.integer_of(p.select(p.both(exact, inside), column, p.whole(NOWHERE)), I64)

        return moved(c, TensorType((image[axis], block[axis]), I64), body)

    def body(p: Places, *args: Value) -> Value:
        *columns, source = args
        row, column = p.at(1), p.whole(0)
        for axis, part in enumerate(columns):
            row = p.add(p.mul(row, p.size(block[axis])), p.at(rank + axis))
            column = p.add(column, p.index_of(part, False))
        return p.widened(p.read(source, [p.at(0), row, column]))

    total = reduced(
        c, result.with_element(accumulator), block, body, _sum, attribute_of(0, accumulator),
        inputs=[columns_along(axis) for axis in range(axes)],
        maps=[[dim(2 + axis), dim(rank + axis)] for axis in range(axes)], sources=[c.new(op.x)],
    )  # fmt: skip
    if accumulator is element:
        return total
    return moved(c, result, lambda p, v: from_float(p, v, element, unsigned), inputs=[total], maps=[dims(rank)])


def _block_count_of(op: ColToImOp, axis: int, image: Dim, block: Dim) -> Dim:
    padded = image + op.pads[axis] + op.pads[len(op.strides) + axis]
    return (padded - (block - 1) * op.dilations[axis] - 1) // op.strides[axis] + 1


def _sum(p: Places, a: Value, b: Value) -> Value:
    """a + b; of truths, whether either holds."""
    return p.either(a, b) if bit_width(a.type) == 1 else p.add(a, b)
