"""Quantising and dequantising in the domain com.microsoft, and what its operators on quantised tensors share: inputs
that a scale and a zero point follow."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.elementwise import AddOp
from stepwell.dialects.graph.quantization import DequantizeOp, QuantizeOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, reshaped
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN
from stepwell.frontends.onnx.rules.quantization import dequantize_linear, quantize_linear
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import F32, Type

rule("QuantizeLinear", domain=DOMAIN)(quantize_linear)
rule("DequantizeLinear", domain=DOMAIN)(dequantize_linear)


def one_number(node: Node, index: int) -> Value | None:
    """A scale or zero point of a whole tensor as a scalar; None where it is absent."""
    value = node.optional(index)
    if value is None:
        return None
    shape = shape_of(value)
    if len(shape) > 1 or (shape and isinstance(shape[0], int) and shape[0] != 1):
        raise node.unsupported(
            f"its input {index} is [{_shown(shape)}] where one scale and one zero point for the tensor are supported",
            "quantise the tensor as a whole",
        )
    return reshaped(node, value, ())


def _shown(shape: tuple[Dim, ...]) -> str:
    return ", ".join(map(str, shape))


def scale_of(node: Node, index: int) -> Value:
    """A scale of a whole tensor as a scalar."""
    node.input(index)
    scale = one_number(node, index)
    assert scale is not None
    return scale


def dequantized(node: Node, index: int, x: Value | None = None, scale: Value | None = None) -> Value:
    """The floats that input `index` stands for, with its scale and zero point behind it; of another tensor `x` or with
    another scale where they are given."""
    x = node.input(index) if x is None else x
    scale = scale_of(node, index + 1) if scale is None else scale
    return node.insert(DequantizeOp(x, scale, one_number(node, index + 2), element=F32)).result


def centred(node: Node, index: int, x: Value | None = None) -> Value:
    """Input `index` less its zero point, which are whole numbers in f32."""
    return dequantized(node, index, x, node.constant(np.array(1, np.float32)))


def quantized(node: Node, x: Value, index: int, element: Type) -> Value:
    """saturate(round(x / scale) + zero) with the scale and zero point of the result at `index` and behind it"""
    scale, zero = scale_of(node, index), one_number(node, index + 1)
    return node.insert(QuantizeOp(x, scale, zero, element=element)).result


def rounded_with_zero(node: Node, x: Value, index: int, element: Type) -> Value:
    """saturate(round(x + zero)) with the zero point at `index`: halves go to the even of the sum"""
    zero = one_number(node, index)
    if zero is not None:
        x = binary(node, AddOp, x, cast(node, zero, F32))
    one = node.constant(np.array(1, np.float32))
    return node.insert(QuantizeOp(x, one, None, element=element)).result


def element_of(node: Node, index: int) -> Type:
    """The element type of an input."""
    return tensor_type(node.input(index)).element
