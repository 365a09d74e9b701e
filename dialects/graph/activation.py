"""Activations that are one op of their own: a kernel computes them whole, or a recognised pattern becomes one of them.

The other activations are compositions of elementwise ops, which fusion makes one kernel as well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.elementwise import UnaryOp, unary
from stepwell.dialects.math import vectorize
from stepwell.ir.attrkinds import enum
from stepwell.ir.constraints import FLOAT_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.opdef import attr, operand, result
from stepwell.ir.types import Type

SiluOp = unary("silu", "x * sigmoid(x), also called swish; NaN of -inf.",
               lambda x: x / (1 + np.exp(-x)), module=__name__)  # fmt: skip
SoftplusOp = unary("softplus", "ln(1 + e^x), without overflow for large x.",
                   lambda x: np.logaddexp(x, x.dtype.type(0)), module=__name__)  # fmt: skip

_erfc = vectorize(math.erfc)


def _gelu_exact(x: Any) -> Any:
    return x * 0.5 * _erfc(x.astype(np.float64) / -math.sqrt(2.0))


def _gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class GeluOp(UnaryOp):
    """Gaussian error linear unit: x times the normal distribution function of x; NaN of -inf.

    `approximate` is `none` for 0.5 x (1 + erf(x / sqrt 2)) and `tanh` for 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715
    x^3))) (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016).

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %r = graph.gelu %x {approximate = "tanh"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    ```
    """

    name = "graph.gelu"
    x: Value = operand(FLOAT_TENSOR)
    approximate: str = attr(enum("none", "tanh"), default="none")
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        return [self.x.type]

    def compute(self, x: Any) -> Any:
        """The chosen formula."""
        return _gelu_tanh(x) if self.approximate == "tanh" else _gelu_exact(x)
