"""Pooling over regions that data tell: bins of samples, and grids of whole elements.

How many samples or elements a bin has differs from region to region: the reduction runs over the largest number of
all, which is computed first, and leaves out what a bin does not have."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import attrs

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.indexing import out_of_range
from stepwell.dialects.graph.pooling import MaxRoiPoolOp
from stepwell.dialects.graph.sampling import RoiAlignOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import F64, I64, FloatType
from stepwell.lowering.to_tensor.born import COUNT, born_size
from stepwell.lowering.to_tensor.places import Places, PlacesBody, dims, lowest, moved, reduced, result_type
from stepwell.lowering.to_tensor.proofs import checked_place
from stepwell.lowering.to_tensor.rules import lowers
from stepwell.lowering.to_tensor.sampling import at_least_f32

Taps = list[tuple[Value, Value]]
FARTHEST = float(1 << 40)  # corners of regions beyond it are taken to lie there


def largest_count(op: Operation, c: Conversion, over: Sequence[Dim], inputs: Sequence[Value],
                  maps: Sequence[Sequence[AffineExpr]], count: PlacesBody) -> Dim:  # fmt: skip
    """A symbol for the largest of the indices count(p, *inputs) over some dims; 0 where there is none."""
    number = reduced(
        c, COUNT, over, lambda p, *args: p.integer_of(count(p, *args), I64), lambda p, a, b: p.maximum(a, b),
        attribute_of(0, I64), inputs=inputs, maps=maps,
    )  # fmt: skip
    return born_size(op, c, number, "region")


@attrs.frozen
class BinAxis:
    """The samples of a bin of a region along one axis (0: rows): sample k lies at start + (k + 1/2) * size / count."""

    p: Places
    op: RoiAlignOp
    axis: int
    type: FloatType

    def number(self, value: float) -> Value:
        """A constant."""
        return self.p.constant(value, self.type)

    def size(self, low: Value, high: Value) -> tuple[Value, Value]:
        """(where the first bin begins, the size of a bin)"""
        p, op = self.p, self.op
        shift = self.number(0.5 if op.half_pixel else 0.0)
        begin, end = (p.sub(p.mul(p.widened(edge), self.number(op.scale)), shift) for edge in (low, high))
        length = p.sub(end, begin)
        if not op.half_pixel:
            length = p.maximum(length, self.number(1.0))
        return begin, p.divf(length, self.number(float((op.height, op.width)[self.axis])))

    def count(self, size: Value) -> Value:
        """How many samples a bin of a size has, as an index, where that is not told: one per element begun."""
        p = self.p
        return p.maximum(p.whole_of(p.negate(p.floor(p.negate(size)))), p.whole(0))

    def most(self, size: Value) -> Value:
        """How many of them, one after the other, hold all that lie in the image and one that does not, as an index:
        they are more than half an element apart."""
        p = self.p
        inside = p.add(p.mul(p.size(self.image), p.whole(2)), p.whole(5))
        return p.minimum(self.count(size), inside)

    @property
    def image(self) -> Dim:
        """The image's size along the axis."""
        return shape_of(self.op.x)[2 + self.axis]

    def first(self, start: Value, step: Value) -> Value:
        """The number of a sample before the first one in the image, or of the bin's first one, as an index."""
        p = self.p
        before = p.sub(p.divf(p.sub(self.number(-1.0), start), step), self.number(0.5))
        return p.maximum(p.whole_of(p.floor(before)), p.whole(0))

    def neighbours(self, at: Value) -> tuple[Taps, Value]:
        """(position, weight) of both neighbours of a sample, and whether it is inside the image."""
        p, number = self.p, self.number
        count = p.float_of(p.size(self.image), self.type)
        inside = p.both(p.compare("ge", at, number(-1.0)), p.compare("le", at, count))
        last = p.sub(count, number(1.0))
        held = p.minimum(p.maximum(p.select(inside, at, number(0.0)), number(0.0)), last)
        base = p.floor(held)
        part, below = p.sub(held, base), p.whole_of(base)
        above = p.minimum(p.add(below, p.whole(1)), p.sub(p.size(self.image), p.whole(1)))
        return [(below, p.sub(number(1.0), part)), (above, part)], inside

    def sample(self, low: Value, high: Value, bin_: Value, place: Value) -> Sample:
        """The sample at a place of the loop."""
        p = self.p
        begin, size = self.size(low, high)
        start = p.add(begin, p.mul(p.float_of(bin_, self.type), size))
        if self.op.samples:
            return Sample(*self.neighbours(self._at(start, size, place, self.number(float(self.op.samples)))))
        count = self.count(size)
        parts = p.float_of(p.maximum(count, p.whole(1)), self.type)
        skipped = self.first(start, p.divf(size, parts))
        k = p.add(skipped, place)
        taps, inside = self.neighbours(self._at(start, size, k, parts))
        return Sample(taps, inside, p.compare("lt", k, count), p.compare("gt", skipped, p.whole(0)))

    def _at(self, start: Value, size: Value, k: Value, parts: Value) -> Value:
        inner = self.p.add(self.p.float_of(k, self.type), self.number(0.5))
        return self.p.add(start, self.p.divf(self.p.mul(inner, size), parts))


