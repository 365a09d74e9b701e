"""Convolutions: plain, of 8-bit integers, transposed and deformable, over any number of spatial axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, GraphOp, require_stretch, same_element, shape_of, tensor_type
from stepwell.dialects.graph.contraction import BYTE_TENSOR, SI32_TENSOR
from stepwell.dialects.graph.demands import demand_equal, demand_multiple
from stepwell.dialects.graph.numeric import rounded, widened
from stepwell.dialects.graph.windows import PADDING, Window, sliding_view, static_sizes
from stepwell.errors import IRError
from stepwell.ir.attrkinds import INT, INTS
from stepwell.ir.constraints import FLOAT_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, dim_max, floordiv, proven_different
from stepwell.ir.opdef import attr, operand, optional_operand, result
from stepwell.ir.types import SI32, TensorType, Type, numpy_dtype


class WindowedOp(GraphOp):
    """Base of the convolutions: x is [n, c, spatial...], w is [m, c / groups, kernel...].

    With `groups` = 0 each channel is a group of its own, and makes one channel: w is [c, 1, kernel...]."""

    strides: tuple[int, ...] = attr(INTS)
    dilations: tuple[int, ...] = attr(INTS)
    pads: tuple[int, ...] = attr(INTS)
    padding: str = attr(PADDING, default="explicit")
    groups: int = attr(INT, default=1)
    kernel: tuple[int, ...] | None = attr(INTS, default=None)

    def window(self, w_shape: Sequence[Dim]) -> Window:
        """The window, its kernel taken from the weights' shape. Raises IRError where it is malformed."""
        kernel = kernel_sizes(w_shape, self.kernel)
        window = Window(tuple(kernel), self.strides, self.dilations, self.pads, self.padding)
        window.check()
        return window

    def check_channels(self, x: Sequence[Dim], w: Sequence[Dim]) -> None:
        """Raise IRError where the shapes of data and weights do not fit."""
        if len(x) < 3 or len(x) != len(w):
            raise IRError(f"data and weights need the same rank of at least 3, not {len(x)} and {len(w)}")
        if self.groups < 0:
            raise IRError(f"the number of groups must not be negative, not {self.groups}")
        if self.groups == 0:
            for what, a, b in (("channels of data and weights", x[1], w[0]), ("channels of a group", w[1], 1)):
                if proven_different(a, b):
                    raise IRError(f"a group for each channel: the {what} are {a} and {b}")
                demand_equal(a, b, f"a group for each channel: the {what}")
            return
        if isinstance(x[1], int) and isinstance(w[1], int) and x[1] != w[1] * self.groups:
            raise IRError(f"data has {x[1]} channels, weights expect {self.groups} groups of {w[1]}")
        demand_equal(x[1], w[1] * self.groups, "the channels of data and weights")
        if isinstance(w[0], int) and w[0] % self.groups:
            raise IRError(f"{w[0]} result channels do not split into {self.groups} groups")
        demand_multiple(w[0], self.groups, "the result channels split into groups")


def kernel_sizes(w_shape: Sequence[Dim], kernel: Sequence[int] | None) -> Sequence[Dim]:
    """The sizes of a kernel: those of weights [.., .., kernel...], which have to be what the op says they are, if it
    does. Raises IRError where they are not."""
    sizes = w_shape[2:]
    if kernel is None:
        return sizes
    if len(kernel) != len(sizes) or any(map(proven_different, sizes, kernel)):
        raise IRError(f"a kernel of {list(kernel)} differs from the weights' {list(sizes)}")
    for size, wanted in zip(sizes, kernel, strict=True):
        demand_equal(size, wanted, "the kernel and the weights")
    return kernel


def check_bias(bias: Value | None, channels: Dim) -> None:
    """Raise IRError where a bias is not one number per result channel."""
    if bias is None:
        return
    shape = shape_of(bias)
    if len(shape) != 1 or (isinstance(shape[0], int) and isinstance(channels, int) and shape[0] != channels):
        raise IRError(f"the bias needs shape [{channels}], not [{', '.join(map(str, shape))}]")
    demand_equal(shape[0], channels, "the bias and the result channels")


