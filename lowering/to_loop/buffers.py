"""The buffers in which tensors lie."""

from __future__ import annotations

from stepwell.ir.dims import Dim, DimExpr
from stepwell.ir.types import DYNAMIC, MemRefType, TensorType, Type


def buffer_type(type_: Type) -> MemRefType:
    """The dense row-major buffer of a tensor type."""
    assert isinstance(type_, TensorType)
    return MemRefType(tuple(dim if isinstance(dim, int) else DYNAMIC for dim in type_.shape), type_.element)


def open_dims(type_: Type) -> list[Dim]:
    """The dims that a buffer of the type leaves open."""
    assert isinstance(type_, TensorType)
    return [dim for dim in type_.shape if isinstance(dim, DimExpr)]
