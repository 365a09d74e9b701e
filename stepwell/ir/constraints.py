"""Constraints on the types of operands and results, each with the words an error message needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stepwell.ir.types import (
    ComplexType,
    FloatType,
    IndexType,
    IntegerType,
    MemRefType,
    Signedness,
    StringType,
    TensorType,
    Type,
    VectorType,
)


class TypeConstraint(NamedTuple):
    """A predicate over types with its description: `a tensor of floats`."""

    description: str
    accepts: Callable[[Type], bool]

    def __or__(self, other: TypeConstraint) -> TypeConstraint:
        return TypeConstraint(
            f"{self.description} or {other.description}", lambda type_: self.accepts(type_) or other.accepts(type_)
        )


def tensor_with(description: str, accepts: Callable[[Type], bool], rank: int | None = None) -> TypeConstraint:
    """A tensor whose element type satisfies a predicate, of a given rank if wanted."""
    return TypeConstraint(
        description,
        lambda type_: (
            isinstance(type_, TensorType) and accepts(type_.element) and (rank is None or len(type_.shape) == rank)
        ),
    )


def _is_signless(type_: Type) -> bool:
    return isinstance(type_, IndexType) or (isinstance(type_, IntegerType) and type_.signedness is Signedness.SIGNLESS)


def _is_bool(type_: Type) -> bool:
    return isinstance(type_, IntegerType) and type_.width == 1


def _is_int(type_: Type) -> bool:
    return isinstance(type_, (IntegerType, IndexType)) and not _is_bool(type_)


def _lanes(accepts: Callable[[Type], bool]) -> Callable[[Type], bool]:
    return lambda type_: accepts(type_.element) if isinstance(type_, VectorType) else accepts(type_)


ANY = TypeConstraint("anything", lambda type_: True)
TENSOR = tensor_with("a tensor", lambda element: True)
FLOAT_TENSOR = tensor_with("a tensor of floats", lambda e: isinstance(e, FloatType))
INT_TENSOR = tensor_with("a tensor of integers", _is_int)
BOOL_TENSOR = tensor_with("a tensor of i1", _is_bool)
NUMERIC_TENSOR = tensor_with(
    "a tensor of numbers", lambda e: isinstance(e, (FloatType, IntegerType, IndexType)) and not _is_bool(e)
)
REAL_OR_BOOL_TENSOR = tensor_with(
    "a tensor of numbers or i1", lambda e: isinstance(e, (FloatType, IntegerType, IndexType))
)
SCALAR_OR_STRING_TENSOR = tensor_with(
    "a tensor of numbers, i1 or strings", lambda e: isinstance(e, (FloatType, IntegerType, IndexType, StringType))
)
COMPLEX_TENSOR = tensor_with("a tensor of complex numbers", lambda e: isinstance(e, ComplexType))
STRING_TENSOR = tensor_with("a tensor of strings", lambda e: isinstance(e, StringType))
INDEX_LIST = tensor_with("a tensor of integers of rank 1", _is_int, rank=1)
INDEX_TYPE = TypeConstraint("index", lambda type_: isinstance(type_, IndexType))
MEMREF = TypeConstraint("a memref", lambda type_: isinstance(type_, MemRefType))
VECTOR = TypeConstraint("a vector", lambda type_: isinstance(type_, VectorType))
FLOAT_LIKE = TypeConstraint("a float or a vector of floats", _lanes(lambda t: isinstance(t, FloatType)))
INT_LIKE = TypeConstraint(
    "a signless integer, an index or a vector of them", _lanes(_is_signless)
)
BOOL_LIKE = TypeConstraint("an i1 or a vector of i1", _lanes(lambda t: _is_bool(t) and _is_signless(t)))
SCALAR_LIKE = TypeConstraint(
    "a scalar or a vector", _lanes(lambda t: isinstance(t, (IntegerType, IndexType, FloatType)))
)
