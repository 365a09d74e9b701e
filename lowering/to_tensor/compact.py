"""Compaction: how many elements of a list are marked, and where they stand, by running sums and a search in them.

The sums are formed in blocks of blocks, each level the totals of the one below (Blelloch, "Prefix Sums and Their
Applications", 1990), and the r-th marked element is the first whose running sum exceeds r. Everything is a map over
independent elements; integers make its results exact."""

from __future__ import annotations

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, ceildiv
from stepwell.ir.types import I64, TensorType
from stepwell.lowering.to_tensor.places import Places, dims, moved, reduced

RADIX = 8  # elements whose sums are formed one by one
LEVELS = 6  # of totals above a list of unknown length; the last level's sums take quadratic time
SEARCH_BITS = 40  # of positions in a list of unknown length
BEYOND = (1 << 63) - 1


def running_sums(c: Conversion, x: Value) -> Value:
    """tensor<n x i64>  ->  out[i] = x[0] + .. + x[i]"""
    levels = [x]
    while len(levels) <= LEVELS and not _is_short(size_of(levels[-1])):
        levels.append(_totals(c, levels[-1]))
    sums = levels.pop()
    sums = _sums_in_blocks(c, sums, None, size_of(sums))
    while levels:
        sums = _sums_in_blocks(c, levels.pop(), sums, RADIX)
    return sums


def size_of(x: Value) -> Dim:
    """The length of a list."""
    return tensor_type(x).shape[0]


def _is_short(size: Dim) -> bool:
    return isinstance(size, int) and size <= RADIX


def _totals(c: Conversion, x: Value) -> Value:
    """out[b] = the sum of block b"""

    def body(p: Places, source: Value) -> Value:
        first = p.mul(p.at(0), p.whole(RADIX))
        total = p.read(source, [first])
        for step in range(1, RADIX):
            total = p.add(total, p.read(source, [p.add(first, p.whole(step))]))
        return total

    return moved(c, TensorType((ceildiv(size_of(x), RADIX),), I64), body, sources=[x])


def _sums_in_blocks(c: Conversion, x: Value, before: Value | None, block: Dim) -> Value:
    """out[i] = before[i // block - 1] + the sum of the block of i, up to i"""
    result = TensorType((size_of(x),), I64)
    if before is None and not _is_short(block):
        return _sums_of_all(c, x)

    def body(p: Places, *sources: Value) -> Value:
        number = p.floordiv(p.at(0), p.whole(RADIX))
        first = p.mul(number, p.whole(RADIX))
        total = p.constant(0, I64)
        for step in range(RADIX):
            place = p.add(first, p.whole(step))
            counts = p.compare("le", place, p.at(0))
            total = p.add(total, p.select(counts, p.read(sources[0], [place]), p.constant(0, I64)))
        if len(sources) > 1:
            total = p.add(total, p.read(sources[1], [p.sub(number, p.whole(1))]))
        return total

    return moved(c, result, body, sources=[x] if before is None else [x, before])


def _sums_of_all(c: Conversion, x: Value) -> Value:
    """out[i] = the sum over j of (j <= i ? x[j] : 0)"""
    return reduced(
        c, TensorType((size_of(x),), I64), [size_of(x)],
        lambda p, value: p.select(p.compare("le", p.at(1), p.at(0)), value, p.constant(0, I64)),
        lambda p, a, b: p.add(a, b), attribute_of(0, I64), inputs=[x], maps=[[dim(1)]],
    )  # fmt: skip


def total_of(c: Conversion, sums: Value) -> Value:
    """The last of the running sums as tensor<i64>; 0 where there is none."""
    size = size_of(sums)
    return moved(
        c, TensorType((), I64), lambda p, source: p.read(source, [p.sub(p.size(size), p.whole(1))]), sources=[sums]
    )


def places_of_marks(c: Conversion, sums: Value, count: Dim) -> Value:
    """The running sums of zeros and ones  ->  out[r] = the position of the r-th one, for r below `count`"""
    size = size_of(sums)

    def body(p: Places, source: Value) -> Value:
        return p.integer_of(first_above(p, source, size, p.integer_of(p.at(0), I64)), I64)

    return moved(c, TensorType((count,), I64), body, sources=[sums])


def first_above(p: Places, sums: Value, size: Dim, number: Value) -> Value:
    """The first position in an ascending list whose element is larger than a number, as an index, by bisection."""
    found = p.whole(0)
    beyond = p.constant(BEYOND, I64)
    bits = size.bit_length() if isinstance(size, int) else SEARCH_BITS
    for bit in reversed(range(bits)):
        candidate = p.add(found, p.whole(1 << bit))
        last = p.read(sums, [p.sub(candidate, p.whole(1))], beyond)
        found = p.select(p.compare("le", last, number), candidate, found)
    return found


def marks_of(c: Conversion, x: Value) -> Value:
    """A list of truths as ones and zeros."""
    return moved(
        c, TensorType((size_of(x),), I64), lambda p, mark: p.one_or_zero(mark, I64), inputs=[x], maps=[dims(1)]
    )
