"""Elementary functions on floats (and their vectors); names, syntax and meaning are upstream's."""

from __future__ import annotations

import math as _math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.arith import BinaryOp, ElementwiseOp, as_unsigned, same_type, typed_array
from stepwell.dialects.arith_flags import FASTMATH
from stepwell.dialects.fused import fused_multiply_add
from stepwell.ir.attributes import Attribute
from stepwell.ir.constraints import FLOAT_LIKE, INT_LIKE
from stepwell.ir.core import Value
from stepwell.ir.opdef import PURE, attr, operand, result
from stepwell.ir.registry import Dialect
from stepwell.ir.types import Type


class UnaryOp(ElementwiseOp):
    """One operand of the result's type."""

    assembly = "$value attr-dict `:` type($result)"
    traits = frozenset({PURE})
    value: Value = operand(FLOAT_LIKE)
    result: Value = result(FLOAT_LIKE)

    def infer_types(self) -> Sequence[Type]:
        return [self.value.type]

    def interpret(self, frame: Any, *args: Any) -> Any:
        """Computed in f64 and rounded: closer than a half ulp in f32 and below, but for double rounding."""
        wide = np.asarray(args[0])
        if wide.dtype.kind == "f" or wide.dtype.kind == "V":
            wide = wide.astype(np.float64)
        with np.errstate(all="ignore"):
            return typed_array(type(self).compute(wide), self.results[0].type)


def vectorize(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """A scalar function on arrays of f64."""
    mapped = np.vectorize(function, otypes=[np.float64])
    return lambda value: mapped(value) if np.size(value) else np.asarray(value, np.float64)


def _unary(name: str, words: str, compute: Callable[..., Any], *, on_integers: bool = False) -> type[UnaryOp]:
    type_ = "i32" if on_integers else "f32"
    doc = f"""{words}

    ```mlir
    %a = "test.value"() : () -> {type_}
    %r = math.{name} %a : {type_}
    ```
    """
    members: dict[str, Any] = {
        "name": f"math.{name}", "__doc__": doc, "__module__": __name__, "compute": staticmethod(compute),
    }  # fmt: skip
    if on_integers:
        members |= {"value": operand(INT_LIKE), "result": result(INT_LIKE)}
    else:
        members["fastmath"] = attr(FASTMATH, default=None)
    return type(f"{name.capitalize()}Op", (UnaryOp,), members)


ExpOp = _unary("exp", "e^x.", np.exp)
NONPOSITIVE = "sw.nonpositive"
"""An attribute of `math.exp`, a unit: its operand is at most 0, or NaN."""
Exp2Op = _unary("exp2", "2^x.", np.exp2)
ExpM1Op = _unary("expm1", "e^x - 1, without cancellation near 0.", np.expm1)
LogOp = _unary("log", "Natural logarithm.", np.log)
Log2Op = _unary("log2", "Base-2 logarithm.", np.log2)
Log10Op = _unary("log10", "Base-10 logarithm.", np.log10)
Log1pOp = _unary("log1p", "ln(1 + x), without cancellation near 0.", np.log1p)
SqrtOp = _unary("sqrt", "Square root, correctly rounded.", np.sqrt)
RsqrtOp = _unary("rsqrt", "1 / sqrt(x).", lambda x: 1 / np.sqrt(x))
CbrtOp = _unary("cbrt", "Cube root.", np.cbrt)
SinOp = _unary("sin", "Sine of radians.", np.sin)
CosOp = _unary("cos", "Cosine of radians.", np.cos)
TanOp = _unary("tan", "Tangent of radians.", np.tan)
AsinOp = _unary("asin", "Arc sine.", np.arcsin)
AcosOp = _unary("acos", "Arc cosine.", np.arccos)
AtanOp = _unary("atan", "Arc tangent.", np.arctan)
SinhOp = _unary("sinh", "Hyperbolic sine.", np.sinh)
CoshOp = _unary("cosh", "Hyperbolic cosine.", np.cosh)
TanhOp = _unary("tanh", "Hyperbolic tangent.", np.tanh)
AsinhOp = _unary("asinh", "Inverse hyperbolic sine.", np.arcsinh)
AcoshOp = _unary("acosh", "Inverse hyperbolic cosine.", np.arccosh)
AtanhOp = _unary("atanh", "Inverse hyperbolic tangent.", np.arctanh)
ErfOp = _unary("erf", "Error function.", vectorize(_math.erf))
AbsFOp = _unary("absf", "Absolute value; clears the sign bit.", np.abs)
FloorOp = _unary("floor", "Largest integer not above.", np.floor)
CeilOp = _unary("ceil", "Smallest integer not below.", np.ceil)
TruncOp = _unary("trunc", "Integer part, towards zero.", np.trunc)
RoundEvenOp = _unary("roundeven", "Nearest integer, ties to even.", np.rint)
AbsIOp = _unary("absi", "Absolute value modulo 2^width.", np.abs, on_integers=True)
CtPopOp = _unary("ctpop", "Number of set bits.", lambda x: np.bitwise_count(as_unsigned(x)), on_integers=True)


def _math_binary(name: str, words: str, compute: Callable[..., Any]) -> type[BinaryOp]:
    doc = f"""{words}

    ```mlir
    %a = "test.value"() : () -> f32
    %r = math.{name} %a, %a : f32
    ```
    """
    members: dict[str, Any] = {
        "name": f"math.{name}", "__doc__": doc, "__module__": __name__, "compute": staticmethod(compute),
        "lhs": operand(FLOAT_LIKE), "rhs": operand(FLOAT_LIKE), "result": result(FLOAT_LIKE),
        "fastmath": attr(FASTMATH, default=None),
    }  # fmt: skip
    return type(f"{name.capitalize()}Op", (BinaryOp,), members)


PowFOp = _math_binary("powf", "x^y with the special cases of IEEE 754's pow.", np.power)
Atan2Op = _math_binary("atan2", "Angle of the point (y, x) in radians.", np.arctan2)
CopySignOp = _math_binary("copysign", "The first with the sign bit of the second.", np.copysign)


class FmaOp(ElementwiseOp):
    """a * b + c with one rounding.

    ```mlir
    %a = "test.value"() : () -> f32
    %r = math.fma %a, %a, %a : f32
    ```
    """

    name = "math.fma"
    traits = frozenset({PURE})
    assembly = "$a `,` $b `,` $c attr-dict `:` type($result)"
    a: Value = operand(FLOAT_LIKE)
    b: Value = operand(FLOAT_LIKE)
    c: Value = operand(FLOAT_LIKE)
    fastmath: Attribute | None = attr(FASTMATH, default=None)
    result: Value = result(FLOAT_LIKE)

    def infer_types(self) -> Sequence[Type]:
        return [same_type(self.operands)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        with np.errstate(all="ignore"):
            return typed_array(fused_multiply_add(*args), self.result.type)


DIALECT = Dialect.of_module("math", globals().values(), __doc__)
