"""Ops of floats that are one function of LLVM or of the C library, and the function's name."""

from __future__ import annotations

from typing import Any

from stepwell.dialects import math

ROUNDINGS: dict[Any, str] = {
    math.SqrtOp: "sqrt", math.FloorOp: "floor", math.CeilOp: "ceil", math.TruncOp: "trunc",
    math.RoundEvenOp: "roundeven",
}  # fmt: skip
"""Exact ones: llvm.NAME, for any width and for vectors."""

LIBM: dict[Any, str] = {
    math.ExpOp: "exp", math.Exp2Op: "exp2", math.ExpM1Op: "expm1", math.LogOp: "log", math.Log2Op: "log2",
    math.Log10Op: "log10", math.Log1pOp: "log1p", math.CbrtOp: "cbrt", math.SinOp: "sin", math.CosOp: "cos",
    math.TanOp: "tan", math.AsinOp: "asin", math.AcosOp: "acos", math.AtanOp: "atan", math.SinhOp: "sinh",
    math.CoshOp: "cosh", math.TanhOp: "tanh", math.AsinhOp: "asinh", math.AcoshOp: "acosh", math.AtanhOp: "atanh",
    math.ErfOp: "erf", math.PowFOp: "pow", math.Atan2Op: "atan2",
}  # fmt: skip
"""The C library's, of doubles; with an f behind the name, of floats."""
