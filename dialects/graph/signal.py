"""Signal processing: Fourier transforms, window functions, mel filter banks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, content, same_element, shape_of, tensor_type
from stepwell.dialects.graph.demands import demand_one_of
from stepwell.dialects.graph.movement import agree
from stepwell.dialects.graph.numeric import rounded
from stepwell.dialects.graph.symbols import DataDependentOp, fresh_dim
from stepwell.errors import IRError
from stepwell.ir.attrkinds import BOOL, INT, enum, type_attr_of
from stepwell.ir.constraints import FLOAT_TENSOR, INT_TENSOR, NUMERIC_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, floordiv
from stepwell.ir.opdef import attr, operand, optional_operand, result
from stepwell.ir.types import FloatType, IntegerType, TensorType, Type, numpy_dtype

NUMBER_TYPE = type_attr_of(lambda t: isinstance(t, (FloatType, IntegerType)), "a number type")


def scalar_content(value: Value | None) -> Dim | None:
    """The one integer that a value holds, where it is known."""
    found = content(value)
    return found[0] if found is not None and len(found) == 1 else None


def one_number(array: Any) -> int:
    """The integer of an array of one element."""
    return int(np.asarray(array).reshape(-1)[0])


def need_components(x: Sequence[Dim], rank: int, wanted: int | None = None) -> None:
    """Raise IRError unless the last axis holds real parts, or real and imaginary ones; or the `wanted` number of them.

    One of a size that is not known is asked for when the model runs."""
    if len(x) < rank or (isinstance(x[-1], int) and x[-1] not in (1, 2)):
        raise IRError(f"a signal needs rank {rank} or more and a last axis of 1 or 2, not [{', '.join(map(str, x))}]")
    if wanted is None:
        demand_one_of(x[-1], (1, 2), "the parts of a signal's elements")
    else:
        agree(x[-1], wanted, "the parts of a signal's elements")


def as_complex(x: Array) -> Array:
    """[..., 1 or 2] -> complex [...], in double precision."""
    wide = x.astype(np.float64)
    return wide[..., 0] + 1j * wide[..., 1] if x.shape[-1] == 2 else wide[..., 0]


def roots_of_unity(turns: Array, length: int, inverse: bool) -> tuple[Array, Array]:
    """(cos, sin) of -+ 2 pi turns / length for an array of integers and a length of at least 1: f64, of its shape. They
    are exact at quarters of a turn, 0 or 1 or -1, so that what cancels in a spectrum's middle cancels to 0."""
    turns = turns % length
    quarters = (8 * turns + length) // (2 * length)  # the nearest
    angle = (4 * turns - quarters * length) / length * (np.pi / 2)
    cos, sin = np.cos(angle), np.sin(angle)
    waves = (cos, -sin, -cos, sin)  # of the angle and so many quarters
    return np.choose(quarters % 4, waves), np.choose((quarters + (3 if inverse else 1)) % 4, waves)


def by_definition(x: Array, length: int, bins: int, inverse: bool = False) -> Array:
    """f64 [..., samples, 1 or 2] -> [..., bins, 2], unscaled, of the first `length` samples, or of zeros after them.

    X[k] = sum over j of x[j] * exp(-+ 2 pi i j k / length), part by part: NaN reaches both parts of all frequencies,
    where a fast transform leaves it to the way it goes which ones. Of infinities, one in steps makes NaN earlier."""
    taken = x[..., :length, :]
    real, imaginary = taken[..., 0], taken[..., 1] if x.shape[-1] == 2 else 0.0
    samples = np.arange(taken.shape[-2])
    made = np.zeros((*x.shape[:-2], bins, 2))
    with np.errstate(invalid="ignore"):
        for k in range(bins):
            cos, sin = roots_of_unity(samples * k, length, inverse)
            made[..., k, 0] = (real * cos - imaginary * sin).sum(-1)
            made[..., k, 1] = (real * sin + imaginary * cos).sum(-1)
    return made


def mirrored(x: Array, length: int) -> Array:
    """Half a spectrum [..., samples, 2] -> the whole one of a real signal [..., length, 2], conjugates at its end."""
    places = np.arange(length)
    back = places > length // 2
    near = np.where(back, length - places, places)
    filled = np.zeros((*x.shape[:-2], max(length, x.shape[-2]), 2))
    filled[..., : x.shape[-2], :] = x
    whole = filled[..., near, :]
    whole[..., 1] = np.where(back, -whole[..., 1], whole[..., 1])
    return whole


