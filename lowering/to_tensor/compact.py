"""Compaction: how many elements of a list are marked, and where they stand, by running sums and a search in them.

The sums are formed in blocks of blocks, each level the totals of the one below (Blelloch, "Prefix Sums and Their
Applications", 1990), and the r-th marked element is the first whose running sum exceeds r. Everything is a map or a
short sum over independent elements; integers make its results exact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.tensor import WhileOp, YieldOp, tensor_type
from stepwell.ir.affine_expr import dim
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.dims import Dim, ceildiv
from stepwell.ir.types import I1, I64, TensorType
from stepwell.lowering.to_tensor.control import constant
from stepwell.lowering.to_tensor.places import Places, dims, moved, reduced, reshaped

BLOCK = 16  # elements whose sums are formed one by one
LEVELS = 4  # of totals above a list of unknown length; the sums of the last level take quadratic time
LENGTH_BITS = 41  # of the length of a list
BEYOND = (1 << 63) - 1
SCALAR = TensorType((), I64)


def size_of(x: Value) -> Dim:
    """The length of a list."""
    return tensor_type(x).shape[0]


def running_sums(c: Conversion, x: Value) -> Value:
    """A list of i64  ->  out[i] = x[0] + .. + x[i]; the list may become longer, and stays at the total there"""
    return _running_sums(c, x, 0)


def _running_sums(c: Conversion, x: Value, level: int) -> Value:
    size = size_of(x)
    if level == LEVELS and not isinstance(size, int):
        return _sums_of_rows(c, reshaped(c, x, [1, size]), None)
    blocks = _in_blocks(c, x)
    count = tensor_type(blocks).shape[0]
    if count in (0, 1):
        return _sums_of_rows(c, blocks, None)
    totals = reduced(
        c, TensorType((count,), I64), [BLOCK], lambda p, value: value, lambda p, a, b: p.add(a, b),
        attribute_of(0, I64), inputs=[blocks], maps=[dims(2)],
    )  # fmt: skip
    return _sums_of_rows(c, blocks, _running_sums(c, totals, level + 1))


def _in_blocks(c: Conversion, x: Value) -> Value:
    """The list as rows of BLOCK elements, zeros behind its end."""

    def body(p: Places, source: Value) -> Value:
        return p.read(source, [p.add(p.mul(p.at(0), p.whole(BLOCK)), p.at(1))])

    return moved(c, TensorType((ceildiv(size_of(x), BLOCK), BLOCK), I64), body, sources=[x])


def _sums_of_rows(c: Conversion, rows: Value, before: Value | None) -> Value:
    """out[b, i] = before[b - 1] + the sum over j of (j <= i ? rows[b, j] : 0), as a list"""
    type_ = tensor_type(rows)
    inner = reduced(
        c, type_, [type_.shape[1]],
        lambda p, value: p.select(p.compare("le", p.at(2), p.at(1)), value, p.constant(0, I64)),
        lambda p, a, b: p.add(a, b), attribute_of(0, I64), inputs=[rows], maps=[[dim(0), dim(2)]],
    )  # fmt: skip
    if before is not None:
        inner = moved(
            c, type_, lambda p, sum_, source: p.add(sum_, p.read(source, [p.sub(p.at(0), p.whole(1))])),
            inputs=[inner], maps=[dims(2)], sources=[before],
        )  # fmt: skip
    return reshaped(c, inner, [type_.num_elements])


def total_of(c: Conversion, sums: Value) -> Value:
    """The last of the running sums as tensor<i64>; 0 where there is none."""
    size = size_of(sums)
    return moved(c, SCALAR, lambda p, source: p.read(source, [p.sub(p.size(size), p.whole(1))]), sources=[sums])


def places_of_marks(c: Conversion, sums: Value, count: Dim) -> Value:
    """The running sums of zeros and ones  ->  out[r] = the position of the r-th one, for r below `count`"""
    numbers = moved(c, TensorType((count,), I64), lambda p: p.integer_of(p.at(0), I64))
    return first_above(c, sums, numbers)


def first_above(c: Conversion, sums: Value, numbers: Value) -> Value:
    """out[..] = the first position in an ascending list whose element is larger than numbers[..], by bisection"""
    type_ = tensor_type(numbers)

    def step(p: Places, found: Value, bit: Value, number: Value, source: Value) -> Value:
        candidate = p.add(found, bit)
        last = p.read(source, [p.sub(p.index_of(candidate, False), p.whole(1))], p.constant(BEYOND, I64))
        return p.select(p.compare("le", last, number), candidate, found)

    zeros = moved(c, type_, lambda p: p.constant(0, I64))
    return bisected(
        c, zeros, highest_bit(c, size_of(sums)), lambda found, bit: moved(
            c, type_, step, inputs=[found, bit, numbers], maps=[dims(type_.rank), [], dims(type_.rank)], sources=[sums]
        )
    )  # fmt: skip


def highest_bit(c: Conversion, size: Dim) -> Value:
    """The largest power of two that is not above a size, 0 for 0, as tensor<i64>."""
    if isinstance(size, int):
        return constant(c, np.array(1 << size.bit_length() >> 1, np.int64))

    def body(p: Places) -> Value:
        length, found = p.size(size), p.whole(0)
        for bit in range(LENGTH_BITS):
            power = p.whole(1 << bit)
            found = p.select(p.compare("le", power, length), power, found)
        return p.integer_of(found, I64)

    return moved(c, SCALAR, body)


def bisected(c: Conversion, start: Value, bit: Value, step: Callable[[Value, Value], Value]) -> Value:
    """Positions that `step` moves on by `bit`, by half of it, .., by 1, where it may: bisections in rounds."""
    starts = [_is_positive(c, bit), bit, start]
    block = Block([value.type for value in starts])
    outside, c.builder = c.builder, Builder.at_end(block, c.builder.loc)
    _, bit, found = block.arguments
    following = step(found, bit)
    half = moved(
        c, SCALAR, lambda p, x: p.integer_of(p.floordiv(p.index_of(x, False), p.whole(2)), I64), inputs=[bit],
        maps=[[]],
    )  # fmt: skip
    c.insert(YieldOp([_is_positive(c, half), half, following]))
    c.builder = outside
    made = c.insert(WhileOp(starts, regions=[Region([block])], result_types=[value.type for value in starts]))
    return made.outputs[2]


def _is_positive(c: Conversion, x: Value) -> Value:
    return moved(
        c, TensorType((), I1), lambda p, number: p.compare("gt", number, p.constant(0, I64)), inputs=[x], maps=[[]]
    )
