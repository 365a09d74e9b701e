"""Determinants and inverses -> a loop over columns: elimination with partial pivoting (Golub and Van Loan, "Matrix
Computations", section 3.4), all matrices of a batch in step."""

from __future__ import annotations

import numpy as np

from stepwell.dialects import math
from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.linear_algebra import DetOp, InverseOp
from stepwell.dialects.graph.shape import product
from stepwell.dialects.tensor import DimsAttr, ForOp, YieldOp
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import dim
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import I64, INDEX, TensorType, Type
from stepwell.lowering.to_tensor.control import constant
from stepwell.lowering.to_tensor.places import Places, dims, moved, reshaped, result_type
from stepwell.lowering.to_tensor.reductions import first_extreme
from stepwell.lowering.to_tensor.rules import accumulator_type, dim_names, lowers, map_generic, reduce_generics
from stepwell.lowering.to_tensor.scalars import Scalars

SCALAR = TensorType((), I64)


@lowers(DetOp)
def det(op: DetOp, c: Conversion) -> Value:
    """graph.det %x  ->  for k { r = row of the largest |x[k.., k]|; swap rows k and r; d *= x[k, k]; eliminate }"""
    result = result_type(op)
    *batch, n, _ = shape_of(op.x)
    wide, count = accumulator_type(result.element), product(batch)
    x = reshaped(c, c.new(op.x), [count, n, n])
    start = map_generic(c, [x], TensorType((count, n, n), wide), lambda s, v: v)
    ones = moved(c, TensorType((count,), wide), lambda p: p.constant(1.0, wide))
    starts = [constant(c, np.array(0, np.int64)), start, ones]
    block = Block([INDEX, *(value.type for value in starts)])
    outside, c.builder = c.builder, Builder.at_end(block, c.builder.loc)
    _, k, matrices, products = block.arguments
    c.insert(YieldOp(_round(c, k, matrices, products, count, n, wide)))
    c.builder = outside
    made = c.insert(ForOp(starts, steps=DimsAttr((n,)), regions=[Region([block])]))
    value = map_generic(c, [made.finals[2]], TensorType((count,), result.element), lambda s, v: v)
    return reshaped(c, value, result.shape)


@lowers(InverseOp)
def inverse(op: InverseOp, c: Conversion) -> Value:
    """graph.inverse %x  ->  y = [x | 1]; for k { r = row of the largest |y[k.., k]|; swap rows k and r; divide row k by
    y[k, k]; eliminate column k in the other rows }; the right half of y"""
    result = result_type(op)
    *batch, n, _ = shape_of(op.x)
    wide, count = accumulator_type(result.element), product(batch)
    pairs = TensorType((count, n, 2 * n), wide)
    x = reshaped(c, c.new(op.x), [count, n, n])

    def beside_unit(p: Places, source: Value) -> Value:
        matrix, i, j = (p.at(axis) for axis in range(3))
        unit = p.select(p.compare("eq", p.sub(j, p.size(n)), i), p.constant(1.0, wide), p.constant(0.0, wide))
        left = p.compare("lt", j, p.size(n))
        inside = p.widened(p.read(source, [matrix, i, p.select(left, j, p.whole(0))]))
        return p.select(left, inside, unit)

    starts = [constant(c, np.array(0, np.int64)), moved(c, pairs, beside_unit, sources=[x])]
    block = Block([INDEX, *(value.type for value in starts)])
    outside, c.builder = c.builder, Builder.at_end(block, c.builder.loc)
    _, k, matrices = block.arguments
    pivots = _pivot_rows(c, k, matrices, count, n, wide)

    def reduced(p: Places, column: Value, row: Value, source: Value) -> Value:
        matrix, i, j = (p.at(axis) for axis in range(3))
        top, pivot_row, lies = _swapped(p, i, column, row)
        above = p.read(source, [matrix, pivot_row, j])
        pivot = p.read(source, [matrix, pivot_row, top])
        share = p.divf(p.read(source, [matrix, lies, top]), pivot)
        left = p.sub(p.read(source, [matrix, lies, j]), p.mul(share, above))
        return p.select(p.compare("eq", i, top), p.divf(above, pivot), left)

    made = moved(c, pairs, reduced, inputs=[k, pivots], maps=[[], dims(1)], sources=[matrices])
    c.insert(YieldOp([_following(c, k), made]))
    c.builder = outside
    loop = c.insert(ForOp(starts, steps=DimsAttr((n,)), regions=[Region([block])]))

    def right(p: Places, source: Value) -> Value:
        value = p.read(source, [p.at(0), p.at(1), p.add(p.at(2), p.size(n))])
        return p.narrowed(value, result.element)

    half = moved(c, TensorType((count, n, n), result.element), right, sources=[loop.finals[1]])
    return reshaped(c, half, result.shape)


