"""Resizing: the result samples the operand at regular, possibly fractional, places along each axis.

Coordinates follow the formulas of the ONNX Resize operator. Cubic interpolation is R. Keys, "Cubic Convolution
Interpolation for Digital Image Processing", 1981, equation 4. Interpolation is separable: a weight matrix per axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.graph.base import Array, constant_array, content, shape_of, tensor_type
from stepwell.dialects.graph.shape import check_list
from stepwell.dialects.graph.symbols import DataDependentOp, fresh_dim
from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attrkinds import BOOL, FLOAT, INTS, enum
from stepwell.ir.constraints import FLOAT_TENSOR, INDEX_LIST, REAL_OR_BOOL_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.opdef import attr, operand, optional_operand, result
from stepwell.ir.types import Type

MODES = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)  # fmt: skip
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
ASPECTS = ("stretch", "not_larger", "not_smaller")
SMALL = 1 << 12  # the largest denominator of a fraction that a float may stand for
SCALES = (2.0**-17, 2.0**22)  # of which scales the fractions fit integers: from the first, below the second


def bad_scale() -> str:
    """What is wrong with a scale that is 0, negative, NaN or of another magnitude."""
    return "a scale is not a positive number from 2^-17 to 2^22"


@attrs.frozen
class AxisResize:
    """How one axis is resized: sizes, the scale that maps coordinates, and the normalised region for cropping.

    Numbers are exact fractions, so that which element is nearest does not hang on rounding errors."""

    size: int
    new_size: int
    scale: Fraction
    start: Fraction = Fraction(0)
    end: Fraction = Fraction(1)


class ResizeOp(DataDependentOp):
    """The operand resized along `axes`, to `sizes` or by `scales` (one of them; one number per axis, in the order of
    `axes`). By a scale, an axis of n gets floor(n * scale) elements. With an `aspect` other than stretch, one scale for
    all axes keeps every size at most (at least) the wanted one.

    `coordinates` and `rounding` (for nearest) are those of ONNX; `region` is [starts..., ends...] for cropping, outside
    of which elements are `extrapolation`. With `antialias` the filter widens by 1 / scale when shrinking.
    Floats are computed in f32 or wider, integers are rounded to nearest and saturate. ONNX: Resize, Upsample.

    ```mlir
    %x = "test.value"() : () -> tensor<1x3x?x8xf32, #graph.shape<["h"]>>
    %s = graph.constant dense<[2.0, 2.0]> : tensor<2xf32>
    %r = graph.resize %x scales %s : tensor<2xf32> {axes = array<i64: 2, 3>, coordinates = "half_pixel", mode = "linear"} : tensor<1x3x?x8xf32, #graph.shape<["h"]>> -> tensor<1x3x?x16xf32, #graph.shape<["2*h"]>>
    ```
    """  # noqa: E501

    name = "graph.resize"
    decided_by = ("sizes", "scales", "region")
    assembly = (
        "$x (`sizes` $sizes ^ `:` type($sizes))? (`scales` $scales ^ `:` type($scales))?"
        " (`region` $region ^ `:` type($region))? attr-dict `:` type($x) `->` type($result)"
    )
    x: Value = operand(REAL_OR_BOOL_TENSOR)
    sizes: Value | None = optional_operand(INDEX_LIST)
    scales: Value | None = optional_operand(FLOAT_TENSOR)
    region: Value | None = optional_operand(FLOAT_TENSOR)
    axes: tuple[int, ...] = attr(INTS)
    mode: str = attr(enum(*MODES))
    coordinates: str = attr(enum(*COORDINATES))
    rounding: str = attr(enum(*ROUNDINGS), default="round_prefer_floor")
    aspect: str = attr(enum(*ASPECTS), default="stretch")
    antialias: bool = attr(BOOL, default=False)
    exclude_outside: bool = attr(BOOL, default=False)
    cubic_a: float = attr(FLOAT, default=-0.75)
    extrapolation: float = attr(FLOAT, default=0.0)
    result: Value = result(REAL_OR_BOOL_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        self._check()
        shape = list(shape_of(self.x))
        for position, size in enumerate(self._new_sizes(shape)):
            axis = self.axes[position]
            shape[axis] = fresh_dim(self, "resize", position) if size is None else size
        return [tensor_type(self.x).with_shape(shape)]

    def _check(self) -> None:
        rank, count = tensor_type(self.x).rank, len(self.axes)
        if len(set(self.axes)) != count or any(not 0 <= axis < rank for axis in self.axes):
            raise IRError(f"axes {list(self.axes)} must be different ones of rank {rank}")
        if (self.sizes is None) == (self.scales is None):
            raise IRError("a resize has either sizes or scales")
        for value, length, what in (
            (self.sizes, count, "sizes"), (self.scales, count, "scales"), (self.region, 2 * count, "region")
        ):  # fmt: skip
            if value is not None:
                check_list(value, length, what)
        if self.coordinates == "tf_crop_and_resize" and self.region is None:
            raise IRError("tf_crop_and_resize needs a region")
        if self.antialias and self.mode == "nearest":
            raise IRError("antialias needs linear or cubic interpolation")

    def _new_sizes(self, shape: Sequence[Dim]) -> list[Dim | None]:
        """The new size along each of `axes`, None where it depends on data."""
        unknown: list[Dim | None] = [None] * len(self.axes)
        if self.sizes is not None:
            sizes = content(self.sizes)
            if sizes is None:
                return unknown
            if self.aspect == "stretch":
                return list(sizes)
            known = [dim for dim in (*sizes, *(shape[axis] for axis in self.axes)) if isinstance(dim, int)]
            if len(known) < 2 * len(self.axes):
                return unknown
            count = len(self.axes)
            return [axis.new_size for axis in keep_aspect(known[count:], known[:count], self.aspect)]
        scales = constant_array(self.scales)
        if scales is None:
            return unknown
        return [scaled(shape[axis], simple(scale)) for axis, scale in zip(self.axes, scales, strict=True)]

    def plan(self, shape: Sequence[int], sizes: Any, scales: Any, region: Any) -> list[AxisResize]:
        """How each of `axes` is resized, from the values of the operands (None: absent)."""
        old = [shape[axis] for axis in self.axes]
        if sizes is not None:
            plan = keep_aspect(old, [int(size) for size in sizes], self.aspect)
        else:
            for scale in map(float, scales):
                if self.new_dims and not SCALES[0] <= scale < SCALES[1]:
                    raise RuntimeError(bad_scale(), int(scale) if math.isfinite(scale) else 0)
            factors = map(simple, scales)
            plan = [AxisResize(size, scaled(size, factor), factor) for size, factor in zip(old, factors, strict=True)]
        if self.coordinates != "tf_crop_and_resize":
            return plan
        starts, ends = (map(simple, half) for half in np.reshape(region, (2, -1)))
        return [
            attrs.evolve(axis, start=start, end=end) for axis, start, end in zip(plan, starts, ends, strict=True)
        ]

    def compute(self, frame: Any, *args: Any) -> Any:
        given = iter(args)
        x = np.asarray(next(given))
        sizes, scales, region = (
            next(given) if value is not None else None for value in (self.sizes, self.scales, self.region)
        )
        out = x if self.mode == "nearest" else x.astype(np.float64)
        outside = np.zeros((1,) * x.ndim, np.bool_)
        for axis, how in zip(self.axes, self.plan(x.shape, sizes, scales, region), strict=True):
            at = coordinates_at(how, self.coordinates)
            if self.coordinates == "tf_crop_and_resize":
                beyond = (at < 0) | (at > how.size - 1)
                outside = outside | beyond.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
            out = self._resample(out, axis, at, how)
        if outside.any():
            out = np.where(outside, np.asarray(self.extrapolation).astype(out.dtype), out)
        return rounded_to(out, x.dtype)

    def _resample(self, x: Array, axis: int, at: Array, how: AxisResize) -> Array:
        if how.size == 0:
            if how.new_size:
                raise IRError(f"axis {axis} of size 0 cannot be resized to {how.new_size}")
            return x
        if how.new_size == 0:
            return np.take(x, np.zeros(0, np.int64), axis)
        if self.mode == "nearest":
            return np.take(x, np.clip(nearest(at, self.rounding), 0, how.size - 1), axis)
        places, weights = filter_taps(at, how, self.mode, self.cubic_a, self.antialias, self.exclude_outside)
        taken = np.moveaxis(np.take(x, places, axis), (axis, axis + 1), (-2, -1))
        return np.moveaxis((taken * weights).sum(-1), -1, axis)


def simple(scale: Any) -> Fraction:
    """The fraction with a small denominator that rounds to an f32, so that 10 times 0.7 is 7 and not just below; the
    f32's exact value where there is none."""
    exact = Fraction(float(scale))
    near = exact.limit_denominator(SMALL)
    return near if np.float32(float(near)) == np.float32(float(scale)) else exact


