"""Normalisations: batch, layer, root-mean-square, group (and instance), and local response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, GraphOp, require_stretch, shape_of, tensor_type
from stepwell.dialects.graph.demands import demand_equal, demand_multiple, demand_one_of
from stepwell.dialects.graph.reduction import accumulating, reduced_shape, require_axes
from stepwell.errors import IRError
from stepwell.ir.attrkinds import FLOAT, INT, INTS, TYPE
from stepwell.ir.constraints import FLOAT_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.opdef import attr, operand, optional_operand, result
from stepwell.ir.types import F32, FloatType, TensorType, Type, numpy_dtype


def _wide_dtype(type_: Type) -> np.dtype[Any]:
    """The type in which numbers of a float type are computed: itself, f32 for narrower ones."""
    dtype = numpy_dtype(type_)
    return dtype if dtype.itemsize >= 4 else np.dtype(np.float32)


def _require_channels(what: str, value: Value | None, sizes: Sequence[Dim]) -> None:
    """Raises IRError unless a value has rank 1 and one of the sizes."""
    if value is None:
        return
    own = shape_of(value)
    if len(own) != 1:
        raise IRError(f"{what} must have rank 1, has rank {len(own)}")
    known = isinstance(own[0], int) and all(isinstance(size, int) for size in sizes)
    if known and own[0] not in sizes:
        raise IRError(f"{what} has {own[0]} elements for {' or '.join(map(str, sizes))} channels")
    if len(set(sizes)) == 1:
        demand_equal(own[0], sizes[0], f"{what} and the channels")
    else:
        demand_one_of(own[0], sizes, f"{what} and the channels or groups")


def _channels(shape: Sequence[Dim]) -> Dim:
    """The size of axis 1; a tensor of rank 1 has one channel. Raises IRError for a scalar."""
    if not shape:
        raise IRError("a scalar has no channels to normalise by")
    return shape[1] if len(shape) > 1 else 1


def _along_channels(vector: Any, rank: int, dtype: np.dtype[Any]) -> Array:
    wide = np.asarray(vector).astype(dtype)
    return wide.reshape(-1, *[1] * (rank - 2)) if rank > 1 else wide


class BatchNormOp(GraphOp):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, the four of them vectors along axis 1.

    x: [N, C, ...] or [N] with one channel; the vectors: [C], of float types of their own. Computed in the widest of
    the types, f32 at least, and rounded to x's (Ioffe and Szegedy, "Batch Normalization", 2015; inference form).

    ```mlir
    %x = "test.value"() : () -> tensor<2x3x4xf32>
    %c = "test.value"() : () -> tensor<3xf32>
    %r = graph.batch_norm %x, %c, %c, %c, %c {epsilon = 1.0e-05}
      : (tensor<2x3x4xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) -> tensor<2x3x4xf32>
    ```
    """

    name = "graph.batch_norm"
    x: Value = operand(FLOAT_TENSOR)
    scale: Value = operand(FLOAT_TENSOR)
    bias: Value = operand(FLOAT_TENSOR)
    mean: Value = operand(FLOAT_TENSOR)
    variance: Value = operand(FLOAT_TENSOR)
    epsilon: float = attr(FLOAT)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        channels = _channels(shape_of(self.x))
        for what in ("scale", "bias", "mean", "variance"):
            _require_channels(what, getattr(self, what), [channels])
        return [self.x.type]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = np.asarray(args[0])
        dtype = np.result_type(*(accumulating(np.asarray(arg)).dtype for arg in args))
        scale, bias, mean, variance = (_along_channels(arg, x.ndim, dtype) for arg in args[1:])
        with np.errstate(all="ignore"):
            made = (x.astype(dtype) - mean) / np.sqrt(variance + dtype.type(self.epsilon)) * scale + bias
        return made.astype(x.dtype, copy=False)