@attrs.frozen
class Sample:
    """A sample along one axis: its neighbours, and whether it is inside the image; where data tell how many there are,
    whether the bin has it, and whether samples before it were passed over."""

    taps: Taps
    is_inside: Value
    is_there: Value | None = None
    was_skipped: Value | None = None


@lowers(RoiAlignOp)
def roi_align(op: RoiAlignOp, c: Conversion) -> Value:
    """graph.roi_align %x, %rois, %b  ->  out[r, c, i, j] = mean (or maximum) over samples s, t of the bin (i, j) of the
    bilinear sum of x[b[r], c, ..]"""
    result = result_type(op)
    computed, rank = at_least_f32(tensor_type(c.new(op.x)).element), result.rank
    largest, rois = op.reduce == "max", c.new(op.rois)

    def most(axis: int) -> Dim:
        def count(p: Places, low: Value, high: Value) -> Value:
            along = BinAxis(p, op, axis, computed)
            return along.most(along.size(low, high)[1])

        if op.samples:
            return op.samples
        corners = [[dim(0), const(1 - axis)], [dim(0), const(3 - axis)]]
        return largest_count(op, c, [result.shape[0]], [rois, rois], corners, count)

    def body(p: Places, image: Value, x1: Value, y1: Value, x2: Value, y2: Value, source: Value) -> Value:
        along = [BinAxis(p, op, axis, computed) for axis in range(2)]
        rows, columns = (
            one.sample(low, high, p.at(2 + axis), p.at(rank + axis))
            for axis, (one, low, high) in enumerate(zip(along, (y1, x1), (y2, x2), strict=True))
        )
        first = checked_place(p, op.batch_indices, image, 0, shape_of(op.x)[0])
        total: Value | None = None
        for (row, a), (column, b) in itertools.product(rows.taps, columns.taps):
            part = p.mul(p.widened(p.read(source, [first, p.at(1), row, column])), p.mul(a, b))
            total = part if total is None else p.maximum(total, part) if largest else p.add(total, part)
        assert total is not None
        total = p.select(p.both(rows.is_inside, columns.is_inside), total, p.constant(0.0, computed))
        if not (rows.is_there and columns.is_there and rows.was_skipped and columns.was_skipped):
            return total
        # Where samples outside the image were passed over, the largest is not below their 0.
        zero, none = p.constant(0.0, computed), p.constant(float("-inf") if largest else 0.0, computed)
        otherwise = p.select(p.either(rows.was_skipped, columns.was_skipped), zero, none)
        return p.select(p.both(rows.is_there, columns.is_there), total, otherwise)

    over = [most(0), most(1)]
    corners = [[dim(0), const(k)] for k in range(4)]
    sums = reduced(
        c, result.with_element(computed), over, body,
        lambda p, a, b: p.maximum(a, b) if largest else p.add(a, b),
        lowest(computed, False) if largest else attribute_of(0.0, computed),
        inputs=[c.new(op.batch_indices), *[rois] * 4], maps=[[dim(0)], *corners], sources=[c.new(op.x)],
    )  # fmt: skip

    if op.samples:
        samples = float(op.samples * op.samples)

        def averaged(p: Places, value: Value) -> Value:
            return p.narrowed(value if largest else p.divf(value, p.constant(samples, computed)), result.element)

        return moved(c, result, averaged, inputs=[sums], maps=[dims(rank)])

    def finish(p: Places, value: Value, x1: Value, y1: Value, x2: Value, y2: Value) -> Value:
        counts = []
        for axis, (low, high) in enumerate(((y1, y2), (x1, x2))):
            along = BinAxis(p, op, axis, computed)
            counts.append(along.count(along.size(low, high)[1]))
        samples = p.mul(*counts)
        if not largest:
            value = p.divf(value, p.float_of(p.maximum(samples, p.whole(1)), computed))
        none = p.compare("eq", samples, p.whole(0))
        return p.narrowed(p.select(none, p.constant(0.0, computed), value), result.element)

    return moved(c, result, finish, inputs=[sums, *[rois] * 4], maps=[dims(rank), *corners])


