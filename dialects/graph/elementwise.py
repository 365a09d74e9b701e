"""Elementwise ops: arithmetic, rounding, elementary functions, activations. Binary ones broadcast as NumPy does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.arith import check_divisor
from stepwell.dialects.graph.base import (
    Compute,
    Content,
    GraphOp,
    broadcast_shapes,
    content_array,
    example,
    same_element,
    shape_of,
    tensor_type,
)
from stepwell.dialects.math import vectorize
from stepwell.errors import RuntimeError
from stepwell.ir.attributes import Attribute
from stepwell.ir.constraints import FLOAT_TENSOR, NUMERIC_TENSOR, REAL_OR_BOOL_TENSOR, TypeConstraint
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, ceildiv, dim_max, dim_min, proven_non_negative
from stepwell.ir.opdef import COMMUTATIVE, PURE, operand, result
from stepwell.ir.types import F32, FloatType, TensorType, Type, numpy_dtype

OnDims = Callable[..., "Dim | None"]


def contents_through(compute: OnDims | None, *values: Value) -> Content | None:
    """A function of dims mapped over the broadcast symbolic contents of integer tensors; None where one of them, or an
    element of the result, is not known."""
    known = [content_array(value) for value in values]
    if compute is None or any(side is None for side in known):
        return None
    columns = np.broadcast_arrays(*(side for side in known if side is not None))
    found = [compute(*dims) for dims in zip(*(column.flat for column in columns), strict=True)]
    return None if any(dim is None for dim in found) else tuple(dim for dim in found if dim is not None)


class ElementwiseOp(GraphOp):
    """Each element of the result follows from the elements at its place in the (broadcast) operands.

    `compute` is the NumPy meaning; floats narrower than f32 are computed in f32 and rounded once."""

    compute: Compute

    def interpret(self, frame: Any, *args: Any) -> Any:
        type_ = tensor_type(self.results[0])
        dtype = numpy_dtype(type_)
        with np.errstate(all="ignore"):
            wide = [_widened(np.asarray(a)) for a in args]
            return np.asarray(self.compute(*wide)).astype(dtype, copy=False)


def _widened(array: Any) -> Any:
    if array.dtype.kind == "V" and "int" in array.dtype.name:  # the integers of less than a byte
        return array.astype(np.uint8 if array.dtype.name.startswith("u") else np.int8)
    narrow = array.dtype.kind in "fV" and array.dtype.itemsize < 4
    return array.astype(np.float32) if narrow else array


class UnaryOp(ElementwiseOp):
    """One operand; the result has its type."""

    x: Value = operand(REAL_OR_BOOL_TENSOR)
    result: Value = result(REAL_OR_BOOL_TENSOR)
    on_dims: OnDims | None = None  # the meaning on symbolic contents

    def infer_types(self) -> Sequence[Type]:
        return [self.x.type]

    def infer_content(self) -> Content | None:
        return contents_through(type(self).on_dims, self.x)


class BinaryOp(ElementwiseOp):
    """Two operands of one element type that broadcast; the result has that element type."""

    lhs: Value = operand(NUMERIC_TENSOR)
    rhs: Value = operand(NUMERIC_TENSOR)
    result: Value = result(NUMERIC_TENSOR)
    on_dims: OnDims | None = None  # the meaning on symbolic contents

    def infer_types(self) -> Sequence[Type]:
        element = same_element(self.lhs, self.rhs)
        return [TensorType(broadcast_shapes(shape_of(self.lhs), shape_of(self.rhs)), element)]

    def infer_content(self) -> Content | None:
        return contents_through(type(self).on_dims, self.lhs, self.rhs)


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_")) + "Op"


def _example_element(constraint: TypeConstraint) -> str:
    return "f32" if constraint.accepts(TensorType((), F32)) else "si32"


def unary(name: str, words: str, compute: Compute, constraint: TypeConstraint = FLOAT_TENSOR, *,
          on_dims: OnDims | None = None, module: str = __name__) -> type[UnaryOp]:  # fmt: skip
    """Declare a unary op `graph.NAME`."""
    element = _example_element(constraint)
    doc = words + example(
        f"%x = \"test.value\"() : () -> tensor<2x3x{element}>\n"
        f"%r = graph.{name} %x : (tensor<2x3x{element}>) -> tensor<2x3x{element}>"
    )
    return type(_class_name(name), (UnaryOp,), {
        "name": f"graph.{name}", "__doc__": doc, "__module__": module, "compute": staticmethod(compute),
        "x": operand(constraint), "result": result(constraint), "on_dims": staticmethod(on_dims) if on_dims else None,
    })  # fmt: skip


def binary(
    name: str, words: str, compute: Compute, constraint: TypeConstraint = NUMERIC_TENSOR, *,
    commutative: bool = False, on_dims: OnDims | None = None, module: str = __name__,
) -> type[BinaryOp]:  # fmt: skip
    """Declare a broadcasting binary op `graph.NAME`."""
    element = _example_element(constraint)
    doc = words + example(
        f"%a = \"test.value\"() : () -> tensor<2x3x{element}>\n"
        f"%b = \"test.value\"() : () -> tensor<3x{element}>\n"
        f"%r = graph.{name} %a, %b : (tensor<2x3x{element}>, tensor<3x{element}>) -> tensor<2x3x{element}>"
    )
    return type(_class_name(name), (BinaryOp,), {
        "name": f"graph.{name}", "__doc__": doc, "__module__": module, "compute": staticmethod(compute),
        "lhs": operand(constraint), "rhs": operand(constraint), "result": result(constraint),
        "on_dims": staticmethod(on_dims) if on_dims else None,
        "traits": frozenset({PURE, COMMUTATIVE} if commutative else {PURE}),
    })  # fmt: skip


def _divide(a: Any, b: Any) -> Any:
    """Floats: IEEE division. Integers: towards zero; a zero divisor is an error; INT_MIN / -1 wraps."""
    if np.asarray(a).dtype.kind not in "iu":
        return np.divide(a, b)
    check_divisor(a, b)
    a, b = np.broadcast_arrays(a, b)
    quotient = np.floor_divide(a, b)
    inexact = quotient * b != a
    return quotient + (inexact & ((a < 0) != (b < 0))).astype(quotient.dtype)


ZERO_TO_NEGATIVE = "zero to a negative integer power"


def _remainder_by(compute: Compute) -> Compute:
    def remainder(a: Any, b: Any) -> Any:
        if np.asarray(a).dtype.kind in "iu":
            check_divisor(a, b)
        return compute(a, b)

    return remainder


def _divide_dims(a: Dim, b: Dim) -> Dim | None:
    """Towards zero: up where the dividend is negative, down where it is not."""
    if isinstance(b, int) and b != 0:
        if b < 0:
            a, b = -a, -b
        return a // b if proven_non_negative(a) else dim_max(a // b, dim_min(ceildiv(a, b), 0))
    return a // b if _sizes(a, b) else None


def _modulo_dims(a: Dim, b: Dim) -> Dim | None:
    return a % b if (isinstance(b, int) and b > 0) or _sizes(a, b) else None


def _sizes(a: Dim, b: Dim) -> bool:
    """Whether a and a symbolic divisor b are never negative; that b is not 0 is checked where the size is computed."""
    return not isinstance(b, int) and proven_non_negative(a) and proven_non_negative(b)


def _power(base: Any, exponent: Any) -> Any:
    """Floats: as C's pow. Integers: wrap; a negative exponent gives 1 / b^-e cut to an integer, 0 ** -1 is an error."""
    if np.asarray(base).dtype.kind not in "iu":
        # an exponent that is one number takes NumPy's short cuts, of which sqrt is not pow at -inf
        return np.power(base, np.array(np.broadcast_to(exponent, np.broadcast_shapes(base.shape, exponent.shape))))
    base, exponent = np.broadcast_arrays(base, exponent)
    negative = exponent < 0
    if (bad := negative & (base == 0)).any():
        raise RuntimeError(ZERO_TO_NEGATIVE, int(exponent[bad].flat[0]))
    unit = np.where(base == 1, 1, np.where(base == -1, 1 - 2 * (exponent & 1), 0)) if negative.any() else 0
    return np.where(negative, unit, np.power(base, np.where(negative, 0, exponent))).astype(base.dtype)


