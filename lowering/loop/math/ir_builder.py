"""The builder that writes IR: recipes become `arith`, `math` and `vector` ops on scalars or vectors of f32 or f64."""

from __future__ import annotations

import struct
from collections.abc import Callable

from stepwell.dialects import arith, isa, loop, math, vector
from stepwell.errors import IRError
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Value
from stepwell.ir.location import Location
from stepwell.ir.types import I32, I64, FloatType, Type, VectorType, element_of


class SharedConstants:
    """The constants of one block: equal ones are one op, at the block's start, so that every expansion may use them."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._last: Operation | None = None
        self._known: dict[tuple[Type, bytes | int], Value] = {}

    def get(self, value: float, type_: Type, key: bytes | int, loc: Location) -> Value:
        """`value` in all lanes of the type; `key` tells apart what compares equal (-0.0 and 0.0)."""
        return self._known.get((type_, key)) or self._add(arith.constant(value, type_), key, loc)

    def table(self, values: tuple[float, ...], element: FloatType, loc: Location) -> Value:
        """A vector with these lanes."""
        type_, key = VectorType((len(values),), element), struct.pack(f"<{len(values)}d", *values)
        return self._known.get((type_, key)) or self._add(arith.lanes_constant(values, type_), key, loc)

    def _add(self, made: arith.ConstantOp, key: bytes | int, loc: Location) -> Value:
        made.loc = loc
        self._block.insert_before(self._last.next if self._last else self._block.first, made)
        self._last = made
        self._known[made.result.type, key] = made.result
        return made.result


class IrMath:
    """`MathBuilder` over a `Builder`, for values of one type.

    With `branches`, what is rare becomes a `loop.if`; without, it is computed for all lanes and selected: for bodies
    that are still to be vectorised."""

    def __init__(
        self,
        builder: Builder,
        constants: SharedConstants,
        type_: Type,
        *,
        has_fma: bool = True,
        has_tables: bool = False,
        branches: bool = True,
    ) -> None:
        element = element_of(type_)
        if not isinstance(element, FloatType) or element.width not in (32, 64):
            raise IRError(f"elementary functions are written for f32 and f64, not {type_}")
        self.builder = builder
        self.type = type_
        self.int_type = arith.with_element(type_, I32 if element.width == 32 else I64)
        self.element = element
        self.width = element.width
        self.has_fma = has_fma
        self.has_tables = has_tables
        self._constants = constants
        self._branches = branches and (not isinstance(type_, VectorType) or len(type_.shape) == 1)

    def _result(self, op: Operation) -> Value:
        return self.builder.insert(op).first_result

    def const(self, value: float) -> Value:
        """`value` rounded to the format, in all lanes."""
        return self._constants.get(value, self.type, struct.pack("<d", value), self.builder.loc)

    def iconst(self, value: int) -> Value:
        """`value` modulo 2^width, in all lanes."""
        half = 1 << (self.width - 1)
        wrapped = (value + half) % (2 * half) - half
        return self._constants.get(wrapped, self.int_type, wrapped, self.builder.loc)

    def add(self, a: Value, b: Value) -> Value:
        return self._result(arith.AddFOp(a, b))

    def sub(self, a: Value, b: Value) -> Value:
        return self._result(arith.SubFOp(a, b))

    def mul(self, a: Value, b: Value) -> Value:
        return self._result(arith.MulFOp(a, b))

    def div(self, a: Value, b: Value) -> Value:
        return self._result(arith.DivFOp(a, b))

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """One op that rounds once; without FMA a multiplication and an addition."""
        if not self.has_fma:
            return self.add(self.mul(a, b), c)
        return self._result((vector.FmaOp if isinstance(self.type, VectorType) else math.FmaOp)(a, b, c))

    def neg(self, a: Value) -> Value:
        return self._result(arith.NegFOp(a))

    def abs(self, a: Value) -> Value:
        return self._result(math.AbsFOp(a))

    def sqrt(self, a: Value) -> Value:
        return self._result(math.SqrtOp(a))

    def copysign(self, magnitude: Value, sign: Value) -> Value:
        return self._result(math.CopySignOp(magnitude, sign))

    def floor(self, a: Value) -> Value:
        return self._result(math.FloorOp(a))

    def roundeven(self, a: Value) -> Value:
        return self._result(math.RoundEvenOp(a))

    def lookup(self, table: tuple[float, ...], index: Value) -> Value:
        return self._result(isa.LookupOp(self._constants.table(table, self.element, self.builder.loc), index))

    def scale(self, a: Value, n: Value) -> Value:
        return self._result(isa.ScaleOp(a, n))

    def cmp(self, predicate: str, a: Value, b: Value) -> Value:
        return self._result(arith.CmpFOp(a, b, predicate=predicate))

    def select(self, mask: Value, a: Value, b: Value) -> Value:
        return self._result(arith.SelectOp(mask, a, b))

    def mask_and(self, a: Value, b: Value) -> Value:
        return self._result(arith.AndIOp(a, b))

    def mask_or(self, a: Value, b: Value) -> Value:
        return self._result(arith.OrIOp(a, b))

    def to_bits(self, a: Value) -> Value:
        return self._result(arith.BitcastOp(a, result_types=[self.int_type]))

    def from_bits(self, a: Value) -> Value:
        return self._result(arith.BitcastOp(a, result_types=[self.type]))

    def iadd(self, a: Value, b: Value) -> Value:
        return self._result(arith.AddIOp(a, b))

    def isub(self, a: Value, b: Value) -> Value:
        return self._result(arith.SubIOp(a, b))

    def iand(self, a: Value, b: Value) -> Value:
        return self._result(arith.AndIOp(a, b))

    def ior(self, a: Value, b: Value) -> Value:
        return self._result(arith.OrIOp(a, b))

    def ixor(self, a: Value, b: Value) -> Value:
        return self._result(arith.XOrIOp(a, b))

    def shl(self, a: Value, amount: int) -> Value:
        return self._result(arith.ShLIOp(a, self.iconst(amount)))

    def lshr(self, a: Value, amount: int) -> Value:
        return self._result(arith.ShRUIOp(a, self.iconst(amount)))

    def icmp(self, predicate: str, a: Value, b: Value) -> Value:
        return self._result(arith.CmpIOp(a, b, predicate=predicate))

    def rare(
        self, mask: Value, values: tuple[Value, ...], otherwise: Callable[[], tuple[Value, ...]]
    ) -> tuple[Value, ...]:
        """A `loop.if` on whether any lane needs `otherwise`."""
        if not self._branches:
            return self._merged(mask, values, otherwise)
        is_vector = isinstance(mask.type, VectorType)
        condition = self._result(vector.ReductionOp(mask, kind="or")) if is_vector else mask
        branch = self.builder.insert(loop.IfOp.build(condition, [value.type for value in values]))
        outside = self.builder
        self.builder = Builder.at_end(branch.then.block, outside.loc)
        loop.yield_values(self.builder, self._merged(mask, values, otherwise) if is_vector else otherwise())
        self.builder = outside
        loop.yield_values(Builder.at_end(branch.otherwise.block, outside.loc), values)
        return tuple(branch.results)

    def _merged(
        self, mask: Value, values: tuple[Value, ...], otherwise: Callable[[], tuple[Value, ...]]
    ) -> tuple[Value, ...]:
        return tuple(self.select(mask, other, value) for other, value in zip(otherwise(), values, strict=True))
