"""The values of symbolic dims, measured on arrays."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.errors import IRError
from stepwell.ir.dims import DimExpr, evaluate, free_symbols, solve_for, substitute, symbol
from stepwell.ir.types import TensorType, Type


def bind_symbols(
    types: Sequence[Type], shapes: Sequence[Sequence[int]], names: Sequence[str] | None = None
) -> dict[str, int]:
    """Symbol -> value, from the sizes of arrays of given tensor types; symbols that no size determines are left out.

    `names` are those of the arrays, for messages. Raises IRError for a wrong rank or size, and for sizes that give one
    symbol two values."""
    described = [names[n] if names else f"argument {n}" for n in range(len(types))]
    pending: list[tuple[str, int, DimExpr, int]] = []
    for name, type_, shape in zip(described, types, shapes, strict=True):
        if not isinstance(type_, TensorType):
            continue
        if len(shape) != type_.rank:
            raise IRError(f"{name} has {len(shape)} dimensions {list(shape)}, expected {type_.rank} ({type_})")
        for axis, (dim, size) in enumerate(zip(type_.shape, shape, strict=True)):
            if isinstance(dim, DimExpr):
                pending.append((name, axis, dim, int(size)))
            elif dim != size:
                raise IRError(f"dimension {axis} of {name} is {size}, expected {dim}")
    known = _solved(pending)
    for name, axis, dim, size in pending:
        if free_symbols(dim) <= known.keys() and evaluate(dim, known) != size:
            values = ", ".join(f"{given} = {known[given]}" for given in sorted(free_symbols(dim)))
            raise IRError(f"dimension {axis} of {name} is {size}, but {dim} is {evaluate(dim, known)} with {values}")
    return known


def _solved(pending: Sequence[tuple[str, int, DimExpr, int]]) -> dict[str, int]:
    known: dict[str, int] = {}
    progress = True
    while progress:
        progress = False
        for name, axis, dim, size in pending:
            unknown = [symbol_name for symbol_name in free_symbols(dim) if symbol_name not in known]
            rest = substitute(dim, known) if len(unknown) == 1 else None
            if rest is None or solve_for(rest, unknown[0], symbol("?")) is None:
                continue
            value = solve_for(rest, unknown[0], size)
            if not isinstance(value, int) or value < 0:
                raise IRError(f"dimension {axis} of {name} is {size}, which {dim} is for no {unknown[0]}")
            known[unknown[0]] = value
            progress = True
    return known
