"""Transposed convolutions -> a convolution for each phase of the stride, all phases in one iteration space."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.convolution import ConvTransposeOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, ceildiv, dim_max
from stepwell.ir.types import TensorType
from stepwell.lowering.to_tensor.convolution import apart, apart_type, bordered, whole, with_channel_bias
from stepwell.lowering.to_tensor.places import Places, dims, moved, reshaped, result_type
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers, reduce_generic


@lowers(ConvTransposeOp)
def conv_transpose(op: ConvTransposeOp, c: Conversion) -> Value:
    """graph.conv_transpose %x, %w  ->  a convolution for each phase of the stride (Shi et al., "Is the deconvolution
    layer the same as a convolutional layer?", 2016):

    out[n, oc, s*q + r] =
        sum over ic, t of x[n, ic, q + (r + begin) floordiv s - t] * w[ic, oc, (r + begin) mod s + s*t]

    for t below ceil(kernel / s), the data padded by zeros where it is read outside, the weights behind their end. A
    kernel with dilations is one with zeros between its taps. Where `begin` is not known, it is cut off behind."""
    result = result_type(op)
    x, w = c.new(op.x), stuffed(c, c.new(op.w), op.dilations)
    begins = op.begins(tensor_type(op.x).shape[2:], tensor_type(op.w).shape[2:])
    known = [begin for begin in begins if isinstance(begin, int)]
    if len(known) == len(begins):
        made = PhasedConvolution(c, op, x, w, result, known).lower()
    else:
        sizes = [begin + size for begin, size in zip(begins, result.shape[2:], strict=True)]
        uncut = result.with_shape([*result.shape[:2], *sizes])
        made = PhasedConvolution(c, op, x, w, uncut, [0] * len(begins)).lower()
        lack = [-begin for begin in begins]
        made = bordered(c, made, [0, 0, *lack], [0] * result.rank, attribute_of(0, result.element))
        made = reshaped(c, made, result.shape)
    return made if op.bias is None else with_channel_bias(c, made, c.new(op.bias), result)


def stuffed(c: Conversion, w: Value, dilations: Sequence[int]) -> Value:
    """w[ic, oc, k]  ->  v[ic, oc, e] = w[ic, oc, e / dilation] where that is a whole place, else 0"""
    if all(step == 1 for step in dilations):
        return w
    type_ = tensor_type(w)
    extents = [(size - 1) * step + 1 for size, step in zip(type_.shape[2:], dilations, strict=True)]

    def body(p: Places, source: Value) -> Value:
        places = [p.at(0), p.at(1)]
        for axis, step in enumerate(dilations):
            tap = p.floordiv(p.at(2 + axis), p.whole(step))
            exact = p.compare("eq", p.mul(tap, p.whole(step)), p.at(2 + axis))
            places.append(p.select(exact, tap, p.whole(-1)))
        return p.read(source, places)

    return moved(c, type_.with_shape([*type_.shape[:2], *extents]), body, sources=[w])


def by_phase(c: Conversion, w: Value, strides: Sequence[int]) -> Value:
    """w[ic, oc, k..]  ->  v[ic, oc, r.., u..] = w[ic, oc, r + s * (T - 1 - u)] for T = ceil(kernel / s), 0 behind its
    end: each phase with its taps in the order in which they read the data"""
    type_, rank = tensor_type(w), len(strides)
    taps = [ceildiv(size, step) for size, step in zip(type_.shape[2:], strides, strict=True)]

    def body(p: Places, source: Value) -> Value:
        places = [p.at(0), p.at(1)]
        for axis, step in enumerate(strides):
            tap = p.sub(p.size(taps[axis] - 1), p.at(2 + rank + axis))
            places.append(p.add(p.at(2 + axis), p.mul(tap, p.whole(step))))
        return p.read(source, places)

    return moved(c, type_.with_shape([*type_.shape[:2], *strides, *taps]), body, sources=[w])


class PhasedConvolution:
    """The generic of a transposed convolution that cuts off `begins` in front.

    Its dims are n, oc; (q, r) of each axis, place and phase; the input's channels; t of each axis; the group."""

    def __init__(
        self, c: Conversion, op: ConvTransposeOp, x: Value, w: Value, result: TensorType, begins: Sequence[int]
    ) -> None:
        self.c, self.op, self.x, self.w, self.result, self.begins = c, op, x, w, result, begins
        self.kernel = tensor_type(w).shape[2:]
        self.rank = len(self.kernel)
        self.taps = [ceildiv(k, s) for k, s in zip(self.kernel, op.strides, strict=True)]
        self.phases = [ceildiv(size, s) for size, s in zip(result.shape[2:], op.strides, strict=True)]
        self.zero = attribute_of(0, result.element)

    def lower(self) -> Value:
        """The result without bias."""
        c, strides = self.c, self.op.strides
        low, high = self._borders()
        x = bordered(c, self.x, [0, 0, *low], [0, 0, *high], self.zero)
        full = [*self.result.shape[:2], *(p * s for p, s in zip(self.phases, strides, strict=True))]
        shapes = [*tensor_type(x).shape[1:2], *tensor_type(self.w).shape]
        if all(isinstance(size, int) for size in (shapes if self.op.groups > 1 else self.kernel)):
            made = self._generic(x, self._lengthened(), self.result.with_shape(full))
        else:
            made = self._of_any_kernel(x, by_phase(c, self.w, strides), self.result.with_shape(full))
        if tuple(full) == tuple(self.result.shape):
            return made
        return moved(c, self.result, inputs=[made], maps=[dims(self.result.rank)])

    def _lengthened(self) -> Value:
        """The weights with zeros up to a whole number of taps in each phase."""
        more = [t * s - k for t, s, k in zip(self.taps, self.op.strides, self.kernel, strict=True)]
        return bordered(self.c, self.w, [0] * (2 + self.rank), [0, 0, *more], self.zero)

    def _borders(self) -> tuple[list[Dim], list[Dim]]:
        low: list[Dim] = []
        high: list[Dim] = []
        sizes = tensor_type(self.x).shape[2:]
        for axis, stride in enumerate(self.op.strides):
            reach = self.phases[axis] - 1 + (stride - 1 + self.begins[axis]) // stride - (sizes[axis] - 1)
            low.append(self.taps[axis] - 1)
            high.append(dim_max(reach, 0))
        return low, high

    def _generic(self, x: Value, w: Value, result: TensorType) -> Value:
        rank, groups = self.rank, self.op.groups
        channels = 2 + 2 * rank
        sizes: list[Dim] = [*result.shape[:2]]
        names, iterators = ["n", "oc"], ["parallel"] * channels
        target: list[AffineExpr] = [dim(0), dim(1)]
        source: list[AffineExpr] = [dim(0), dim(channels)]
        weights: list[AffineExpr] = [dim(channels), dim(1)]
        for axis, stride in enumerate(self.op.strides):
            q, r, t = dim(2 + 2 * axis), dim(3 + 2 * axis), dim(channels + 1 + axis)
            source.append(q + (r + self.begins[axis]) // stride - t + whole(self.taps[axis] - 1))
            weights.append((r + self.begins[axis]) % stride + t * stride)
            target.append(q * stride + r)
            sizes.extend([self.phases[axis], stride])
            names.extend([f"q{axis}", f"r{axis}"])
        inputs = tensor_type(x).shape[1]
        inner = inputs if groups == 1 else whole(inputs) // groups
        sizes.extend([inner, *self.taps])
        names.extend(["ic", *(f"t{axis}" for axis in range(rank))])
        iterators.extend(["reduction"] * (1 + rank))
        if groups > 1:
            each, group = whole(tensor_type(w).shape[1]), dim(len(sizes))
            source[1] = weights[0] = group * whole(inner) + dim(channels)
            target[1] = group * each + dim(1)
            sizes = [sizes[0], each, *sizes[2:], groups]
            names.append("g")
            iterators.append("parallel")
        return self._sum(x, w, result, sizes, iterators, names, (source, weights, target))

    def _of_any_kernel(self, x: Value, w: Value, result: TensorType) -> Value:
        """The same with the groups as an axis, and weights by phase: x [n, g, ic, ..], w [g, ic, oc, r.., u..]"""
        c, rank, groups = self.c, self.rank, self.op.groups
        x, w, split = apart(c, x, 1, groups), apart(c, w, 0, groups), apart_type(result, 1, groups)
        channels = 3 + 2 * rank
        sizes: list[Dim] = [*split.shape[:3]]
        names, iterators = ["n", "g", "oc"], ["parallel"] * channels + ["reduction"] * (1 + rank)
        target, source = [*dims(3)], [dim(0), dim(1), dim(channels)]
        weights, taps = [dim(1), dim(channels), dim(2)], [dim(channels + 1 + axis) for axis in range(rank)]
        for axis, stride in enumerate(self.op.strides):
            q, r = dim(3 + 2 * axis), dim(4 + 2 * axis)
            source.append(q + (r + self.begins[axis]) // stride + taps[axis])
            weights.append((r + self.begins[axis]) % stride)
            target.append(q * stride + r)
            sizes.extend([self.phases[axis], stride])
            names.extend([f"q{axis}", f"r{axis}"])
        sizes.extend([tensor_type(x).shape[2], *self.taps])
        names.extend(["ic", *(f"t{axis}" for axis in range(rank))])
        made = self._sum(x, w, split, sizes, iterators, names, (source, [*weights, *taps], target))
        return reshaped(c, made, result.shape)

    def _sum(
        self, x: Value, w: Value, result: TensorType, sizes: Sequence[Dim], iterators: Sequence[str],
        names: Sequence[str], maps: Sequence[Sequence[AffineExpr]],
    ) -> Value:  # fmt: skip
        accumulator = accumulator_type(result.element)
        return reduce_generic(
            self.c, [x, w], result, sizes=sizes, iterators=iterators, names=names,
            maps=[AffineMap(len(sizes), 0, exprs) for exprs in maps],
            body=lambda s, a, b: s.mul(a, b), combine=lambda s, a, b: s.add(a, b),
            identity=attribute_of(0, accumulator), accumulator=accumulator,
        )  # fmt: skip
