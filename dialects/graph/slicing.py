"""The arithmetic of slices: where a slice begins and how many elements it has, on sizes that may be symbolic."""

from __future__ import annotations

from stepwell.errors import IRError
from stepwell.ir.dims import Dim, ceildiv, dim_max, dim_min, proven_le, proven_lt, proven_non_negative

UNBOUNDED = (1 << 31) - 1  # exporters write this or more for "to the end"; no axis is longer


def slice_bounds(size: Dim, start: Dim, end: Dim, step: int) -> tuple[Dim, Dim]:
    """(first position, number of elements) of `start:end:step` on an axis, with ONNX's wrapping and clamping.

    Raises IRError for a step of 0."""
    if step == 0:
        raise IRError("a slice by steps of 0")
    start, end = wrap(start, size), wrap(end, size)
    if step > 0:
        first = dim_max(start, 0)
        count = ceildiv(_smaller(end, size) - first, step)
        return _smaller(first, size), dim_max(count, 0)
    first = _smaller(dim_max(start, 0), size - 1)
    count = ceildiv(first - dim_max(end, -1), -step)
    return first, dim_max(count, 0)


def _smaller(position: Dim, limit: Dim) -> Dim:
    if not isinstance(limit, int) and isinstance(position, int) and position >= UNBOUNDED:
        return limit
    return dim_min(position, limit)


def wrap(position: Dim, size: Dim) -> Dim:
    """The position, plus the size where it is negative.

    A symbolic position that may have either sign gives `p + size * min(1, max(0, -p))`: the last factor is 1 exactly
    where p < 0. For p = size - c with c <= 2 wrapping cannot lead back inside the axis, so that p itself, which is
    clamped afterwards, will do."""
    if isinstance(position, int) and position <= -UNBOUNDED:
        return -1 - UNBOUNDED
    if proven_non_negative(position):
        return position
    if proven_lt(position, 0):
        return position + size
    distance = size - position
    if proven_le(distance, 2):
        return position
    return position + size * dim_min(dim_max(-position, 0), 1)