def as_pairs(x: Array, dtype: np.dtype[Any]) -> Array:
    """complex [...] -> [..., 2]"""
    return rounded(np.stack([x.real, x.imag], axis=-1), dtype)


class DftOp(DataDependentOp):
    """Discrete Fourier transform along an axis of x [..., 1] (real) or [..., 2] (complex) -> [..., 2].

    The axis is the attribute, or where that is absent the operand `where` (one integer, which may count from the back).

    `length` (one integer) cuts or zero-pads the axis first. The inverse divides by the length. `onesided` keeps the
    first length // 2 + 1 frequencies of a real signal; its inverse takes those and gives the real signal [..., 1], by
    default of length 2 * (size - 1). Computed in f64 and rounded once; NaN reaches all frequencies. Stands for ONNX
    DFT.

    ```mlir
    %x = "test.value"() : () -> tensor<2x16x1xf32>
    %r = graph.dft %x {axis = 1, onesided = true, operandSegmentSizes = array<i32: 1, 0, 0>}
      : (tensor<2x16x1xf32>) -> tensor<2x9x2xf32>
    ```
    """

    name = "graph.dft"
    decided_by = ("length", "where")
    x: Value = operand(FLOAT_TENSOR)
    length: Value | None = optional_operand(INT_TENSOR)
    where: Value | None = optional_operand(INT_TENSOR)
    axis: int | None = attr(INT, default=None)
    inverse: bool = attr(BOOL, default=False)
    onesided: bool = attr(BOOL, default=False)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        x = shape_of(self.x)
        real = self.onesided and self.inverse
        need_components(x, 2, (2 if real else 1) if self.onesided else None)
        if (self.axis is None) != (self.where is not None):
            raise IRError("the axis is an attribute or an operand, one of the two")
        pairs: Dim = 1 if real else 2
        if self.axis is None:
            kept = x[:-1] if self.length is None and not self.onesided else None
            dims = kept or tuple(fresh_dim(self, "dft", index) for index in range(len(x) - 1))
            return [tensor_type(self.x).with_shape((*dims, pairs))]
        if not 0 <= self.axis < len(x) - 1:
            raise IRError(f"axis {self.axis} is not among the signal's axes 0 to {len(x) - 2}")
        length = scalar_content(self.length)
        if self.length is None:
            length = 2 * (x[self.axis] - 1) if real else x[self.axis]
        size = fresh_dim(self, "dft") if length is None else length
        if self.onesided and not self.inverse and length is not None:
            size = floordiv(length, 2) + 1
        return [tensor_type(self.x).with_shape((*x[: self.axis], size, *x[self.axis + 1 : -1], pairs))]

    def compute(self, frame: Any, *args: Any) -> Any:
        wide = np.asarray(args[0]).astype(np.float64)
        x = as_complex(wide)
        length = one_number(args[1]) if self.length is not None else None
        axis = self.axis if self.axis is not None else one_number(args[-1])
        if axis == -1 or not -x.ndim - 1 <= axis < x.ndim:
            raise IRError(f"axis {axis} is not among the {x.ndim} axes of the signal")
        axis %= x.ndim + 1  # the operand counts the components' axis, which has gone
        dtype = numpy_dtype(self.results[0].type)
        if not np.isfinite(wide).all():
            return self._of_parts(wide, axis, length, dtype)
        if self.onesided and self.inverse:
            return rounded(np.fft.irfft(x, length, axis=axis)[..., None], dtype)
        transform: Callable[..., Array] = np.fft.ifft if self.inverse else np.fft.rfft if self.onesided else np.fft.fft
        return as_pairs(transform(x, length, axis=axis), dtype)

    def _of_parts(self, x: Array, axis: int, length: int | None, dtype: np.dtype[Any]) -> Array:
        """By the definition, which says where NaN goes."""
        real, lying = self.onesided and self.inverse, np.moveaxis(x, axis, -2)
        if length is None:
            length = 2 * (x.shape[axis] - 1) if real else x.shape[axis]
        bins = length // 2 + 1 if self.onesided and not real else length
        made = by_definition(mirrored(lying, length) if real else lying, length, bins, self.inverse)
        made = np.moveaxis(made / length if self.inverse else made, -2, axis)
        return rounded(made[..., :1] if real else made, dtype)


