"""Convolutions by 3 taps with fewer multiplications.

Two neighbouring outputs of a filter g by 3 taps need 4 products instead of 6, F(2, 3):

    m0 = (d0 - d2) g0                   m1 = (d1 - d2) (g1 - g0 - g2) / 2
    m2 = (d2 + d1) (g0 + g1 + g2) / 2   m3 = (d3 - d1) (-g2)
    y0 = (m2 + m1) + m0                 y1 = (m2 - m1) - m3

and along two dims 16 instead of 36 (S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and S. Gray,
Fast Algorithms for Convolutional Neural Networks, 2016). The four sums of the data, d[xi] + s(xi) d[2 - xi floordiv 2],
and the two of the products are maps; what is left of the contraction has a parallel dim `xi` instead of each dim of
taps:

    y[oh, ow] = sum over c, kh, kw of x[c, oh + kh, ow + kw] * w[c, kh, kw]
    ->  v[xi, nu, c, th, tw]  = sums of x at [c, 2 th + .., 2 tw + ..]
        m[xi, nu, th, tw]     = sum over c of v[xi, nu, c, th, tw] * u[xi, nu, c]
        y[oh, ow]             = sums of m at [.., .., oh floordiv 2, ow floordiv 2]

What is infinite or not a number in the data is then so in the outputs of its whole tile.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from stepwell.dialects import arith
from stepwell.dialects.generic_meaning import is_sum_of_products
from stepwell.dialects.tensor import (
    ConstantOp,
    DimsAttr,
    GenericOp,
    IndexOp,
    KernelOp,
    PadOp,
    YieldOp,
    tensor_type,
)
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.attributes import lazy_elements
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.dims import Dim
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import F32, F64, TensorType, bit_width
from stepwell.lowering.precision import is_strict
from stepwell.lowering.tensor.layout import split_index
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.sizes import size_of
from stepwell.memory import aligned_empty

Array = np.ndarray[Any, Any]

TAPS = 3
OUTPUTS = 2
PRODUCTS = OUTPUTS + TAPS - 1
PARTIAL = 64  # terms of a sum: the outputs are small differences of the products, with the products' errors
STRIDED = 8  # vectors of neighbours that lie in strides take so many times as long
BLOCK = 16  # tiles of a block
FILTER = np.array([[1, 0, 0], [-0.5, 0.5, -0.5], [0.5, 0.5, 0.5], [0, 0, -1]])  # u = FILTER g
PART = 1 << 16  # weights that are transformed at a time


@attrs.frozen
class Winograd(Pass):
    """Convolve by 3 taps with fewer multiplications where that is faster, or wherever it can be done."""

    name: ClassVar[str] = "winograd"
    enabled: bool = True
    always: bool = False

    def run(self, module: Operation, context: PassContext) -> None:
        if not self.enabled or is_strict(module):
            return
        machine = Machine.of(context.target)
        for op in list(module.walk_of(GenericOp)):
            if isinstance(op.parent_op, KernelOp) or not (windows := windows_of(op)):
                continue
            direct, fewer = cycles(op, (), machine), cycles(op, windows, machine)
            context.remark(op, f"{fewer:.3g} cycles with fewer products, {direct:.3g} without")
            if self.always or fewer < direct:
                Rewrite(op, windows).build()
                context.count("convolutions with fewer products")


@attrs.frozen
class Window:
    """A sum over 3 taps: x at `place + tap` along `axis`, the weights at `tap` along `weights_axis`, y at `place`."""

    axis: int
    place: int
    tap: int
    weights_axis: int


def windows_of(op: GenericOp) -> list[Window]:
    """The windows of a sum of products of data and constant weights."""
    if len(op.inputs) != 2 or op.sources or len(op.results) != 1 or op.combine is None:
        return []
    if not isinstance(op.inputs[1].defining_op, ConstantOp) or not is_sum_of_products(op.body, op.combine):
        return []
    element = tensor_type(op.results[0]).element
    kinds = {tensor_type(value).element for value in op.inputs} | {getattr(a, "type", None) for a in op.identities}
    if element not in (F32, F64) or kinds != {element}:
        return []
    data, weights, result = (map_.results for map_ in op.maps)
    found = []
    for axis, place in enumerate(data):
        form = place.linear_form()
        if form is None or form[1] or sorted(form[0].values()) != [1, 1]:
            continue
        taps = [d for d in form[0] if op.iterators[d] == "reduction" and op.sizes.dims[d] == TAPS]
        places = [d for d in form[0] if op.iterators[d] == "parallel"]
        if len(taps) != 1 or len(places) != 1:
            continue
        window = Window(axis, places[0], taps[0], weights.index(dim(taps[0])) if dim(taps[0]) in weights else -1)
        elsewhere = [e for n, e in enumerate((*data, *weights)) if n not in (axis, len(data) + window.weights_axis)]
        lone = [e for e in result if window.place in e.dims] == [dim(window.place)]
        if window.weights_axis >= 0 and lone and not any({window.tap, window.place} & e.dims for e in elsewhere):
            found.append(window)
    return found if op.iterators.count("reduction") > len(found) else []  # else the products alone would be left


def chosen_windows(op: GenericOp, machine: Machine) -> list[Window]:
    """The windows that fewer products are used for: all of them, or none where that takes longer."""
    windows = windows_of(op)
    return windows if windows and cycles(op, windows, machine) < cycles(op, (), machine) else []


def cycles(op: GenericOp, windows: Sequence[Window], machine: Machine) -> float:
    """Cycles that a convolution takes on one core: its multiply-adds, the loads of the sums, and what the products make
    pass through the caches.

    Without windows it is computed as it is; its operands count for nothing then, since they are read either way."""
    width = bit_width(op.results[0].type) // 8
    lanes = machine.vector_bytes // width
    sizes = [size_of(n) for n in op.sizes.dims]
    growth = 1.0
    for w in windows:
        growth *= -(-sizes[w.place] // OUTPUTS) * PRODUCTS / (sizes[w.place] * TAPS)
    steps = math.prod(sizes) * growth / (lanes * machine.fma_per_cycle)
    if not windows:
        return steps
    data, weights, result = (math.prod(map(size_of, tensor_type(v).shape)) * width for v in (*op.inputs, *op.results))
    tiles = math.pow(PRODUCTS / OUTPUTS, len(windows))
    filters = weights * math.pow(PRODUCTS / TAPS, len(windows))
    last = len(tensor_type(op.inputs[0]).shape) - 1
    strides = STRIDED if any(window.axis == last for window in windows) else 1
    sums = (data * strides + 3 * result) * tiles / machine.vector_bytes  # products are stored, loaded and added
    if filters <= machine.l2_bytes // 4:  # one kernel, by blocks of tiles, that reads all weights for each of them
        blocks = math.prod(sizes[w.place] / OUTPUTS for w in windows) / BLOCK
        traffic = blocks * stream(filters, machine)
    else:  # the products are written, and read again; the data is read once for every product of a tile
        traffic = 2 * stream(result * tiles, machine) + PRODUCTS ** len(windows) * stream(data, machine)
    return float(steps + sums + traffic)


def stream(count: float, machine: Machine) -> float:
    """Cycles in which so many bytes pass: from the second-level cache where they fit, else from beyond."""
    return count / (machine.l2_bandwidth if count <= machine.l2_bytes else machine.l3_bandwidth)


class Rewrite:
    """Replaces one convolution."""

    def __init__(self, op: GenericOp, windows: Sequence[Window]) -> None:
        self.op = op
        self.windows = windows
        self.builder = Builder.before(op)
        self.element = tensor_type(op.results[0]).element

    def build(self) -> None:
        """conv(x, w)  ->  outputs(contraction(sums(x), u))"""
        tiles = {w.place: (self.op.sizes.dims[w.place] + (OUTPUTS - 1)) // OUTPUTS for w in self.windows}
        data = self.sums_of_data(self.covering_data(tiles), tiles)
        products = self.products(data, self.weights(), tiles)
        before = [value.defining_op for value in self.op.inputs]
        self.op.replace_with([self.outputs(products)])
        for made in before:
            if isinstance(made, (PadOp, ConstantOp)) and not made.result.has_uses:
                made.erase()

    def covering_data(self, tiles: dict[int, Dim]) -> Value:
        """x, with a border behind it where the last tile reaches over its end."""
        x, high = self.op.inputs[0], self.missing(tiles)
        type_ = tensor_type(x)
        if not any(high):
            return x
        pad = x.defining_op
        zero = self.op.identities[0]
        if isinstance(pad, PadOp) and pad.value == zero and pad.result.has_one_use:
            x, low, high = pad.x, list(pad.low), [a + b for a, b in zip(pad.high, high, strict=True)]
        else:
            low = [0] * type_.rank
        return self.builder.insert(PadOp(x, low=low, high=high, value=zero)).result

    def missing(self, tiles: dict[int, Dim]) -> list[int]:
        """How far the last tile reaches over the end of each axis of x."""
        shape = tensor_type(self.op.inputs[0]).shape
        high = [0] * len(shape)
        for window in self.windows:
            missing = tiles[window.place] * OUTPUTS + (TAPS - 1) - shape[window.axis]
            high[window.axis] = max(0, missing) if isinstance(missing, int) else OUTPUTS - 1
        return high

    def sums_of_data(self, x: Value, tiles: dict[int, Dim]) -> Value:
        """v[xi, .., 2 t + ..] = x[.., 2 t + xi] + s(xi) x[.., 2 t + 2 - xi floordiv 2], along each window"""
        type_ = tensor_type(x)
        count = len(self.windows)
        shape = list(type_.shape)
        for window in self.windows:
            shape[window.axis] = tiles[window.place]
        sizes = [*([PRODUCTS] * count), *shape]
        maps = []
        for choice in itertools.product((0, 1), repeat=count):
            places: list[AffineExpr] = [dim(count + axis) for axis in range(type_.rank)]
            for n, window in enumerate(self.windows):
                at = dim(n) if choice[n] == 0 else const(2) - dim(n) // 2
                places[window.axis] = places[window.axis] * OUTPUTS + at
            maps.append(AffineMap(len(sizes), 0, places))
        maps.append(AffineMap.identity(len(sizes)))

        def body(builder: Builder, values: list[Value]) -> Value:
            for n in reversed(range(count)):
                plus = is_equal(builder, builder.insert(IndexOp(dim=n)).result, 2)
                values = [signed_sum(builder, plus, a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
            return values[0]

        names = [*self.names, *(f"d{axis}" for axis in range(type_.rank))]
        return self.map([x] * (1 << count), type_.with_shape(sizes), sizes, names, maps, body)

    def weights(self) -> Value:
        """u[xi, .., ..] = the sums of the weights along the taps of each window"""
        source = self.op.inputs[1].defining_op
        assert isinstance(source, ConstantOp)
        axes = [window.weights_axis for window in self.windows]
        left = [size for axis, size in enumerate(source.value.tensor_type.shape) if axis not in axes]
        value = lazy_elements(
            lambda array: transformed(array, axes, array.dtype), [source.value],
            TensorType((*[PRODUCTS] * len(axes), *left), self.element), f"{source.result.name or 'w'}_winograd",
        )  # fmt: skip
        return self.builder.insert(ConstantOp(value=value)).result

    def products(self, data: Value, weights: Value, tiles: dict[int, Dim]) -> Value:
        """m[xi, .., t] = the sum over the dims that are no taps of v * u"""
        op, count = self.op, len(self.windows)
        kept = [d for d in range(len(op.iterators)) if d not in {window.tap for window in self.windows}]
        new = {d: dim(count + n) for n, d in enumerate(kept)}
        exprs = [new.get(d, const(0)) for d in range(len(op.iterators))]
        total = count + len(kept)
        xis: list[AffineExpr] = [dim(n) for n in range(count)]
        of_data, of_weights, of_result = ([*m.replace_dims(exprs, total).results] for m in op.maps)
        for window in self.windows:
            of_data[window.axis] = new[window.place]
        of_weights = [e for axis, e in enumerate(of_weights) if axis not in {w.weights_axis for w in self.windows}]
        shape = list(tensor_type(op.results[0]).shape)
        for window in self.windows:
            shape[self.result_axis(window)] = tiles[window.place]
        made = GenericOp(
            [data, weights], (), result_types=[TensorType((*[PRODUCTS] * count, *shape), self.element)],
            regions=[region.clone({}) for region in op.regions],
            sizes=DimsAttr((*[PRODUCTS] * count, *(tiles.get(d, op.sizes.dims[d]) for d in kept))),
            iterators=[*["parallel"] * count, *(op.iterators[d] for d in kept)],
            names=[*self.names, *(op.names[d] for d in kept)], identities=op.identities, partial=PARTIAL,
            maps=[AffineMap(total, 0, [*xis, *of_data]), AffineMap(total, 0, [*xis, *of_weights]),
                  AffineMap(total, 0, [*xis, *of_result])], loc=op.loc,
        )  # fmt: skip
        return self.builder.insert(made).results[0]

    def outputs(self, products: Value) -> Value:
        """y[o] = (m[2] +- m[1]) +- m[3 (o mod 2)] at t = o floordiv 2, along each window"""
        result, sizes, names = self.space_of_result()
        axes = [self.result_axis(window) for window in self.windows]
        maps = []
        for choice in itertools.product((2, 1, 3), repeat=len(axes)):
            places = list(result.results)
            for axis in axes:
                places[axis] = dim(axis) // OUTPUTS
            xis = [dim(axis) % OUTPUTS * 3 if xi == 3 else const(xi) for xi, axis in zip(choice, axes, strict=True)]
            maps.append(AffineMap(len(sizes), 0, [*xis, *places]))

        def body(builder: Builder, values: list[Value]) -> Value:
            for axis in reversed(axes):
                place = builder.insert(IndexOp(dim=axis)).result
                two = builder.insert(arith.index_constant(OUTPUTS)).result
                even = is_equal(builder, builder.insert(arith.RemUIOp(place, two)).result, 0)
                values = [
                    signed_sum(builder, even, signed_sum(builder, even, *values[n : n + 2]), values[n + 2])
                    for n in range(0, len(values), 3)
                ]
            return values[0]

        type_ = tensor_type(self.op.results[0])
        return self.map([products] * 3 ** len(axes), type_, sizes, names, [*maps, result], body)

    def space_of_result(self) -> tuple[AffineMap, list[Dim], list[str]]:
        """(where y is written, sizes, names) over dims that are the axes of y, groups and channels as one.

        written (n, 8 * g + oc floordiv 16, oh, ow, oc mod 16), 128 channels in 2 groups
        ->  (n, c floordiv 16, oh, ow, c mod 16), 256 channels"""
        op = self.op
        places = op.output_maps[0].results
        sizes = list(tensor_type(op.results[0]).shape)
        names = [
            f"c{axis}" if place.dim_index is None else op.names[place.dim_index] for axis, place in enumerate(places)
        ]
        for window in self.windows:
            sizes[self.result_axis(window)] = op.sizes.dims[window.place]
        block = places[-1].terms[0][0].divisor if len(places[-1].terms) == 1 else 0
        if not block:
            return AffineMap.identity(len(sizes)), sizes, names
        inside = places[-1].dims
        axis = next(n for n, place in enumerate(places[:-1]) if inside & place.dims)
        channels: Dim = 1
        for d in places[axis].dims:
            channels = channels * op.sizes.dims[d]
        sizes[axis], names[axis] = channels, next(op.names[d] for d in inside)
        plain = AffineMap(len(sizes) - 1, 0, [dim(n) for n in range(len(sizes) - 1)])
        return split_index(plain, axis, block), sizes[:-1], names[:-1]

    def result_axis(self, window: Window) -> int:
        """The axis of y that a window moves along."""
        return self.op.output_maps[0].results.index(dim(window.place))

    @property
    def names(self) -> list[str]:
        """Those of the new dims."""
        return [f"xi{n}" for n in range(len(self.windows))]

    def map(
        self, inputs: Sequence[Value], result: TensorType, sizes: Sequence[Dim], names: Sequence[str],
        maps: Sequence[AffineMap], body: Callable[[Builder, list[Value]], Value],
    ) -> Value:  # fmt: skip
        """A generic that computes each element with `body`."""
        block = Block([self.element] * len(inputs))
        inside = Builder.at_end(block, self.op.loc)
        inside.insert(YieldOp([body(inside, list(block.arguments))]))
        made = GenericOp(
            list(inputs), (), result_types=[result], regions=[Region([block])], sizes=DimsAttr(tuple(sizes)),
            iterators=["parallel"] * len(sizes), names=list(names), maps=list(maps), loc=self.op.loc,
        )  # fmt: skip
        return self.builder.insert(made).results[0]


def is_equal(builder: Builder, index: Value, number: int) -> Value:
    """index == number"""
    other = builder.insert(arith.index_constant(number)).result
    return builder.insert(arith.CmpIOp(index, other, predicate="eq")).result


def signed_sum(builder: Builder, plus: Value, a: Value, b: Value) -> Value:
    """a + b where `plus` holds, else a - b"""
    total, difference = builder.insert(arith.AddFOp(a, b)).result, builder.insert(arith.SubFOp(a, b)).result
    return builder.insert(arith.SelectOp(plus, total, difference)).result


def transformed(weights: Array, axes: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """FILTER along each of some axes, which come first in the result; computed in 64 bits, a part of the weights at a
    time."""
    kept = [axis for axis in range(weights.ndim) if axis not in axes]
    source = weights.transpose(*kept, *axes)
    result = aligned_empty([len(FILTER)] * len(axes) + [weights.shape[axis] for axis in kept], dtype)
    target = np.moveaxis(result, range(len(axes)), range(len(kept), weights.ndim))
    step = max(1, PART * len(source) // max(1, source.size))
    for start in range(0, len(source), step):
        part = source[start : start + step].astype(np.float64)
        for axis in range(len(kept), weights.ndim):
            part = np.moveaxis(np.tensordot(FILTER, part, (1, axis)), 0, axis)
        target[start : start + step] = part
    return result
