"""Fourier transforms -> products with matrices of roots of unity, of long transforms by factors of their length.

X[.., k] = sum over j of x[.., j] * exp(-2 pi i j k / n), real and imaginary parts side by side: one contraction with a
constant matrix [n * parts, bins * 2]. A length above DIRECT that has factors is transformed in two steps (Cooley and
Tukey, "An algorithm for the machine calculation of complex Fourier series", 1965): n = p * q, j = q * j1 + j2 and
k = k1 + p * k2."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import constant_array, shape_of
from stepwell.dialects.graph.shape import product
from stepwell.dialects.graph.signal import DftOp, StftOp, roots_of_unity, scalar_content
from stepwell.dialects.tensor import ConstantOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.attributes import ElementsAttr, elements
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import TensorType, Type, numpy_dtype
from stepwell.lowering.to_tensor.fourier_by_data import (
    chosen_by_axis,
    dft_by_data,
    stft_by_data,
    transform_length,
    transformed_type,
)
from stepwell.lowering.to_tensor.places import Places, dims, moved, reshaped, result_type
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers, map_generic, reduce_generic, signless

DIRECT = 512  # the longest transform that is one product where its length has factors
STEP = 8  # the longest transform of a complex signal that is one product where its length has factors
LARGEST = 4096  # the longest one of prime length; its matrix has 64 MB per part


@lowers(DftOp)
def dft(op: DftOp, c: Conversion) -> Value:
    """graph.dft %x {axis = 1}  ->  the axis cut or filled with zeros and moved to the end; products; moved back

    An axis that data tell chooses among the transforms along each, where their lengths are known."""
    result, x = result_type(op), shape_of(op.x)
    axes = range(len(x) - 1) if op.axis is None else [op.axis]
    lengths = {axis: length for axis in axes
               if isinstance(length := transform_length(op, axis), int) and length > 0}  # fmt: skip
    if len(lengths) < len(axes):
        return dft_by_data(op, c)
    if op.axis is not None:
        return _along(op, c, op.axis, lengths[op.axis])
    return chosen_by_axis(op, c, [functools.partial(_along, op, c, axis, lengths[axis]) for axis in axes], result)


def _along(op: DftOp, c: Conversion, axis: int, length: int) -> Value:
    x = c.new(op.x)
    type_ = tensor_type(x)
    real = op.onesided and op.inverse
    result = transformed_type(op, signless(op.result.type), axis, length)
    wide = accumulator_type(type_.element)
    others = [size for other, size in enumerate(type_.shape[:-1]) if other != axis]
    lying = type_.with_element(wide).with_shape([*others, length, 2])
    rank = type_.rank

    def laid_out(p: Places, source: Value) -> Value:
        """x with the axis last, cut or filled up; of a one-sided spectrum the other half is the mirrored conjugate."""
        places = [p.at(n) for n in range(rank - 2)]
        at, part = p.at(rank - 2), p.at(rank - 1)
        if not real:
            return p.widened(p.read(source, [*places[:axis], at, *places[axis:], part]))
        mirrored = p.compare("gt", at, p.whole(length // 2))
        near = p.select(mirrored, p.sub(p.whole(length), at), at)
        value = p.widened(p.read(source, [*places[:axis], near, *places[axis:], part]))
        flips = p.both(mirrored, p.compare("eq", part, p.whole(1)))
        return p.select(flips, p.negate(value), value)

    rows = reshaped(c, moved(c, lying, laid_out, sources=[x]), [product(others), length, 2])
    bins = result.shape[axis]
    assert isinstance(bins, int)
    whole_first = tensor_type(x).shape[-1] == 1
    spectrum = transformed(c, rows, length, op.inverse, length if real else bins, DIRECT if whole_first else STEP)
    scale = 1 / length if op.inverse else 1.0
    back = [*dims(axis), *dims(rank - 2 - axis, axis + 1), dim(axis), dim(rank - 1)]
    whole = reshaped(c, spectrum, [*others, *tensor_type(spectrum).shape[1:]])
    return moved(
        c, result, lambda p, v: p.narrowed(p.mul(v, p.constant(scale, wide)) if op.inverse else v, result.element),
        inputs=[whole], maps=[back],
    )  # fmt: skip


@lowers(StftOp)
def stft(op: StftOp, c: Conversion) -> Value:
    """graph.stft %x, %step, %w  ->  frames[b, t, j] = x[b, step * t + j] * w[j]; products

    A window that is known is part of the matrix: then a frame is the window of a convolution."""
    result = result_type(op)
    x, step = c.new(op.x), scalar_content(op.step)
    length = tensor_type(x).shape[1]
    if op.window is not None:
        length = tensor_type(c.new(op.window)).shape[0]
    elif op.length is not None:
        length = scalar_content(op.length) or length
    bins = result.shape[2]
    if not isinstance(length, int) or not isinstance(step, int) or not isinstance(bins, int):
        return stft_by_data(op, c)
    wide = accumulator_type(result.element)
    window = np.ones(length) if op.window is None else constant_array(op.window)
    if window is not None and length <= DIRECT and isinstance(tensor_type(x).shape[2], int):
        parts = tensor_type(x).shape[2]
        matrix = roots(length, bins, False)[:, :parts] * window.astype(np.float64)[:, None, None, None]
        return _framed_product(c, x, matrix, step, result)
    inputs = [] if op.window is None else [c.new(op.window)]

    def frame(p: Places, *args: Value) -> Value:
        at = p.add(p.mul(p.at(1), p.whole(step)), p.at(2))
        value = p.widened(p.read(args[-1], [p.at(0), at, p.at(3)]))
        return p.mul(value, p.widened(args[0])) if inputs else value

    lying = result.with_element(wide).with_shape([*result.shape[:2], length, 2])
    frames = moved(c, lying, frame, inputs=inputs, maps=[[dim(2)]] * len(inputs), sources=[x])
    rows = reshaped(c, frames, [result.shape[0] * result.shape[1], length, 2])
    made = reshaped(c, transformed(c, rows, length, False, bins), result.shape)
    return made if wide is result.element else map_generic(c, [made], result, lambda s, v: v)


def _framed_product(
    c: Conversion, x: Value, matrix: np.ndarray, step: int, result: TensorType,
) -> Value:  # fmt: skip
    """out[b, t, (k, part)] = sum over j, c of x[b, step * t + j, c] * m[j, c, (k, part)]"""
    length, parts, bins, _ = matrix.shape
    b, t, n, j, part = (dim(number) for number in range(5))
    shape = [*result.shape[:2], bins * 2]
    weights = constant(c, matrix.reshape(length, parts, bins * 2), accumulator_type(result.element))
    source: list[AffineExpr] = [b, t * step + j, part]
    made = _contracted(c, [x, weights], result.with_shape(shape), [*shape, length, parts],
                       [source, [j, part, n], [b, t, n]], ["b", "t", "n", "j", "part"])  # fmt: skip
    return reshaped(c, made, result.shape)


def transformed(
    c: Conversion, x: Value, length: int, inverse: bool, bins: int, direct: int = DIRECT,
) -> Value:  # fmt: skip
    """[rows, length, 2] -> [rows, bins, 2], the first frequencies, without a scale; one product up to `direct`."""
    p = _factor(length, direct)
    if p is None and length > LARGEST:
        raise NoMatch(f"a transform of length {length}, which has a prime factor above {LARGEST}")
    rows, element = tensor_type(x).shape[0], tensor_type(x).element
    if p is None:
        matrix = roots(length, bins, inverse).reshape(length * 2, bins * 2)
        m, n, k = dim(0), dim(1), dim(2)
        shape = [rows, bins * 2]
        made = _contracted(c, [reshaped(c, x, [rows, length * 2]), constant(c, matrix, element)],
                           TensorType(tuple(shape), element), [*shape, length * 2],
                           [[m, k], [k, n], [m, n]], ["m", "n", "k"])  # fmt: skip
        return reshaped(c, made, [rows, bins, 2])
    q = length // p
    apart = reshaped(c, x, [rows, p, q, 2])
    columns = _with_order(c, apart, (0, 2, 1, 3))  # [rows, j2, j1]
    inner = transformed(c, reshaped(c, columns, [rows * q, p, 2]), p, inverse, p)  # [rows * j2, k1]
    turned = _twiddled(c, reshaped(c, inner, [rows, q, p, 2]), length, inverse)
    lines = _with_order(c, turned, (0, 2, 1, 3))  # [rows, k1, j2]
    outer = transformed(c, reshaped(c, lines, [rows * p, q, 2]), q, inverse, q)  # [rows * k1, k2]
    ordered = _with_order(c, reshaped(c, outer, [rows, p, q, 2]), (0, 2, 1, 3))  # [rows, k2, k1]
    made = reshaped(c, ordered, [rows, length, 2])
    if bins == length:
        return made
    return moved(c, tensor_type(made).with_shape([rows, bins, 2]), inputs=[made], maps=[dims(3)])


def _twiddled(c: Conversion, x: Value, length: int, inverse: bool) -> Value:
    """x[r, j2, k1] times exp(-2 pi i j2 k1 / length)."""
    type_ = tensor_type(x)
    _, q, p, _ = type_.shape
    assert isinstance(q, int) and isinstance(p, int)
    turns = np.outer(np.arange(q), np.arange(p))
    cosine, sine = (constant(c, table, type_.element) for table in roots_of_unity(turns, length, inverse))

    def turn(s: Places, a: Value, b: Value, cos: Value, sin: Value) -> Value:
        imaginary = s.compare("eq", s.at(3), s.whole(1))
        return s.select(imaginary, s.add(s.mul(a, sin), s.mul(b, cos)), s.sub(s.mul(a, cos), s.mul(b, sin)))

    parts = [[dim(0), dim(1), dim(2), const(part)] for part in range(2)]
    tables = [[dim(1), dim(2)]] * 2
    return moved(c, type_, turn, inputs=[x, x, cosine, sine], maps=[*parts, *tables])


def _with_order(c: Conversion, x: Value, order: Sequence[int]) -> Value:
    type_ = tensor_type(x)
    shape = [type_.shape[axis] for axis in order]
    return moved(c, type_.with_shape(shape), inputs=[x], maps=[[dim(order.index(axis)) for axis in range(len(order))]])


def _contracted(
    c: Conversion, inputs: Sequence[Value], result: TensorType, sizes: Sequence[Dim],
    maps: Sequence[Sequence[AffineExpr]], names: Sequence[str],
) -> Value:  # fmt: skip
    accumulator = accumulator_type(result.element)
    return reduce_generic(
        c, inputs, result, sizes=sizes, names=names,
        iterators=["parallel"] * result.rank + ["reduction"] * (len(sizes) - result.rank),
        maps=[AffineMap(len(sizes), 0, exprs) for exprs in maps], body=lambda s, a, b: s.mul(a, b),
        combine=lambda s, a, b: s.add(a, b), identity=attribute_of(0, accumulator), accumulator=accumulator,
    )  # fmt: skip


def _factor(length: int, direct: int) -> int | None:
    """The largest factor up to the root of a length that is too long for one product."""
    if length <= direct:
        return None
    return next((p for p in range(math.isqrt(length), 1, -1) if length % p == 0), None)


def roots(length: int, bins: int, inverse: bool) -> np.ndarray:
    """[length, 2, bins, 2]: the products of a sample's parts with exp(-+ 2 pi i j k / length), for its parts."""
    cos, sin = roots_of_unity(np.outer(np.arange(length), np.arange(bins)), length, inverse)
    return np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], axis=1)


def constant(c: Conversion, array: np.ndarray, element: Type) -> Value:
    """An array as a constant of an element type."""
    type_ = TensorType(array.shape, element)
    value = elements(np.ascontiguousarray(array).astype(numpy_dtype(type_)), type_, "roots")
    assert isinstance(value, ElementsAttr)
    return c.insert(ConstantOp(value=value)).result
