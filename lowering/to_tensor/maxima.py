"""Max pools that tell where the maximum was found."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects import arith
from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.pooling import MaxPoolIndicesOp
from stepwell.dialects.graph.windows import Window
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import F32, I64, INDEX, FloatType, is_unsigned
from stepwell.lowering.to_tensor.convolution import least, padded, spatial_names, window_indices
from stepwell.lowering.to_tensor.places import result_type
from stepwell.lowering.to_tensor.rules import lowers, map_generic, reduce_generics
from stepwell.lowering.to_tensor.scalars import Scalars

NOWHERE = (1 << 62) - 1  # the position of padding, behind that of every element


@lowers(MaxPoolIndicesOp)
def max_pool_indices(op: MaxPoolIndicesOp, c: Conversion) -> list[Value]:
    """graph.max_pool_indices %x  ->  a reduction of pairs (element, position): the larger element, and of equal ones
    the one in front"""
    values, indices = result_type(op, 0), result_type(op, 1)
    window, unsigned, element = op.window, is_unsigned(op.x.type), values.element
    wide = F32 if isinstance(element, FloatType) and element.width < 32 else element
    x, spatial = c.new(op.x), tensor_type(c.new(op.x)).shape[2:]
    rank = window.rank
    total = 2 + 2 * rank
    places, taps = [2 + axis for axis in range(rank)], [2 + rank + axis for axis in range(rank)]

    def body(s: Scalars, value: Value) -> list[Value]:
        return [value, position(s, window, values.shape, spatial)]

    def combine(s: Scalars, a: Value, at: Value, b: Value, other: Value) -> list[Value]:
        better, same = s.compare("gt", b, a, unsigned), s.compare("eq", b, a, unsigned)
        if isinstance(b.type, FloatType):  # NaN is larger than every number
            nan, both = s.is_nan(b), s.both(s.is_nan(a), s.is_nan(b))
            better, same = s.either(better, s.both(nan, s.compare("eq", a, a))), s.either(same, both)
        takes = s.either(better, s.both(same, s.compare("lt", other, at)))
        return [s.select(takes, b, a), s.select(takes, other, at)]

    maps = [[dim(0), dim(1), *window_indices(window, places, taps)], *[[dim(d) for d in range(2 + rank)]] * 2]
    found, where = reduce_generics(
        c, [padded(c, x, window, values.shape[2:], least(element, unsigned))],
        [values.with_element(wide), indices], sizes=[*values.shape, *window.kernel],
        iterators=["parallel"] * (2 + rank) + ["reduction"] * rank,
        names=["n", "c", *spatial_names("o", rank), *spatial_names("k", rank)],
        maps=[AffineMap(total, 0, exprs) for exprs in maps], body=body, combine=combine,
        identities=[least(wide, unsigned), attribute_of(NOWHERE, I64)],
    )  # fmt: skip
    if op.column_major:
        where = map_generic(c, [where], indices, lambda s, number: _by_columns(s, number, spatial))
    return [found if wide is element else map_generic(c, [found], values, lambda s, v: v), where]


def position(s: Scalars, window: Window, shape: Sequence[Dim], spatial: Sequence[Dim]) -> Value:
    """The row-major position of a tap in the flattened input; that of padding is NOWHERE."""
    rank, inside = window.rank, s.compare("ge", s.index(0), s.constant(0, INDEX))
    at: list[Value] = []
    for axis, size in enumerate(spatial):
        begin, _ = window.pads_of(spatial)[axis]
        tap = s.mul(s.index(2 + rank + axis), s.constant(window.dilations[axis], INDEX))
        start = s.sub(s.mul(s.index(2 + axis), s.constant(window.strides[axis], INDEX)), s.size(begin))
        at.append(s.add(start, tap))
        for condition in (s.compare("ge", at[-1], s.constant(0, INDEX)), s.compare("lt", at[-1], s.size(size))):
            inside = s.both(inside, condition)
    number = s.add(s.mul(s.index(0), s.size(shape[1])), s.index(1))
    for axis, size in enumerate(spatial):
        number = s.add(s.mul(number, s.size(size)), at[axis])
    return s.select(inside, s.emit(arith.IndexCastOp(number, result_types=[I64])), s.constant(NOWHERE, I64))


def _by_columns(s: Scalars, number: Value, spatial: Sequence[Dim]) -> Value:
    """A position whose spatial axes count column-major, from the row-major one."""
    rest = s.emit(arith.IndexCastOp(number, result_types=[INDEX]))
    at: list[Value] = []
    for size in reversed(spatial):
        length = s.maximum(s.size(size), s.constant(1, INDEX))
        above = s.emit(arith.FloorDivSIOp(rest, length))
        at.append(s.sub(rest, s.mul(above, length)))
        rest = above
    for place, size in zip(at, reversed(spatial), strict=True):
        rest = s.add(s.mul(rest, s.size(size)), place)
    return s.emit(arith.IndexCastOp(rest, result_types=[I64]))
