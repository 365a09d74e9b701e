"""Fourier transforms whose length, or whose axis, is known when the model runs: sums over a table of roots of unity.

The table [n, 2] is computed at run time, and the sample j counts for the frequency k by its root j * k mod n."""

from __future__ import annotations

import math as numbers
from collections.abc import Callable, Sequence

import attrs

from stepwell.dialects import math
from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.signal import DftOp, StftOp, scalar_content
from stepwell.dialects.tensor import IfOp, YieldOp
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.dims import Dim, free_symbols
from stepwell.ir.types import F64, I1, I64, TensorType, Type
from stepwell.lowering.to_tensor.born import COUNT, Sizes, as_size, born_size, sizes_by_data
from stepwell.lowering.to_tensor.data_sizes import NO_SIZE
from stepwell.lowering.to_tensor.places import Places, dims, moved, reduced, result_type
from stepwell.lowering.to_tensor.rules import accumulator_type

CONDITION = TensorType((), I1)

Sample = Callable[[Places, Value, int, Sequence[Value]], Value]
"""(code, j, part, sources) -> the part 0 (real) or 1 of sample j of the transform that the current point belongs to."""


def summed(
    c: Conversion, result: TensorType, length: Dim, frequency: Callable[[Places, Sequence[Value]], Value],
    sample: Sample, sources: Sequence[Value], *, inverse: bool,
) -> Value:  # fmt: skip
    """out[.., part] = sum over j < length of sample(j) * exp(-+ 2 pi i j k / length), for the k of each point; of an
    inverse, divided by the length."""
    wide, last = accumulator_type(result.element), result.rank - 1
    table = _roots(c, length, inverse, wide)

    def body(p: Places, *args: Value) -> Value:
        roots, given = args[0], args[1:]
        j, n = p.at(result.rank), p.size(length)
        turn = p.mod(p.mul(j, frequency(p, given)), n)
        cos, sin = (p.read(roots, [turn, p.whole(part)]) for part in range(2))
        re, im = (p.widened(sample(p, j, part, given)) for part in range(2))
        real, imaginary = p.sub(p.mul(re, cos), p.mul(im, sin)), p.add(p.mul(re, sin), p.mul(im, cos))
        return p.select(p.compare("eq", p.at(last), p.whole(0)), real, imaginary)

    made = reduced(
        c, result.with_element(wide), [length], body, lambda p, a, b: p.add(a, b), attribute_of(0.0, wide),
        sources=[table, *sources],
    )  # fmt: skip

    def scaled(p: Places, value: Value) -> Value:
        return p.narrowed(p.divf(value, p.float_of(p.size(length), wide)) if inverse else value, result.element)

    return moved(c, result, scaled, inputs=[made], maps=[dims(result.rank)])


def _roots(c: Conversion, length: Dim, inverse: bool, element: Type) -> Value:
    """[length, 2]: cos and sin of -+ 2 pi i / length, in f64, rounded once: those of the distance from the nearest
    quarter of a turn, so that quarters are exact."""

    def body(p: Places) -> Value:
        turn, part, n = p.at(0), p.at(1), p.size(length)
        quarters = p.floordiv(p.add(p.mul(p.whole(8), turn), n), p.mul(p.whole(2), n))
        rest = p.sub(p.mul(p.whole(4), turn), p.mul(quarters, n))
        angle = p.mul(p.divf(p.float_of(rest), p.float_of(n)), p.constant(numbers.pi / 2, F64))
        quarters = p.add(quarters, p.mul(part, p.whole(3 if inverse else 1)))  # sin t = cos(t - pi / 2)
        is_odd = p.compare("eq", p.mod(quarters, p.whole(2)), p.whole(1))
        wave = p.select(is_odd, p.unary(math.SinOp, angle), p.unary(math.CosOp, angle))
        falls = p.compare("lt", p.mod(p.add(quarters, p.whole(3)), p.whole(4)), p.whole(2))
        return p.narrowed(p.select(falls, p.negate(wave), wave), element)

    return moved(c, TensorType((length, 2), element), body)


def transform_length(op: DftOp, axis: int) -> Dim | None:
    """The length of a transform along an axis, where that is known."""
    if op.length is not None:
        return scalar_content(op.length)
    size = shape_of(op.x)[axis]
    return 2 * (size - 1) if op.onesided and op.inverse else size


def transformed_type(op: DftOp, result: Type, axis: int, length: int) -> TensorType:
    """The type of a transform along an axis."""
    assert isinstance(result, TensorType)
    x = shape_of(op.x)
    bins = length // 2 + 1 if op.onesided and not op.inverse else length
    return result.with_shape([*x[:axis], bins, *x[axis + 1 : -1], result.shape[-1]])


