"""How one axis is resized: its plan, where elements of the result lie, and the sizes and scales that only data tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import attrs
import numpy as np

from stepwell.dialects import math
from stepwell.dialects.graph.base import constant_array, content, shape_of
from stepwell.dialects.graph.resize import AxisResize, ResizeOp, keep_aspect, simple, source_map
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import const
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, dim_max, symbol
from stepwell.ir.types import F64, I64
from stepwell.lowering.to_tensor.born import COUNT, Sizes, bear, sizes_by_data
from stepwell.lowering.to_tensor.data_sizes import NO_SIZE, numbers
from stepwell.lowering.to_tensor.fractions import fractions
from stepwell.lowering.to_tensor.places import Places, moved

REACH = {"linear": 1, "cubic": 2}  # elements on each side that make up one between two
TOO_FINE = "sizes and scale are too large for exact coordinates"


@attrs.frozen
class Quotient:
    """A coordinate that is a quotient of indices; what divides is positive."""

    number: Value
    below: Value

    def floor(self, p: Places) -> Value:
        """The element at or before the place."""
        return p.floordiv(self.number, self.below)

    def value(self, p: Places) -> Value:
        """The place, in f64."""
        return p.divf(p.float_of(self.number), p.float_of(self.below))

    def nearest(self, p: Places, rounding: str) -> Value:
        """The nearest element."""
        if rounding == "floor":
            return self.floor(p)
        if rounding == "ceil":
            return p.ceildiv(self.number, self.below)
        half = p.sub(self.below, p.whole(1)) if rounding == "round_prefer_floor" else self.below
        return p.floordiv(p.add(p.mul(self.number, p.whole(2)), half), p.mul(self.below, p.whole(2)))


@attrs.frozen
class Place:
    """A coordinate in f64."""

    at: Value

    def floor(self, p: Places) -> Value:
        """The element at or before the place."""
        return p.whole_of(p.floor(self.at))

    def value(self, p: Places) -> Value:
        """The place, in f64."""
        return self.at

    def nearest(self, p: Places, rounding: str) -> Value:
        """The nearest element."""
        if rounding == "floor":
            return self.floor(p)
        if rounding == "ceil":
            return p.whole_of(p.unary(math.CeilOp, self.at))
        half = p.constant(0.5, F64)
        if rounding == "round_prefer_floor":
            return p.whole_of(p.unary(math.CeilOp, p.sub(self.at, half)))
        return p.whole_of(p.floor(p.add(self.at, half)))


@attrs.frozen
class AxisPlan:
    """How one axis is resized. `known` is its plan where both sizes are known; else `quotient` gives the coordinate of
    element x of the result as (a * x + b) / d of sizes. `scale` is the scale as a fraction where it is not just the
    quotient of the sizes. Coordinates in a cropped region whose plan is not known are computed in f64 from `region`,
    the quotients [starts, ends] of the tensor landing, of which the axis has the number `position`."""

    axis: int
    size: Dim
    new_size: Dim
    coordinates: str
    known: AxisResize | None
    scale: tuple[Dim, Dim] | None
    region: Value | None = None
    position: int = 0
    radius: Dim | None = None  # of the filter, where antialiasing widens it at run time

    @staticmethod
    def of(op: ResizeOp, position: int, region: Value | None) -> AxisPlan:
        """The plan of the axis `op.axes[position]`; `region` is what stands for the op's, where data tell it."""
        axis = op.axes[position]
        size, new_size = shape_of(op.x)[axis], shape_of(op.result)[axis]
        scales = constant_array(op.scales)
        fixed = simple(scales[position]) if scales is not None else None
        scale: tuple[Dim, Dim] | None = (fixed.numerator, fixed.denominator) if fixed is not None else None
        if fixed is None and (op.scales is not None or op.aspect != "stretch") and op.new_dims:
            scale = _scale_symbols(op, position)
        radius = symbol(_radius_name(op, position)) if op.antialias and op.new_dims else None
        known = None
        if region is None and isinstance(size, int) and isinstance(new_size, int):
            known = _known_resize(op, position, size, new_size, fixed)
        return AxisPlan(axis, size, new_size, op.coordinates, known, scale, region, position, radius)

    @property
    def is_identity(self) -> bool:
        """Whether every element stays where it is."""
        if self.region is not None:
            return False
        if self.known is None:
            same = self.scale is None or self.scale[0] == self.scale[1]
            return self.size == self.new_size and same and self.coordinates != "tf_half_pixel_for_nn"
        return self.size == self.new_size and source_map(self.known, self.coordinates) == (Fraction(1), Fraction(0))

    @property
    def ratio(self) -> tuple[Dim, Dim]:
        """The scale as a fraction of sizes."""
        return self.scale if self.scale is not None else (self.new_size, self.size)

    def quotient(self) -> tuple[Dim, Dim, Dim]:
        """(a, b, d) such that element x of the result lies at (a * x + b) / d; d is positive."""
        n, m = self.size, self.new_size
        if self.scale is None:
            up, down, width = m, n, m  # the scale is up / down; width = n * scale
            if self.coordinates == "align_corners":
                return n - 1, 0, dim_max(width - 1, 1)
            shift: Dim = 0
        else:
            up, down = self.scale
            if self.coordinates == "align_corners":
                return (n - 1) * down, 0, dim_max(n * up - down, 1)
            shift = n * up - m * down
        if self.coordinates == "asymmetric":
            return down, 0, dim_max(up, 1)
        if self.coordinates == "tf_half_pixel_for_nn":
            return down * 2, down, dim_max(up * 2, 1)
        symmetric = self.coordinates == "half_pixel_symmetric"
        return down * 2, down - up + (shift if symmetric else 0), dim_max(up * 2, 1)

    def coordinate(self, p: Places, x: Value, regions: Sequence[Value] = ()) -> Quotient | Place:
        """Where element x of the result lies. `regions` is what stands for the plan's region in a body."""
        if self.region is not None:
            return Place(self._cropped(p, x, *regions))
        a, b, d = self.quotient()
        number = p.add(p.mul(p.size(a), x), p.size(b))
        if self.coordinates == "pytorch_half_pixel":
            number = p.select(p.compare("eq", p.size(self.new_size), p.whole(1)), p.whole(0), number)
        return Quotient(number, p.size(d))

    def _cropped(self, p: Places, x: Value, region: Value) -> Value:
        """start * (n - 1) + x * (end - start) * (n - 1) / (m - 1), one element in the middle, of the fractions that
        start and end are: one quotient of whole numbers where these are small."""
        count = tensor_type(region).static_shape[0] // 2
        (su, sd), (eu, ed) = (
            [p.read(region, [p.whole(self.position + first), p.whole(part)]) for part in range(2)]
            for first in (0, count)
        )
        last, new_last = (p.float_of(p.sub(p.size(size), p.whole(1))) for size in (self.size, self.new_size))
        start, end, below = p.mul(su, ed), p.mul(eu, sd), p.mul(sd, ed)
        middle = p.divf(p.mul(p.add(start, end), last), p.mul(p.constant(2.0, F64), below))
        along = p.add(p.mul(p.mul(start, last), new_last), p.mul(p.mul(p.sub(end, start), last), p.float_of(x)))
        alone = p.compare("eq", p.size(self.new_size), p.whole(1))
        return p.select(alone, middle, p.divf(along, p.mul(below, new_last)))


