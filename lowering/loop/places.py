"""Which views of a program's arena may share bytes.

Views at constant offsets, of constant sizes, are ranges of bytes. Of others `plan-memory` says what they lie on,
whatever the sizes are: `sw.above = array<i64: n, a, b>` stands on the views of buffer n of the plan, which begins where
the last of the buffers a and b ends. Two buffers are apart where one lies on the other, directly or not; buffers that
never live at the same time may be neither.

    %x = buffer.view %arena[%0](%n) {sw.above = array<i64: 0>} ...
    %y = buffer.view %arena[%a](%n) {sw.above = array<i64: 1, 0>} ...       apart from %x
    %z = buffer.view %arena[%b](%m) {sw.above = array<i64: 2, 0>} ...       apart from %x, perhaps not from %y"""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

from stepwell.dialects import buffer, heap
from stepwell.dialects.arith import constant_int
from stepwell.dialects.func import FuncOp
from stepwell.ir.attributes import DenseArrayAttr
from stepwell.ir.core import Value
from stepwell.ir.types import MemRefType, numpy_dtype

ABOVE = "sw.above"


@attrs.frozen(eq=False)
class Places:
    """What is known of the views of a program. `under` has, for each buffer of an arena by its number, the numbers of
    all that it lies on, as bits."""

    under: Mapping[tuple[Value, int], int] = attrs.Factory(dict)

    @staticmethod
    def of(function: FuncOp) -> Places:
        """From the attributes of its views."""
        views = function.walk_of(buffer.ViewOp)
        lies_on = {(view.arena, numbers[0]): numbers[1:] for view in views if (numbers := _numbers(view))}
        under: dict[tuple[Value, int], int] = {}
        for arena, number in sorted(lies_on, key=lambda key: key[1]):  # what a buffer lies on has lower numbers
            bits = 0
            for lower in lies_on[arena, number]:
                bits |= under.get((arena, lower), 0) | 1 << lower
            under[arena, number] = bits
        return Places(under)

    def may_overlap(self, a: Value, b: Value) -> bool:
        """Whether two memrefs may share bytes: yes, unless both are views that are known apart."""
        first, second = a.defining_op, b.defining_op
        if not isinstance(first, buffer.ViewOp) or not isinstance(second, buffer.ViewOp):
            return True
        if first.arena is not second.arena:
            return not _are_apart(first.arena, second.arena)
        here, there = _bytes(first), _bytes(second)
        if here is not None and there is not None:
            return here[0] < there[1] and there[0] < here[1]
        m, n = (next(iter(_numbers(view)), None) for view in (first, second))
        if m is None or n is None:
            return True
        return not (self.under[first.arena, m] >> n & 1 or self.under[second.arena, n] >> m & 1)


def _are_apart(arena: Value, other: Value) -> bool:
    """Whether two memories of views are surely not one: the arena and a segment of the heap, or two segments."""
    segments = [value.defining_op for value in (arena, other) if isinstance(value.defining_op, heap.SegmentOp)]
    numbers = [constant_int(segment.segment) for segment in segments]
    return len(segments) == 1 or (len(segments) == 2 and None not in numbers and numbers[0] != numbers[1])


def _numbers(view: buffer.ViewOp) -> tuple[int, ...]:
    given = view.attributes.get(ABOVE)
    return tuple(int(number) for number in given.values) if isinstance(given, DenseArrayAttr) else ()


def _bytes(view: buffer.ViewOp) -> tuple[int, int] | None:
    """From where to where a view lies in its arena, where both are known."""
    offset, memory = constant_int(view.offset), view.result.type
    if offset is None or not isinstance(memory, MemRefType) or not memory.is_static:
        return None
    return offset, offset + math.prod(memory.shape) * numpy_dtype(memory).itemsize
