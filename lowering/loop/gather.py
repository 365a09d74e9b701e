"""Reads at places that lanes compute, as one instruction instead of a load and an insertion for each lane.

x[i, p], p a vector          ->  vector.gather x[i, 0] [p]
x[q, p], q and p vectors     ->  vector.gather r[0] [q * size + p], r = x as one row"""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects import arith, buffer, vector
from stepwell.dialects.arith import constant_int
from stepwell.dialects.buffer import memref_type
from stepwell.ir.core import Value
from stepwell.ir.types import DYNAMIC, FloatType, IntegerType, MemRefType, VectorType
from stepwell.lowering.loop.access import Memory
from stepwell.lowering.loop.index import IndexBuilder

WIDTHS = (32, 64)  # bits of elements that are gathered
LEAST_BITS = 256  # of a vector


def gathers(memory: Value, lanes: int) -> bool:
    """Whether vectors of a buffer's elements are gathered: x86 does from AVX2 on, in 32 and 64 bits; narrower vectors
    and elements are loaded lane by lane."""
    type_ = memref_type(memory)
    width = type_.element.width if isinstance(type_.element, (FloatType, IntegerType)) else 0
    return width in WIDTHS and width * lanes >= LEAST_BITS and type_.layout is None


class Gather:
    """Builds gathers of vectors of so many lanes at one place."""

    def __init__(self, index: IndexBuilder, lanes: int) -> None:
        self.index = index
        self.builder = index.builder
        self.lanes = lanes
        self.access = Memory(index, lanes)

    def read(self, memory: Value, places: Sequence[Value], inside: Value | None, otherwise: Value) -> Value:
        """The elements at places along each axis, scalars or vectors, in the lanes `inside` (None: all); elsewhere
        `otherwise`."""
        *outer, last = places
        if any(isinstance(place.type, VectorType) for place in outer):
            memory, outer, last = self.as_row(memory), [], self.in_row(memory, places)
        mask = vector.mask_type(self.lanes)
        if inside is None:
            inside = self.builder.insert(arith.constant(1, mask)).result
        offsets = [*outer, self.index.constant(0)]
        made = vector.GatherOp(memory, offsets, self.spread(last), self.spread(inside), self.spread(otherwise))
        return self.builder.insert(made).result

    def as_row(self, memory: Value) -> Value:
        """The same memory along one axis."""
        count = self.index.constant(1)
        for axis in range(len(memref_type(memory).shape)):
            count = self.index.mul(count, self.size(memory, axis))
        known = constant_int(count)
        type_ = MemRefType((DYNAMIC if known is None else known,), memref_type(memory).element)
        sizes = [count] if known is None else []
        return self.builder.insert(buffer.ReshapeOp(memory, sizes, result_types=[type_])).result

    def in_row(self, memory: Value, places: Sequence[Value]) -> Value:
        """Where an element lies in memory as one row."""
        total = places[0]
        for axis, place in enumerate(places[1:], 1):
            size = self.size(memory, axis)
            if isinstance(total.type, VectorType):
                total = self.builder.insert(arith.MulIOp(total, self.spread(size))).result
            else:
                total = self.index.mul(total, size)
            if isinstance(total.type, VectorType) or isinstance(place.type, VectorType):
                total = self.builder.insert(arith.AddIOp(self.spread(total), self.spread(place))).result
            else:
                total = self.index.add(total, place)
        return total

    def size(self, memory: Value, axis: int) -> Value:
        """The size of an axis."""
        size = memref_type(memory).shape[axis]
        if size != DYNAMIC:
            return self.index.constant(size)
        return self.builder.insert(buffer.DimOp(memory, axis=axis)).result

    def spread(self, value: Value) -> Value:
        """The value in all lanes."""
        return self.access.in_lanes(value)
