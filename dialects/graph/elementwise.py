"""Elementwise ops: arithmetic, rounding, elementary functions, activations. Binary ones broadcast as NumPy does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import (
    Compute,
    Content,
    GraphOp,
    broadcast_shapes,
    content,
    example,
    same_element,
    shape_of,
    tensor_type,
)
from stepwell.dialects.math import vectorize
from stepwell.errors import IRError
from stepwell.ir.attributes import Attribute
from stepwell.ir.constraints import FLOAT_TENSOR, NUMERIC_TENSOR, REAL_OR_BOOL_TENSOR, TypeConstraint
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, dim_max, dim_min
from stepwell.ir.opdef import COMMUTATIVE, PURE, operand, result
from stepwell.ir.types import FloatType, IntegerType, TensorType, Type, numpy_dtype


class ElementwiseOp(GraphOp):
    """Each element of the result follows from the elements at its place in the (broadcast) operands.

    `compute` is the NumPy meaning; floats narrower than f32 are computed in f32 and rounded once."""

    compute: Compute

    def interpret(self, frame: Any, *args: Any) -> Any:
        type_ = tensor_type(self.results[0])
        dtype = numpy_dtype(type_)
        with np.errstate(all="ignore"):
            wide = [_widened(np.asarray(a)) for a in args]
            return np.asarray(type(self).compute(*wide)).astype(dtype, copy=False)


def _widened(array: Any) -> Any:
    narrow = array.dtype.kind in "fV" and array.dtype.itemsize < 4
    return array.astype(np.float32) if narrow else array


class UnaryOp(ElementwiseOp):
    """One operand; the result has its type."""

    x: Value = operand(REAL_OR_BOOL_TENSOR)
    result: Value = result(REAL_OR_BOOL_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        return [self.x.type]


class BinaryOp(ElementwiseOp):
    """Two operands of one element type that broadcast; the result has that element type."""

    lhs: Value = operand(NUMERIC_TENSOR)
    rhs: Value = operand(NUMERIC_TENSOR)
    result: Value = result(NUMERIC_TENSOR)
    on_dims: Callable[[Dim, Dim], Dim | None] | None = None  # the meaning on symbolic contents

    def infer_types(self) -> Sequence[Type]:
        element = same_element(self.lhs, self.rhs)
        return [TensorType(broadcast_shapes(shape_of(self.lhs), shape_of(self.rhs)), element)]

    def infer_content(self) -> Content | None:
        compute = type(self).on_dims
        a, b = content(self.lhs), content(self.rhs)
        if compute is None or a is None or b is None:
            return None
        size = max(len(a), len(b))
        a, b = (side * size if len(side) == 1 else side for side in (a, b))
        found = [compute(x, y) for x, y in zip(a, b, strict=True)]
        return None if any(dim is None for dim in found) else tuple(dim for dim in found if dim is not None)


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_")) + "Op"


def unary(name: str, words: str, compute: Compute, constraint: TypeConstraint = FLOAT_TENSOR) -> type[UnaryOp]:
    """Declare a unary op `graph.NAME`."""
    element = "si32" if constraint is not FLOAT_TENSOR and constraint.description == "a tensor of integers" else "f32"
    doc = words + example(
        f"%x = \"test.value\"() : () -> tensor<2x3x{element}>\n"
        f"%r = graph.{name} %x : (tensor<2x3x{element}>) -> tensor<2x3x{element}>"
    )
    return type(_class_name(name), (UnaryOp,), {
        "name": f"graph.{name}", "__doc__": doc, "__module__": __name__, "compute": staticmethod(compute),
        "x": operand(constraint), "result": result(constraint),
    })  # fmt: skip


def binary(
    name: str, words: str, compute: Compute, constraint: TypeConstraint = NUMERIC_TENSOR, *,
    commutative: bool = False, on_dims: Callable[[Dim, Dim], Dim | None] | None = None,
) -> type[BinaryOp]:  # fmt: skip
    """Declare a broadcasting binary op `graph.NAME`."""
    element = "si32" if constraint.description == "a tensor of integers" else "f32"
    element = "i1" if constraint.description == "a tensor of i1" else element
    doc = words + example(
        f"%a = \"test.value\"() : () -> tensor<2x3x{element}>\n"
        f"%b = \"test.value\"() : () -> tensor<3x{element}>\n"
        f"%r = graph.{name} %a, %b : (tensor<2x3x{element}>, tensor<3x{element}>) -> tensor<2x3x{element}>"
    )
    return type(_class_name(name), (BinaryOp,), {
        "name": f"graph.{name}", "__doc__": doc, "__module__": __name__, "compute": staticmethod(compute),
        "lhs": operand(constraint), "rhs": operand(constraint), "result": result(constraint),
        "on_dims": staticmethod(on_dims) if on_dims else None,
        "traits": frozenset({PURE, COMMUTATIVE} if commutative else {PURE}),
    })  # fmt: skip


def _divide(a: Any, b: Any) -> Any:
    """Floats: IEEE division. Integers: towards zero; a zero divisor is an error; INT_MIN / -1 wraps."""
    if np.asarray(a).dtype.kind not in "iu":
        return np.divide(a, b)
    if not np.all(b):
        raise IRError("integer division by zero")
    a, b = np.broadcast_arrays(a, b)
    quotient = np.floor_divide(a, b)
    inexact = quotient * b != a
    return quotient + (inexact & ((a < 0) != (b < 0))).astype(quotient.dtype)


def _divide_dims(a: Dim, b: Dim) -> Dim | None:
    if isinstance(b, int) and b > 0:
        return a // b if not isinstance(a, int) or a >= 0 else -((-a) // b)
    return None


AddOp = binary("add", "Sum.", np.add, commutative=True, on_dims=lambda a, b: a + b)
SubOp = binary("sub", "Difference.", np.subtract, on_dims=lambda a, b: a - b)
MulOp = binary("mul", "Product.", np.multiply, commutative=True, on_dims=lambda a, b: a * b)
DivOp = binary("div", "Quotient: IEEE division of floats; integers are rounded towards zero.", _divide,
               on_dims=_divide_dims)  # fmt: skip
MaxOp = binary("max", "Maximum; NaN if either is NaN.", np.maximum, commutative=True, on_dims=dim_max)
MinOp = binary("min", "Minimum; NaN if either is NaN.", np.minimum, commutative=True, on_dims=dim_min)

NegOp = unary("neg", "Negation.", np.negative, NUMERIC_TENSOR)
AbsOp = unary("abs", "Absolute value.", np.abs, NUMERIC_TENSOR)
ExpOp = unary("exp", "e^x.", np.exp)
LogOp = unary("log", "Natural logarithm.", np.log)
SqrtOp = unary("sqrt", "Square root.", np.sqrt)
TanhOp = unary("tanh", "Hyperbolic tangent.", np.tanh)
ErfOp = unary("erf", "Error function.", vectorize(math.erf))


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


SigmoidOp = unary("sigmoid", "1 / (1 + e^-x).", _sigmoid)
ReluOp = unary("relu", "max(x, 0); NaN stays NaN.", lambda x: np.maximum(x, np.zeros((), x.dtype)), NUMERIC_TENSOR)


def is_float_element(type_: Type) -> bool:
    """Whether a tensor's elements are floats."""
    return isinstance(type_, TensorType) and isinstance(type_.element, FloatType)


def is_bool_element(type_: Type) -> bool:
    """Whether a tensor's elements are i1."""
    return isinstance(type_, TensorType) and isinstance(type_.element, IntegerType) and type_.element.width == 1


def splat_value(attribute: Attribute | None) -> float | int | None:
    """The one value of all elements of a constant, if they agree."""
    from stepwell.ir.attributes import ElementsAttr

    if not isinstance(attribute, ElementsAttr):
        return None
    array = attribute.numpy()
    if array.size == 0 or array.dtype.kind not in "fiub":
        return None
    first = array.reshape(-1)[0]
    return first.item() if array.size == 1 or bool(np.all(array == first)) else None