def _power_dims(a: Dim, b: Dim) -> Dim | None:
    return math.prod([a] * b) if isinstance(b, int) and 0 <= b <= 4 else None


AddOp = binary("add", "Sum.", np.add, commutative=True, on_dims=lambda a, b: a + b)
SubOp = binary("sub", "Difference.", np.subtract, on_dims=lambda a, b: a - b)
MulOp = binary("mul", "Product.", np.multiply, commutative=True, on_dims=lambda a, b: a * b)
DivOp = binary("div", "Quotient: IEEE division of floats; integers are rounded towards zero.", _divide,
               on_dims=_divide_dims)  # fmt: skip
MaxOp = binary("max", "Maximum; NaN if either is NaN.", np.maximum, commutative=True, on_dims=dim_max)
MinOp = binary("min", "Minimum; NaN if either is NaN.", np.minimum, commutative=True, on_dims=dim_min)
PowOp = binary("pow", """Power. Floats follow C's pow. Integers wrap; a negative exponent gives the reciprocal of
    the positive power, cut to an integer; zero to a negative power is an error.""", _power, on_dims=_power_dims)
ModOp = binary("mod", """Remainder with the divisor's sign, a - floor(a / b) * b: Python's `%`. An integer divisor of
    zero is an error, a float one gives NaN.""", _remainder_by(np.mod), on_dims=_modulo_dims)  # fmt: skip