def _known_resize(op: ResizeOp, position: int, size: int, new_size: int, scale: Fraction | None) -> AxisResize:
    plan = AxisResize(size, new_size, scale if scale is not None else Fraction(new_size, size) if size else Fraction(1))
    if op.aspect != "stretch" and op.sizes is not None:
        wanted, old = content(op.sizes), [shape_of(op.x)[axis] for axis in op.axes]
        given = [d for d in (wanted or ()) if isinstance(d, int)], [d for d in old if isinstance(d, int)]
        if len(given[0]) != len(op.axes) or len(given[1]) != len(op.axes):
            raise NoMatch("a common scale of sizes that are only known at run time")
        plan = keep_aspect(given[1], given[0], op.aspect)[position]
    region = constant_array(op.region)
    if op.coordinates != "tf_crop_and_resize" or region is None:
        return plan
    starts, ends = np.reshape(region, (2, -1))
    return attrs.evolve(plan, start=simple(starts[position]), end=simple(ends[position]))


# Sizes by data


def _scale_symbols(op: ResizeOp, position: int) -> tuple[Dim, Dim]:
    """The numerator and the denominator of an axis' scale: one for all axes that keep their aspect."""
    name = op.new_dims[position if op.scales is not None else 0]
    return symbol(f"{name}.up"), symbol(f"{name}.down")


@sizes_by_data(ResizeOp)
def resize_sizes(op: ResizeOp, c: Conversion) -> Sizes:
    """The sizes, or those that follow from the scales, or from the scale that all axes share.

    An axis without elements gets none."""
    if op.scales is not None:
        found = _sizes_of_scales(op, c, op.scales)
    elif op.sizes is None:
        raise NoMatch("neither sizes nor scales")
    elif op.aspect != "stretch":
        found = _sizes_of_one_scale(op, c, op.sizes)
    else:
        found = _given_sizes(op, c, op.sizes)
    if not op.antialias:
        return found
    bear(op, c, found)
    return {_radius_name(op, position): _radius(op, c, position) for position in range(len(op.axes))}


def _given_sizes(op: ResizeOp, c: Conversion, sizes: Value) -> Sizes:
    def size(position: int) -> Callable[..., Value]:
        old = shape_of(op.x)[op.axes[position]]
        return lambda p, wanted: _from_some(p, p.size(old), wanted[position])

    return {name: (numbers(c, sizes, len(op.axes), size(n)), None) for n, name in enumerate(op.new_dims)}


def _radius_name(op: ResizeOp, position: int) -> str:
    return f"{op.new_dims[position]}.radius"


