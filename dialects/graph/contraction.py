"""Sums of products: matrix products and Einstein sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import (
    GraphOp,
    broadcast_dim,
    broadcast_shapes,
    require_stretch,
    same_element,
    shape_of,
    tensor_type,
)
from stepwell.dialects.graph.demands import demand_equal
from stepwell.dialects.graph.numeric import rounded, widened
from stepwell.errors import IRError
from stepwell.ir.attrkinds import STRING
from stepwell.ir.constraints import NUMERIC_TENSOR, TypeConstraint, tensor_with
from stepwell.ir.core import Value
from stepwell.ir.dim_poly import TooLarge
from stepwell.ir.dims import Dim
from stepwell.ir.opdef import attr, operand, operands, optional_operand, result
from stepwell.ir.types import SI32, IntegerType, TensorType, Type, numpy_dtype

BYTE_TENSOR = tensor_with("a tensor of 8-bit integers", lambda e: isinstance(e, IntegerType) and e.width == 8)
SI32_TENSOR: TypeConstraint = tensor_with("a tensor of si32", lambda e: e is SI32)


def matmul_shape(lhs: Sequence[Dim], rhs: Sequence[Dim]) -> tuple[Dim, ...]:
    """The shape of a matrix product of broadcast batches. Raises IRError where the operands do not fit."""
    if len(lhs) < 2 or len(rhs) < 2:
        raise IRError(f"matrix products need operands of rank 2 or more, not {len(lhs)} and {len(rhs)}")
    if isinstance(lhs[-1], int) and isinstance(rhs[-2], int) and lhs[-1] != rhs[-2]:
        raise IRError(f"the inner sizes {lhs[-1]} and {rhs[-2]} of a matrix product differ")
    demand_equal(lhs[-1], rhs[-2], "the inner sizes of a matrix product")
    return (*broadcast_shapes(lhs[:-2], rhs[:-2]), lhs[-2], rhs[-1])


def zero_shape(product: Sequence[Dim], rank: int, *, row: bool) -> list[Dim]:
    """What a zero point of a rank broadcasts to, for a product of integers: [m] or [..., m, 1] per row, [n] or
    [..., 1, n] per column."""
    if rank < 2:
        return [product[-2] if row else product[-1]][:rank]
    whole = [*product[:-2], product[-2], 1] if row else [*product[:-2], 1, product[-1]]
    return whole[len(whole) - rank :]


class MatmulOp(GraphOp):
    """Matrix product of the last two axes, [..., m, k] x [..., k, n] -> [..., m, n]; the other axes broadcast.

    Floats narrower than f32 are accumulated in f32; integers wrap. Stands for ONNX MatMul and, with transposes, scale
    and add, Gemm.

    ```mlir
    %a = "test.value"() : () -> tensor<8x2x3xf32>
    %b = "test.value"() : () -> tensor<3x4xf32>
    %r = graph.matmul %a, %b : (tensor<8x2x3xf32>, tensor<3x4xf32>) -> tensor<8x2x4xf32>
    ```
    """

    name = "graph.matmul"
    lhs: Value = operand(NUMERIC_TENSOR)
    rhs: Value = operand(NUMERIC_TENSOR)
    result: Value = result(NUMERIC_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        element = same_element(self.lhs, self.rhs)
        return [TensorType(matmul_shape(shape_of(self.lhs), shape_of(self.rhs)), element)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        with np.errstate(all="ignore"):
            product = np.matmul(widened(args[0]), widened(args[1]))
        return rounded(product, numpy_dtype(self.results[0].type))


class MatmulIntegerOp(GraphOp):
    """Exact matrix product of 8-bit integers less their zero points, in si32 that wraps.

    A zero point is a scalar or per row of `lhs` ([m], [..., m, 1]), per column of `rhs` ([n], [..., 1, n]); absent
    means 0. Stands for ONNX MatMulInteger and the integer core of QLinearMatMul.

    ```mlir
    %a = "test.value"() : () -> tensor<2x3xui8>
    %b = "test.value"() : () -> tensor<3x4xsi8>
    %r = graph.matmul_integer %a, %b {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<2x3xui8>, tensor<3x4xsi8>) -> tensor<2x4xsi32>
    ```
    """

    name = "graph.matmul_integer"
    lhs: Value = operand(BYTE_TENSOR)
    rhs: Value = operand(BYTE_TENSOR)
    lhs_zero: Value | None = optional_operand(BYTE_TENSOR)
    rhs_zero: Value | None = optional_operand(BYTE_TENSOR)
    result: Value = result(SI32_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        lhs, rhs = shape_of(self.lhs), shape_of(self.rhs)
        for what, zero, side in (("lhs", self.lhs_zero, self.lhs), ("rhs", self.rhs_zero, self.rhs)):
            if zero is not None:
                same_element(zero, side)
                if len(shape_of(zero)) > max(1, len(shape_of(side))):
                    raise IRError(f"the zero point of {what} has more axes than {what}")
        made = matmul_shape(lhs, rhs)
        for what, zero in (("lhs", self.lhs_zero), ("rhs", self.rhs_zero)):
            if zero is not None:
                wanted = zero_shape(made, len(shape_of(zero)), row=what == "lhs")
                require_stretch(f"the zero point of {what}", zero, wanted)
        return [TensorType(made, SI32)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        lhs, rhs, *zeros = (np.asarray(a).astype(np.int32) for a in args)
        if self.lhs_zero is not None:
            zero = zeros.pop(0)
            lhs = lhs - (zero[:, None] if zero.ndim == 1 and zero.size > 1 else zero)
        if zeros:
            rhs = rhs - zeros[0]
        return np.matmul(lhs, rhs)


def split_equation(equation: str) -> tuple[list[str], str]:
    """The label strings of the operands and of the result. Raises IRError on a malformed equation."""
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if not arrow or any(not (term.isascii() and term.isalpha()) and term for term in [*terms, right]):
        raise IRError(f"{equation!r} is not of the form 'ij,jk->ik'")
    if len(set(right)) != len(right) or not set(right) <= set(left):
        raise IRError(f"{equation!r}: result labels must be distinct and occur in an operand")
    return terms, right


class EinsumOp(GraphOp):
    """Sum of products over labelled axes: the result's labels stay, all others are summed; a label that occurs twice
    in one operand takes its diagonal. Sizes of one label are equal or 1, which broadcasts.

    The equation is explicit: one letter per axis, no ellipsis, no blanks. Floats narrower than f32 are accumulated in
    f32. Stands for ONNX Einsum.

    ```mlir
    %a = "test.value"() : () -> tensor<8x2x3xf32>
    %b = "test.value"() : () -> tensor<8x4x3xf32>
    %r = graph.einsum %a, %b {equation = "bik,bjk->bij"}
      : (tensor<8x2x3xf32>, tensor<8x4x3xf32>) -> tensor<8x2x4xf32>
    ```
    """

    name = "graph.einsum"
    inputs: Sequence[Value] = operands(NUMERIC_TENSOR)
    equation: str = attr(STRING)
    result: Value = result(NUMERIC_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        sizes = self.label_sizes()
        return [TensorType(tuple(sizes[label] for label in split_equation(self.equation)[1]),
                           same_element(*self.inputs))]  # fmt: skip

    def label_sizes(self) -> dict[str, Dim]:
        """The size of each label, in the order of their first axes. Raises IRError where axes do not fit."""
        terms, _ = split_equation(self.equation)
        if len(terms) != len(self.inputs):
            raise IRError(f"{self.equation!r} names {len(terms)} operands, there are {len(self.inputs)}")
        sizes: dict[str, Dim] = {}
        for term, value in zip(terms, self.inputs, strict=True):
            shape = shape_of(value)
            if len(term) != len(shape):
                raise IRError(f"{self.equation!r}: {term!r} labels {len(term)} axes of a tensor of rank {len(shape)}")
            for label, size in zip(term, shape, strict=True):
                try:
                    sizes[label] = broadcast_dim(sizes.get(label, 1), size)
                except TooLarge:
                    raise
                except IRError:
                    raise IRError(f"{self.equation!r}: {label!r} has sizes {sizes[label]} and {size}") from None
        return sizes

    def interpret(self, frame: Any, *args: Any) -> Any:
        terms, right = split_equation(self.equation)
        with np.errstate(all="ignore"):
            made = np.einsum(f"{','.join(terms)}->{right}", *map(widened, args))
        return rounded(made, numpy_dtype(tensor_type(self.results[0])))
