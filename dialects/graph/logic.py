"""Comparison, predicates, selection, and logic on bits: `and`, `or`, `xor`, `not` work on i1 and on integers alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import (
    Content,
    GraphOp,
    broadcast_shapes,
    content,
    same_element,
    shape_of,
    tensor_type,
)
from stepwell.dialects.graph.elementwise import BinaryOp, ElementwiseOp, OnDims, binary, contents_through
from stepwell.errors import IRError
from stepwell.ir.attrkinds import BOOL, enum
from stepwell.ir.constraints import BOOL_TENSOR, FLOAT_TENSOR, INT_TENSOR, TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, proven_different, proven_equal, proven_le, proven_lt
from stepwell.ir.opdef import attr, operand, result
from stepwell.ir.types import I1, ComplexType, StringType, TensorType, Type, numpy_dtype

BITS_TENSOR = INT_TENSOR | BOOL_TENSOR


def _bit(yes: bool, no: bool) -> int | None:
    return 1 if yes else 0 if no else None


_COMPARE = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip
_ON_DIMS: dict[str, OnDims] = {
    "eq": lambda a, b: _bit(proven_equal(a, b), proven_different(a, b)),
    "ne": lambda a, b: _bit(proven_different(a, b), proven_equal(a, b)),
    "lt": lambda a, b: _bit(proven_lt(a, b), proven_le(b, a)),
    "le": lambda a, b: _bit(proven_le(a, b), proven_lt(b, a)),
    "gt": lambda a, b: _bit(proven_lt(b, a), proven_le(a, b)),
    "ge": lambda a, b: _bit(proven_le(b, a), proven_lt(a, b)),
}


class CompareOp(ElementwiseOp):
    """Whether two broadcasting tensors of one element type stand in a relation: eq, ne, lt, le, gt or ge; gives i1.

    A comparison with NaN is false but for `ne`. Strings and complex numbers know eq and ne only. Stands for Equal,
    Less, LessOrEqual, Greater and GreaterOrEqual.

    ```mlir
    %a = "test.value"() : () -> tensor<2x3xf32>
    %b = "test.value"() : () -> tensor<3xf32>
    %r = graph.compare %a, %b {predicate = "lt"} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
    ```
    """

    name = "graph.compare"
    lhs: Value = operand(TENSOR)
    rhs: Value = operand(TENSOR)
    predicate: str = attr(enum(*_COMPARE))
    result: Value = result(BOOL_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        element = same_element(self.lhs, self.rhs)
        if isinstance(element, (StringType, ComplexType)) and self.predicate not in ("eq", "ne"):
            raise IRError(f"{element} has no order to compare by {self.predicate}")
        return [TensorType(broadcast_shapes(shape_of(self.lhs), shape_of(self.rhs)), I1)]

    def compute(self, a: Any, b: Any) -> Any:
        """The relation in NumPy."""
        return _COMPARE[self.predicate](a, b)

    def infer_content(self) -> Content | None:
        return contents_through(_ON_DIMS[self.predicate], self.lhs, self.rhs)


class IsNanOp(ElementwiseOp):
    """Whether an element is NaN.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %r = graph.is_nan %x : (tensor<2x3xf32>) -> tensor<2x3xi1>
    ```
    """

    name = "graph.is_nan"
    x: Value = operand(FLOAT_TENSOR)
    result: Value = result(BOOL_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        return [tensor_type(self.x).with_element(I1)]

    def compute(self, x: Any) -> Any:
        """NumPy's isnan."""
        return np.isnan(x)


class IsInfOp(ElementwiseOp):
    """Whether an element is an infinity of one of the asked signs.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %r = graph.is_inf %x {negative = false} : (tensor<2x3xf32>) -> tensor<2x3xi1>
    ```
    """

    name = "graph.is_inf"
    x: Value = operand(FLOAT_TENSOR)
    negative: bool = attr(BOOL, default=True)
    positive: bool = attr(BOOL, default=True)
    result: Value = result(BOOL_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        return [tensor_type(self.x).with_element(I1)]

    def compute(self, x: Any) -> Any:
        """NumPy's isposinf, isneginf or both."""
        return (self.positive & np.isposinf(x)) | (self.negative & np.isneginf(x))


def _both(a: Dim, b: Dim) -> Dim | None:
    return 0 if a == 0 or b == 0 else 1 if a == b == 1 else None