def with_bias(y: Array, bias: Any) -> Array:
    """[n, m, ...] plus a bias [m]."""
    return y + widened(bias).reshape(-1, *[1] * (y.ndim - 2))


def contract_windows(views: Array, w: Array, groups: int) -> Array:
    """[n, m, places...]: windows [n, c, places..., kernel...] times weights [m, c / groups, kernel...], summed.
    `groups` = 0: each channel is one."""
    rank = w.ndim - 2
    groups = groups or views.shape[1]
    if groups == 0:
        return np.zeros((views.shape[0], 0, *views.shape[2 : views.ndim - rank]), views.dtype)
    out = []
    for view, weights in zip(np.split(views, groups, axis=1), np.split(w, groups, axis=0), strict=True):
        # As a product of matrices: `tensordot` may scale a vector instead, and takes 0 * inf for 0 there.
        rows = np.moveaxis(view, 1, view.ndim - rank - 1)
        count, *places = rows.shape[: view.ndim - rank - 1]
        taps = math.prod(weights.shape[1:])
        y = rows.reshape(math.prod((count, *places)), taps) @ weights.reshape(len(weights), taps).T
        out.append(np.moveaxis(y.reshape(count, *places, len(weights)), -1, 1))
    return np.concatenate(out, axis=1)


class ConvOp(WindowedOp):
    """Convolution (cross-correlation): x [n, c, spatial...], w [m, c / groups, kernel...], bias [m] ->
    [n, m, places...].

    `pads` lists begins, then ends; with another `padding` than explicit they follow from the run-time sizes and `pads`
    is ignored. Floats narrower than f32 are accumulated in f32. Stands for ONNX Conv.

    ```mlir
    %x = "test.value"() : () -> tensor<1x4x9x9xf32>
    %w = "test.value"() : () -> tensor<8x2x3x3xf32>
    %r = graph.conv %x, %w {strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>,
      pads = array<i64: 1, 1, 1, 1>, groups = 2}
      : (tensor<1x4x9x9xf32>, tensor<8x2x3x3xf32>) -> tensor<1x8x5x5xf32>
    ```
    """

    name = "graph.conv"
    x: Value = operand(FLOAT_TENSOR)
    w: Value = operand(FLOAT_TENSOR)
    bias: Value | None = optional_operand(FLOAT_TENSOR)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        x, w = shape_of(self.x), shape_of(self.w)
        self.check_channels(x, w)
        check_bias(self.bias, w[0])
        places = self.window(w).places(x[2:])
        element = same_element(*self.operands)
        return [TensorType((x[0], w[0], *places), element)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, w = widened(args[0]), widened(args[1])
        with np.errstate(all="ignore"):
            y = contract_windows(sliding_view(x, self.window(w.shape), 0), w, self.groups)
            y = y if self.bias is None else with_bias(y, args[2])
        return rounded(y, numpy_dtype(tensor_type(self.results[0])))


class ConvIntegerOp(WindowedOp):
    """Exact convolution of 8-bit integers less their zero points, in si32 that wraps; the padding counts as zero point.

    x_zero is a scalar, w_zero a scalar or one per result channel [m]; absent means 0. Stands for ONNX ConvInteger and
    the integer core of QLinearConv.

    ```mlir
    %x = "test.value"() : () -> tensor<1x1x3x3xui8>
    %w = "test.value"() : () -> tensor<1x1x2x2xui8>
    %z = "test.value"() : () -> tensor<ui8>
    %r = graph.conv_integer %x, %w, %z {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>,
      pads = array<i64: 1, 1, 1, 1>, operandSegmentSizes = array<i32: 1, 1, 1, 0>}
      : (tensor<1x1x3x3xui8>, tensor<1x1x2x2xui8>, tensor<ui8>) -> tensor<1x1x4x4xsi32>
    ```
    """

    name = "graph.conv_integer"
    x: Value = operand(BYTE_TENSOR)
    w: Value = operand(BYTE_TENSOR)
    x_zero: Value | None = optional_operand(BYTE_TENSOR)
    w_zero: Value | None = optional_operand(BYTE_TENSOR)
    result: Value = result(SI32_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        x, w = shape_of(self.x), shape_of(self.w)
        self.check_channels(x, w)
        for zero, side in ((self.x_zero, self.x), (self.w_zero, self.w)):
            if zero is not None:
                same_element(zero, side)
        if self.w_zero is not None and len(shape_of(self.w_zero)) > 1:
            raise IRError("the zero point of the weights is a scalar or one per result channel")
        require_stretch("the zero point of x", self.x_zero, [1])
        require_stretch("the zero point of w", self.w_zero, w[:1])
        return [TensorType((x[0], w[0], *self.window(w).places(x[2:])), SI32)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, w, *zeros = (np.asarray(a).astype(np.int32) for a in args)
        if self.x_zero is not None:
            x = x - zeros.pop(0)
        if zeros:
            w = w - zeros[0].reshape(-1, *[1] * (w.ndim - 1))
        return contract_windows(sliding_view(x, self.window(w.shape), 0), w, self.groups)


class ConvTransposeOp(GraphOp):
    """Transposed convolution: every element of x [n, c, spatial...] adds its multiple of w [c, m / groups, kernel...]
    to the result [n, m, sizes...], bias [m].

    size = stride * (x - 1) + extent + output_padding - begin - end. Where `output_shape` is given it is the result's
    spatial sizes; else, where `padding` is not explicit, these are stride * x. The pads then follow from them: half of
    the surplus in front (`padding` same_upper: rounded down, else rounded up), the rest behind; a lack is filled
    behind. Stands for ONNX ConvTranspose.

    ```mlir
    %x = "test.value"() : () -> tensor<1x1x3x3xf32>
    %w = "test.value"() : () -> tensor<1x2x3x3xf32>
    %r = graph.conv_transpose %x, %w {strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>,
      pads = array<i64: 1, 1, 1, 1>, output_padding = array<i64: 1, 1>}
      : (tensor<1x1x3x3xf32>, tensor<1x2x3x3xf32>) -> tensor<1x2x6x6xf32>
    ```
    """

    name = "graph.conv_transpose"
    x: Value = operand(FLOAT_TENSOR)
    w: Value = operand(FLOAT_TENSOR)
    bias: Value | None = optional_operand(FLOAT_TENSOR)
    strides: tuple[int, ...] = attr(INTS)
    dilations: tuple[int, ...] = attr(INTS)
    pads: tuple[int, ...] = attr(INTS)
    output_padding: tuple[int, ...] = attr(INTS)
    output_shape: tuple[int, ...] | None = attr(INTS, default=None)
    padding: str = attr(PADDING, default="explicit")
    groups: int = attr(INT, default=1)
    kernel: tuple[int, ...] | None = attr(INTS, default=None)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        x, w = shape_of(self.x), shape_of(self.w)
        if len(x) < 3 or len(x) != len(w):
            raise IRError(f"data and weights need the same rank of at least 3, not {len(x)} and {len(w)}")
        if isinstance(x[1], int) and isinstance(w[0], int) and x[1] != w[0]:
            raise IRError(f"data has {x[1]} channels, weights expect {w[0]}")
        demand_equal(x[1], w[0], "the channels of data and weights")
        if self.groups < 1 or (isinstance(x[1], int) and x[1] % self.groups):
            raise IRError(f"{x[1]} channels do not split into {self.groups} groups")
        demand_multiple(x[1], self.groups, "the channels split into groups")
        if len(self.output_padding) != len(x) - 2:
            raise IRError(f"{len(x) - 2} spatial axes need as many output paddings, not {list(self.output_padding)}")
        channels = w[1] * self.groups
        check_bias(self.bias, channels)
        sizes = self.sizes(x[2:], kernel_sizes(w, self.kernel))
        if any(isinstance(size, int) and size < 0 for size in sizes):
            raise IRError(f"the pads {list(self.pads)} leave a negative size")
        return [TensorType((x[0], channels, *sizes), same_element(*self.operands))]

    def full_sizes(self, spatial: Sequence[Dim], kernel: Sequence[Dim]) -> list[Dim]:
        """The spatial sizes before any pads are cut off."""
        Window(tuple(kernel), self.strides, self.dilations, self.pads).check()
        return [
            self.strides[i] * (size - 1) + (kernel[i] - 1) * self.dilations[i] + 1 for i, size in enumerate(spatial)
        ]

    def sizes(self, spatial: Sequence[Dim], kernel: Sequence[Dim]) -> list[Dim]:
        """The result's spatial sizes."""
        full = self.full_sizes(spatial, kernel)
        rank = len(full)
        if self.output_shape is not None:
            if len(self.output_shape) != rank:
                raise IRError(f"output_shape {list(self.output_shape)} does not have {rank} spatial sizes")
            return list(self.output_shape)
        if self.padding != "explicit":
            return [stride * size for stride, size in zip(self.strides, spatial, strict=True)]
        return [full[i] + self.output_padding[i] - self.pads[i] - self.pads[i + rank] for i in range(rank)]

    def begins(self, spatial: Sequence[Dim], kernel: Sequence[Dim]) -> list[Dim]:
        """How much is cut off in front of each spatial axis."""
        if self.output_shape is None and self.padding == "explicit":
            return list(self.pads[: len(spatial)])
        full, sizes = self.full_sizes(spatial, kernel), self.sizes(spatial, kernel)
        surplus = [dim_max(f + p - s, 0) for f, p, s in zip(full, self.output_padding, sizes, strict=True)]
        halves = [floordiv(total, 2) for total in surplus]
        return halves if self.padding == "same_upper" else [a - b for a, b in zip(surplus, halves, strict=True)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x: Any = widened(args[0])
        w: Any = widened(args[1])
        spatial, kernel = x.shape[2:], w.shape[2:]
        full = static_sizes(self.full_sizes(spatial, kernel))
        sizes = static_sizes(self.sizes(spatial, kernel))
        begins = static_sizes(self.begins(spatial, kernel))
        room = [max(f, b + s) for f, b, s in zip(full, begins, sizes, strict=True)]
        y: Any = np.zeros((x.shape[0], w.shape[1] * self.groups, *room), x.dtype)
        with np.errstate(all="ignore"):
            for place in itertools.product(*map(range, kernel)):
                spots: tuple[Any, ...] = tuple(
                    slice(k * d, k * d + s * n, s)
                    for k, d, s, n in zip(place, self.dilations, self.strides, spatial, strict=True)
                )
                y[..., *spots] += contract_windows(
                    x, np.concatenate([part.swapaxes(0, 1) for part in np.split(w[..., *place], self.groups)]),
                    self.groups,
                )  # fmt: skip
            y = y[..., *(slice(b, b + s) for b, s in zip(begins, sizes, strict=True))]
            y = y if self.bias is None else with_bias(y, args[2])
        return rounded(y, numpy_dtype(tensor_type(self.results[0])))


class DeformConvOp(WindowedOp):
    """Convolution whose samples are displaced: x [n, c, spatial...], w [m, c / groups, kernel...], offset
    [n, offset_groups * kernel elements * axes, places...], bias [m], mask [n, offset_groups * kernel elements,
    places...] -> [n, m, places...].

    A sample at a fractional place is interpolated linearly along every axis, with zeros outside the data, and scaled
    by the mask (default 1). Stands for ONNX DeformConv (Dai et al. 2017; masks: Zhu et al. 2019).

    ```mlir
    %x = "test.value"() : () -> tensor<1x1x3x3xf32>
    %w = "test.value"() : () -> tensor<1x1x2x2xf32>
    %o = "test.value"() : () -> tensor<1x8x2x2xf32>
    %r = graph.deform_conv %x, %w, %o {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>,
      pads = array<i64: 0, 0, 0, 0>, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>}
      : (tensor<1x1x3x3xf32>, tensor<1x1x2x2xf32>, tensor<1x8x2x2xf32>) -> tensor<1x1x2x2xf32>
    ```
    """

    name = "graph.deform_conv"
    x: Value = operand(FLOAT_TENSOR)
    w: Value = operand(FLOAT_TENSOR)
    offset: Value = operand(FLOAT_TENSOR)
    bias: Value | None = optional_operand(FLOAT_TENSOR)
    mask: Value | None = optional_operand(FLOAT_TENSOR)
    offset_groups: int = attr(INT, default=1)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        x, w = shape_of(self.x), shape_of(self.w)
        self.check_channels(x, w)
        check_bias(self.bias, w[0])
        window = self.window(w)
        if self.offset_groups < 1 or (isinstance(x[1], int) and x[1] % self.offset_groups):
            raise IRError(f"{x[1]} channels do not split into {self.offset_groups} offset groups")
        taps: Dim = self.offset_groups
        for size in window.kernel:
            taps = taps * size
        demand_multiple(x[1], self.offset_groups, "the channels split into offset groups")
        for what, value, channels in (("offset", self.offset, taps * window.rank), ("mask", self.mask, taps)):
            given = shape_of(value)[1] if value is not None and len(shape_of(value)) == len(x) else None
            if value is not None and (given is None or proven_different(given, channels)):
                raise IRError(f"the {what} needs rank {len(x)} and {channels} channels")
            if value is not None:
                for a, b in zip(shape_of(value), (x[0], channels, *window.places(x[2:])), strict=True):
                    demand_equal(a, b, f"sizes of the {what}")
        return [TensorType((x[0], w[0], *window.places(x[2:])), same_element(*self.operands))]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, w, offset, *rest = (widened(a) for a in args)
        bias = rest.pop(0) if self.bias is not None else None
        window = self.window(w.shape)
        kernel = static_sizes(window.kernel)
        places = static_sizes(window.places(x.shape[2:]))
        split = (x.shape[0], self.offset_groups, int(np.prod(kernel)))
        mask = rest[0].reshape(*split, *places) if rest else None
        offset = offset.reshape(*split, window.rank, *places)
        coordinates = self._coordinates(window, x.shape[2:], places, offset)
        with np.errstate(all="ignore"):
            views = np.concatenate(
                [
                    _sample(part, coordinates[:, g], None if mask is None else mask[:, g])
                    for g, part in enumerate(np.split(x, self.offset_groups, axis=1))
                ],
                axis=1,
            )
            y = contract_windows(views.reshape(*views.shape[:-1], *kernel), w, self.groups)
            y = y if bias is None else with_bias(y, bias)
        return rounded(y, numpy_dtype(tensor_type(self.results[0])))

    def _coordinates(self, window: Window, sizes: Sequence[int], places: Sequence[int], offset: Array) -> Array:
        """[n, offset groups, taps, axes, places...]: where each tap reads."""
        out = offset.copy()
        rank = window.rank
        taps = np.indices(static_sizes(window.kernel)).reshape(rank, -1)
        for axis, begin in enumerate(static_sizes([begin for begin, _ in window.pads_of(sizes)])):
            steps = np.arange(places[axis]) * self.strides[axis]
            grid = (taps[axis] * self.dilations[axis] - begin).reshape(-1, *[1] * rank)
            out[:, :, :, axis] += grid + steps.reshape(*[1] * axis, -1, *[1] * (rank - axis - 1))
        return out


def _sample(x: Array, coordinates: Array, mask: Array | None) -> Array:
    """[n, c, places..., taps]: x [n, c, spatial...] read by linear interpolation at [n, taps, axes, places...]."""
    sizes = x.shape[2:]
    below = np.floor(coordinates)
    fraction = coordinates - below
    total = np.zeros((x.shape[0], x.shape[1], coordinates.shape[1], *coordinates.shape[3:]), x.dtype)
    for corner in itertools.product((0, 1), repeat=len(sizes)):
        weight = np.ones(coordinates[:, :, 0].shape, x.dtype)
        index = []
        is_there = np.ones(weight.shape, bool)
        for axis, side in enumerate(corner):
            at = below[:, :, axis] + side
            inside = (at >= 0) & (at < sizes[axis])
            is_there &= inside
            weight *= fraction[:, :, axis] if side else 1 - fraction[:, :, axis]
            index.append(np.where(inside, at, 0).astype(np.int64))
        for n in range(x.shape[0]):
            picked = x[n][(slice(None), *(i[n] for i in index))]
            total[n] += np.where(is_there[n], picked, 0) * weight[n]
    if mask is not None:
        total = total * mask[:, None]
    return np.moveaxis(total, 2, -1)
