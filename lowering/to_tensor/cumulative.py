"""Cumulative sums and products -> three reductions: of blocks, over the blocks before, and within a block."""

from __future__ import annotations

from collections.abc import Callable

from stepwell.dialects import arith
from stepwell.dialects.graph.reduction import CumulativeOp
from stepwell.dialects.tensor import ReadOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, dim
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, ceildiv
from stepwell.ir.types import INDEX, TensorType
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

SCAN_BLOCK = 32  # elements whose partial results a cumulative op forms one by one

# (scalars, own place, step) -> (place read, whether it counts; None: always)
PlaceOf = Callable[[Scalars, Value, Value], tuple[Value, "Value | None"]]


@lowers(CumulativeOp)
def cumulative(op: CumulativeOp, c: Conversion) -> Value:
    """graph.cumulative %x {axis = 1}  ->  b = sums of blocks of d1; p = sums of the blocks before; p + sum before in block

    An axis of n elements costs n * SCAN_BLOCK + (n / SCAN_BLOCK)^2 steps, all of them reductions."""
    x, result = c.new(op.x), signless(op.result.type)
    assert isinstance(result, TensorType)
    return CumulativeSpace(c, op, x, result.with_element(accumulator_type(result.element))).lower(result)


class CumulativeSpace:
    """The three reductions of a blocked cumulative op."""

    def __init__(self, c: Conversion, op: CumulativeOp, x: Value, wide: TensorType) -> None:
        self.c, self.op, self.x, self.wide = c, op, x, wide
        self.size = wide.shape[op.axis]
        blocks = list(wide.shape)
        blocks[op.axis] = ceildiv(self.size, SCAN_BLOCK)
        self.blocks = wide.with_shape(blocks)

    def lower(self, result: TensorType) -> Value:
        """The running results."""
        if isinstance(self.size, int) and self.size <= SCAN_BLOCK:
            made = self._reduce(self.x, self.wide, self.size, self._within_axis)
            return map_generic(self.c, [made], result, lambda s, inner: inner) if made.type is not result else made
        totals = self._reduce(self.x, self.blocks, SCAN_BLOCK, self._within_block)
        before = self._reduce(totals, self.blocks, self.blocks.shape[self.op.axis], self._other_block)
        inner = self._reduce(self.x, self.wide, SCAN_BLOCK, self._within_prefix)
        places: list[AffineExpr] = [dim(n) for n in range(result.rank)]
        places[self.op.axis] = places[self.op.axis] // SCAN_BLOCK
        maps = [AffineMap(result.rank, 0, places), None]
        return map_generic(self.c, [before, inner], result, lambda s, a, b: COMBINE[self.op.kind](s, a, b, False), maps=maps)

    def _reduce(self, source: Value, result: TensorType, count: Dim, place: PlaceOf) -> Value:
        """Results merged from `count` elements of the source each; `place` gives where along the axis, and if at all."""
        rank, axis, kind = result.rank, self.op.axis, self.op.kind

        def body(s: Scalars, tensor: Value) -> Value:
            at, counts = place(s, s.index(axis), s.index(rank))
            identity = s.constant(int(kind == "prod"), tensor_type(source).element)
            places = [at if n == axis else s.index(n) for n in range(rank)]
            read = s.emit(ReadOp(tensor, places, identity))
            return s.widened(read if counts is None else s.select(counts, read, identity))

        (made,) = reduce_generics(
            self.c, [], [result], sizes=[*result.shape, count], iterators=["parallel"] * rank + ["reduction"],
            maps=[AffineMap(rank + 1, 0, [dim(n) for n in range(rank)])], names=dim_names(rank + 1), body=body,
            combine=lambda s, a, b: COMBINE[kind](s, a, b, False), identities=[identity_of(kind, result.element)],
            sources=[source],
        )  # fmt: skip
        return made

    def _counts(self, s: Scalars, other: Value, own: Value, exclusive: bool) -> Value:
        """Whether the result at `own` takes in the element at `other`."""
        ahead = "g" if self.op.reverse else "l"
        return s.compare(ahead + ("t" if exclusive else "e"), other, own)

    def _within_axis(self, s: Scalars, own: Value, step: Value) -> tuple[Value, Value | None]:
        return step, self._counts(s, step, own, self.op.exclusive)

    def _other_block(self, s: Scalars, own: Value, step: Value) -> tuple[Value, Value | None]:
        return step, self._counts(s, step, own, True)

    def _within_block(self, s: Scalars, block: Value, step: Value) -> tuple[Value, Value | None]:
        return s.add(s.mul(block, s.constant(SCAN_BLOCK, INDEX)), step), None

    def _within_prefix(self, s: Scalars, own: Value, step: Value) -> tuple[Value, Value | None]:
        width = s.constant(SCAN_BLOCK, INDEX)
        first = s.sub(own, s.emit(arith.RemSIOp(own, width)))
        at = s.add(first, step)
        return at, self._counts(s, at, own, self.op.exclusive)