@attrs.frozen
class CellAxis:
    """The elements of a cell of a grid over a region along one axis (0: rows)."""

    p: Places
    op: MaxRoiPoolOp
    axis: int

    def bounds(self, low: Value, high: Value, cell: Value) -> tuple[Value, Value]:
        """The first element of a cell, and the one behind its last, as indices: both in the image, or at its end."""
        p, size = self.p, image_size(self.p, self.op, self.axis)
        first, last = (self._corner(edge) for edge in (low, high))
        length = p.maximum(p.add(p.sub(last, first), p.constant(1.0, F64)), p.constant(1.0, F64))
        step = p.divf(length, p.constant(float(self.op.pooled[self.axis]), F64))
        at = p.float_of(cell)
        begin = p.floor(p.mul(at, step))
        end = p.negate(p.floor(p.negate(p.mul(p.add(at, p.constant(1.0, F64)), step))))
        held = (p.between(p.whole_of(p.add(first, edge)), p.whole(0), size) for edge in (begin, end))
        return next(held), next(held)

    def _corner(self, edge: Value) -> Value:
        """A corner, scaled and rounded half away from zero; NaN is 0."""
        p = self.p
        at = p.mul(p.narrowed(edge, F64), p.constant(self.op.spatial_scale, F64))
        held = p.bounded(p.select(p.compare("eq", at, at), at, p.constant(0.0, F64)), FARTHEST)
        away = p.floor(p.add(p.magnitude(held), p.constant(0.5, F64)))
        return p.select(p.compare("lt", held, p.constant(0.0, F64)), p.negate(away), away)


def image_size(p: Places, op: MaxRoiPoolOp, axis: int) -> Value:
    """The image's size along an axis (0: rows)."""
    return p.size(shape_of(op.x)[2 + axis])


@lowers(MaxRoiPoolOp)
def max_roi_pool(op: MaxRoiPoolOp, c: Conversion) -> Value:
    """graph.max_roi_pool %x, %rois  ->  out[r, c, i, j] = maximum over the elements s, t of the cell (i, j) of
    x[rois[r, 0], c, s, t]; 0 where there is none"""
    result, rois = result_type(op), c.new(op.rois)
    rank, identity = result.rank, lowest(result.element, False)

    def most(axis: int) -> Dim:
        def count(p: Places, low: Value, high: Value) -> Value:
            first, end = CellAxis(p, op, axis).bounds(low, high, p.at(1))
            return p.sub(end, first)

        corners = [[dim(0), const(2 - axis)], [dim(0), const(4 - axis)]]
        return largest_count(op, c, [result.shape[0], op.pooled[axis]], [rois, rois], corners, count)

    def cells(p: Places, corners: Sequence[Value]) -> Taps:
        x1, y1, x2, y2 = corners
        return [CellAxis(p, op, axis).bounds(low, high, p.at(2 + axis))
                for axis, (low, high) in enumerate(((y1, y2), (x1, x2)))]  # fmt: skip

    def body(p: Places, image: Value, *args: Value) -> Value:
        *corners, source = args
        number, count = p.whole_of(p.widened(image)), p.size(shape_of(op.x)[0])
        first = p.wrapped(number, count)
        p.require(p.compare("lt", first, count, unsigned=True), number, out_of_range(0, shape_of(op.x)[0]))
        first = p.between(first, p.whole(0), p.sub(count, p.whole(1)))
        places = [p.add(begin, p.at(rank + axis)) for axis, (begin, _) in enumerate(cells(p, corners))]
        inside = [p.compare("lt", place, end) for place, (_, end) in zip(places, cells(p, corners), strict=True)]
        held = [p.between(place, p.whole(0), p.sub(image_size(p, op, axis), p.whole(1)))
                for axis, place in enumerate(places)]  # fmt: skip
        return p.select(p.both(*inside), p.read(source, [first, p.at(1), *held]), p.constant_of(identity))

    maps = [[dim(0), const(k)] for k in range(5)]
    found = reduced(
        c, result, [most(0), most(1)], body, lambda p, a, b: p.maximum(a, b), identity, inputs=[rois] * 5, maps=maps,
        sources=[c.new(op.x)],
    )  # fmt: skip

    def finish(p: Places, value: Value, *corners: Value) -> Value:
        empty = [p.compare("ge", begin, end) for begin, end in cells(p, corners)]
        return p.select(p.either(*empty), p.constant(0.0, result.element), value)

    return moved(c, result, finish, inputs=[found, *[rois] * 4], maps=[dims(rank), *maps[1:]])
