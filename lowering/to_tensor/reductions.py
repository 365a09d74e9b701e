"""What rules that reduce over axes share: the iteration space, and the monoids with their identities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import attrs

from stepwell.dialects import arith
from stepwell.dialects.arith import attribute_of
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import dim
from stepwell.ir.attributes import Attribute
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import I1, FloatType, TensorType, Type, bit_width
from stepwell.lowering.to_tensor.rules import Body, accumulator_type, dim_names, map_generic, reduce_generics
from stepwell.lowering.to_tensor.scalars import Scalars


class ReductionSpace(ABC):
    """The iteration space of a reduction: the dims of its result, then those that it merges. Results are read and
    written in order."""

    @property
    @abstractmethod
    def result_shape(self) -> tuple[Dim, ...]:
        """The sizes of the result."""

    @property
    @abstractmethod
    def merged_sizes(self) -> tuple[Dim, ...]:
        """The sizes of the dims that are merged."""

    @property
    @abstractmethod
    def whole_map(self) -> AffineMap:
        """Where the reduction reads a tensor of the whole shape."""

    @property
    def dims(self) -> int:
        """The rank of the iteration space."""
        return len(self.result_shape) + len(self.merged_sizes)

    @property
    def count(self) -> Dim:
        """How many elements are merged into one."""
        total: Dim = 1
        for size in self.merged_sizes:
            total = total * size
        return total

    @property
    def result_map(self) -> AffineMap:
        """Where the reduction reads or writes a tensor of the result's shape."""
        return AffineMap(self.dims, 0, [dim(n) for n in range(len(self.result_shape))])

    def reduce(
        self, c: Conversion, whole: Sequence[Value], kept: Sequence[Value], elements: Sequence[Type], body: Body,
        combine: Body, identities: Sequence[Attribute],
    ) -> list[Value]:  # fmt: skip
        """Tensors of the kept axes: body(whole elements, kept elements) merged over the axes."""
        return reduce_generics(
            c, [*whole, *kept], [TensorType(self.result_shape, element) for element in elements],
            sizes=[*self.result_shape, *self.merged_sizes],
            iterators=["parallel"] * len(self.result_shape) + ["reduction"] * len(self.merged_sizes),
            maps=[self.whole_map] * len(whole) + [self.result_map] * (len(kept) + len(elements)),
            names=dim_names(self.dims), body=body, combine=combine, identities=identities,
        )  # fmt: skip

    def merge(
        self, c: Conversion, kind: str, x: Value, body: Body = lambda s, x: x, kept: Sequence[Value] = (), *,
        unsigned: bool = False, element: Type | None = None,
    ) -> Value:  # fmt: skip
        """The sum, prod, max, min or `largest number` of body(x, kept elements) over axes in the accumulator's type."""
        element = element or accumulator_type(tensor_type(x).element)

        def combine(s: Scalars, a: Value, b: Value) -> Value:
            return COMBINE[kind](s, a, b, unsigned)

        return self.reduce(c, [x], kept, [element], body, combine, [identity_of(kind, element, unsigned)])[0]

    def on_kept(self, c: Conversion, inputs: Sequence[Value], element: Type, body: Body) -> Value:
        """A map over tensors of the kept axes: the end of the reduction that made one of them."""
        return map_generic(c, inputs, TensorType(self.result_shape, element), body)


@attrs.frozen
class ReducedAxes(ReductionSpace):
    """The axes of a shape that a reduction keeps and those it merges: the iteration space is the kept axes, then the
    merged ones."""

    shape: tuple[Dim, ...]
    axes: tuple[int, ...]

    @property
    def kept(self) -> list[int]:
        """The axes that stay."""
        return [axis for axis in range(len(self.shape)) if axis not in self.axes]

    @property
    def result_shape(self) -> tuple[Dim, ...]:
        """The sizes of the kept axes."""
        return tuple(self.shape[axis] for axis in self.kept)

    @property
    def merged_sizes(self) -> tuple[Dim, ...]:
        """The sizes of the merged axes."""
        return tuple(self.shape[axis] for axis in self.axes)

    def position(self, axis: int) -> int:
        """The dim of the iteration space that runs along an axis."""
        return [*self.kept, *self.axes].index(axis)

    @property
    def whole_map(self) -> AffineMap:
        """Where the reduction reads a tensor of the whole shape."""
        return AffineMap(len(self.shape), 0, [dim(self.position(axis)) for axis in range(len(self.shape))])

    @property
    def spread_map(self) -> AffineMap:
        """Where a map over the whole shape reads a tensor of the kept axes."""
        return AffineMap(len(self.shape), 0, [dim(axis) for axis in self.kept])


