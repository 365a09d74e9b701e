"""Turns square tiles in registers: where vectors run along one dim, and memory along another.

x[t, v .. v + 4] = vector.load, 4 rows t  ->  2 stages of vector.shuffle  ->  4 columns, each along t
4 vectors along v, at 4 places t          ->  2 stages of vector.shuffle  ->  vector.store to y[v, t .. t + 4], 4 rows v

A tile of n rows takes n loads and n * log2(n) shuffles instead of n * n loads of one element: the stages swap blocks
of n/2, n/4, .. 1 elements across the diagonal (Eklundh, "A fast computer method for matrix transposing", 1972)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stepwell.dialects import vector
from stepwell.errors import IRError
from stepwell.ir.affine import AffineMap
from stepwell.ir.builder import Builder
from stepwell.ir.core import Value
from stepwell.lowering.loop.access import Memory, neighbours
from stepwell.lowering.loop.index import LinearIndex

Place = tuple[int, ...]
Indices = Callable[[Place, int], list[LinearIndex]]
"""The indices at a place of the tile, where neighbours along a dim are the lanes."""


def transposed(builder: Builder, rows: Sequence[Value]) -> list[Value]:
    """The columns of as many vectors as each has lanes, a power of two."""
    count = len(rows)
    made = list(rows)
    distance = count // 2
    while distance:
        lower = [k if not k & distance else count + k - distance for k in range(count)]
        upper = [k + distance if not k & distance else count + k for k in range(count)]
        for i in range(count):
            if not i & distance:
                a, b = made[i], made[i + distance]
                made[i] = builder.insert(vector.ShuffleOp(a, b, mask=lower)).result
                made[i + distance] = builder.insert(vector.ShuffleOp(a, b, mask=upper)).result
        distance //= 2
    return made


def turned_dim(
    memory: Memory, source: Value, map_: AffineMap, indices: Indices, sizes: Sequence[int | None], lane_dim: int
) -> int | None:
    """The dim along which rows are loaded or stored, turned into vectors along `lane_dim` or made of them; None where
    those vectors are loaded or stored as well in another way. `sizes` are those of the tile, None for dims that cannot
    be the rows'."""
    origin = (0,) * len(sizes)
    if lane_dim not in map_.used_dims() or _contiguous(memory, source, map_, indices(origin, lane_dim)):
        return None
    long_enough = [d for d, size in enumerate(sizes) if d != lane_dim and size is not None and 4 * size >= memory.lanes]
    return next((d for d in long_enough if _contiguous(memory, source, map_, indices(origin, d))), None)


def _contiguous(memory: Memory, source: Value, map_: AffineMap, indices: Sequence[LinearIndex]) -> bool:
    try:
        return neighbours(source, [place.lane_factor for place in memory.places(map_, indices)])
    except IRError:
        return False


def load_turned(
    memory: Memory, source: Value, map_: AffineMap, indices: Indices, place: Place, dims: tuple[int, int],
    counts: tuple[int, int],
) -> list[Value]:  # fmt: skip
    """Vectors along dims[0] at the `counts[1]` places from `place` on along dims[1]; only `counts[0]` of their lanes
    exist. Both counts are at most the number of lanes."""
    (lane_dim, row_dim), (height, width) = dims, counts
    mask = None if width == memory.lanes else width
    rows = []
    for lane in range(height):
        at = tuple(p + lane if d == lane_dim else p for d, p in enumerate(place))
        rows.append(memory.load(source, map_, indices(at, row_dim), mask))
    rows.extend(rows[-1:] * (memory.lanes - height))
    return transposed(memory.builder, rows)[:width]


def store_turned(
    memory: Memory, vectors: Sequence[Value], target: Value, map_: AffineMap, indices: Indices, place: Place,
    dims: tuple[int, int], height: int,
) -> None:  # fmt: skip
    """Store vectors along dims[0], at consecutive places from `place` on along dims[1], as rows along the latter; only
    `height` of their lanes exist. They are at most as many as their lanes."""
    (lane_dim, row_dim), width = dims, len(vectors)
    mask = None if width == memory.lanes else width
    square = [*vectors, *([vectors[-1]] * (memory.lanes - width))]
    for lane, row in enumerate(transposed(memory.builder, square)[:height]):
        at = tuple(p + lane if d == lane_dim else p for d, p in enumerate(place))
        memory.store(row, target, map_, indices(at, row_dim), mask)