def scaled(size: Any, scale: Fraction) -> Any:
    """floor(size * scale) for a size that may be symbolic."""
    return (size * scale.numerator) // scale.denominator


def keep_aspect(old: Sequence[int], wanted: Sequence[int], aspect: str) -> list[AxisResize]:
    """The axes resized to the wanted sizes, by one common scale unless `aspect` is stretch. Halves round up."""
    if aspect == "stretch" or 0 in old:
        return [AxisResize(a, b, Fraction(b, a) if a else Fraction(1)) for a, b in zip(old, wanted, strict=True)]
    ratios = [Fraction(b, a) for a, b in zip(old, wanted, strict=True)]
    scale = min(ratios) if aspect == "not_larger" else max(ratios)
    return [AxisResize(size, math.floor(scale * size + Fraction(1, 2)), scale) for size in old]


def source_map(how: AxisResize, coordinates: str) -> tuple[Fraction, Fraction]:
    """(a, b) such that element x of the result lies at a*x + b in the operand, counted in elements."""
    n, m, half = how.size, how.new_size, Fraction(1, 2)
    width = n * how.scale  # the length before it was rounded down
    if coordinates == "align_corners":
        return ((n - 1) / (width - 1) if width != 1 else Fraction(0)), Fraction(0)
    if coordinates == "tf_crop_and_resize":
        if m == 1:
            return Fraction(0), half * (how.start + how.end) * (n - 1)
        return (how.end - how.start) * (n - 1) / (m - 1), how.start * (n - 1)
    slope = 1 / how.scale
    if coordinates == "asymmetric":
        return slope, Fraction(0)
    if coordinates == "tf_half_pixel_for_nn":
        return slope, half * slope
    if coordinates == "pytorch_half_pixel" and m == 1:
        return Fraction(0), Fraction(0)
    shift = half * n * (1 - m / width) if coordinates == "half_pixel_symmetric" and width else Fraction(0)
    return slope, half * slope - half + shift