def chosen_by_axis(
    op: DftOp, c: Conversion, along: Sequence[Callable[[], Value]], result: TensorType
) -> Value:  # fmt: skip
    """tensor.if on the axis: the transform along the first one, or the choice among the others."""
    axis = _axis(op, c)

    def choice(number: int) -> Value:
        if number == len(along) - 1:
            return _as_type(c, along[number](), result)
        here = moved(c, CONDITION, lambda p, a: p.compare("eq", a, p.constant(number, I64)), inputs=[axis], maps=[[]])
        sides = [_branch(c, lambda: _as_type(c, along[number](), result)), _branch(c, lambda: choice(number + 1))]
        return c.insert(IfOp(here, result_types=[result], regions=sides)).outputs[0]

    return choice(0)


def _branch(c: Conversion, make: Callable[[], Value]) -> Region:
    block = Block([])
    outside, c.builder = c.builder, Builder.at_end(block, c.builder.loc)
    c.insert(YieldOp([make()]))
    c.builder = outside
    return Region([block])


def _as_type(c: Conversion, x: Value, type_: TensorType) -> Value:
    """The value where its sizes have other names."""
    if x.type is type_:
        return x
    return moved(c, type_, lambda p, source: p.read(source, [p.at(axis) for axis in range(type_.rank)]), sources=[x])


@sizes_by_data(DftOp)
def dft_sizes(op: DftOp, c: Conversion) -> Sizes:
    """The number of frequencies, along the axis that is known or along the one that data tell."""
    axis = None if op.where is None else _axis(op, c)
    found = {}
    for place, size in enumerate(shape_of(op.result)[:-1]):
        for name in free_symbols(size) & set(op.new_dims):
            found[name] = (_bins(op, c, axis, place), None)
    return found


def _axis(op: DftOp, c: Conversion) -> Value:
    """The axis in the operand `where`, counted from the front, as tensor<i64>."""
    assert op.where is not None
    rank = len(shape_of(op.x))

    def body(p: Places, given: Value) -> Value:
        axis = p.wrapped(p.index_of(given, False), p.whole(rank))
        inside = p.both(p.compare("ge", axis, p.whole(0)), p.compare("lt", axis, p.whole(rank - 1)))
        p.require(inside, given, f"the axis is not among the signal's axes 0 to {rank - 2}")
        return p.integer_of(p.select(inside, axis, p.whole(0)), I64)

    return moved(c, COUNT, body, inputs=[as_size(c, op.where)], maps=[[]])


def _bins(op: DftOp, c: Conversion, axis: Value | None, place: int) -> Value:
    """The size of the result along `place`, as tensor<i64>."""
    length = _length(op, c, axis)
    size = shape_of(op.x)[place]

    def body(p: Places, given: Value, *chosen: Value) -> Value:
        made = p.index_of(given, False)
        if op.onesided and not op.inverse:
            made = p.add(p.floordiv(made, p.whole(2)), p.whole(1))
        if chosen:
            here = p.compare("eq", p.index_of(chosen[0], False), p.whole(place))
            made = p.select(here, made, p.size(size))
        return p.integer_of(made, I64)

    inputs = [length] if axis is None else [length, axis]
    return moved(c, COUNT, body, inputs=inputs, maps=[[]] * len(inputs))


def _length(op: DftOp, c: Conversion, axis: Value | None) -> Value:
    """The length of the transform, as tensor<i64>."""
    if op.length is not None:
        return as_size(c, op.length)

    def body(p: Places, *chosen: Value) -> Value:
        size = p.size(shape_of(op.x)[op.axis or 0])
        for place, other in enumerate(shape_of(op.x)[:-1] if chosen else ()):
            here = p.compare("eq", p.index_of(chosen[0], False), p.whole(place))
            size = p.select(here, p.size(other), size)
        if op.onesided and op.inverse:
            size = p.mul(p.whole(2), p.sub(size, p.whole(1)))
        return p.integer_of(size, I64)

    inputs = [] if axis is None else [axis]
    return moved(c, COUNT, body, inputs=inputs, maps=[[]] * len(inputs))