@attrs.frozen
class AxesByData(ReductionSpace):
    """Axes of a shape of which only data tell whether a reduction merges them.

    Every axis is a dim of the result, of the axis' size or 1, and a dim that is merged, of size 1 or the axis'; its
    elements are read at the sum of both places."""

    shape: tuple[Dim, ...]
    result_shape: tuple[Dim, ...]

    @property
    def merged_sizes(self) -> tuple[Dim, ...]:
        """One of the two sizes of an axis is 1, the other the axis'."""
        return tuple(size + 1 - kept for size, kept in zip(self.shape, self.result_shape, strict=True))

    @property
    def whole_map(self) -> AffineMap:
        """Where the reduction reads a tensor of the whole shape."""
        rank = len(self.shape)
        return AffineMap(2 * rank, 0, [dim(axis) + dim(rank + axis) for axis in range(rank)])


def _largest(s: Scalars, a: Value, b: Value, unsigned: bool) -> Value:
    return s.either(a, b) if a.type is I1 else s.maximum(a, b, unsigned)


def _smallest(s: Scalars, a: Value, b: Value, unsigned: bool) -> Value:
    return s.both(a, b) if a.type is I1 else s.minimum(a, b, unsigned)


COMBINE: dict[str, Callable[[Scalars, Value, Value, bool], Value]] = {
    "sum": lambda s, a, b, unsigned: s.add(a, b),
    "prod": lambda s, a, b, unsigned: s.mul(a, b),
    "max": _largest,
    "largest number": lambda s, a, b, unsigned: s.larger(a, b),
    "min": _smallest,
}


def identity_of(kind: str, element: Type, unsigned: bool = False) -> Attribute:
    """What leaves every other element as it is; the result of an empty set."""
    if kind in ("sum", "prod"):
        return attribute_of(int(kind == "prod"), element)
    return lowest(element, unsigned) if kind in ("max", "largest number") else highest(element, unsigned)


def lowest(element: Type, unsigned: bool = False) -> Attribute:
    """-inf, or the least integer."""
    if isinstance(element, FloatType):
        return attribute_of(float("-inf"), element)
    return attribute_of(0 if unsigned or element is I1 else -(1 << (bit_width(element) - 1)), element)


def highest(element: Type, unsigned: bool = False) -> Attribute:
    """inf, or the greatest integer; that of unsigned ones has all bits set."""
    if isinstance(element, FloatType):
        return attribute_of(float("inf"), element)
    if element is I1:
        return attribute_of(1, element)
    return attribute_of(-1 if unsigned else (1 << (bit_width(element) - 1)) - 1, element)


def first_extreme(kind: str, unsigned: bool, *, last: bool) -> Body:
    """combine((value, place), (value, place)) -> the pair with the extreme value, of equal ones the first, or the last.

    NaN is more extreme than any number. The places decide among equal values, so that the order of merging does not."""
    ahead = "gt" if kind == "max" else "lt"

    def combine(s: Scalars, value: Value, place: Value, other: Value, where: Value) -> list[Value]:
        better, same = s.compare(ahead, other, value, unsigned), s.compare("eq", other, value)
        if isinstance(value.type, FloatType):
            other_is_nan, is_nan = s.is_nan(other), s.is_nan(value)
            number = s.compare("eq", value, value)
            better = s.either(better, s.both(other_is_nan, number))
            same = s.either(same, s.both(other_is_nan, is_nan))
        nearer = s.compare("gt" if last else "lt", where, place)
        takes = s.either(better, s.both(same, nearer))
        return [s.select(takes, other, value), s.select(takes, where, place)]

    return combine


def extreme_identities(kind: str, element: Type, unsigned: bool, place: Type, *, last: bool) -> list[Attribute]:
    """The identities of `first_extreme`: even an element of that value has a place that is nearer."""
    far = -1 if last else (1 << (bit_width(place) - 1)) - 1
    return [identity_of(kind, element, unsigned), arith.attribute_of(far, place)]
