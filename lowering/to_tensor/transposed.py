"""Transposed convolutions -> a convolution for each phase of the stride, all phases in one iteration space."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.convolution import ConvTransposeOp
from stepwell.dialects.tensor import PadOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, dim
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, ceildiv
from stepwell.ir.types import TensorType
from stepwell.lowering.to_tensor.convolution import whole, with_channel_bias
from stepwell.lowering.to_tensor.places import Places, dims, moved, result_type
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers, reduce_generic


@lowers(ConvTransposeOp)
def conv_transpose(op: ConvTransposeOp, c: Conversion) -> Value:
    """graph.conv_transpose %x, %w  ->  a convolution for each phase of the stride (Shi et al., "Is the deconvolution
    layer the same as a convolutional layer?", 2016):

    out[n, oc, s*q + r] =
        sum over ic, t of x[n, ic, q + (r + begin) floordiv s - t] * w[ic, oc, (r + begin) mod s + s*t]

    for t below ceil(kernel / s), the data padded by zeros where it is read outside, the weights behind their end. A
    kernel with dilations is one with zeros between its taps."""
    result = result_type(op)
    x, w = c.new(op.x), stuffed(c, c.new(op.w), op.dilations)
    made = PhasedConvolution(c, op, tensor_type(x), tensor_type(w), result).lower(x, w)
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


class PhasedConvolution:
    """The generic of a transposed convolution.

    Its dims are n, oc; (q, r) of each axis, place and phase; the input's channels; t of each axis; the group."""

    def __init__(self, c: Conversion, op: ConvTransposeOp, x: TensorType, w: TensorType, result: TensorType) -> None:
        self.c, self.op, self.x, self.w, self.result = c, op, x, w, result
        kernel = [size for size in w.shape[2:] if isinstance(size, int)]
        if len(kernel) != len(w.shape) - 2:
            raise NoMatch("a kernel of unknown size")
        self.kernel, self.rank = kernel, len(kernel)
        self.taps = [-(-k // s) for k, s in zip(kernel, op.strides, strict=True)]
        self.begins = self._begins()
        self.phases = [ceildiv(size, s) for size, s in zip(result.shape[2:], op.strides, strict=True)]

    def _begins(self) -> list[int]:
        """How much is cut off in front of each spatial axis."""
        if self.op.output_shape is None:
            return list(self.op.pads[: self.rank])
        full = self.op.full_sizes(self.x.shape[2:], tensor_type(self.op.w).shape[2:])
        if not all(isinstance(size, int) for size in full):
            raise NoMatch("a given output shape of data of unknown size")
        return self.op.begins([size for size in full if isinstance(size, int)])

    def lower(self, x: Value, w: Value) -> Value:
        """The result without bias."""
        low, high = self._borders()
        zero = attribute_of(0, self.result.element)
        if any((*low, *high)):
            x = self.c.insert(PadOp(x, low=[0, 0, *low], high=[0, 0, *high], value=zero)).result
        more = [t * s - k for t, s, k in zip(self.taps, self.op.strides, self.kernel, strict=True)]
        if any(more):
            none = [0] * (2 + self.rank)
            w = self.c.insert(PadOp(w, low=none, high=[0, 0, *more], value=zero)).result
        strides = self.op.strides
        full = [*self.result.shape[:2], *(p * s for p, s in zip(self.phases, strides, strict=True))]
        made = self._generic(x, w, low, self.result.with_shape(full))
        if tuple(full) == tuple(self.result.shape):
            return made
        return moved(self.c, self.result, inputs=[made], maps=[dims(self.result.rank)])

    def _borders(self) -> tuple[list[int], list[int]]:
        low, high = [], []
        for axis, stride in enumerate(self.op.strides):
            reach = self.phases[axis] - 1 + (stride - 1 + self.begins[axis]) // stride - (self.x.shape[2 + axis] - 1)
            if not isinstance(reach, int):
                raise NoMatch(f"the size {self.result.shape[2 + axis]} is not known to be a multiple of the stride")
            low.append(self.taps[axis] - 1)
            high.append(max(reach, 0))
        return low, high

    def _generic(self, x: Value, w: Value, low: Sequence[int], result: TensorType) -> Value:
        rank, groups = self.rank, self.op.groups
        channels = 2 + 2 * rank
        sizes: list[Dim] = [*result.shape[:2]]
        names, iterators = ["n", "oc"], ["parallel"] * channels
        target: list[AffineExpr] = [dim(0), dim(1)]
        source: list[AffineExpr] = [dim(0), dim(channels)]
        weights: list[AffineExpr] = [dim(channels), dim(1)]
        for axis, stride in enumerate(self.op.strides):
            q, r, t = dim(2 + 2 * axis), dim(3 + 2 * axis), dim(channels + 1 + axis)
            source.append(q + (r + self.begins[axis]) // stride - t + low[axis])
            weights.append((r + self.begins[axis]) % stride + t * stride)
            target.append(q * stride + r)
            sizes.extend([self.phases[axis], stride])
            names.extend([f"q{axis}", f"r{axis}"])
        inner = self.x.shape[1] if groups == 1 else whole(self.x.shape[1]) // groups
        sizes.extend([inner, *self.taps])
        names.extend(["ic", *(f"t{axis}" for axis in range(rank))])
        iterators.extend(["reduction"] * (1 + rank))
        if groups > 1:
            each, group = whole(self.w.shape[1]), dim(len(sizes))
            source[1] = weights[0] = group * whole(inner) + dim(channels)
            target[1] = group * each + dim(1)
            sizes = [sizes[0], each, *sizes[2:], groups]
            names.append("g")
            iterators.append("parallel")
        accumulator = accumulator_type(result.element)
        return reduce_generic(
            self.c, [x, w], result, sizes=sizes, iterators=iterators, names=names,
            maps=[AffineMap(len(sizes), 0, exprs) for exprs in (source, weights, target)],
            body=lambda s, a, b: s.mul(a, b), combine=lambda s, a, b: s.add(a, b),
            identity=attribute_of(0, accumulator), accumulator=accumulator,
        )  # fmt: skip
