"""Writes generics that move elements: bodies that compute places, read there, and leave the elements' bits alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from stepwell.dialects import arith, math
from stepwell.dialects.arith import attribute_of, constant_int
from stepwell.dialects.tensor import DimsAttr, GenericOp, IndexOp, ReadOp, ReshapeOp, SizeOp, YieldOp, tensor_type
from stepwell.errors import IRError
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.attributes import Attribute
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import (
    F64,
    I64,
    INDEX,
    FloatType,
    IndexType,
    TensorType,
    Type,
    bit_width,
    is_unsigned,
)
from stepwell.lowering.to_tensor.rules import dim_names, signless
from stepwell.lowering.to_tensor.scalars import Scalars

BORN = "sw.born"
"""The attribute of a graph op whose `new_dims` are bound."""


class Places(Scalars):
    """Scalar code on places: indices, sizes, reads. Operations on constants give constants."""

    def at(self, dim: int) -> Value:
        """The position along an iteration dim."""
        return self.emit(IndexOp(dim=dim))

    def whole(self, value: int) -> Value:
        """A constant index."""
        return self.constant(value, INDEX)

    def size(self, size: Dim) -> Value:
        """A size, which may be symbolic, as an index."""
        return self.whole(size) if isinstance(size, int) else self.emit(SizeOp(of=DimsAttr((size,))))

    def read(self, source: Value, indices: Sequence[Value], otherwise: Value | None = None) -> Value:
        """The source's element at a place; outside, the other value (absent: zero)."""
        if otherwise is None:
            otherwise = self.constant(0, tensor_type(source).element)
        return self.emit(ReadOp(source, indices, otherwise))

    def add(self, a: Value, b: Value) -> Value:
        """a + b"""
        x, y = constant_int(a), constant_int(b)
        if isinstance(a.type, IndexType):
            if x is not None and y is not None:
                return self.whole(x + y)
            if x == 0 or y == 0:
                return b if x == 0 else a
        return super().add(a, b)

    def sub(self, a: Value, b: Value) -> Value:
        """a - b"""
        x, y = constant_int(a), constant_int(b)
        if isinstance(a.type, IndexType):
            if x is not None and y is not None:
                return self.whole(x - y)
            if y == 0:
                return a
        return super().sub(a, b)

    def mul(self, a: Value, b: Value) -> Value:
        """a * b"""
        x, y = constant_int(a), constant_int(b)
        if isinstance(a.type, IndexType):
            if x is not None and y is not None:
                return self.whole(x * y)
            if x == 1 or y == 1:
                return b if x == 1 else a
        return super().mul(a, b)

    def floordiv(self, a: Value, b: Value) -> Value:
        """a // b of indices, rounded down. b must be positive; one that is not known counts as at least 1, so that the
        division may run where the quotient is not used."""
        x, y = constant_int(a), constant_int(b)
        if x is not None and y is not None:
            return self.whole(x // y)
        return a if y == 1 else self.emit(arith.FloorDivSIOp(a, b if y else self.maximum(b, self.whole(1))))

    def ceildiv(self, a: Value, b: Value) -> Value:
        """a // b of indices, rounded up. b must be positive."""
        return self.floordiv(self.add(a, self.sub(b, self.whole(1))), b)

    def mod(self, a: Value, b: Value) -> Value:
        """a - b * (a // b) of indices. b must be positive."""
        return self.sub(a, self.mul(self.floordiv(a, b), b))

    def all_of(self, conditions: Sequence[Value]) -> Value:
        """Whether all conditions hold, of which there is at least one."""
        return reduce(self.both, conditions)

    def between(self, a: Value, low: Value, high: Value) -> Value:
        """min(max(a, low), high)"""
        return self.minimum(self.maximum(a, low), high)

    def index_of(self, value: Value, unsigned: bool) -> Value:
        """An integer as an index."""
        if isinstance(value.type, IndexType):
            return value
        return self.emit((arith.IndexCastUIOp if unsigned else arith.IndexCastOp)(value, result_types=[INDEX]))

    def integer_of(self, value: Value, type_: Type) -> Value:
        """An index as an integer, modulo its width."""
        return self.emit(arith.IndexCastOp(value, result_types=[type_]))

    def float_of(self, value: Value, type_: Type = F64) -> Value:
        """An index as a float, rounded to nearest."""
        return self.emit(arith.SIToFPOp(self.integer_of(value, I64), result_types=[type_]))

    def whole_of(self, value: Value, limit: float = float(1 << 52)) -> Value:
        """A float as an index, rounded to zero; NaN is 0, and what is beyond the limit either way is at the limit."""
        low, high = (self.constant(edge, value.type) for edge in (-limit, limit))
        ordered = self.select(self.compare("eq", value, value), value, self.constant(0.0, value.type))
        held = self.minimum(self.maximum(ordered, low), high)
        return self.index_of(self.emit(arith.FPToSIOp(held, result_types=[I64])), False)

    def wrapped(self, index: Value, size: Value) -> Value:
        """An index counted from the front: a negative one counts from the back."""
        negative = self.compare("lt", index, self.whole(0))
        return self.select(negative, self.add(index, size), index)

    def stretched(self, size: Dim, place: Value) -> Value:
        """The place on an axis that broadcasts: 0 where its size is 1, which run time may tell."""
        if isinstance(size, int):
            return self.whole(0) if size == 1 else place
        return self.select(self.compare("eq", self.size(size), self.whole(1)), self.whole(0), place)

    def floor(self, a: Value) -> Value:
        """The largest whole float not above."""
        return self.unary(math.FloorOp, a)

    def constant_of(self, attribute: Attribute) -> Value:
        """An attribute as a scalar."""
        return self.emit(arith.ConstantOp(value=attribute))

    def magnitude(self, a: Value) -> Value:
        """A float without its sign."""
        return self.unary(math.AbsFOp, a)

    def tent(self, distance: Value) -> Value:
        """The weight of linear interpolation: max(1 - distance, 0)."""
        one, zero = self.constant(1.0, distance.type), self.constant(0.0, distance.type)
        return self.maximum(self.sub(one, distance), zero)

    def keys(self, distance: Value, a: float) -> Value:
        """Keys' cubic convolution kernel at a non-negative distance."""
        x, type_ = distance, distance.type

        def number(value: float) -> Value:
            return self.constant(value, type_)

        near = self.mul(self.mul(self.sub(self.mul(number(a + 2), x), number(a + 3)), x), x)
        near = self.add(near, number(1.0))
        far = self.add(self.mul(self.sub(self.mul(number(a), x), number(5 * a)), x), number(8 * a))
        far = self.sub(self.mul(far, x), number(4 * a))
        beyond = self.select(self.compare("lt", x, number(2.0)), far, number(0.0))
        return self.select(self.compare("le", x, number(1.0)), near, beyond)

    def one_or_zero(self, condition: Value, type_: Type) -> Value:
        """1 where the condition holds, else 0."""
        return self.select(condition, self.constant(1, type_), self.constant(0, type_))


PlacesBody = Callable[..., "Value | Sequence[Value]"]


def places_region(types: Sequence[Type], body: PlacesBody, source: Operation | None = None) -> Region:
    """A region whose body is written with `Places`, on scalars as they are; `source` is the op whose meaning it is."""
    block = Block(types)
    places = Places(Builder.at_end(block), source)
    made = body(places, *block.arguments)
    places.builder.insert(YieldOp([made] if isinstance(made, Value) else list(made)))
    return Region([block])


def moved(
    c: Conversion, result: TensorType, body: PlacesBody | None = None, *, inputs: Sequence[Value] = (),
    maps: Sequence[Sequence[AffineExpr]] = (), sources: Sequence[Value] = (),
) -> Value:  # fmt: skip
    """result[d0, d1, ..] = body(inputs at `maps`, sources): a generic over the result's elements.

    Without a body, the one input's elements are the result's."""
    types = [*(tensor_type(value).element for value in inputs), *(value.type for value in sources)]
    rank = result.rank
    op = GenericOp(
        inputs,
        sources,
        result_types=[result],
        regions=[places_region(types, body or (lambda p, x: x), c.builder.anchor)],
        sizes=DimsAttr(tuple(result.shape)),
        iterators=["parallel"] * rank,
        maps=[*(AffineMap(rank, 0, exprs) for exprs in maps), AffineMap.identity(rank)],
        names=dim_names(rank),
    )
    return c.insert(op).outputs[0]


def reduced(
    c: Conversion, result: TensorType, over: Sequence[Dim], body: PlacesBody, combine: PlacesBody,
    identity: Attribute, *, inputs: Sequence[Value] = (), maps: Sequence[Sequence[AffineExpr]] = (),
    sources: Sequence[Value] = (),
) -> Value:  # fmt: skip
    """result[d0 .. dr-1] = the combination of body(..) over the dims dr .., whose sizes are `over`. The result has the
    accumulator's element type."""
    types = [*(tensor_type(value).element for value in inputs), *(value.type for value in sources)]
    rank, space = result.rank, result.rank + len(over)
    op = GenericOp(
        inputs,
        sources,
        result_types=[result],
        regions=[
            places_region(types, body, c.builder.anchor), places_region([result.element, result.element], combine),
        ],
        sizes=DimsAttr((*result.shape, *over)),
        iterators=["parallel"] * rank + ["reduction"] * len(over),
        maps=[*(AffineMap(space, 0, exprs) for exprs in maps), AffineMap.projection(space, range(rank))],
        names=dim_names(space),
        identities=[identity],
    )
    return c.insert(op).outputs[0]


def reshaped(c: Conversion, value: Value, shape: Sequence[Dim]) -> Value:
    """The value under another shape; itself where it has that shape."""
    type_ = tensor_type(value).with_shape(shape)
    return value if value.type is type_ else c.insert(ReshapeOp(value, result_types=[type_])).result


def dims(rank: int, first: int = 0) -> list[AffineExpr]:
    """d<first>, d<first + 1>, ..: `rank` of them."""
    return [dim(first + axis) for axis in range(rank)]


def origin_place(value: Value) -> list[AffineExpr]:
    """The place of the one element of a tensor."""
    return [const(0)] * tensor_type(value).rank


def result_type(op: Operation, index: int = 0) -> TensorType:
    """The tensor-landing type of a graph op's result. Raises NoMatch where data decide sizes that nobody has bound."""
    if op.properties.get("new_dims") and BORN not in op.attributes:
        raise NoMatch("the sizes of the result depend on data")
    type_ = signless(op.results[index].type)
    if not isinstance(type_, TensorType):
        raise IRError(f"{op.op_name} gives {type_}, which is no tensor")
    return type_


def lowest(type_: Type, unsigned: bool) -> Attribute:
    """The identity of a maximum."""
    if isinstance(type_, FloatType):
        return attribute_of(float("-inf"), type_)
    width = bit_width(type_)
    return attribute_of(0 if unsigned or width == 1 else -(1 << (width - 1)), type_)


def highest(type_: Type, unsigned: bool) -> Attribute:
    """The identity of a minimum; all ones where there is no sign."""
    if isinstance(type_, FloatType):
        return attribute_of(float("inf"), type_)
    width = bit_width(type_)
    if width == 1:
        return attribute_of(1, type_)
    return attribute_of(-1 if unsigned else (1 << (width - 1)) - 1, type_)


def reads_unsigned(value: Value) -> bool:
    """Whether a graph value's integers have no sign."""
    return is_unsigned(value.type)
