"""The types of sequences, optional values and maps, and what two types have in common."""

from __future__ import annotations

from stepwell.errors import IRError
from stepwell.ir.constraints import TypeConstraint
from stepwell.ir.dims import symbol
from stepwell.ir.interned import interned
from stepwell.ir.types import TensorType, Type

EVERY_SIZE = -1
"""A size in which the tensors of a sequence may differ."""


RANKS = 8
"""The most dims of a tensor in a sequence whose tensors are not known at compile time."""


@interned
class SequenceType(Type):
    """`!graph.sequence<element = f32, sizes = [-1, 64]>`: a list of tensors of one element type, each of a shape of its
    own.

    `sizes` says what their shapes share: their rank, and the sizes that are not -1; where it is left out, nothing. An
    `empty` sequence has no tensors."""

    element: Type
    sizes: tuple[int, ...] | None = None
    empty: bool | None = None
    mnemonic = "graph.sequence"

    def __attrs_post_init__(self) -> None:
        if self.sizes is not None and (self.empty or any(size < EVERY_SIZE for size in self.sizes)):
            raise IRError(f"the tensors of a sequence have no sizes {list(self.sizes)}")

    def joined(self, other: SequenceType) -> SequenceType:
        """The type of what may be a sequence of either type."""
        if self.empty or other.empty:
            return other if self.empty else self
        if self.sizes is None or other.sizes is None or len(self.sizes) != len(other.sizes):
            return SequenceType(self.element)
        pairs = zip(self.sizes, other.sizes, strict=True)
        return SequenceType(self.element, tuple(a if a == b else EVERY_SIZE for a, b in pairs))

    def may_stand_for(self, inferred: Type) -> bool:
        """Whether it says less than the type that is inferred."""
        same = isinstance(inferred, SequenceType) and inferred.element is self.element
        return same and joined_type(self, inferred) is self


@interned
class OptionalType(Type):
    """`!graph.optional<of = tensor<4xf32>>`: a value that may be absent. A size that is not known is `?`."""

    of: Type
    mnemonic = "graph.optional"

    def may_stand_for(self, inferred: Type) -> bool:
        """Whether it says less than the type that is inferred."""
        return isinstance(inferred, OptionalType) and same_kind(self, inferred) and joined_type(self, inferred) is self


@interned
class MapType(Type):
    """`!graph.map<key = si64, value = f32>`: what callers give as a dictionary. No value in the IR has it: it
    is said of the arguments that hold the keys, in ascending order, and the values."""

    key: Type
    value: Type
    mnemonic = "graph.map"


SEQUENCE = TypeConstraint("a sequence", lambda type_: isinstance(type_, SequenceType))
OPTIONAL = TypeConstraint("an optional value", lambda type_: isinstance(type_, OptionalType))


def is_list(type_: Type) -> bool:
    """Whether a type is that of a sequence or an optional value."""
    return isinstance(type_, (SequenceType, OptionalType))


def list_element(type_: Type) -> Type:
    """The element type of a sequence's or an optional value's tensors."""
    while isinstance(type_, OptionalType):
        type_ = type_.of
    assert isinstance(type_, (SequenceType, TensorType))
    return type_.element


def sequence_of(type_: TensorType) -> SequenceType:
    """The type of a sequence of tensors of one type; symbols are sizes in which they may differ."""
    return SequenceType(type_.element, tuple(dim if isinstance(dim, int) else EVERY_SIZE for dim in type_.shape))


def without_symbols(type_: Type) -> Type:
    """A type that may be told of a value elsewhere, where symbols may mean something else: each is `?`."""
    if isinstance(type_, TensorType):
        return type_.with_shape([dim if isinstance(dim, int) else symbol("?") for dim in type_.shape])
    return OptionalType(without_symbols(type_.of)) if isinstance(type_, OptionalType) else type_


def same_kind(a: Type, b: Type) -> bool:
    """Whether two types differ in sizes at most."""
    if isinstance(a, TensorType) and isinstance(b, TensorType):
        return a.element is b.element and a.rank == b.rank
    if isinstance(a, SequenceType) and isinstance(b, SequenceType):
        return a.element is b.element
    if isinstance(a, OptionalType) and isinstance(b, OptionalType):
        return same_kind(a.of, b.of)
    return a is b


def joined_type(a: Type, b: Type) -> Type:
    """The type of what has one of two types of the same kind; sizes that are not numbers, or differ, are `?`."""
    if isinstance(a, SequenceType) and isinstance(b, SequenceType):
        return a.joined(b)
    if isinstance(a, OptionalType) and isinstance(b, OptionalType):
        return OptionalType(joined_type(a.of, b.of))
    if isinstance(a, TensorType) and isinstance(b, TensorType):
        pairs = zip(a.shape, b.shape, strict=True)
        return a.with_shape([x if isinstance(x, int) and x == y else symbol("?") for x, y in pairs])
    return a