class StftOp(DataDependentOp):
    """Fourier transforms of frames of a signal [b, samples, 1 or 2] that start every `step` samples, times a window
    [length] (absent: ones) -> [b, frames, frequencies, 2], with frames = (samples - length) // step + 1.

    The frame's length is the window's, else `length`'s, else the whole signal's; a window and a `length` that is known
    must agree. `onesided` keeps length // 2 + 1 frequencies. Computed in f64 and rounded once; NaN reaches all
    frequencies of its frames. Stands for ONNX STFT.

    ```mlir
    %x = "test.value"() : () -> tensor<2x128x1xf32>
    %step = graph.constant dense<8> : tensor<si64>
    %w = "test.value"() : () -> tensor<16xf32>
    %r = graph.stft %x, %step, %w {onesided = true, operandSegmentSizes = array<i32: 1, 1, 1, 0>}
      : (tensor<2x128x1xf32>, tensor<si64>, tensor<16xf32>) -> tensor<2x15x9x2xf32>
    ```
    """

    name = "graph.stft"
    x: Value = operand(FLOAT_TENSOR)
    step: Value = operand(INT_TENSOR)
    window: Value | None = optional_operand(FLOAT_TENSOR)
    length: Value | None = optional_operand(INT_TENSOR)
    onesided: bool = attr(BOOL, default=False)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        x = shape_of(self.x)
        need_components(x, 3, 1 if self.onesided else None)
        if len(x) != 3:
            raise IRError(f"the signal needs rank 3, not {len(x)}")
        length: Dim | None = x[1]
        if self.window is not None:
            same_element(self.x, self.window)
            if len(shape_of(self.window)) != 1:
                raise IRError(f"the window needs rank 1, not {len(shape_of(self.window))}")
            length = shape_of(self.window)[0]
            if (given := scalar_content(self.length)) is not None:
                length = agree(length, given, "the window and the frame")
        elif self.length is not None:
            length = scalar_content(self.length)
        step = scalar_content(self.step)
        if isinstance(step, int) and step < 1:
            raise IRError(f"frames start every 1 or more samples, not {step}")
        if step is not None and length is not None:
            frames, born = floordiv(x[1] - length, step) + 1, 0
        else:
            frames, born = fresh_dim(self, "frames"), 1
        if length is None:
            bins: Dim = fresh_dim(self, "frequencies", born)
        else:
            bins = floordiv(length, 2) + 1 if self.onesided else length
        return [tensor_type(self.x).with_shape((x[0], frames, bins, 2))]

    def compute(self, frame: Any, *args: Any) -> Any:
        x, step, *rest = args
        signal, step = np.asarray(x).astype(np.float64), one_number(step)
        if self.window is not None:
            window = np.asarray(rest[0]).astype(np.float64)
        else:
            window = np.ones(one_number(rest[0]) if rest else signal.shape[1])
        if step < 1 or len(window) > signal.shape[1]:
            raise IRError(f"frames of {len(window)} every {step} do not fit a signal of {signal.shape[1]} samples")
        starts = np.arange(0, signal.shape[1] - len(window) + 1, step)
        with np.errstate(invalid="ignore"):
            frames = signal[:, starts[:, None] + np.arange(len(window))] * window[:, None]
        dtype = numpy_dtype(self.results[0].type)
        if not np.isfinite(frames).all():
            bins = len(window) // 2 + 1 if self.onesided else len(window)
            return rounded(by_definition(frames, len(window), bins), dtype)
        transform = np.fft.rfft if self.onesided else np.fft.fft
        return as_pairs(transform(as_complex(frames), axis=-1), dtype)


# kind -> a, b, c of a + v * (b + c * v), v = 1 - cos(angle): what is 0 at the ends is exactly 0, and nothing is below.
# Blackman's 0.42 - 0.5 cos(angle) + 0.08 cos(2 angle) is v * (0.18 + 0.16 v).
WINDOWS = {"hann": (0.0, 0.5, 0.0), "hamming": (4 / 46, 21 / 46, 0.0), "blackman": (0.0, 0.18, 0.16)}


