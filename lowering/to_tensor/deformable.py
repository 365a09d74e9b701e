"""Deformable convolutions -> the displaced samples as an array, then a convolution that reads each of them once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from stepwell.dialects.graph.convolution import DeformConvOp
from stepwell.dialects.graph.shape import product
from stepwell.dialects.graph.windows import Window
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import const, dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import Type
from stepwell.lowering.to_tensor.convolution import apart_type, convolved, with_channel_bias
from stepwell.lowering.to_tensor.places import Places, dims, moved, reshaped, result_type
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers


@lowers(DeformConvOp)
def deform_conv(op: DeformConvOp, c: Conversion) -> Value:
    """graph.deform_conv %x, %w, %offset  ->  samples[n, c, t, place] = x read between its elements at place * stride -
    pad + tap t * dilation + offset; a convolution of [n, c, taps, places] by weights [m, c, taps, 1]

    Dai et al., "Deformable convolutional networks", 2017; masks: Zhu et al., 2019."""
    result, w = result_type(op), c.new(op.w)
    shape, weights = result.shape, tensor_type(w).shape
    taps, places = product(weights[2:]), product(shape[2:])
    samples = reshaped(c, displaced(c, op, taps), [shape[0], tensor_type(op.x).shape[1], taps, places])
    flat = Window((taps, 1), (1, 1), (1, 1), (0, 0, 0, 0))
    kernel = reshaped(c, w, [*weights[:2], taps, 1])
    made = convolved(c, samples, kernel, flat, op.groups, result.with_shape([*shape[:2], 1, places]))
    made = reshaped(c, made, shape)
    return made if op.bias is None else with_channel_bias(c, made, c.new(op.bias), result)


def displaced(c: Conversion, op: DeformConvOp, taps: Dim) -> Value:
    """[n, g, c, taps, places..] for offset groups g: linear interpolation along every axis, with zeros outside, times
    the mask."""
    result, x = result_type(op), c.new(op.x)
    type_, window = tensor_type(x), op.window(tensor_type(c.new(op.w)).shape)
    rank, wide = window.rank, accumulator_type(result.element)
    groups, places = op.offset_groups, dims(rank, 4)
    split = apart_type(type_, 1, groups)
    n, spots = result.shape[0], result.shape[2:]
    maps = [[dim(0), dim(1), dim(3), const(axis), *places] for axis in range(rank)]
    inputs = [reshaped(c, c.new(op.offset), [n, groups, taps, rank, *spots])] * rank
    if op.mask is not None:
        inputs.append(reshaped(c, c.new(op.mask), [n, groups, taps, *spots]))
        maps.append([dim(0), dim(1), dim(3), *places])
    x = reshaped(c, x, split.shape)

    def body(p: Places, *args: Value) -> Value:
        *given, source = args
        sides = [_sides(p, window, axis, type_.shape[2:], given[axis], wide) for axis in range(rank)]
        total = p.constant(0.0, wide)
        for corner in itertools.product(*sides):
            weight = corner[0][1]
            for _, other in corner[1:]:
                weight = p.mul(weight, other)
            read = p.widened(p.read(source, [p.at(0), p.at(1), p.at(2), *(place for place, _ in corner)]))
            total = p.add(total, p.mul(read, weight))
        if op.mask is not None:
            total = p.mul(total, p.widened(given[rank]))
        return p.narrowed(total, result.element)

    shape = [*split.shape[:3], taps, *spots]
    return moved(c, type_.with_shape(shape), body, inputs=inputs, maps=maps, sources=[x])


def _sides(
    p: Places, window: Window, axis: int, spatial: Sequence[Dim], offset: Value, wide: Type
) -> list[tuple[Value, Value]]:
    """(position, weight) of both neighbours of a sample along one axis."""
    begin, _ = window.pads_of(spatial)[axis]
    tap = p.floordiv(p.at(3), p.size(product(window.kernel[axis + 1 :])))
    tap = p.mod(tap, p.size(window.kernel[axis]))
    start = p.sub(p.mul(p.at(4 + axis), p.whole(window.strides[axis])), p.size(begin))
    base = p.add(start, p.mul(tap, p.whole(window.dilations[axis])))
    at = p.add(p.float_of(base, wide), p.widened(offset))
    below = p.floor(at)
    part, first = p.sub(at, below), p.whole_of(below)
    return [(first, p.sub(p.constant(1.0, wide), part)), (p.add(first, p.whole(1)), part)]