RemOp = binary("rem", """Remainder with the dividend's sign, a - trunc(a / b) * b: C's fmod. An integer divisor of zero
    is an error, a float one gives NaN.""", _remainder_by(np.fmod))  # fmt: skip


def _rounded(compute: Compute) -> Compute:
    return lambda x: compute(x) if x.dtype.kind == "f" else x


NegOp = unary("neg", "Negation; of integers, wrapping.", np.negative, NUMERIC_TENSOR, on_dims=lambda a: -a)
AbsOp = unary("abs", "Absolute value; of the smallest integer, that integer.", np.abs, NUMERIC_TENSOR,
              on_dims=lambda a: a if proven_non_negative(a) else None)  # fmt: skip
SignOp = unary("sign", "-1, 0 or 1; NaN of NaN.", np.sign, NUMERIC_TENSOR)
CeilOp = unary("ceil", "The least integer not below x.", _rounded(np.ceil))
FloorOp = unary("floor", "The greatest integer not above x.", _rounded(np.floor))
RoundOp = unary("round", "The nearest integer, halves to the even one.", _rounded(np.rint))
ExpOp = unary("exp", "e^x.", np.exp)
ExpM1Op = unary("expm1", "e^x - 1 without cancellation near 0.", np.expm1)
LogOp = unary("log", "Natural logarithm; -inf of 0, NaN below.", np.log)
SqrtOp = unary("sqrt", "Square root; NaN below 0.", np.sqrt)
ErfOp = unary("erf", "Error function.", vectorize(math.erf))
SinOp = unary("sin", "Sine of radians.", np.sin)
CosOp = unary("cos", "Cosine of radians.", np.cos)
TanOp = unary("tan", "Tangent of radians.", np.tan)
AsinOp = unary("asin", "Arc sine in radians; NaN outside [-1, 1].", np.arcsin)
AcosOp = unary("acos", "Arc cosine in radians; NaN outside [-1, 1].", np.arccos)
AtanOp = unary("atan", "Arc tangent in radians.", np.arctan)
SinhOp = unary("sinh", "Hyperbolic sine.", np.sinh)
CoshOp = unary("cosh", "Hyperbolic cosine.", np.cosh)
TanhOp = unary("tanh", "Hyperbolic tangent.", np.tanh)
AsinhOp = unary("asinh", "Inverse hyperbolic sine.", np.arcsinh)
AcoshOp = unary("acosh", "Inverse hyperbolic cosine; NaN below 1.", np.arccosh)
AtanhOp = unary("atanh", "Inverse hyperbolic tangent; NaN outside [-1, 1].", np.arctanh)

def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


SigmoidOp = unary("sigmoid", "1 / (1 + e^-x).", _sigmoid)
ReluOp = unary("relu", "max(x, 0); NaN stays NaN.", lambda x: np.maximum(x, np.zeros((), x.dtype)), NUMERIC_TENSOR)


def is_float_element(type_: Type) -> bool:
    """Whether a tensor's elements are floats."""
    return isinstance(type_, TensorType) and isinstance(type_.element, FloatType)


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
