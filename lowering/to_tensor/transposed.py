"""Transposed convolutions -> a convolution for each phase of the stride, those with as many taps in one generic.

graph.conv_transpose %x, %w  ->  out[n, oc, s*q + r] = sum over ic, t of x[n, ic, q + place - place_step * t] *
                                                       w[ic, oc, tap + tap_step * t]

where `place` and `tap` are those of the phase r. Where the stride does not divide the kernel, some phases have a tap
more than others; they are made apart and put side by side:

%a = generic [n, oc, q, r below 1, t below 2];  %b = generic [n, oc, q, r below 1, t below 1]
%r = tensor.reshape (tensor.concat %a, %b)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import attrs

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.convolution import ConvTransposeOp
from stepwell.dialects.tensor import ConcatOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, ceildiv, dim_max
from stepwell.ir.types import TensorType
from stepwell.lowering.to_tensor.convolution import bordered, whole, with_channel_bias
from stepwell.lowering.to_tensor.places import Places, dims, moved, reduced, reshaped, result_type
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers, map_generic, reduce_generic


@lowers(ConvTransposeOp)
def conv_transpose(op: ConvTransposeOp, c: Conversion) -> Value:
    """graph.conv_transpose %x, %w  ->  a convolution for each phase of the stride (Shi et al., "Is the deconvolution
    layer the same as a convolutional layer?", 2016), so that weights that an element does not meet are no zeros that it
    is multiplied with. Where run time tells the kernel or what is cut off, the sum over the taps of computed phases."""
    result, x, w = result_type(op), c.new(op.x), c.new(op.w)
    kernel = tensor_type(w).shape[2:]
    begins = op.begins(tensor_type(x).shape[2:], kernel)
    channels = [tensor_type(x).shape[1], *tensor_type(w).shape[:2]] if op.groups > 1 else []
    known = [begin for begin in begins if isinstance(begin, int)]
    if len(known) == len(begins) and all(isinstance(size, int) for size in (*kernel, *channels)):
        made = PhasedConvolution(c, op, x, w, result, known).lower()
    else:
        made = of_any_kernel(c, op, x, w, result, begins)
    return made if op.bias is None else with_channel_bias(c, made, c.new(op.bias), result)


@attrs.frozen
class Phases:
    """Neighbouring phases of an axis that have as many taps, r below `count` behind those before them."""

    count: int
    taps: int
    tap: int
    """The first tap of the first phase. The next phase has the next one; behind tap stride - 1 comes tap 0."""
    place: int
    """What the first tap of the first phase reads, less q. Behind tap stride - 1 it is one more."""
    tap_step: int
    """From one tap of a phase to its next."""
    place_step: int
    """How much further in front the next tap reads."""


def phases_of(kernel: int, stride: int, dilation: int, begin: int) -> list[Phases]:
    """The phases of an axis whose result is cut off by `begin` in front.

    A tap k belongs to the phase p where dilation * k = p modulo the stride: with g the greatest common divisor of both,
    that is each (stride / g)-th tap behind the first, if g divides p. It reads q + (p - dilation * k) / stride."""
    common = gcd(stride, dilation)
    tap_step, place_step = stride // common, dilation // common
    made: list[Phases] = []
    for first in range(stride):
        turn, phase = divmod(first + begin, stride)
        tap = phase // common * pow(place_step, -1, tap_step) % tap_step
        taps = max(-(-(kernel - tap) // tap_step), 0) if phase % common == 0 else 0
        if dilation == 1 and made and made[-1].taps == taps:
            made[-1] = attrs.evolve(made[-1], count=made[-1].count + 1)
        else:
            made.append(Phases(1, taps, tap, turn + (phase - tap * dilation) // stride, tap_step, place_step))
    return made


class PhasedConvolution:
    """The generics of a transposed convolution that cuts off `begins` in front: out[n, oc, (q, r)..] = sum over ic, t..

    One border of zeros around the data serves all phases. Where a group has one channel, of data and of results, there
    is no sum over channels."""

    def __init__(
        self, c: Conversion, op: ConvTransposeOp, x: Value, w: Value, result: TensorType, begins: Sequence[int]
    ) -> None:
        self.c, self.op, self.w, self.result = c, op, w, result
        self.rank = len(begins)
        self.places = [ceildiv(size, s) for size, s in zip(result.shape[2:], op.strides, strict=True)]
        axes = zip(tensor_type(w).shape[2:], op.strides, op.dilations, begins, strict=True)
        self.phases = [phases_of(whole(kernel), *others) for kernel, *others in axes]
        low: list[int] = []
        high: list[Dim] = []
        for axis, (size, stride) in enumerate(zip(tensor_type(x).shape[2:], op.strides, strict=True)):
            reading = [phases for phases in self.phases[axis] if phases.taps]
            first = min(phases.place - phases.place_step * (phases.taps - 1) for phases in reading)
            last = max(phases.place + (phases.tap + phases.count - 1) // stride for phases in reading)
            low.append(max(-first, 0))
            high.append(dim_max(self.places[axis] - size + last, 0))
        self.low = low
        self.x = bordered(c, x, [0, 0, *low], [0, 0, *high], attribute_of(0, result.element))

    def lower(self) -> Value:
        """The result without bias."""
        full = [places * stride for places, stride in zip(self.places, self.op.strides, strict=True)]
        made = reshaped(self.c, self._beside([], 2), [*self.result.shape[:2], *full])
        if tuple(full) == tuple(self.result.shape[2:]):
            return made
        return moved(self.c, self.result, inputs=[made], maps=[dims(self.result.rank)])

    def _beside(self, chosen: Sequence[Phases], along: int) -> Value:
        """The results of the phases chosen of the first axes, with all phases of the others, the first of which is the
        result's dim `along`."""
        axis = len(chosen)
        if axis == self.rank:
            return self._sum(chosen)
        if len(self.phases[axis]) == 1:
            return self._beside([*chosen, *self.phases[axis]], along + 1)
        parts = [self._beside([*chosen, phases], along + 2) for phases in self.phases[axis]]
        return self.c.insert(ConcatOp(parts, axis=along + 1)).result

    def _target(self, chosen: Sequence[Phases]) -> tuple[list[Dim], list[AffineExpr]]:
        """The spatial sizes of the result of these phases, and where it is written by the dims (q, r) of each axis:
        place and phase are two axes where other phases are put beside."""
        sizes: list[Dim] = []
        target: list[AffineExpr] = []
        for axis, phases in enumerate(chosen):
            q, r = dims(2, 2 + 2 * axis)
            split = len(self.phases[axis]) > 1
            sizes.extend([self.places[axis], phases.count] if split else [self.places[axis] * phases.count])
            target.extend([q, r] if split else [q * self.op.strides[axis] + r])
        return sizes, target

    def _sum(self, chosen: Sequence[Phases]) -> Value:
        """out[n, oc, (q, r)..] = sum over ic, t.. of these phases' products; 0 where there is no tap"""
        shape, spatial = self._target(chosen)
        made = self.result.with_shape([*self.result.shape[:2], *shape])
        if not all(phases.taps for phases in chosen):
            return moved(self.c, made, lambda p: p.constant(0.0, made.element))
        groups, (inputs, each) = self.op.groups, tensor_type(self.w).shape[:2]
        inner = inputs if groups == 1 else whole(inputs) // groups
        depthwise = groups > 1 and inner == each == 1
        first = 2 + 2 * self.rank
        taps = dims(self.rank, first + (not depthwise))
        target = [dim(0), dim(1), *spatial]
        source, weights = [dim(0), dim(first)], [dim(first), dim(1)]
        space = [("n", "parallel", self.result.shape[0]), ("oc", "parallel", self.result.shape[1])]
        for axis, phases in enumerate(chosen):
            space.extend([(f"q{axis}", "parallel", self.places[axis]), (f"r{axis}", "parallel", phases.count)])
        if depthwise:
            source[1] = weights[0] = dim(1)
            weights[1] = const(0)
        else:
            space.append(("ic", "reduction", inner))
        for axis, phases in enumerate(chosen):
            space.append((f"t{axis}", "reduction", phases.taps))
        if groups > 1 and not depthwise:
            group = dim(len(space))
            source[1] = weights[0] = group * whole(inner) + dim(first)
            target[1] = group * whole(each) + dim(1)
            space[1] = ("oc", "parallel", each)
            space.append(("g", "parallel", groups))
        for axis, (phases, stride) in enumerate(zip(chosen, self.op.strides, strict=True)):
            q, r = dims(2, 2 + 2 * axis)
            tap = phases.tap + (const(0) if phases.count == 1 else r)
            source.append(q + tap // stride + (phases.place + self.low[axis]) - taps[axis] * phases.place_step)
            weights.append(tap % stride + taps[axis] * phases.tap_step)
        names, iterators, sizes = zip(*space, strict=True)
        accumulator = accumulator_type(self.result.element)
        return reduce_generic(
            self.c, [self.x, self.w], made, sizes=sizes, iterators=iterators, names=names,
            maps=[AffineMap(len(sizes), 0, exprs) for exprs in (source, weights, target)],
            body=lambda s, a, b: s.mul(a, b), combine=lambda s, a, b: s.add(a, b),
            identity=attribute_of(0, accumulator), accumulator=accumulator,
        )  # fmt: skip


def of_any_kernel(
    c: Conversion, op: ConvTransposeOp, x: Value, w: Value, result: TensorType, begins: Sequence[Dim]
) -> Value:
    """The result without bias, whatever the sizes: the phase of a result, its taps and what they read are computed (see
    `phases_of`), and what is outside is not added."""
    data, weights = tensor_type(x).shape, tensor_type(w).shape
    inner, rank = data[1] // op.groups, len(begins)
    steps = [stride // gcd(stride, dilation) for stride, dilation in zip(op.strides, op.dilations, strict=True)]
    taps = [ceildiv(size, step) for size, step in zip(weights[2:], steps, strict=True)]
    accumulator = accumulator_type(result.element)

    def along(p: Places, axis: int) -> tuple[Value, Value, Value]:
        """What is read along an axis, the tap, and whether there is such."""
        stride, dilation, step = op.strides[axis], op.dilations[axis], steps[axis]
        common, place = stride // step, p.add(p.at(2 + axis), p.size(begins[axis]))
        phase = p.mod(place, p.whole(stride))
        first = p.mul(p.floordiv(phase, p.whole(common)), p.whole(pow(dilation // common, -1, step)))
        tap = p.add(p.mod(first, p.whole(step)), p.mul(p.at(3 + rank + axis), p.whole(step)))
        distance = p.sub(place, p.mul(tap, p.whole(dilation)))
        source = p.floordiv(distance, p.whole(stride))
        exact = p.compare("eq", p.mul(source, p.whole(stride)), distance)
        inside = [p.compare("ge", source, p.whole(0)), p.compare("lt", source, p.size(data[2 + axis]))]
        return source, tap, p.all_of([exact, *inside, p.compare("lt", tap, p.size(weights[2 + axis]))])

    def body(p: Places, x: Value, w: Value) -> Value:
        each = p.size(weights[1])
        group = p.floordiv(p.at(1), each)
        channel = p.add(p.mul(group, p.size(inner)), p.at(2 + rank))
        sources, places, inside = zip(*(along(p, axis) for axis in range(rank)), strict=True)
        a = p.widened(p.read(x, [p.at(0), channel, *sources]))
        b = p.widened(p.read(w, [channel, p.sub(p.at(1), p.mul(group, each)), *places]))
        return p.select(p.all_of(inside), p.mul(a, b), p.constant(0.0, accumulator))

    made = reduced(
        c, result.with_element(accumulator), [inner, *taps], body, lambda p, a, b: p.add(a, b),
        attribute_of(0, accumulator), sources=[x, w],
    )  # fmt: skip
    return made if accumulator is result.element else map_generic(c, [made], result, lambda s, value: value)
