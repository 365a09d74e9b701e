"""Values read where they lie: a transpose in front of an op becomes the order in which the op reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import attrs

from stepwell.dialects.graph.movement import TransposeOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim

Place = TypeVar("Place")


@attrs.frozen(eq=False)
class Placed:
    """A tensor in memory, and which of its axes each axis of the value is that it stands for."""

    tensor: Value
    axes: tuple[int, ...]

    @staticmethod
    def of(c: Conversion, tensor: Value) -> Placed:
        """The tensor as it is."""
        return Placed(tensor, tuple(range(tensor_type(tensor).rank)))

    @staticmethod
    def behind(c: Conversion, value: Value) -> Placed:
        """What a graph value is a transpose of, or the value itself."""
        op = value.defining_op
        if isinstance(op, TransposeOp):
            return Placed(c.new(op.x), tuple(op.permutation))
        return Placed.of(c, c.new(value))

    @property
    def shape(self) -> list[Dim]:
        """The sizes of the value."""
        sizes = tensor_type(self.tensor).shape
        return [sizes[axis] for axis in self.axes]

    def at(self, places: Sequence[Place]) -> list[Place]:
        """Where in memory the value's element at some places is."""
        found = dict(zip(self.axes, places, strict=True))
        return [found[axis] for axis in range(len(self.axes))]
