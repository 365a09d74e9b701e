"""Lets a kernel read what it makes, with a border around it, where both become one kernel.

%b = border; %e = generic, at (h + 1); %j = join %b, %e; reader(%j)
->  %e = generic {border = 0.0}, at (h + 1); reader(%e)

A border that is filled in the memory of the whole is a launch of its own; within a kernel it is a part of the local
memory that a stage writes to. While kernels are chosen the joins are out of the way, so that each reader is seen with
what makes its operand; those whose ends came into different kernels are put back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cmp_to_key

import attrs

from stepwell.dialects.tensor import BorderOp, DimsAttr, GenericOp, JoinOp
from stepwell.ir.affine import AffineMap
from stepwell.ir.attributes import Attribute
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation
from stepwell.ir.location import Location


@attrs.frozen(eq=False)
class Halo:
    """A join of a border and what one generic makes, taken apart: its readers read the generic's result."""

    maker: GenericOp
    readers: Sequence[tuple[GenericOp, int]]
    first: GenericOp  # of those that read the join
    low: Sequence[int]
    high: Sequence[int]
    value: Attribute | None  # without one the rest of the memory means nothing
    starts: Sequence[int]
    sizes: DimsAttr
    loc: Location

    def close(self) -> None:
        """Put the border and the join back."""
        made = self.maker.results[0]
        self.maker.border = None
        base = []
        if self.value is not None:
            border = BorderOp(low=self.low, high=self.high, value=self.value, result_types=[made.type], loc=self.loc)
            base.append(Builder.before(self.maker).insert(border).result)
        join = JoinOp(base, [made], starts=self.starts, sizes=self.sizes, loc=self.loc)
        Builder.before(self.first).insert(join)
        for reader, index in self.readers:
            reader.set_operand(index, join.result)


def open_halo(join: JoinOp) -> Halo | None:
    """Take a join apart and out of the program, its border into what makes its part; None where others than generics
    read it, at places that maps give, or where it has several parts."""
    if len(join.parts) != 1:
        return None
    (part,) = join.parts
    maker = part.defining_op
    border = join.base[0].defining_op if join.base else None
    if not isinstance(maker, GenericOp) or len(maker.results) != 1 or (join.base and not isinstance(border, BorderOp)):
        return None
    if maker.parent is not join.parent or maker.border is not None:
        return None
    uses = list(join.result.uses)
    readers = [(user, index) for user, index in uses if isinstance(user, GenericOp) and user.parent is join.parent]
    if isinstance(border, BorderOp) and not lies_around(border, maker.output_maps[0]):
        return None
    if not readers or len(readers) < len(uses) or any(join.result in user.sources for user, _ in readers):
        return None
    if isinstance(border, BorderOp) and not border.result.has_one_use:
        return None
    low, high, value = (border.low, border.high, border.value) if isinstance(border, BorderOp) else ((), (), None)
    first = min((reader for reader, _ in readers), key=cmp_to_key(earlier))
    halo = Halo(maker, readers, first, low, high, value, join.starts, join.sizes, join.loc)
    maker.border = value
    for reader, index in readers:
        reader.set_operand(index, part)
    join.erase()
    if isinstance(border, BorderOp):
        border.erase()
    return halo


def lies_around(border: BorderOp, written: AffineMap) -> bool:
    """Whether a border has sides along axes alone that are written at a dim, or at one place."""
    sides = zip(written.results, border.low, border.high, strict=True)
    return all((place - place.constant).dim_index is not None or place.is_constant for place, low, high in sides
               if low or high)  # fmt: skip


def earlier(a: Operation, b: Operation) -> int:
    """The order of two ops of a block, for sorting."""
    return -1 if a.is_before(b) else 1