def coordinates_at(how: AxisResize, coordinates: str) -> Array:
    """The place in the operand, in elements, of each element of the result along an axis, rounded once to f64."""
    if how.new_size == 0:
        return np.zeros(0)
    slope, offset = source_map(how, coordinates)
    below = math.lcm(slope.denominator, offset.denominator)
    a, b = int(slope * below), int(offset * below)
    return np.array([(a * x + b) / below for x in range(how.new_size)], np.float64)


def nearest(at: Array, rounding: str) -> Array:
    """Coordinates as whole positions."""
    if rounding == "floor":
        return np.floor(at).astype(np.int64)
    if rounding == "ceil":
        return np.ceil(at).astype(np.int64)
    half = np.ceil(at - 0.5) if rounding == "round_prefer_floor" else np.floor(at + 0.5)
    return half.astype(np.int64)


def filter_taps(
    at: Array, how: AxisResize, mode: str, cubic_a: float, antialias: bool, exclude_outside: bool
) -> tuple[Array, Array]:
    """(positions, weights), both [new size, taps], of the elements that make up each element of the result.

    Positions outside are moved to the edge; their weights are 0 with `exclude_outside` and the others' sum 1."""
    shrink = min(float(how.scale), 1.0) if antialias else 1.0
    radius = (1 if mode == "linear" else 2) / shrink
    taps = np.arange(math.floor(-radius) + 1, math.ceil(radius) + 1)
    places = np.floor(at)[:, None].astype(np.int64) + taps
    distance = np.abs(places - at[:, None]) * shrink
    weights = np.clip(1 - distance, 0, None) if mode == "linear" else cubic(distance, cubic_a)
    if exclude_outside:
        weights = np.where((places < 0) | (places >= how.size), 0.0, weights)
    if antialias or exclude_outside:
        total = weights.sum(1, keepdims=True)
        weights = weights / np.where(total == 0, 1.0, total)
    return np.clip(places, 0, how.size - 1), weights


def cubic(distance: Array, a: float) -> Array:
    """Keys' cubic convolution kernel at non-negative distances."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def rounded_to(array: Array, dtype: np.dtype[Any]) -> Array:
    """Computed values in an element type: integers rounded half to even and saturated."""
    if array.dtype == dtype:
        return array
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.clip(np.rint(array), info.min, info.max).astype(dtype)
    return array.astype(dtype)
