"""How the index maps of a buffer's writer and reader fit together."""

from __future__ import annotations

from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import FLOORDIV, AffineExpr, const, dim


def dims_through(written: AffineMap, read: AffineMap) -> AffineMap | None:
    """The writer's dims as expressions of the reader's, where the reader reads each element of a buffer at one point of
    the writer: what makes `written` of them equal `read`. Writer dims that do not reach the buffer are at 0. None where
    the maps do not match, place by place.

    written (m, k) -> (m), read (i) -> (i): (i) -> (i, 0)
    written (n, c) -> (n, c floordiv 16, c mod 16), read (a, b) -> (a, b floordiv 16, b mod 16): (a, b) -> (a, b)
    the same written, read (a, g, b) -> (a, (34 * g + b) floordiv 16, (34 * g + b) mod 16): (a, g, b) -> (a, 34 * g + b)
    """
    found: list[AffineExpr | None] = [None] * written.num_dims
    for place, other in zip(written.results, read.results, strict=True):
        if place.dim_index is not None:
            found[place.dim_index] = other
    for place, other in zip(written.results, read.results, strict=True):
        dims, others = sorted(place.dims), sorted(other.dims)
        if place.dim_index is not None or len(dims) != 1 or found[dims[0]] is not None:
            continue
        divided, other_divided = _dividend(place), _dividend(other)
        if divided == dim(dims[0]) and other_divided is not None:
            found[dims[0]] = other_divided
        elif len(others) == 1:
            found[dims[0]] = dim(others[0])
    exprs = [expr if expr is not None else const(0) for expr in found]
    made = AffineMap(read.num_dims, 0, exprs)
    return made if written.compose(made) == read else None


def _dividend(expr: AffineExpr) -> AffineExpr | None:
    """x of `x floordiv n`"""
    if len(expr.terms) != 1 or expr.constant:
        return None
    atom, coefficient = expr.terms[0]
    return atom.operand if atom.kind == FLOORDIV and coefficient == 1 else None