def _either(a: Dim, b: Dim) -> Dim | None:
    return 1 if a == 1 or b == 1 else 0 if a == b == 0 else None


def _on_bits(compute: OnDims) -> OnDims:
    """Restrict a meaning to dims that are 0 or 1."""
    return lambda *dims: compute(*dims) if all(dim in (0, 1) for dim in dims) else None


AndOp = binary("and", "Bitwise conjunction of integers, logical one of i1.", np.bitwise_and, BITS_TENSOR,
               commutative=True, on_dims=_on_bits(_both), module=__name__)  # fmt: skip
OrOp = binary("or", "Bitwise disjunction of integers, logical one of i1.", np.bitwise_or, BITS_TENSOR,
              commutative=True, on_dims=_on_bits(_either), module=__name__)  # fmt: skip
XorOp = binary("xor", "Bitwise exclusive or of integers, logical one of i1.", np.bitwise_xor, BITS_TENSOR,
               commutative=True, on_dims=_on_bits(lambda a, b: int(a != b)), module=__name__)  # fmt: skip


class NotOp(ElementwiseOp):
    """Every bit of an integer, or the truth of an i1, turned over.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xi1>
    %r = graph.not %x : (tensor<2x3xi1>) -> tensor<2x3xi1>
    ```
    """

    name = "graph.not"
    x: Value = operand(BITS_TENSOR)
    result: Value = result(BITS_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        return [self.x.type]

    def compute(self, x: Any) -> Any:
        """NumPy's invert."""
        return np.invert(x)

    def infer_content(self) -> Content | None:
        is_bool = tensor_type(self.x).element is I1
        return contents_through(lambda a: 1 - a if is_bool else -1 - a, self.x)


def _shift_left(x: Any, amount: Any) -> Any:
    width = 8 * x.dtype.itemsize
    fits = (amount >= 0) & (amount < width)
    return np.where(fits, np.left_shift(x, np.where(fits, amount, 0)), 0).astype(x.dtype)


def _shift_right(x: Any, amount: Any) -> Any:
    width = 8 * x.dtype.itemsize
    fits = (amount >= 0) & (amount < width)
    return np.right_shift(x, np.where(fits, amount, width - 1)) * (fits | (x < 0)).astype(x.dtype)


_OUTSIDE = "An amount that is negative or not below the width leaves what the sign extends to: "
ShiftLeftOp = binary("shift_left", f"x shifted to the left, bits past the top lost. {_OUTSIDE}0.", _shift_left,
                     INT_TENSOR, module=__name__)  # fmt: skip
ShiftRightOp = binary("shift_right", f"""x shifted to the right, copies of the sign coming in for signed integers.
    {_OUTSIDE}-1 of a negative x, else 0.""", _shift_right, INT_TENSOR, module=__name__)  # fmt: skip


class WhereOp(GraphOp):
    """Elements of `x` where the condition holds, else of `y`; all three broadcast. Any element type.

    ```mlir
    %c = "test.value"() : () -> tensor<2x1xi1>
    %x = "test.value"() : () -> tensor<3xf32>
    %y = "test.value"() : () -> tensor<f32>
    %r = graph.where %c, %x, %y : (tensor<2x1xi1>, tensor<3xf32>, tensor<f32>) -> tensor<2x3xf32>
    ```
    """

    name = "graph.where"
    condition: Value = operand(BOOL_TENSOR)
    x: Value = operand(TENSOR)
    y: Value = operand(TENSOR)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape = broadcast_shapes(shape_of(self.condition), shape_of(self.x), shape_of(self.y))
        return [TensorType(shape, same_element(self.x, self.y))]

    def interpret(self, frame: Any, *args: Any) -> Any:
        condition, x, y = (np.asarray(arg) for arg in args)
        return np.where(condition, x, y).astype(numpy_dtype(self.results[0].type), copy=False)

    def infer_content(self) -> Content | None:
        if content(self.condition) is None:
            return contents_through(lambda x, y: x if proven_equal(x, y) else None, self.x, self.y)
        return contents_through(lambda c, x, y: (x if c == 1 else y) if c in (0, 1) else None,
                                self.condition, self.x, self.y)  # fmt: skip


SHIFTS: dict[str, type[BinaryOp]] = {"LEFT": ShiftLeftOp, "RIGHT": ShiftRightOp}