class LayerNormOp(GraphOp):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, with mean and population variance of x over `axes`.

    x: any shape; scale and bias: absent, or broadcast to x; axes: ascending, from the front. Also gives the mean and
    1 / sqrt(variance + epsilon), their reduced dims 1. Mean, variance and the normalised x are computed in `stash` (f32
    where that is narrower), which is also the type of these two results (Ba et al., "Layer Normalization", 2016).
    Stands for LayerNormalization, and without scale and bias for MeanVarianceNormalization.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %w = "test.value"() : () -> tensor<3xf32>
    %y, %mean, %inverse = graph.layer_norm %x, %w
      {axes = array<i64: 1>, epsilon = 1.0e-05, operandSegmentSizes = array<i32: 1, 1, 0>}
      : (tensor<2x3xf32>, tensor<3xf32>) -> (tensor<2x3xf32>, tensor<2x1xf32>, tensor<2x1xf32>)
    ```
    """

    name = "graph.layer_norm"
    x: Value = operand(FLOAT_TENSOR)
    scale: Value | None = optional_operand(FLOAT_TENSOR)
    bias: Value | None = optional_operand(FLOAT_TENSOR)
    axes: tuple[int, ...] = attr(INTS)
    epsilon: float = attr(FLOAT)
    stash: Type = attr(TYPE, default=F32)
    y: Value = result(FLOAT_TENSOR)
    mean: Value = result(FLOAT_TENSOR)
    inverse_deviation: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        return [self.x.type, *_statistics(self.x, self.axes, self.stash, self.scale, self.bias) * 2]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = np.asarray(args[0])
        axes, stash = tuple(self.axes), _wide_dtype(self.stash)
        wide = x.astype(stash)
        with np.errstate(all="ignore"):
            mean = np.mean(wide, axis=axes, keepdims=True)
            centred = wide - mean
            variance = np.mean(centred * centred, axis=axes, keepdims=True)
            inverse = 1 / np.sqrt(variance + stash.type(self.epsilon))
            y = (centred * inverse).astype(_wide_dtype(tensor_type(self.x)))
        rest = list(args[1:])
        if self.scale is not None:
            y = y * np.asarray(rest.pop(0)).astype(y.dtype)
        if self.bias is not None:
            y = y + np.asarray(rest.pop(0)).astype(y.dtype)
        stored = numpy_dtype(self.stash)
        return y.astype(x.dtype, copy=False), mean.astype(stored, copy=False), inverse.astype(stored, copy=False)


def _statistics(
    x: Value, axes: Sequence[int], stash: Type, scale: Value | None, bias: Value | None
) -> list[TensorType]:
    """The type of a statistic over `axes`, after the checks that layer and RMS normalisation share."""
    type_ = tensor_type(x)
    require_axes(axes, type_.rank)
    if not isinstance(stash, FloatType):
        raise IRError(f"statistics are kept in a float type, not {stash}")
    require_stretch("scale", scale, type_.shape)
    require_stretch("bias", bias, type_.shape)
    return [TensorType(reduced_shape(type_.shape, axes, True), stash)]


class RmsNormOp(GraphOp):
    """x / sqrt(mean of x^2 over `axes` + epsilon) * scale, and the reciprocal of that root.

    x: any shape; scale: broadcasts to x, its element type is the result's; axes: ascending, from the front. Computed in
    `stash` (f32 where that is narrower), the second result's type (Zhang and Sennrich, "Root Mean Square Layer
    Normalization", 2019).

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %w = "test.value"() : () -> tensor<3xf32>
    %y, %inverse = graph.rms_norm %x, %w {axes = array<i64: 1>, epsilon = 1.0e-05}
      : (tensor<2x3xf32>, tensor<3xf32>) -> (tensor<2x3xf32>, tensor<2x1xf32>)
    ```
    """

    name = "graph.rms_norm"
    x: Value = operand(FLOAT_TENSOR)
    scale: Value = operand(FLOAT_TENSOR)
    axes: tuple[int, ...] = attr(INTS)
    epsilon: float = attr(FLOAT)
    stash: Type = attr(TYPE, default=F32)
    y: Value = result(FLOAT_TENSOR)
    inverse_rms: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        statistics = _statistics(self.x, self.axes, self.stash, self.scale, None)
        return [tensor_type(self.x).with_element(tensor_type(self.scale).element), *statistics]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, scale = np.asarray(args[0]), np.asarray(args[1])
        stash = _wide_dtype(self.stash)
        wide = x.astype(stash)
        with np.errstate(all="ignore"):
            square = np.mean(wide * wide, axis=tuple(self.axes), keepdims=True)
            inverse = 1 / np.sqrt(square + stash.type(self.epsilon))
            y = (wide * inverse).astype(_wide_dtype(tensor_type(self.scale)))
            y = y * scale.astype(y.dtype)
        return y.astype(scale.dtype, copy=False), inverse.astype(numpy_dtype(self.stash), copy=False)


class GroupNormOp(GraphOp):
    """Each group of consecutive channels of each sample brought to mean 0 and variance 1, then scaled and shifted.

    x: [N, C, ...]; `groups` divides C, absent it is C: every channel its own group, which is instance normalisation.
    scale and bias: [C], or [groups] for one value per group. Statistics are computed in `stash` (f32 where that is
    narrower) (Wu and He, "Group Normalization", 2018).

    ```mlir
    %x = "test.value"() : () -> tensor<2x6x4xf32>
    %c = "test.value"() : () -> tensor<6xf32>
    %r = graph.group_norm %x, %c, %c {groups = 3, epsilon = 1.0e-05}
      : (tensor<2x6x4xf32>, tensor<6xf32>, tensor<6xf32>) -> tensor<2x6x4xf32>
    ```
    """

    name = "graph.group_norm"
    x: Value = operand(FLOAT_TENSOR)
    scale: Value = operand(FLOAT_TENSOR)
    bias: Value = operand(FLOAT_TENSOR)
    groups: int | None = attr(INT, default=None)
    epsilon: float = attr(FLOAT)
    stash: Type = attr(TYPE, default=F32)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape = shape_of(self.x)
        if len(shape) < 2:
            raise IRError(f"group normalisation takes [N, C, ...], not rank {len(shape)}")
        channels = shape[1]
        if self.groups is not None and (self.groups < 1 or (isinstance(channels, int) and channels % self.groups)):
            raise IRError(f"{channels} channels do not divide into {self.groups} groups")
        demand_multiple(channels, self.groups or 1, "the channels split into groups")
        sizes = [channels] if self.groups is None else [channels, self.groups]
        _require_channels("scale", self.scale, sizes)
        _require_channels("bias", self.bias, sizes)
        return [self.x.type]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = np.asarray(args[0])
        stash = _wide_dtype(self.stash)
        groups = x.shape[1] if self.groups is None else self.groups
        size = x.shape[1] // groups if groups else 0
        rows = x.astype(stash).reshape(x.shape[0], groups, size, *x.shape[2:])
        axes = tuple(range(2, rows.ndim))
        with np.errstate(all="ignore"):
            centred = rows - np.mean(rows, axis=axes, keepdims=True)
            variance = np.mean(centred * centred, axis=axes, keepdims=True)
            y = centred / np.sqrt(variance + stash.type(self.epsilon))
        y = y.reshape(x.shape).astype(_wide_dtype(tensor_type(self.x)))
        scale, bias = (self._per_channel(arg, x.shape[1], x.ndim, y.dtype) for arg in args[1:])
        return (y * scale + bias).astype(x.dtype, copy=False)

    @staticmethod
    def _per_channel(vector: Any, channels: int, rank: int, dtype: np.dtype[Any]) -> Array:
        vector = np.asarray(vector)
        repeated = vector if vector.size == channels else np.repeat(vector, channels // max(vector.size, 1))
        return _along_channels(repeated, rank, dtype)


class LrnOp(GraphOp):
    """x / (bias + alpha / size * s)^beta, s the sum of squares over `size` neighbouring channels.

    x: [N, C, ...]. The neighbours are (size - 1) // 2 channels before each and size // 2 behind it, as far as there are
    any (Krizhevsky et al., "ImageNet Classification", 2012, section 3.3).

    ```mlir
    %x = "test.value"() : () -> tensor<2x6x4xf32>
    %r = graph.lrn %x {size = 5, alpha = 1.0e-04, beta = 0.75, bias = 1.0} : (tensor<2x6x4xf32>) -> tensor<2x6x4xf32>
    ```
    """

    name = "graph.lrn"
    x: Value = operand(FLOAT_TENSOR)
    size: int = attr(INT)
    alpha: float = attr(FLOAT)
    beta: float = attr(FLOAT)
    bias: float = attr(FLOAT)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        if tensor_type(self.x).rank < 2:
            raise IRError(f"local response normalisation takes [N, C, ...], not rank {tensor_type(self.x).rank}")
        if self.size < 1:
            raise IRError(f"size {self.size} must be at least 1")
        return [self.x.type]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = np.asarray(args[0])
        wide = accumulating(x)
        before, behind = (self.size - 1) // 2, self.size // 2
        squares = np.pad(wide * wide, [(0, 0), (before, behind), *[(0, 0)] * (x.ndim - 2)])
        total = np.zeros_like(wide)
        for offset in range(self.size):
            total += squares[:, offset : offset + x.shape[1]]
        with np.errstate(all="ignore"):
            made = wide / (self.bias + self.alpha / self.size * total) ** self.beta
        return made.astype(x.dtype, copy=False)
