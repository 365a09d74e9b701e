"""Window functions and mel filter banks -> maps over their elements, computed in f64 and rounded once."""

from __future__ import annotations

import math as numbers

from stepwell.dialects import math
from stepwell.dialects.graph.base import tensor_type as graph_type
from stepwell.dialects.graph.signal import WINDOWS, MelWeightsOp, WindowFunctionOp
from stepwell.ir.affine_expr import AffineExpr
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import free_symbols
from stepwell.ir.types import F64, I64, is_unsigned
from stepwell.lowering.to_tensor.born import COUNT, Sizes, as_size, sizes_by_data
from stepwell.lowering.to_tensor.numbers import as_float, from_float
from stepwell.lowering.to_tensor.places import Places, moved, origin_place, reads_unsigned, result_type
from stepwell.lowering.to_tensor.rules import lowers

MEL_SCALE = 2595.0  # mels per decade of 1 + f / 700
MEL_CORNER = 700.0  # hertz


@sizes_by_data(WindowFunctionOp)
def window_sizes(op: WindowFunctionOp, c: Conversion) -> Sizes:
    """The number of elements."""
    return {op.new_dims[0]: (as_size(c, op.size), None)}


@lowers(WindowFunctionOp)
def window_function(op: WindowFunctionOp, c: Conversion) -> Value:
    """graph.window_function %n {kind = "hann"}  ->  out[i] = a + v (b + c v), v = 1 - cos(2 pi i / period)"""
    result = result_type(op)
    unsigned = is_unsigned(graph_type(op.result).element)

    def body(p: Places) -> Value:
        size = p.size(result.shape[0])
        period = size if op.periodic else p.sub(size, p.whole(1))
        lonely = p.compare("eq", period, p.whole(0))
        turn = p.divf(p.float_of(p.at(0)), p.float_of(p.maximum(period, p.whole(1))))
        angle = p.mul(turn, p.constant(2 * numbers.pi, F64))
        v = p.sub(p.constant(1.0, F64), p.unary(math.CosOp, angle))
        a, b, c = (p.constant(number, F64) for number in WINDOWS[op.kind])
        made = p.add(a, p.mul(v, p.add(b, p.mul(c, v))))
        made = p.select(lonely, p.constant(1.0, F64), made)
        return from_float(p, made, result.element, unsigned, round_=False)

    return moved(c, result, body)


@sizes_by_data(MelWeightsOp)
def mel_sizes(op: MelWeightsOp, c: Conversion) -> Sizes:
    """length // 2 + 1 frequencies, and the number of bins; those of the two that are not known."""
    found: dict[str, tuple[Value, None]] = {}
    for size, name in zip(graph_type(op.result).shape, ("length", "bins"), strict=True):
        for symbol in free_symbols(size) & set(op.new_dims):
            value = as_size(c, getattr(op, name))
            if name == "length":
                value = moved(c, COUNT, _frequencies, inputs=[value], maps=[[]])
            found[symbol] = (value, None)
    return found


def _frequencies(p: Places, length: Value) -> Value:
    half = p.floordiv(p.index_of(length, False), p.whole(2))
    return p.integer_of(p.add(half, p.whole(1)), I64)


@lowers(MelWeightsOp)
def mel_weights(op: MelWeightsOp, c: Conversion) -> Value:
    """graph.mel_weights %bins, %length, ..  ->  out[i, j] = the triangle over edges j, j + 1, j + 2 at i"""
    result = result_type(op)
    given = [op.bins, op.length, op.rate, op.low, op.high]
    signs = [reads_unsigned(value) for value in given]
    inputs = [c.new(value) for value in given]
    maps: list[list[AffineExpr]] = [origin_place(value) for value in inputs]
    unsigned = is_unsigned(graph_type(op.result).element)

    def body(p: Places, *args: Value) -> Value:
        bins, length, rate, low, high = (as_float(p, x, F64, s) for x, s in zip(args, signs, strict=True))
        one = p.constant(1.0, F64)
        start, end = _mels(p, low), _mels(p, high)
        step_count = p.add(bins, p.constant(2.0, F64))
        places = []
        for offset in range(3):
            number = p.float_of(p.add(p.at(1), p.whole(offset)))
            mel = p.add(start, p.divf(p.mul(number, p.sub(end, start)), step_count))
            hertz = p.mul(p.constant(MEL_CORNER, F64), p.sub(_power_of_ten(p, mel), one))
            places.append(p.floor(p.divf(p.mul(p.add(length, one), hertz), rate)))
        return from_float(p, _triangle(p, p.float_of(p.at(0)), *places), result.element, unsigned, round_=False)

    return moved(c, result, body, inputs=inputs, maps=maps)


def _mels(p: Places, hertz: Value) -> Value:
    """2595 log10(1 + f / 700)"""
    ratio = p.divf(hertz, p.constant(MEL_CORNER, F64))
    decades = p.divf(p.unary(math.LogOp, p.add(ratio, p.constant(1.0, F64))), p.constant(numbers.log(10), F64))
    return p.mul(decades, p.constant(MEL_SCALE, F64))


def _power_of_ten(p: Places, mel: Value) -> Value:
    """10 ** (mel / 2595)"""
    decades = p.divf(mel, p.constant(MEL_SCALE, F64))
    return p.unary(math.ExpOp, p.mul(decades, p.constant(numbers.log(10), F64)))


def _triangle(p: Places, at: Value, left: Value, center: Value, right: Value) -> Value:
    """Rises from 0 at `left` to 1 at `center`, falls to 0 at `right`; 1 at `center` where nothing rises."""
    zero, one = p.constant(0.0, F64), p.constant(1.0, F64)
    steep = p.compare("eq", center, left)
    run = p.select(steep, one, p.sub(center, left))
    inside = p.both(p.compare("ge", at, left), p.compare("le", at, center))
    rising = p.select(inside, p.select(steep, one, p.divf(p.sub(at, left), run)), zero)
    falls = p.both(p.compare("ge", at, center), p.compare("lt", at, right))
    falling = p.divf(p.sub(right, at), p.maximum(p.sub(right, center), one))
    return p.select(falls, falling, rising)