def dft_by_data(op: DftOp, c: Conversion) -> Value:
    """graph.dft %x, %length, %axis  ->  tensor.born %n; out[.., k] = sum over j of x[.., j] * roots[j * k mod n]"""
    result = result_type(op)
    axis = None if op.where is None else _axis(op, c)
    known = transform_length(op, op.axis or 0) if op.axis is not None or op.length is not None else None
    length = born_size(op, c, _length(op, c, axis), "transform") if known is None else known
    rank, mirrored = len(shape_of(op.x)), op.onesided and op.inverse

    def here(p: Places, place: int, given: Sequence[Value]) -> Value | bool:
        if op.axis is not None:
            return place == op.axis
        return p.compare("eq", p.index_of(p.read(given[1], []), False), p.whole(place))

    def frequency(p: Places, given: Sequence[Value]) -> Value:
        made = p.at(0)
        for place in range(rank - 1):
            made = _chosen(p, here(p, place, given), p.at(place), made)
        return made

    def sample(p: Places, j: Value, part: int, given: Sequence[Value]) -> Value:
        flips = p.compare("gt", j, p.floordiv(p.size(length), p.whole(2)))
        near = p.select(flips, p.sub(p.size(length), j), j) if mirrored else j
        places = [_chosen(p, here(p, place, given), near, p.at(place)) for place in range(rank - 1)]
        value = p.read(given[0], [*places, p.whole(part)])
        return p.select(flips, p.negate(value), value) if mirrored and part else value

    sources = [c.new(op.x)] if axis is None else [c.new(op.x), axis]
    return summed(c, result, length, frequency, sample, sources, inverse=op.inverse)


def _chosen(p: Places, condition: Value | bool, a: Value, b: Value) -> Value:
    if isinstance(condition, bool):
        return a if condition else b
    return p.select(condition, a, b)


@attrs.frozen
class Frames:
    """How a signal is cut: tensors of one i64 each."""

    length: Value
    step: Value


def _frames(op: StftOp, c: Conversion) -> Frames:
    def size(p: Places) -> Value:
        at = shape_of(op.x)[1] if op.window is None else shape_of(op.window)[0]
        return p.integer_of(p.size(at), I64)

    by_data = op.window is None and op.length is not None
    length = as_size(c, op.length) if by_data and op.length is not None else moved(c, COUNT, size)
    return Frames(length, as_size(c, op.step))


@sizes_by_data(StftOp)
def stft_sizes(op: StftOp, c: Conversion) -> Sizes:
    """The numbers of frames and of frequencies; no frames where they do not fit, or do not move on."""
    cut = _frames(op, c)
    frames, bins = shape_of(op.result)[1:3]

    def frames_of(p: Places, given: Value, step: Value) -> Value:
        length, step = p.index_of(given, False), p.index_of(step, False)
        room = p.sub(p.size(shape_of(op.x)[1]), length)
        fits = p.both(p.compare("ge", room, p.whole(0)), p.compare("gt", step, p.whole(0)))
        fits = p.both(fits, p.compare("gt", length, p.whole(0)))
        number = p.add(p.floordiv(room, p.maximum(step, p.whole(1))), p.whole(1))
        return p.integer_of(p.select(fits, number, p.whole(NO_SIZE)), I64)

    def bins_of(p: Places, given: Value, step: Value) -> Value:
        length = p.index_of(given, False)
        one_side = p.add(p.floordiv(length, p.whole(2)), p.whole(1))
        return p.integer_of(one_side if op.onesided else length, I64)

    found: dict[str, tuple[Value, None]] = {}
    for size, body in ((frames, frames_of), (bins, bins_of)):
        for name in free_symbols(size) & set(op.new_dims):
            found[name] = moved(c, COUNT, body, inputs=[cut.length, cut.step], maps=[[], []]), None
    return found


def stft_by_data(op: StftOp, c: Conversion) -> Value:
    """graph.stft %x, %step, %w  ->  out[b, t, k] = sum over j of x[b, step * t + j] * w[j] * roots[j * k mod n]"""
    result, cut = result_type(op), _frames(op, c)
    length: Dim | None = scalar_content(op.length) if op.length is not None else shape_of(op.x)[1]
    if op.window is not None:
        length = shape_of(op.window)[0]
    if length is None:
        length = born_size(op, c, cut.length, "transform")
    windows = [] if op.window is None else [c.new(op.window)]

    def sample(p: Places, j: Value, part: int, given: Sequence[Value]) -> Value:
        signal, step, *window = given
        start = p.mul(p.index_of(p.read(step, []), False), p.at(1))
        value = p.widened(p.read(signal, [p.at(0), p.add(start, j), p.whole(part)]))
        return p.mul(value, p.widened(p.read(window[0], [j]))) if window else value

    sources = [c.new(op.x), cut.step, *windows]
    return summed(c, result, length, lambda p, given: p.at(2), sample, sources, inverse=False)
