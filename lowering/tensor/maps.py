"""How the index maps of a buffer's writer and reader fit together."""

from __future__ import annotations

from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim


def dims_through(written: AffineMap, read: AffineMap) -> AffineMap | None:
    """The writer's dims as expressions of the reader's, where the reader reads each element of a buffer at one point of
    the writer: what makes `written` of them equal `read`. Writer dims that do not reach the buffer are at 0. None where
    the maps do not match, place by place.

    written (m, k) -> (m), read (i) -> (i): (i) -> (i, 0)
    written (n, c) -> (n, c floordiv 16, c mod 16), read (a, b) -> (a, b floordiv 16, b mod 16): (a, b) -> (a, b)"""
    found: list[AffineExpr | None] = [None] * written.num_dims
    for place, other in zip(written.results, read.results, strict=True):
        if place.dim_index is not None:
            found[place.dim_index] = other
    for place, other in zip(written.results, read.results, strict=True):
        dims, others = sorted(place.dims), sorted(other.dims)
        if place.dim_index is None and len(dims) == 1 and len(others) == 1 and found[dims[0]] is None:
            found[dims[0]] = dim(others[0])
    exprs = [expr if expr is not None else const(0) for expr in found]
    made = AffineMap(read.num_dims, 0, exprs)
    return made if written.compose(made) == read else None
