"""Softmax and its relatives, each over one or several axes taken together as one set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, GraphOp, tensor_type
from stepwell.dialects.graph.reduction import accumulating, require_axes
from stepwell.errors import IRError
from stepwell.ir.attrkinds import INTS
from stepwell.ir.constraints import FLOAT_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.opdef import attr, operand, result
from stepwell.ir.types import Type


class AxesNormalizingOp(GraphOp):
    """Base: floats in, floats of the same shape out, computed over consecutive `axes` (ascending, from the front) in
    f32 at least."""

    x: Value = operand(FLOAT_TENSOR)
    axes: tuple[int, ...] = attr(INTS)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        require_axes(self.axes, tensor_type(self.x).rank)
        if not self.axes or list(self.axes) != list(range(self.axes[0], self.axes[-1] + 1)):
            raise IRError(f"axes {list(self.axes)} must be one or more consecutive axes")
        return [self.x.type]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = np.asarray(args[0])
        with np.errstate(all="ignore"):
            return self.compute(accumulating(x)).astype(x.dtype, copy=False)

    def compute(self, x: Array) -> Array:
        """The meaning in NumPy."""
        raise NotImplementedError


def _shifted(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(x - np.max(x, axis=axes, keepdims=True, initial=-np.inf))


class SoftmaxOp(AxesNormalizingOp):
    """e^x divided by its sum over `axes`. A set that is all -inf, or that has an inf or a NaN, gives NaN.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %r = graph.softmax %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    ```
    """

    name = "graph.softmax"

    def compute(self, x: Array) -> Array:
        powers = np.exp(_shifted(x, tuple(self.axes)))
        return np.asarray(powers / np.sum(powers, axis=tuple(self.axes), keepdims=True))


class LogSoftmaxOp(AxesNormalizingOp):
    """The logarithm of softmax: x - ln(sum(e^x)), without overflow.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3x4xf32>
    %r = graph.log_softmax %x {axes = array<i64: 1, 2>} : (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
    ```
    """

    name = "graph.log_softmax"

    def compute(self, x: Array) -> Array:
        shifted = _shifted(x, tuple(self.axes))
        return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=tuple(self.axes), keepdims=True)))


class HardmaxOp(AxesNormalizingOp):
    """1 at the first largest element over `axes` in row-major order, 0 elsewhere; NaN counts as the largest.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %r = graph.hardmax %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    ```
    """

    name = "graph.hardmax"

    def compute(self, x: Array) -> Array:
        if x.size == 0:
            return x
        first, last = self.axes[0], self.axes[-1]
        size = int(np.prod(x.shape[first : last + 1]))
        rows = x.reshape(*x.shape[:first], size, *x.shape[last + 1 :])
        places = np.arange(size).reshape(size, *[1] * (x.ndim - last - 1))
        return np.asarray(places == rows.argmax(axis=first, keepdims=True), x.dtype).reshape(x.shape)
