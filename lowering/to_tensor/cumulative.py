"""Cumulative sums and products -> three reductions: of blocks, over the blocks before, and within a block."""

from __future__ import annotations

import math
from collections.abc import Callable

from stepwell.dialects.graph.reduction import CumulativeOp
from stepwell.dialects.tensor import ReadOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, ceildiv
from stepwell.ir.types import INDEX, TensorType
from stepwell.lowering.precision import is_strict
from stepwell.lowering.to_tensor.axes import around_axis
from stepwell.lowering.to_tensor.places import reshaped
from stepwell.lowering.to_tensor.reductions import COMBINE, identity_of
from stepwell.lowering.to_tensor.rules import (
    accumulator_type,
    dim_names,
    lowers,
    map_generic,
    reduce_generics,
    signless,
)
from stepwell.lowering.to_tensor.scalars import Scalars

LEAST_BLOCK, MOST_OF_A_BLOCK = 4, 32  # elements whose running results are formed one by one
TYPICAL_SIZE = 1024  # stands for a size that run time tells

# The place that a step reads along the axis, and whether it counts (None: always).
Place = tuple[Value, "Value | None"]
PlaceOf = Callable[[Scalars, list[Value], Value], Place]


@lowers(CumulativeOp)
def cumulative(op: CumulativeOp, c: Conversion) -> Value:
    """graph.cumulative %x {axis = 1}  ->  t = totals of blocks of d1; p = running totals; p + running sums in blocks

    An axis of n elements in blocks of b costs n * b + (n / b)^2 steps, least for b^3 = 2 * n. In strict arithmetic each
    result is a sum of its own, in order, which costs n^2. Of an axis that data tell, the elements before it and behind
    it are one dim each."""
    result, x = signless(op.result.type), c.new(op.x)
    assert isinstance(result, TensorType)
    if op.where is None:
        assert op.axis is not None
        return BlockedScan(c, op, result, op.axis).lower(x)
    lying = result.with_shape(around_axis(c, op, op.x, op.where))
    made = BlockedScan(c, op, lying, 1).lower(reshaped(c, x, lying.shape))
    return reshaped(c, made, result.shape)


def scan_block(size: Dim) -> int:
    """The power of two nearest to the length of a block that costs least."""
    best = math.log2(2 * (size if isinstance(size, int) else TYPICAL_SIZE) or 1) / 3
    return min(max(1 << round(best), LEAST_BLOCK), MOST_OF_A_BLOCK)


class BlockedScan:
    """The reductions that make up a cumulative op."""

    def __init__(self, c: Conversion, op: CumulativeOp, result: TensorType, axis: int) -> None:
        self.c, self.op, self.result, self.axis = c, op, result, axis
        self.wide = result.with_element(accumulator_type(result.element))
        self.strict = is_strict(op)
        self.block = scan_block(result.shape[axis])

    def lower(self, x: Value) -> Value:
        """The running results."""
        result, axis = self.result, self.axis
        rank, size = result.rank, result.shape[axis]
        block = self.block
        if self.strict or (isinstance(size, int) and size <= 2 * block):
            made = self._reduce(x, self._with_axis(size), size, self._in_order)
            return made if made.type is result else map_generic(self.c, [made], result, lambda s, inner: inner)
        blocks = self._with_axis(ceildiv(size, block))
        totals = self._reduce(x, blocks, block, self._in_block)
        before = self._reduce(totals, blocks, blocks.shape[axis], self._blocks_before)
        inner = self._reduce(x, self._with_axis(ceildiv(size, block), block), block, self._in_block_order)
        dims = [dim(n) for n in range(rank)]
        own, within = dims[axis] // block, dims[axis] % block
        maps = [[*dims[:axis], own, *dims[axis + 1 :]], [*dims[:axis], own, within, *dims[axis + 1 :]]]
        return map_generic(
            self.c, [before, inner], result, lambda s, a, b: COMBINE[self.op.kind](s, a, b, False),
            maps=[AffineMap(rank, 0, places) for places in maps],
        )  # fmt: skip

    def _with_axis(self, *sizes: Dim) -> TensorType:
        axis = self.axis
        return self.wide.with_shape([*self.wide.shape[:axis], *sizes, *self.wide.shape[axis + 1 :]])

    def _reduce(self, source: Value, result: TensorType, count: Dim, place_of: PlaceOf) -> Value:
        """Each result merged from `count` elements of the source along the axis, which the result may have as two."""
        kind, axis, rank = self.op.kind, self.axis, result.rank
        split = rank - tensor_type(source).rank  # 1 where the axis is cut into blocks

        def body(s: Scalars, tensor: Value) -> Value:
            dims = [s.index(n) for n in range(rank)]
            place, counts = place_of(s, dims[axis : axis + split + 1], s.index(rank))
            identity = s.constant(int(kind == "prod"), tensor_type(source).element)
            read = s.emit(ReadOp(tensor, [*dims[:axis], place, *dims[axis + split + 1 :]], identity))
            return s.widened(read if counts is None else s.select(counts, read, identity))

        (made,) = reduce_generics(
            self.c, [], [result], sizes=[*result.shape, count], iterators=["parallel"] * rank + ["reduction"],
            maps=[AffineMap(rank + 1, 0, [dim(n) for n in range(rank)])], names=dim_names(rank + 1), body=body,
            combine=lambda s, a, b: COMBINE[kind](s, a, b, False), identities=[identity_of(kind, result.element)],
            sources=[source],
        )  # fmt: skip
        return made

    def _counts(self, s: Scalars, other: Value, own: Value, *, exclusive: bool) -> Value:
        """Whether the result at `own` takes in the element at `other`."""
        return s.compare(("g" if self.op.reverse else "l") + ("t" if exclusive else "e"), other, own)

    def _in_order(self, s: Scalars, own: list[Value], step: Value) -> Place:
        if self.strict and self.op.reverse:  # from the end
            last = s.size(self.wide.shape[self.axis] - 1)
            step = s.sub(last, step)
        return step, self._counts(s, step, own[0], exclusive=self.op.exclusive)

    def _blocks_before(self, s: Scalars, own: list[Value], step: Value) -> Place:
        return step, self._counts(s, step, own[0], exclusive=True)

    def _in_block(self, s: Scalars, own: list[Value], step: Value) -> Place:
        return s.add(s.mul(own[0], s.constant(self.block, INDEX)), step), None

    def _in_block_order(self, s: Scalars, own: list[Value], step: Value) -> Place:
        place, _ = self._in_block(s, own, step)
        return place, self._counts(s, step, own[1], exclusive=self.op.exclusive)