class WindowFunctionOp(DataDependentOp):
    """A Hann, Hamming or Blackman window of `size` elements (one integer), symmetric, or the first `size` elements of
    the symmetric one of size + 1 where `periodic`. A symmetric window of one element is 1. Computed in f64 and rounded
    once. Stands for ONNX HannWindow, HammingWindow, BlackmanWindow.

    ```mlir
    %n = graph.constant dense<16> : tensor<si64>
    %r = graph.window_function %n {kind = "hann", periodic = true, element = f32} : (tensor<si64>) -> tensor<16xf32>
    ```
    """

    name = "graph.window_function"
    size: Value = operand(INT_TENSOR)
    kind: str = attr(enum(*WINDOWS))
    periodic: bool = attr(BOOL, default=False)
    element: Type = attr(NUMBER_TYPE)
    result: Value = result(NUMERIC_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        size = scalar_content(self.size)
        return [TensorType((fresh_dim(self, "window") if size is None else size,), self.element)]

    def compute(self, frame: Any, *args: Any) -> Any:
        size = one_number(args[0])
        period = size if self.periodic else size - 1
        dtype = numpy_dtype(self.element)
        if period == 0:
            return np.ones(size, dtype)
        v = 1 - np.cos(2 * np.pi * np.arange(size) / period)
        a, b, c = WINDOWS[self.kind]
        return rounded(a + v * (b + c * v), dtype)


class MelWeightsOp(DataDependentOp):
    """Triangular filters [length // 2 + 1, bins] that gather the frequencies of a one-sided transform into bins
    spaced evenly on the mel scale, mel(f) = 2595 * log10(1 + f / 700), from `low` to `high` hertz. Stands for ONNX
    MelWeightMatrix.

    ```mlir
    %bins = graph.constant dense<8> : tensor<si32>
    %length = graph.constant dense<16> : tensor<si32>
    %rate = graph.constant dense<8192> : tensor<si32>
    %low = graph.constant dense<0.0> : tensor<f32>
    %high = graph.constant dense<4096.0> : tensor<f32>
    %r = graph.mel_weights %bins, %length, %rate, %low, %high {element = f32}
      : (tensor<si32>, tensor<si32>, tensor<si32>, tensor<f32>, tensor<f32>) -> tensor<9x8xf32>
    ```
    """

    name = "graph.mel_weights"
    bins: Value = operand(INT_TENSOR)
    length: Value = operand(INT_TENSOR)
    rate: Value = operand(INT_TENSOR)
    low: Value = operand(FLOAT_TENSOR)
    high: Value = operand(FLOAT_TENSOR)
    element: Type = attr(NUMBER_TYPE)
    result: Value = result(NUMERIC_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        length, bins = scalar_content(self.length), scalar_content(self.bins)
        rows = fresh_dim(self, "frequencies") if length is None else floordiv(length, 2) + 1
        columns = fresh_dim(self, "mel", 0 if length is not None else 1) if bins is None else bins
        return [TensorType((rows, columns), self.element)]

    def compute(self, frame: Any, *args: Any) -> Any:
        bins, length, rate = map(one_number, args[:3])
        low, high = (2595 * np.log10(1 + float(np.asarray(a).reshape(-1)[0]) / 700) for a in args[3:])
        mel = low + np.arange(bins + 2) * (high - low) / (bins + 2)
        edges = ((length + 1) * 700 * (10 ** (mel / 2595) - 1) // rate).astype(np.int64)
        weights = np.zeros((length // 2 + 1, bins))
        rows = np.arange(len(weights))
        for column, (left, center, right) in enumerate(zip(edges[:-2], edges[1:-1], edges[2:], strict=True)):
            rising = (rows >= left) & (rows <= center)
            falling = (rows >= center) & (rows < right)
            if center == left:
                weights[rows == center, column] = 1
            else:
                weights[rising, column] = (rows[rising] - left) / (center - left)
            weights[falling, column] = (right - rows[falling]) / max(right - center, 1)
        return rounded(weights, numpy_dtype(self.element))