def _radius(op: ResizeOp, c: Conversion, position: int) -> tuple[Value, Dim]:
    """How many elements a filter reaches, which is wider the smaller the scale is: ceil(reach / min(scale, 1)).

    Where there is a result, an element of it stands for at most twice the axis."""
    axis = op.axes[position]
    up, down = shape_of(op.result)[axis], shape_of(op.x)[axis]
    if op.scales is not None or op.aspect != "stretch":
        up, down = _scale_symbols(op, position)

    reach, most = REACH[op.mode], dim_max(shape_of(op.x)[axis], 1) * (2 * REACH[op.mode])

    def body(p: Places) -> Value:
        wide = p.maximum(p.size(up), p.size(down))
        found = p.ceildiv(p.mul(wide, p.whole(reach)), p.maximum(p.size(up), p.whole(1)))
        return p.integer_of(p.minimum(found, p.size(most)), I64)

    return moved(c, COUNT, body), most


def _from_some(p: Places, old: Value, new: Value) -> Value:
    """A new size; none where there are no elements that could be resized to some."""
    nothing = p.both(p.compare("eq", old, p.whole(0)), p.compare("ne", new, p.whole(0)))
    return p.select(nothing, p.whole(NO_SIZE), new)


def _sizes_of_scales(op: ResizeOp, c: Conversion, scales: Value) -> Sizes:
    """floor(size * scale), and each scale as a fraction."""
    table = fractions(c, c.new(scales))
    found: dict[str, tuple[Value, Dim | None]] = {}
    for position, (axis, name) in enumerate(zip(op.axes, op.new_dims, strict=True)):
        old = shape_of(op.x)[axis]

        def size(p: Places, up: Value, down: Value, old: Dim = old) -> Value:
            n, up, down = p.size(old), p.index_of(up, False), p.index_of(down, False)
            made = p.floordiv(p.mul(n, up), down)
            _check_exact(p, n, made, up, down)
            return p.integer_of(made, I64)

        parts = [[const(position), const(part)] for part in range(2)]
        for part, what in zip(parts, ("up", "down"), strict=True):
            found[f"{name}.{what}"] = moved(c, COUNT, inputs=[table], maps=[part]), None
        found[name] = moved(c, COUNT, size, inputs=[table] * 2, maps=parts), None
    return found


def _check_exact(p: Places, old: Value, new: Value, up: Value, down: Value) -> None:
    """Coordinates, and the products they are made of, fit an index."""
    largest = p.maximum(p.mul(p.float_of(up), p.float_of(old)), p.mul(p.float_of(down), p.float_of(new)))
    product = p.mul(largest, p.float_of(p.maximum(old, new)))
    p.require(p.compare("lt", product, p.constant(2.0**58, F64)), new, TOO_FINE)


def _sizes_of_one_scale(op: ResizeOp, c: Conversion, sizes: Value) -> Sizes:
    """round(size * scale) of the smallest, or the largest, of the scales that the sizes ask for; halves round up."""
    old, count = [shape_of(op.x)[axis] for axis in op.axes], len(op.axes)

    def scale(p: Places, wanted: Sequence[Value]) -> tuple[Value, Value]:
        """The scale as a fraction; 1 where an axis has no elements, of which only none can be made."""
        up, down = wanted[0], p.size(old[0])
        some = p.compare("gt", down, p.whole(0))
        for new, dim in zip(wanted[1:], old[1:], strict=True):
            size = p.size(dim)
            better = p.compare("lt" if op.aspect == "not_larger" else "gt", p.mul(new, down), p.mul(up, size))
            up, down = p.select(better, new, up), p.select(better, size, down)
            some = p.both(some, p.compare("gt", size, p.whole(0)))
        return p.select(some, up, p.whole(1)), p.select(some, down, p.whole(1))

    def size(position: int) -> Callable[..., Value]:
        def body(p: Places, wanted: Sequence[Value]) -> Value:
            up, down = scale(p, wanted)
            n = p.size(old[position])
            made = p.floordiv(p.add(p.mul(p.mul(n, up), p.whole(2)), down), p.mul(down, p.whole(2)))
            empty = p.both(p.compare("eq", n, p.whole(0)), p.compare("ne", wanted[position], p.whole(0)))
            _check_exact(p, n, made, up, down)
            negative = p.compare("lt", wanted[position], p.whole(0))
            return p.select(p.either(empty, negative), p.whole(NO_SIZE), made)

        return body

    up, down = (f"{op.new_dims[0]}.{what}" for what in ("up", "down"))
    found: dict[str, tuple[Value, Dim | None]] = {
        name: (numbers(c, sizes, count, size(position)), None) for position, name in enumerate(op.new_dims)
    }
    found[up] = numbers(c, sizes, count, lambda p, wanted: scale(p, wanted)[0]), None
    found[down] = numbers(c, sizes, count, lambda p, wanted: scale(p, wanted)[1]), None
    return found