def _following(c: Conversion, k: Value) -> Value:
    return moved(c, SCALAR, lambda p, number: p.add(number, p.constant(1, I64)), inputs=[k], maps=[[]])


def _swapped(p: Places, i: Value, column: Value, row: Value) -> tuple[Value, Value, Value]:
    """(the column and the row of the pivot, where row i lies before the pivot's row and the column's are swapped)"""
    top, pivot_row = p.index_of(column, False), p.index_of(row, False)
    return top, pivot_row, p.select(p.compare("eq", i, top), pivot_row, p.select(p.compare("eq", i, pivot_row), top, i))


def _round(c: Conversion, k: Value, x: Value, det: Value, count: Dim, n: Dim, wide: Type) -> list[Value]:
    """The next column, the matrices behind this round, the products of their pivots."""
    pivots = _pivot_rows(c, k, x, count, n, wide)

    def times(p: Places, value: Value, column: Value, row: Value, source: Value) -> Value:
        """A swap of two rows turns the sign."""
        at = p.index_of(row, False)
        pivot = p.read(source, [p.at(0), at, p.index_of(column, False)])
        made = p.mul(value, pivot)
        return p.select(p.compare("eq", row, column), made, p.negate(made))

    maps = [dims(1), [], dims(1)]
    product_ = moved(c, TensorType((count,), wide), times, inputs=[det, k, pivots], maps=maps, sources=[x])

    def eliminated(p: Places, column: Value, row: Value, source: Value) -> Value:
        matrix, i, j = (p.at(axis) for axis in range(3))
        top, pivot_row, lies = _swapped(p, i, column, row)
        value = p.read(source, [matrix, lies, j])
        pivot = p.read(source, [matrix, pivot_row, top])
        empty = p.compare("eq", pivot, p.constant(0.0, wide))
        share = p.divf(p.read(source, [matrix, lies, top]), p.select(empty, p.constant(1.0, wide), pivot))
        left = p.sub(value, p.mul(share, p.read(source, [matrix, pivot_row, j])))
        return p.select(p.compare("gt", i, top), left, value)

    type_ = TensorType((count, n, n), wide)
    left = moved(c, type_, eliminated, inputs=[k, pivots], maps=[[], dims(1)], sources=[x])
    return [_following(c, k), left, product_]


def _pivot_rows(c: Conversion, k: Value, x: Value, count: Dim, n: Dim, wide: Type) -> Value:
    """The row from k on that has the largest magnitude in column k, of each matrix."""

    def body(s: Scalars, column: Value, source: Value) -> list[Value]:
        p = Places(s.builder, s.source)
        top, row = p.index_of(column, False), p.at(1)
        size = p.unary(math.AbsFOp, p.read(source, [p.at(0), row, top]))
        waits = p.compare("ge", row, top)
        far = p.constant((1 << 63) - 1, I64)
        return [p.select(waits, size, p.constant(-1.0, wide)), p.select(waits, p.integer_of(row, I64), far)]

    rows = TensorType((count,), I64)
    _, found = reduce_generics(
        c, [k], [rows.with_element(wide), rows], sizes=[count, n], iterators=["parallel", "reduction"],
        maps=[AffineMap(2, 0, []), AffineMap(2, 0, [dim(0)]), AffineMap(2, 0, [dim(0)])], names=dim_names(2),
        body=body, combine=first_extreme("max", False, last=False), sources=[x],
        identities=[attribute_of(-1.0, wide), attribute_of((1 << 63) - 1, I64)],
    )  # fmt: skip
    return found
