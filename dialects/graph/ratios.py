"""Sizes computed in floats: exporters write `h // 2` as floor(cast(h) / 2.0) and sizes of a Resize as floor(h * 2.0).

The elements of small float tensors are followed as quotients of a dim and a whole number, in which these computations
are exact: f32 holds the sizes that occur, their products with dyadic numbers, and the order of a quotient and the next
whole number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.graph.base import CONTENT_LIMIT, Array, ConstantOp, GraphOp, content_array, tensor_type
from stepwell.errors import IRError
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import Dim, ceildiv, proven_non_negative
from stepwell.ir.opdef import PURE
from stepwell.ir.types import FloatType, TensorType, Type, numpy_dtype

LARGEST_DENOMINATOR = 1 << 12


@attrs.frozen
class Ratio:
    """top / bottom, of which bottom is positive."""

    top: Dim
    bottom: int

    def __add__(self, other: Ratio) -> Ratio:
        return Ratio(self.top * other.bottom + other.top * self.bottom, self.bottom * other.bottom)

    def __sub__(self, other: Ratio) -> Ratio:
        return Ratio(self.top * other.bottom - other.top * self.bottom, self.bottom * other.bottom)

    def __mul__(self, other: Ratio) -> Ratio:
        return Ratio(self.top * other.top, self.bottom * other.bottom)

    def __truediv__(self, other: Ratio) -> Ratio | None:
        """None unless the divisor is a positive number."""
        if not isinstance(other.top, int) or other.top <= 0:
            return None
        return Ratio(self.top * other.bottom, self.bottom * other.top)

    def floor(self) -> Dim:
        """The greatest whole number not above."""
        return self.top // self.bottom

    def ceil(self) -> Dim:
        """The least whole number not below."""
        return ceildiv(self.top, self.bottom)

    def whole(self) -> Dim | None:
        """The number cut to a whole one; None where its sign is not known."""
        return self.floor() if proven_non_negative(self.top) else None


# What a float op does to ratios, by its name; None where the outcome is no ratio.
ON_RATIOS: dict[str, Callable[..., Ratio | None]] = {
    "graph.add": lambda a, b: a + b,
    "graph.sub": lambda a, b: a - b,
    "graph.mul": lambda a, b: a * b,
    "graph.div": lambda a, b: a / b,
    "graph.floor": lambda a: Ratio(a.floor(), 1),
    "graph.ceil": lambda a: Ratio(a.ceil(), 1),
}
# Ops that only move elements, which NumPy moves as it moves numbers.
MOVING = ("graph.reshape", "graph.concat", "graph.transpose")


def is_ratio_type(type_: Type) -> bool:
    """Whether a tensor is a small one of floats that hold sizes exactly."""
    return (
        isinstance(type_, TensorType)
        and type_.is_static
        and isinstance(type_.element, FloatType)
        and type_.element.width >= 32
        and math.prod(type_.static_shape) <= CONTENT_LIMIT
    )


def ratios(value: Value) -> Array | None:
    """The elements of a small float tensor as an array of `Ratio`; None where one of them is not known as such."""
    if not is_ratio_type(value.type):
        return None
    if "ratios" not in value.facts:
        op = value.defining_op
        made = _ratios_of(op) if isinstance(op, GraphOp) and len(op.results) == 1 else None
        value.facts["ratios"] = made
    found: Array | None = value.facts["ratios"]
    return found


def _ratios_of(op: GraphOp) -> Array | None:
    numbers = known_numbers(op)
    if numbers is not None:
        return _each(_ratio_of_number, numbers)
    if op.name == "graph.cast":
        dims = content_array(op.operands[0])
        return ratios(op.operands[0]) if dims is None else _each(lambda dim: Ratio(dim, 1), dims)
    sides = [ratios(value) for value in op.operands]
    known = [side for side in sides if side is not None]
    if len(known) != len(sides) or not known:
        return None
    if op.name in MOVING:
        return _moved(op, known)
    compute = ON_RATIOS.get(op.name)
    if compute is not None:
        return _each(compute, *np.broadcast_arrays(*known))
    dtype = numpy_dtype(op.results[0].type)
    plain = [_numbers(side, dtype) for side in known]
    made = None if any(side is None for side in plain) else _interpreted(op, plain, dtype)
    return None if made is None else _each(_ratio_of_number, made)


def _numbers(side: Array, dtype: np.dtype[Any]) -> Array | None:
    """Ratios without symbols as floats."""
    if any(not isinstance(ratio.top, int) for ratio in side.flat):
        return None
    return np.array([ratio.top / ratio.bottom for ratio in side.flat], dtype).reshape(side.shape)


def _moved(op: Any, known: list[Array]) -> Array:
    if op.name == "graph.concat":
        return np.concatenate(known, op.axis)
    if op.name == "graph.transpose":
        return np.transpose(known[0], op.permutation)
    return known[0].reshape(tensor_type(op.results[0]).static_shape)


def _each(compute: Callable[..., Ratio | None], *arrays: Array) -> Array | None:
    found = [compute(*items) for items in zip(*(array.flat for array in arrays), strict=True)]
    if any(item is None or item.bottom > LARGEST_DENOMINATOR for item in found):
        return None
    made = np.empty(len(found), object)
    made[:] = found
    return made.reshape(arrays[0].shape)


def _ratio_of_number(number: Any) -> Ratio | None:
    if not math.isfinite(number):
        return None
    return Ratio(*float(number).as_integer_ratio())


def known_numbers(op: Operation | None) -> Array | None:
    """What an op of constants computes, where that is a small tensor of numbers."""
    if not isinstance(op, GraphOp) or PURE not in op.traits or len(op.results) != 1 or op.regions:
        return None
    type_, facts = op.results[0].type, op.results[0].facts
    if not isinstance(type_, TensorType) or not type_.is_static or math.prod(type_.static_shape) > CONTENT_LIMIT:
        return None
    if isinstance(op, ConstantOp):
        return op.value.numpy()
    if "numbers" not in facts:
        facts["numbers"] = None
        operands = [known_numbers(value.defining_op) for value in op.operands]
        if operands and not any(array is None for array in operands):
            facts["numbers"] = _interpreted(op, operands, numpy_dtype(type_))
    found: Array | None = facts["numbers"]
    return found


def _interpreted(op: GraphOp, operands: list[Array | None], dtype: np.dtype[Any]) -> Array | None:
    try:
        with np.errstate(all="ignore"):
            return np.asarray(op.interpret(None, *operands), dtype)
    except (IRError, NotImplementedError, ValueError):
        return None  # reported where the op is run
