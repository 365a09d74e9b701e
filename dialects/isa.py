"""Instructions that some targets have and upstream's dialects do not name, on scalars and on vectors of any length.

`expand-math` makes them where the target says that it has them; other targets' emitters refuse them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.arith import ElementwiseOp, as_unsigned, same_type, typed_array, with_element
from stepwell.dialects.vector import FLOAT_VECTOR, vector_type
from stepwell.errors import IRError
from stepwell.ir.constraints import FLOAT_LIKE, INT_LIKE
from stepwell.ir.core import Value
from stepwell.ir.opdef import PURE, operand, result
from stepwell.ir.registry import Dialect
from stepwell.ir.types import Type, bit_width, element_of


class LookupOp(ElementwiseOp):
    """The lane of a table, which stays in a register, that the low bits of an integer name. A table has 2^n lanes of
    the integer's width; bits above the n lowest mean nothing.

    ```mlir
    %t = "test.value"() : () -> vector<4xf32>
    %i = "test.value"() : () -> vector<8xi32>
    %v = isa.lookup %t, %i : vector<4xf32>, vector<8xi32> -> vector<8xf32>
    ```
    """

    name = "isa.lookup"
    traits = frozenset({PURE})
    assembly = "$table `,` $index attr-dict `:` type($table) `,` type($index) `->` type($result)"
    table: Value = operand(FLOAT_VECTOR)
    index: Value = operand(INT_LIKE)
    result: Value = result(FLOAT_LIKE)

    def infer_types(self) -> Sequence[Type]:
        return [with_element(self.index.type, element_of(self.table.type))]

    def verify_op(self) -> None:
        type_ = vector_type(self.table)
        count = type_.shape[0] if len(type_.shape) == 1 else 0
        if count < 1 or count & (count - 1):
            raise IRError(f"a table has 2^n lanes, not {type_}")
        if bit_width(self.index.type) != bit_width(type_):
            raise IRError(f"lanes of {type_} are named by integers of {bit_width(type_)} bits, not {self.index.type}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        table = np.asarray(args[0])
        return table[as_unsigned(np.asarray(args[1])) & (table.size - 1)]


class ScaleOp(ElementwiseOp):
    """x * 2^floor(n), rounded once: to infinity or a denormal, if need be. n is finite or NaN, which gives NaN
    (scaleB of IEEE 754-2019, section 5.3.3, but for the type of n).

    ```mlir
    %x = "test.value"() : () -> vector<8xf32>
    %v = isa.scale %x, %x : vector<8xf32>
    ```
    """

    name = "isa.scale"
    traits = frozenset({PURE})
    assembly = "$value `,` $exponent attr-dict `:` type($result)"
    value: Value = operand(FLOAT_LIKE)
    exponent: Value = operand(FLOAT_LIKE)
    result: Value = result(FLOAT_LIKE)

    def infer_types(self) -> Sequence[Type]:
        return [same_type(self.operands)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return typed_array(scaled(np.asarray(args[0]), np.asarray(args[1])), self.result.type)


FAR = 5000  # beyond it every f64 is scaled to 0 or infinity


def scaled(value: Any, exponent: Any) -> Any:
    """value * 2^floor(exponent) in the value's type, rounded once; NaN where either is NaN."""
    with np.errstate(all="ignore"):
        powers = np.where(np.isnan(exponent), 0, np.clip(np.floor(exponent), -FAR, FAR)).astype(np.int32)
        return np.where(np.isnan(exponent), exponent, np.ldexp(value, powers))


DIALECT = Dialect.of_module("isa", globals().values(), __doc__)
