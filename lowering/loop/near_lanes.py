"""Vectors whose lanes lie near each other in memory, but not next to each other in their order.

x[2 * i], 4 lanes  ->  a = vector.load x[0 .. 4], b = vector.load x[3 .. 7], vector.shuffle a, b [0, 2, 5, 7]
x[3 - i], 4 lanes  ->  a = vector.load x[0 .. 4], vector.shuffle a, a [3, 2, 1, 0]
x[i / 2], 4 lanes  ->  a = vector.maskedload x[0 .. 2], vector.shuffle a, a [0, 0, 1, 1]

Strides, reversals, elements that several lanes read: any places that are constants apart along the last axis. What is
loaded lies between the first and the last element that the lanes read, or inside of the axis for certain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from stepwell.dialects.buffer import memref_type
from stepwell.ir.core import Value
from stepwell.lowering.loop.index import Lane, LinearIndex
from stepwell.lowering.tensor.maps import most_vectors


@attrs.frozen
class Window:
    """Consecutive elements of a buffer that hold all that the lanes read: `size` of them from `start` on along the last
    axis; `lanes` are the lanes' places among them. `outer` are the indices along the other axes."""

    memory: Value
    outer: Sequence[LinearIndex]
    start: LinearIndex
    size: int
    lanes: Sequence[int]

    @staticmethod
    def of(memory: Value, places: Sequence[Sequence[LinearIndex]]) -> Window | None:
        """The window of the lanes' places, each an index along every axis; None where they are not constants apart
        along the last axis alone, or where it takes too many vectors."""
        first, lanes = places[0], len(places)
        if not first or memref_type(memory).layout is not None:
            return None
        known = [distance for place in places if (distance := _apart(place, first)) is not None]
        if len(known) < lanes:
            return None
        low, size = min(known), max(known) - min(known) + 1
        if -(-size // lanes) > most_vectors(lanes):
            return None
        return Window(memory, first[:-1], first[-1] + low, size, [distance - low for distance in known]).aligned()

    def aligned(self) -> Window:
        """The window from a multiple of the lanes' stride on, as long as all strides, where the axis holds it for
        certain: the same one for x[2 * i] and x[2 * i + 1], which are both made of its vectors."""
        stride = math.gcd(*self.lanes)
        if stride < 2:
            return self
        before = self.start.constant % stride
        size = -(-(self.size + before) // stride) * stride
        made = Window(self.memory, self.outer, self.start + -before, size, [lane + before for lane in self.lanes])
        return made if made.holds(size) else self

    def holds(self, size: int) -> bool:
        """Whether the axis has so many elements from the window's start on, for certain."""
        width = memref_type(self.memory).shape[-1]
        whole = self.start + LinearIndex({Lane(size): 1}, 0, self.start.builder)
        return isinstance(width, int) and whole.is_within(width)

    def at(self, distance: int) -> list[LinearIndex]:
        """The indices of an element of the window."""
        return [*self.outer, self.start + distance]

    def readers(self, start: int) -> list[int]:
        """The first lane that reads each element of a vector; as many as there are lanes for those that none reads."""
        elements = range(start, start + len(self.lanes))
        return [self.lanes.index(at) if at in self.lanes else len(self.lanes) for at in elements]

    def parts(self, whole: bool) -> list[int]:
        """Where the vectors that cover the window begin: with `whole` one behind the other, else the last one such that
        it ends with the window."""
        lanes = len(self.lanes)
        starts = range(0, self.size, lanes)
        return [start if whole else max(0, min(start, self.size - lanes)) for start in starts]

    def orders(self, parts: Sequence[int]) -> list[list[int]]:
        """The lanes that each shuffle takes of what the ones before it made, and of the next part; of one part alone,
        the lanes of it."""
        count = len(self.lanes)
        owners = [at // count for at in self.lanes]
        order = [at if owner == 0 else 0 for at, owner in zip(self.lanes, owners, strict=True)]
        found = []
        for part, start in list(enumerate(parts))[1:]:
            found.append([count + at - start if owner == part else old
                          for at, owner, old in zip(self.lanes, owners, order, strict=True)])  # fmt: skip
            order = list(range(count))
        return found or [order]


def _apart(place: Sequence[LinearIndex], other: Sequence[LinearIndex]) -> int | None:
    """How many elements a place lies behind another one along the last axis; None where that is not constant, or where
    they differ along other axes."""
    between = [a + b * -1 for a, b in zip(place, other, strict=True)]
    if any(form.terms for form in between) or any(form.constant for form in between[:-1]):
        return None
    return between[-1].constant
